//! Facts about this machine and this engine.

use crate::Engine;
use crate::cdi::Registry;
use crate::types::{LimitSupport, Status, SystemInfo};
use naru_net::etc::{ResolvConf, SYSTEMD_UPLINKS, host_source};
use naru_runtime::cgroup::Hierarchies;
use std::path::Path;
use std::sync::OnceLock;

/// The machine's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Bytes of memory in this machine.
pub(crate) fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kb| kb * 1024)
}

/// The id of this boot; pids of another one mean nothing.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// How this machine resolves names.
pub(crate) fn host_resolver() -> ResolvConf {
    let etc = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let systemd = std::fs::read_to_string(SYSTEMD_UPLINKS).ok();
    ResolvConf::parse(host_source(&etc, systemd.as_deref()))
}

/// How this machine's own programs resolve names: over a local server, where it has one.
pub(crate) fn own_resolver() -> ResolvConf {
    ResolvConf::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

impl Engine {
    /// Which limits this host can set; looked up once.
    pub fn limit_support(&self) -> LimitSupport {
        static FOUND: OnceLock<LimitSupport> = OnceLock::new();
        *FOUND.get_or_init(|| self.probe_limits())
    }

    /// Facts about the engine and its machine.
    pub fn info(&self) -> SystemInfo {
        let states: Vec<Status> = self.containers.all().iter().map(|c| c.status()).collect();
        let count = |wanted: &[Status]| states.iter().filter(|s| wanted.contains(s)).count();
        let (running, paused) = (count(&[Status::Running, Status::Restarting]), count(&[Status::Paused]));
        let uname = rustix::system::uname();
        let (pretty, version) = distribution();
        let cgroup_version = Hierarchies::host().map_or(2, Hierarchies::version);
        let live = self.live();
        SystemInfo {
            id: self.id.clone(),
            containers: states.len(),
            running,
            paused,
            stopped: states.len() - running - paused,
            images: self.images.store.images().len(),
            name: hostname(),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            operating_system: pretty,
            os_version: version,
            architecture: uname.machine().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory(),
            cgroup_version,
            cgroup_driver: self.cgroup_driver,
            data_root: self.config.data_root.clone(),
            warnings: missing_limits(self.limit_support(), cgroup_version),
            backing_filesystem: filesystem(&self.config.data_root).to_owned(),
            debug: live.debug,
            labels: live.labels.clone(),
            event_listeners: self.events.listeners(),
            insecure_registries: live.insecure_registries.clone(),
            registry_mirrors: live.registry_mirrors.clone(),
            user_namespaces: self.isolates_users(),
            apparmor: self.apparmor.is_active(),
            selinux: self.selinux.is_active(),
            limits: self.limit_support(),
            cdi_devices: Registry::read(&self.config.cdi_spec_dirs).names().map(str::to_owned).collect(),
            log_driver: self.log_driver().to_owned(),
            cdi_spec_dirs: self.config.cdi_spec_dirs.clone(),
        }
    }
}

/// docker's warnings about limits that this host can't set.
fn missing_limits(limits: LimitSupport, cgroup_version: u8) -> Vec<String> {
    let warnings = [
        (limits.memory, "memory limit"),
        (limits.swap, "swap limit"),
        // v2 has no such thing, which is no lack.
        (limits.oom_kill_disable || cgroup_version == 2, "oom kill disable"),
        (limits.cpu_quota, "cpu cfs quota"),
        (limits.cpu_quota, "cpu cfs period"),
        (limits.cpu_shares, "cpu shares"),
        (limits.cpuset, "cpuset"),
        (limits.pids, "pids limit"),
    ];
    let missing = warnings.iter().filter(|(there, _)| !there);
    missing.map(|(_, what)| format!("WARNING: No {what} support")).collect()
}

/// Name and version of the distribution (os-release(5)).
fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

/// docker's word for the file system below a folder.
fn filesystem(path: &Path) -> &'static str {
    match rustix::fs::statfs(path).map(|s| s.f_type) {
        Ok(0xEF53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683E) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x794c_7630) => "overlayfs",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_limits_is_told_of() {
        let all = missing_limits(LimitSupport::default(), 1);
        assert_eq!((all.len(), all[1].as_str()), (8, "WARNING: No swap limit support"));
        assert_eq!(missing_limits(LimitSupport::default(), 2).len(), 7);
    }
}
