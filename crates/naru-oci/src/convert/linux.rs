//! The rest of `linux`: devices, sysctl, seccomp, paths; and what isn't supported.

use crate::listener::Listener;
use crate::spec::{Config, Device, Linux};
use naru_base::{Error, Result};
use naru_runtime::cgroup::systemd::{Scope, check_host};
use naru_runtime::plan::{self, Namespace, Namespaces, Propagation, SeccompProgram};
use naru_runtime::seccomp::{KernelVersion, Profile, compile};
use naru_runtime::{capabilities, defaults};
use std::collections::BTreeMap;
use std::path::Path;

/// Where groups are made whose path isn't given or relative.
const CGROUP_PARENT: &str = "/naru-oci";
/// The slice of scopes for which none is given.
const DEFAULT_SLICE: &str = "system.slice";

/// # Errors
/// The configuration asks for something that this runtime doesn't do.
pub(super) fn refuse(linux: &Linux) -> Result<()> {
    let refused = [
        (linux.intel_rdt.is_some(), "linux.intelRdt"),
        (linux.memory_policy.is_some(), "linux.memoryPolicy"),
        (!linux.net_devices.is_empty(), "linux.netDevices"),
    ];
    for (asked, name) in refused {
        if asked {
            return Err(Error::not_implemented(format!("config.json: {name} is not supported")));
        }
    }
    if !linux.mount_label.is_empty() && !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::invalid("mountLabel is specified in config.json, but selinux is disabled or not supported"));
    }
    Ok(())
}

/// The scope of `slice:prefix:name`, as runc reads it.
///
/// # Errors
/// systemd can't make it on this host, or another form.
pub(super) fn scope(path: &str, id: &str) -> Result<Scope> {
    naru_runtime::cgroup::Hierarchies::host().and_then(check_host)?;
    parse_scope(path, id)
}

fn parse_scope(path: &str, id: &str) -> Result<Scope> {
    if path.is_empty() {
        return Scope::new(DEFAULT_SLICE, &format!("naru-oci-{id}"));
    }
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(Error::invalid(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        )));
    };
    if name.is_empty() || name.ends_with(".slice") {
        return Err(Error::invalid(format!("cgroupsPath {path:?}: its name must be that of a scope")));
    }
    let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
    Scope::new(slice, &name).map_err(|e| e.context(format!("cgroupsPath {path:?}")))
}

/// # Errors
/// systemd's form, which needs its driver.
pub(super) fn cgroup_path(path: &str, id: &str) -> Result<String> {
    if path.matches(':').count() == 2 {
        return Err(Error::not_implemented(format!(
            "cgroupsPath {path:?} is in systemd's form: call with --systemd-cgroup, or give a path"
        )));
    }
    Ok(match path {
        "" => format!("{CGROUP_PARENT}/{id}"),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{CGROUP_PARENT}/{path}"),
    })
}

/// # Errors
/// An unknown word.
pub(super) fn root_propagation(text: &str) -> Result<Propagation> {
    Ok(match text {
        "" | "rprivate" => Propagation::Rprivate,
        "private" => Propagation::Private,
        "rshared" => Propagation::Rshared,
        "shared" => Propagation::Shared,
        "rslave" => Propagation::Rslave,
        "slave" => Propagation::Slave,
        "runbindable" => Propagation::Runbindable,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(Error::invalid(format!("rootfsPropagation={text} is not supported"))),
    })
}

/// Those asked for, and the default ones that aren't among them (config-linux.md, "Default Devices").
///
/// # Errors
/// An impossible kind, number or path.
pub(super) fn devices(devices: &[Device]) -> Result<Vec<plan::Device>> {
    let mut all = Vec::new();
    for device in devices {
        let invalid = |why: &str| Error::invalid(format!("device {}: {why}", device.path.display()));
        if !device.path.is_absolute() {
            return Err(invalid("not an absolute path"));
        }
        let kind = match device.r#type.as_str() {
            "c" | "u" => 'c',
            "b" => 'b',
            "p" => 'p',
            other => return Err(invalid(&format!("unknown type {other:?}"))),
        };
        let number = |n: i64| u32::try_from(n).map_err(|_| invalid("impossible device number"));
        let (major, minor) = if kind == 'p' { (0, 0) } else { (number(device.major)?, number(device.minor)?) };
        all.push(plan::Device {
            path: device.path.clone(),
            kind,
            major,
            minor,
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
        });
    }
    for default in defaults::default_devices() {
        if !all.iter().any(|device| device.path == default.path) {
            all.push(default);
        }
    }
    Ok(all)
}

/// # Errors
/// No profile, or one that can't be compiled.
pub(super) fn seccomp(linux: &Linux) -> Result<(Option<SeccompProgram>, Option<Listener>)> {
    let Some(profile) = &linux.seccomp else { return Ok((None, None)) };
    let profile = Profile::parse_with_listener(&profile.to_string())?;
    if profile.is_empty() {
        return Ok((None, None));
    }
    let agent = |(path, metadata): (&str, &str)| Listener { path: path.into(), metadata: metadata.to_owned() };
    let listener = profile.listener().filter(|_| profile.notifies()).map(agent);
    Ok((Some(compile(&profile, capabilities::ALL, KernelVersion::host())?), listener))
}

/// # Errors
/// A name without a namespace of its own to set it in.
pub(super) fn check_names(config: &Config, namespaces: &Namespaces) -> Result<()> {
    let names = [("hostname", &config.hostname), ("domainname", &config.domainname)];
    match names.iter().find(|(_, name)| !name.is_empty()) {
        Some((what, _)) if namespaces.uts == Namespace::Host => {
            Err(Error::invalid(format!("unable to set {what} without a private UTS namespace")))
        }
        _ => Ok(()),
    }
}

/// Only settings of the container's own namespaces may be written (runc, `validate.sysctl`).
///
/// # Errors
/// One that would be the host's; the text names it.
pub(super) fn check_sysctls(settings: &BTreeMap<String, String>, namespaces: &Namespaces) -> Result<()> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
    ];
    for key in settings.keys() {
        // Whichever separator comes first separates.
        let slashes = key.chars().find(|c| ['/', '.'].contains(c)) == Some('/');
        let name = if slashes { key.replace('/', ".") } else { key.clone() };
        let own = |space: Namespace, which: &str| match space {
            Namespace::Host => {
                Err(Error::invalid(format!("sysctl {key:?} is not allowed in the hosts {which} namespace")))
            }
            _ => Ok(()),
        };
        match name.as_str() {
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => own(namespaces.ipc, "ipc")?,
            name if name.starts_with("net.") => own(namespaces.net, "network")?,
            "kernel.domainname" => own(namespaces.uts, "uts")?,
            "kernel.hostname" => {
                return Err(Error::invalid(format!(
                    "sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field"
                )));
            }
            name if name.starts_with("user.") && namespaces.user.is_some() => {}
            _ => return Err(Error::invalid(format!("sysctl {key:?} is not in a separate kernel namespace"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_settings() {
        let own = Namespaces { ipc: Namespace::New, net: Namespace::New, uts: Namespace::New, ..Namespaces::default() };
        let host = Namespaces { ipc: Namespace::Host, net: Namespace::Host, uts: Namespace::Host, ..own.clone() };
        let check = |key: &str, spaces| check_sysctls(&BTreeMap::from([(key.to_owned(), "1".to_owned())]), spaces);
        for key in
            ["net.ipv4.ip_forward", "net/ipv4/ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"]
        {
            check(key, &own).unwrap();
            assert!(check(key, &host).is_err(), "{key}");
        }
        for key in ["kernel.panic", "vm.swappiness", "kernel.hostname", "user.max_user_namespaces", "kernel.shmmaxx"] {
            assert!(check(key, &own).is_err(), "{key}");
        }
    }

    #[test]
    fn default_devices_are_added_once() {
        let null = Device { path: "/dev/null".into(), r#type: "c".into(), major: 1, minor: 3, ..Device::default() };
        let all = devices(&[null]).unwrap();
        assert_eq!(all.iter().filter(|d| d.path == Path::new("/dev/null")).count(), 1);
        assert!(all.iter().any(|d| d.path == Path::new("/dev/urandom")));
        let bad = Device { path: "/dev/x".into(), r#type: "z".into(), ..Device::default() };
        assert!(devices(&[bad]).unwrap_err().message().contains("/dev/x"));
    }

    #[test]
    fn places_of_groups() {
        assert_eq!(cgroup_path("", "x").unwrap(), "/naru-oci/x");
        assert_eq!(cgroup_path("a/b", "x").unwrap(), "/naru-oci/a/b");
        assert_eq!(cgroup_path("/a/b", "x").unwrap(), "/a/b");
        assert!(cgroup_path("system.slice:x:y", "x").is_err());
    }

    #[test]
    fn systemds_form() {
        let path = |text: &str| parse_scope(text, "x").map(|scope| scope.path());
        assert_eq!(path("machine.slice:libpod:ab").unwrap(), "/machine.slice/libpod-ab.scope");
        assert_eq!(path("a-b.slice::ab").unwrap(), "/a.slice/a-b.slice/ab.scope");
        assert_eq!(path("").unwrap(), "/system.slice/naru-oci-x.scope");
        for bad in ["/a/b", "a.slice:b", "a:b:c", "a.slice:b:c:d", "a.slice:b:", "a.slice:b:c.slice", "a.slice:b:../c"]
        {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
