//! The plan of a container: everything that its start needs, decided.

use super::{Container, Record, ResolvedMount, propagation};
use crate::Engine;
use crate::networks::Sandbox;
use crate::types::{ContainerConfig, ExecSettings, HostSettings, MountKind, NamespaceMode, NetworkMode, SeccompChoice};
use crate::user_spaces::UserSpace;
use naru_base::{Class, Error, Result};
use naru_runtime::plan::{
    Descriptors, Mount, MountFlags, MountSource, Namespace, Namespaces, PLAN_VERSION, Plan, Process, Propagation,
    Rootfs, SeccompProgram,
};
use naru_runtime::{capabilities, cgroup, defaults, seccomp};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Compiled profiles, by profile and capabilities.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    compiled: Mutex<HashMap<(Option<String>, u64), SeccompProgram>>,
}

impl Filters {
    /// The program for the built-in profile (`None`) or one in docker's JSON.
    fn program(&self, profile: Option<&str>, caps: u64) -> Result<SeccompProgram> {
        let key = (profile.map(str::to_owned), caps);
        if let Some(known) = crate::lock(&self.compiled).get(&key) {
            return Ok(known.clone());
        }
        let kernel = seccomp::KernelVersion::host();
        let program = match profile {
            Some(json) => seccomp::compile(&seccomp::Profile::parse(json)?, caps, kernel)?,
            None => seccomp::compile(seccomp::Profile::default_profile(), caps, kernel)?,
        };
        crate::lock(&self.compiled).insert(key, program.clone());
        Ok(program)
    }
}

impl Engine {
    /// The plan, and the namespaces that it joins.
    pub(crate) fn plan(
        &self,
        container: &Container,
        sandbox: Option<&Sandbox>,
        user: Option<UserSpace>,
    ) -> Result<(Plan, Descriptors)> {
        let record = container.read(Clone::clone);
        propagation::check(&record.mounts, &self.config.data_root)?;
        let files = self.files(&record.id, 0);
        let lower = self.images.lower_dirs(&record.image)?;
        let (namespaces, joined) = self.namespaces(&record, sandbox, user)?;
        self.relabel(&record)?;
        let own_uts = namespaces.uts == Namespace::New;
        // This one file belongs to the host's root, the setting to whoever owns the UTS namespace.
        let mut sysctls = record.host.sysctls.clone();
        let domain = if own_uts { sysctls.remove("kernel.domainname") } else { None };
        let plan = Plan {
            version: PLAN_VERSION,
            id: record.id.to_string(),
            rootfs: Rootfs::Overlay { lower, upper: files.upper, work: files.work, volatile: record.host.auto_remove },
            readonly_rootfs: record.host.readonly_rootfs,
            rootfs_propagation: propagation::of_root(&record.mounts),
            mounts: self.mounts(&record)?,
            devices: devices(&record.host)?,
            masked_paths: self.masked(&record),
            readonly_paths: readonly(&record.host),
            hostname: own_uts.then(|| record.config.hostname.clone()),
            domainname: domain.or(Some(record.config.domainname.clone())).filter(|d| own_uts && !d.is_empty()),
            init: record.host.init.unwrap_or(false) && namespaces.pid == Namespace::New,
            namespaces,
            sysctls,
            cgroup: self.cgroup_plan(&record)?,
            process: self.first_process(&record)?,
            mount_label: Some(record.mount_label).filter(|label| !label.is_empty()),
        };
        Ok((plan, joined))
    }

    fn namespaces(
        &self,
        record: &Record,
        sandbox: Option<&Sandbox>,
        user: Option<UserSpace>,
    ) -> Result<(Namespaces, Descriptors)> {
        let mut joined = Descriptors::default();
        let choose = |mode: &NamespaceMode, name: &str| -> Result<(Namespace, Option<OwnedFd>)> {
            Ok(match mode {
                NamespaceMode::Host => (Namespace::Host, None),
                NamespaceMode::Container(other) => {
                    let failed =
                        |e: Error| Error::system(format!("failed to join {} namespace: {e}", name.to_uppercase()));
                    if name == "ipc" {
                        self.check_shareable(other).map_err(failed)?;
                    }
                    (Namespace::Join, Some(self.namespace_of(other, name).map_err(failed)?))
                }
                NamespaceMode::Private | NamespaceMode::Shareable | NamespaceMode::None => (Namespace::New, None),
            })
        };
        let (ipc, ipc_fd) = choose(&record.host.ipc, "ipc")?;
        let (pid, pid_fd) = choose(&record.host.pid, "pid")?;
        let (uts, uts_fd) = choose(&record.host.uts, "uts")?;
        let net = match (&record.host.network, sandbox) {
            (NetworkMode::Host, _) => Namespace::Host,
            (NetworkMode::Container(other), _) => {
                joined.net = Some(self.namespace_of(other, "net").map_err(|error| match error.class() {
                    Class::Conflict => {
                        Error::conflict(format!("cannot join network of a non running container: {other}"))
                    }
                    _ => error,
                })?);
                Namespace::Join
            }
            (_, Some(sandbox)) => {
                joined.net = Some(sandbox.netns.try_clone_fd()?);
                Namespace::Join
            }
            (_, None) => Namespace::New,
        };
        (joined.ipc, joined.pid, joined.uts) = (ipc_fd, pid_fd, uts_fd);
        let v2 = cgroup::Hierarchies::host()?.version() == 2;
        let private_cgroup = record.host.cgroupns_private.unwrap_or(v2);
        let cgroup = if private_cgroup { Namespace::New } else { Namespace::Host };
        let map = user.as_ref().map(|user| user.lease.map());
        match user {
            Some(user) => (joined.user, joined.mounts) = (Some(user.namespace), user.mounts),
            None => joined.mounts = self.spawner.template(),
        }
        Ok((Namespaces { pid, ipc, uts, net, cgroup, user: map }, joined))
    }

    /// A namespace of a running container.
    pub(crate) fn namespace_of(&self, name: &str, kind: &str) -> Result<OwnedFd> {
        let other = self.containers.find(name)?;
        let (pid, running) = other.read(|r| (r.state.pid, r.state.status.is_running()));
        if !running || pid <= 0 {
            return Err(Error::conflict(format!("Container {} is not running", other.id)));
        }
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{pid}/ns/{kind}"), flags, rustix::fs::Mode::empty()).map_err(|e| {
            Error::system(format!("cannot open the {kind} namespace of container {}: {e}", other.id.short()))
        })
    }

    /// Whether a container lets others into its IPC namespace.
    fn check_shareable(&self, name: &str) -> Result<()> {
        match self.containers.find(name)?.read(|r| r.host.ipc.clone()) {
            NamespaceMode::Private | NamespaceMode::None => {
                Err(Error::conflict("non-shareable IPC (hint: use IpcMode:shareable for the donor container)"))
            }
            _ => Ok(()),
        }
    }

    fn mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let host = &record.host;
        let shm_size = if host.shm_size == 0 { defaults::DEFAULT_SHM_SIZE } else { host.shm_size };
        let own_shm = matches!(host.ipc, NamespaceMode::Private | NamespaceMode::Shareable);
        let mut mounts = defaults::default_mounts(defaults::MountDefaults {
            shm_size: own_shm.then_some(shm_size),
            privileged: host.privileged,
            readonly_rootfs: host.readonly_rootfs,
            mqueue: host.ipc != NamespaceMode::Host,
        });
        if let Some(shared) = self.shared_shm(&host.ipc)? {
            mounts.push(bind(shared, Path::new("/dev/shm"), false));
        }
        mounts.retain(|m| !record.mounts.iter().any(|own| replaces(Path::new(&own.view.target), &m.target)));
        for own in &record.mounts {
            mounts.push(self.user_mount(own)?);
        }
        let files = self.files(&self.files_owner(record)?, 0);
        for (source, target) in
            [(files.resolv_conf, "/etc/resolv.conf"), (files.hostname, "/etc/hostname"), (files.hosts, "/etc/hosts")]
        {
            if !record.mounts.iter().any(|m| m.view.target == target) {
                mounts.push(bind(source, Path::new(target), host.readonly_rootfs));
            }
        }
        Ok(mounts)
    }

    /// Whose hosts file and so on it shows: with another container's network, that one's.
    fn files_owner(&self, record: &Record) -> Result<naru_base::Id> {
        match &record.host.network {
            NetworkMode::Container(other) => Ok(self.containers.find(other)?.id.clone()),
            _ => Ok(record.id.clone()),
        }
    }

    /// Where /dev/shm comes from when it isn't the container's own.
    fn shared_shm(&self, ipc: &NamespaceMode) -> Result<Option<PathBuf>> {
        Ok(match ipc {
            NamespaceMode::Host => Some("/dev/shm".into()),
            NamespaceMode::Container(other) => {
                let pid = self.containers.find(other)?.read(|r| r.state.pid);
                Some(format!("/proc/{pid}/root/dev/shm").into())
            }
            _ => None,
        })
    }

    fn user_mount(&self, own: &ResolvedMount) -> Result<Mount> {
        let readonly = !own.view.writable;
        let target = PathBuf::from(&own.view.target);
        let flags = MountFlags { readonly, ..MountFlags::default() };
        Ok(match &own.kind {
            MountKind::Bind { recursive, propagation, writable_below, .. } => {
                let recursive_readonly = readonly && *recursive && !writable_below;
                Mount {
                    source: MountSource::Bind {
                        path: own.source.clone(),
                        subpath: PathBuf::new(),
                        recursive: *recursive,
                        propagation: *propagation,
                    },
                    flags: MountFlags { readonly, recursive_readonly, ..MountFlags::default() },
                    target,
                }
            }
            MountKind::Volume { subpath, .. } => {
                let mut mount = bind(own.source.clone(), &target, readonly);
                if let MountSource::Bind { subpath: inside, .. } = &mut mount.source {
                    *inside = PathBuf::from(subpath);
                }
                mount
            }
            MountKind::Tmpfs { options } => tmpfs(target, options, readonly),
            MountKind::Image { name, subpath } => {
                let layers = self.images.layers(&self.images.find(name)?)?;
                let lower = if subpath.is_empty() { layers } else { naru_store::lower_folders(&layers, subpath)? };
                Mount { target, source: MountSource::Image { lower }, flags: MountFlags { readonly: true, ..flags } }
            }
        })
    }

    fn masked(&self, record: &Record) -> Vec<PathBuf> {
        let mut masked = match &record.host.masked_paths {
            _ if record.host.privileged => Vec::new(),
            Some(own) => own.iter().map(PathBuf::from).collect(),
            None => defaults::masked_paths(),
        };
        if self.images.is_host(&record.image) {
            masked.extend(crate::image::host_secrets(&[&self.config.data_root, &self.config.exec_root]));
        }
        masked
    }

    fn first_process(&self, record: &Record) -> Result<Process> {
        let (config, host) = (&record.config, &record.host);
        let mut process = self.process(record, &config.user, host.privileged, config.tty)?;
        process.args = std::iter::once(record.path.clone()).chain(record.args.iter().cloned()).collect();
        process.env = environment(config, config.tty, &self.link_environment(record)?, &[]);
        process.cwd = if config.working_dir.is_empty() { "/".into() } else { PathBuf::from(&config.working_dir) };
        process.console_size = host.console_size;
        Ok(process)
    }

    /// The process of an exec.
    pub(crate) fn exec_process(&self, record: &Record, settings: &ExecSettings) -> Result<Process> {
        let user = if settings.user.is_empty() { &record.config.user } else { &settings.user };
        let privileged = settings.privileged || record.host.privileged;
        let mut process = self.process(record, user, privileged, settings.tty)?;
        process.args.clone_from(&settings.command);
        // A link whose other end has gone since says nothing more.
        let links = self.link_environment(record).unwrap_or_default();
        process.env = environment(&record.config, settings.tty, &links, &settings.env);
        let folder = [&settings.working_dir, &record.config.working_dir].into_iter().find(|d| !d.is_empty());
        process.cwd = folder.map_or_else(|| "/".into(), PathBuf::from);
        process.console_size = settings.console_size;
        Ok(process)
    }

    fn link_environment(&self, record: &Record) -> Result<Vec<String>> {
        Ok(self.live_links(record)?.iter().flat_map(|link| link.environment(&record.name)).collect())
    }

    /// What all processes of a container have alike.
    fn process(&self, record: &Record, user: &str, privileged: bool, terminal: bool) -> Result<Process> {
        let host = &record.host;
        let caps = capabilities::effective_set(&host.cap_add, &host.cap_drop, privileged)?;
        let seccomp = match &host.seccomp {
            SeccompChoice::Unconfined => None,
            SeccompChoice::Default if privileged => None,
            SeccompChoice::Default => Some(self.filters.program(None, caps)?),
            SeccompChoice::Profile(json) => Some(self.filters.program(Some(json), caps)?),
        };
        Ok(Process {
            user: user.to_owned(),
            additional_groups: host.group_add.clone(),
            capabilities: defaults::capability_sets(caps),
            no_new_privileges: host.no_new_privileges,
            seccomp,
            rlimits: host.rlimits.clone(),
            oom_score_adj: Some(host.oom_score_adj).filter(|s| *s != 0),
            terminal,
            apparmor_profile: self.apparmor.profile(host, privileged).map(str::to_owned),
            selinux_label: Some(record.process_label.clone()).filter(|label| !label.is_empty()),
            ..Process::default()
        })
    }
}

/// docker's order: PATH, HOSTNAME, TERM, links, the container's own, the exec's own. A later value takes an earlier one's place; an entry without
/// `=` removes its key.
fn environment(config: &ContainerConfig, tty: bool, links: &[String], more: &[String]) -> Vec<String> {
    let mut out = vec![defaults::DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if tty {
        out.push("TERM=xterm".into());
    }
    for entry in links.iter().chain(&config.env).chain(more) {
        let key = entry.split_once('=').map_or(entry.as_str(), |(k, _)| k);
        let at = out.iter().position(|e| e.split_once('=').is_some_and(|(k, _)| k == key));
        match (at, entry.contains('=')) {
            (Some(at), true) => out[at].clone_from(entry),
            (Some(at), false) => {
                out.remove(at);
            }
            (None, true) => out.push(entry.clone()),
            (None, false) => {}
        }
    }
    out
}

/// Whether a mount of the user's stands in a default one's place: at the same target, or all of /dev.
fn replaces(own: &Path, default: &Path) -> bool {
    own == default || (own == Path::new("/dev") && default.starts_with("/dev"))
}

fn bind(path: PathBuf, target: &Path, readonly: bool) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Bind {
            path,
            subpath: PathBuf::new(),
            recursive: true,
            propagation: Propagation::Rprivate,
        },
        flags: MountFlags { readonly, ..MountFlags::default() },
    }
}

/// docker's defaults are `noexec,nosuid,nodev`; the user's words take them back.
fn tmpfs(target: PathBuf, options: &[String], readonly: bool) -> Mount {
    let mut flags = MountFlags { readonly, nosuid: true, nodev: true, noexec: true, ..MountFlags::default() };
    let mut data = Vec::new();
    for option in options.iter().flat_map(|o| o.split(',')).filter(|o| !o.is_empty()) {
        match option {
            "exec" => flags.noexec = false,
            "suid" => flags.nosuid = false,
            "dev" => flags.nodev = false,
            "ro" => flags.readonly = true,
            "rw" | "noexec" | "nosuid" | "nodev" | "rprivate" | "private" => {}
            other => data.push(other.to_owned()),
        }
    }
    let source = MountSource::Filesystem { kind: "tmpfs".into(), name: "tmpfs".into(), data };
    Mount { target, source, flags }
}

fn devices(host: &HostSettings) -> Result<Vec<naru_runtime::plan::Device>> {
    let mut devices = if host.privileged { defaults::host_devices()? } else { defaults::default_devices() };
    for own in &host.devices {
        devices.retain(|d| d.path != own.path);
        devices.push(own.clone());
    }
    Ok(devices)
}

fn readonly(host: &HostSettings) -> Vec<PathBuf> {
    match &host.readonly_paths {
        _ if host.privileged => Vec::new(),
        Some(own) => own.iter().map(PathBuf::from).collect(),
        None => defaults::readonly_paths(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_environment_takes_the_place_of_earlier() {
        let config = ContainerConfig {
            hostname: "h".into(),
            env: vec!["A=1".into(), "PATH=/x".into(), "HOSTNAME".into()],
            ..ContainerConfig::default()
        };
        assert_eq!(
            environment(&config, true, &["LINK=1".into(), "A=0".into()], &["A=2".into()]),
            ["PATH=/x", "TERM=xterm", "LINK=1", "A=2"]
        );
    }

    #[test]
    fn a_mount_on_dev_drops_what_is_below_it() {
        assert!(replaces(Path::new("/dev"), Path::new("/dev/shm")));
        assert!(replaces(Path::new("/proc"), Path::new("/proc")));
        assert!(!replaces(Path::new("/dev/sh"), Path::new("/dev/shm")));
    }

    #[test]
    fn tmpfs_options_are_flags_or_data() {
        let mount = tmpfs("/t".into(), &["size=64m,exec".into(), "mode=1777".into()], false);
        assert!(!mount.flags.noexec && mount.flags.nosuid);
        let MountSource::Filesystem { data, .. } = mount.source else { panic!("not a file system") };
        assert_eq!(data, ["size=64m", "mode=1777"]);
    }
}
