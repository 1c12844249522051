//! How it runs on this host: docker's `HostConfig`.

use super::{devices, mounts, namespaces, ports, resources, security};
use crate::dto::host_config::{HostConfig, LogConfig};
use naru_base::{Error, Result};
use naru_engine::types::{ContainerConfig, HostSettings, LogSettings, RestartPolicy};

/// The runtime's name that every client knows.
pub(crate) const DEFAULT_RUNTIME: &str = "runc";
/// Bytes of /dev/shm.
const DEFAULT_SHM_SIZE: i64 = 64 << 20;
/// What is hidden from a container, as inspect shows it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What it can't write, as inspect shows it.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The engine's form of it, checked; the document is completed to what inspect shows.
///
/// # Errors
/// With docker's texts.
pub(crate) fn decode(
    host: &mut HostConfig,
    config: &ContainerConfig,
    facts: impl FnOnce() -> resources::Facts,
    warnings: &mut Vec<String>,
) -> Result<HostSettings> {
    refuse_absent(host)?;
    let network = namespaces::network(host, config)?;
    let restart = restart_policy(host)?;
    extra_hosts(host)?;
    let port_bindings = ports::bindings(host)?;
    let cap_add = security::capabilities("CapAdd", host.cap_add.as_ref())?;
    let cap_drop = security::capabilities("CapDrop", host.cap_drop.as_ref())?;
    resources::normalise(host);
    if resources::any(host) {
        resources::check(host, facts(), false, warnings)?;
    }
    let ipc = namespaces::ipc(host)?;
    let pid = namespaces::pid(host)?;
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    let uts = namespaces::uts(host)?;
    let userns = namespaces::user(host)?;
    let oom_score_adj =
        i32::try_from(host.oom_score_adj).ok().filter(|n| (-1000..=1000).contains(n)).ok_or_else(|| {
            Error::invalid(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj))
        })?;
    let cgroupns_private = namespaces::cgroup(host)?;
    let security = security::options(host)?;
    let (devices, device_rules) = devices::devices(host)?;
    let published = !port_bindings.is_empty() || (host.publish_all_ports && !config.exposed_ports.is_empty());
    if published && host.network_mode == "host" {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    let log = log_settings(host);
    let mounts = mounts::mounts(host)?;
    complete(host, security.open_system_paths);
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    Ok(HostSettings {
        mounts,
        volumes_from: list(&host.volumes_from),
        layer_limit: layer_limit(host)?,
        network,
        restart,
        auto_remove: host.auto_remove,
        privileged: host.privileged,
        cap_add,
        cap_drop,
        dns: list(&host.dns),
        dns_options: list(&host.dns_options),
        dns_search: list(&host.dns_search),
        extra_hosts: list(&host.extra_hosts),
        links: if host.network_mode == "bridge" { list(&host.links) } else { Vec::new() },
        group_add: list(&host.group_add),
        ipc,
        pid,
        uts,
        cgroupns_private,
        oom_score_adj,
        readonly_rootfs: host.readonly_rootfs,
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        apparmor: security.apparmor,
        selinux: security.labels,
        shm_size: u64::try_from(host.shm_size).unwrap_or(0),
        sysctls: host.sysctls.clone().unwrap_or_default(),
        init: host.init,
        devices,
        device_rules,
        device_requests: devices::requests(host)?,
        resources: resources::decode(host)?,
        rlimits: resources::rlimits(host)?,
        log,
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        cgroup_parent: cgroup_parent(&host.cgroup_parent)?,
        console_size: host.console_size.given(),
        port_bindings,
        publish_all: host.publish_all_ports,
        cidfile: host.container_id_file.clone(),
        userns,
    })
}

/// `--storage-opt size=`.
fn layer_limit(host: &HostConfig) -> Result<u64> {
    let mut limit = 0;
    for (key, value) in host.storage_opt.iter().flatten() {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        limit = u64::try_from(naru_base::size::parse_bytes(value)?).unwrap_or(0);
    }
    Ok(limit)
}

/// What this engine doesn't have, and what no engine takes.
fn refuse_absent(host: &HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!("Invalid isolation: {:?} - linux only supports 'default'", host.isolation)));
    }
    if !matches!(host.runtime.as_str(), "" | "runc" | "io.containerd.runc.v2" | "naru") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if host.annotations.as_ref().is_some_and(|all| all.contains_key("")) {
        return Err(Error::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    for (given, name) in [(host.io_maximum_bandwidth, "Bandwidth"), (host.io_maximum_iops, "IOPs")] {
        if given > 0 {
            return Err(Error::invalid(format!("invalid QoS settings: linux does not support Maximum IO {name}")));
        }
    }
    Ok(())
}

/// Reads the restart policy and writes its normal form back.
///
/// # Errors
/// With docker's texts.
pub(crate) fn restart_policy(host: &mut HostConfig) -> Result<RestartPolicy> {
    let policy = &mut host.restart_policy;
    if policy.name.is_empty() {
        policy.name = "no".into();
    }
    let retries = policy.maximum_retry_count;
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" if retries != 0 => {
            let negative = if retries < 0 { " and cannot be negative" } else { "" };
            return Err(Error::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}"
            )));
        }
        "always" | "unless-stopped" | "no" => {}
        "on-failure" if retries < 0 => {
            return Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"));
        }
        "on-failure" => {}
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    }
    if host.auto_remove && policy.name != "no" {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(RestartPolicy { name: policy.name.clone(), maximum_retry_count: retries })
}

fn extra_hosts(host: &HostConfig) -> Result<()> {
    for entry in host.extra_hosts.iter().flatten() {
        let (name, address) = entry.split_once(':').unwrap_or((entry, ""));
        if name.is_empty() || address.is_empty() {
            return Err(Error::invalid(format!("bad format for add-host: {entry:?}")));
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
        }
    }
    Ok(())
}

/// What is checked by the engine, which has the defaults.
fn log_settings(host: &mut HostConfig) -> LogSettings {
    let LogConfig { r#type: driver, config } = &mut host.log_config;
    if driver.is_empty() {
        *driver = "json-file".into();
    }
    LogSettings { driver: driver.clone(), options: config.get_or_insert_default().clone() }
}

fn cgroup_parent(path: &str) -> Result<String> {
    if path.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!("invalid cgroup parent {path:?}: it must not leave the cgroup tree")));
    }
    Ok(path.to_owned())
}

/// Fills in what inspect shows for what was not given.
fn complete(host: &mut HostConfig, open_system_paths: bool) {
    if host.shm_size == 0 {
        host.shm_size = DEFAULT_SHM_SIZE;
    }
    if host.runtime.is_empty() {
        host.runtime = DEFAULT_RUNTIME.into();
    }
    if host.oom_kill_disable.is_none() {
        let v1 = host.cgroupns_mode == "host" && !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        host.oom_kill_disable = v1.then_some(false);
    }
    let owned = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
    let nothing = host.privileged || open_system_paths;
    if host.masked_paths.is_none() {
        host.masked_paths = if nothing { Some(Vec::new()) } else { owned(&MASKED) };
    }
    if host.readonly_paths.is_none() {
        host.readonly_paths = if nothing { Some(Vec::new()) } else { owned(&READONLY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tolerant;
    use naru_engine::types::NetworkMode;

    fn read(json: &str) -> Result<(HostSettings, HostConfig, Vec<String>)> {
        let mut host: HostConfig = tolerant::from_slice(json.as_bytes()).unwrap();
        let facts = || resources::Facts { cpus: 2, limits: resources::all_limits() };
        let mut warnings = Vec::new();
        let settings = decode(&mut host, &ContainerConfig::default(), facts, &mut warnings)?;
        Ok((settings, host, warnings))
    }

    #[test]
    fn nothing_becomes_dockers_defaults() {
        let (settings, host, warnings) = read("{}").unwrap();
        assert_eq!(
            (host.network_mode.as_str(), host.ipc_mode.as_str(), host.runtime.as_str()),
            ("bridge", "private", "runc")
        );
        assert_eq!((host.shm_size, host.restart_policy.name.as_str()), (67_108_864, "no"));
        assert_eq!(host.log_config.r#type, "json-file");
        assert_eq!(host.masked_paths.unwrap().len(), 12);
        assert_eq!(settings.network, NetworkMode::Default);
        assert_eq!(settings.masked_paths.unwrap()[0], "/proc/acpi");
        assert!(warnings.is_empty());
        let (settings, ..) = read(r#"{"MaskedPaths":[],"Privileged":true}"#).unwrap();
        assert_eq!(settings.masked_paths, Some(vec![]));
        assert_eq!(settings.readonly_paths, Some(vec![]));
    }

    #[test]
    fn published_ports_are_kept() {
        let (settings, _, warnings) = read(r#"{"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}"#).unwrap();
        assert_eq!(settings.port_bindings["80/tcp"][0].host_port, "8080");
        assert!(warnings.is_empty(), "{warnings:?}");
        let (_, _, warnings) =
            read(r#"{"NetworkMode":"host","PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}"#).unwrap();
        assert_eq!(warnings, ["Published ports are discarded when using host network mode"]);
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (json, text) in [
            (
                r#"{"RestartPolicy":{"Name":"bla"}}"#,
                "invalid restart policy: unknown policy 'bla'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":3}}"#,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                r#"{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (r#"{"ExtraHosts":["foo"]}"#, "bad format for add-host: \"foo\""),
            (r#"{"ExtraHosts":["a:b"]}"#, "invalid IP address in add-host: \"b\""),
            (r#"{"ShmSize":-4}"#, "SHM size can not be less than 0"),
            (r#"{"OomScoreAdj":5000}"#, "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
            (r#"{"Runtime":"foo"}"#, "unknown or invalid runtime name: foo"),
            (r#"{"Isolation":"foo"}"#, "Invalid isolation: \"foo\" - linux only supports 'default'"),
            (r#"{"CgroupParent":"/a/../b"}"#, "invalid cgroup parent \"/a/../b\": it must not leave the cgroup tree"),
        ] {
            assert_eq!(read(json).unwrap_err().message(), text);
        }
        assert!(read(r#"{"ExtraHosts":["a:host-gateway","b:::1","c:[::1]"]}"#).is_ok());
    }
}
