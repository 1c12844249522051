//! Kernel settings of the container's own namespaces, written through its own procfs.

use crate::StartError;
use crate::mounts::c_path;
use crate::plan::{Namespace, Namespaces};
use crate::report::{At, Failure, Op, errno_text};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::BTreeMap;
use std::ffi::CString;

/// Path below `/proc/sys` and value of each setting.
#[derive(Debug, Default)]
pub(crate) struct Sysctls(Vec<(CString, CString)>);

/// Those of a container's own IPC namespace, besides `fs.mqueue.*` (ipc_namespaces(7)).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Turns names into paths; what would change the host is refused, in runc's words.
pub(crate) fn prepare(settings: &BTreeMap<String, String>, spaces: &Namespaces) -> Result<Sysctls, StartError> {
    settings
        .iter()
        .map(|(key, value)| {
            let path = path_of(key).ok_or_else(|| StartError::invalid(format!("invalid sysctl name \"{key}\"")))?;
            own_to_container(&path, spaces).map_err(|why| StartError::invalid(format!("sysctl \"{key}\" {why}")))?;
            Ok((c_path(path.as_bytes())?, c_path(value.as_bytes())?))
        })
        .collect::<Result<_, _>>()
        .map(Sysctls)
}

/// Whether a setting belongs to a namespace that isn't the host's.
fn own_to_container(path: &str, spaces: &Namespaces) -> Result<(), &'static str> {
    let ipc = path.strip_prefix("sys/kernel/").is_some_and(|name| IPC.contains(&name));
    let (space, refusal) = if ipc || path.starts_with("sys/fs/mqueue/") {
        (spaces.ipc, "is not allowed in the hosts ipc namespace")
    } else if path.starts_with("sys/net/") {
        (spaces.net, "not allowed in host network namespace")
    } else if path == "sys/kernel/domainname" {
        (spaces.uts, "is not in a separate kernel namespace")
    } else if path == "sys/kernel/hostname" && spaces.uts != Namespace::Host {
        return Err("is not allowed as it conflicts with the OCI \"hostname\" field");
    } else {
        return Err("is not in a separate kernel namespace");
    };
    if space == Namespace::Host { Err(refusal) } else { Ok(()) }
}

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding` (sysctl(8)): whichever separator comes first separates.
fn path_of(key: &str) -> Option<String> {
    let separator = key.chars().find(|c| matches!(c, '.' | '/'))?;
    let path: String = match separator {
        '/' => key.to_owned(),
        _ => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let ordinary = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    ordinary.then(|| format!("sys/{path}"))
}

/// Writes them all; `proc` is the procfs that was just made, so nothing else can be in its place. After clone.
pub(crate) fn write(proc: Option<BorrowedFd<'_>>, settings: &Sysctls) -> Result<(), Failure> {
    if settings.0.is_empty() {
        return Ok(());
    }
    let own;
    let proc = match proc {
        Some(proc) => proc,
        None => {
            own = crate::mounts::private_proc()?;
            own.as_fd()
        }
    };
    for (index, (path, value)) in settings.0.iter().enumerate() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file =
            openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).at(Op::OpenFile, index)?;
        rustix::io::write(&file, value.to_bytes()).at(Op::Write, index)?;
    }
    Ok(())
}

/// What failed.
pub(crate) fn describe(settings: &BTreeMap<String, String>, failure: Failure) -> StartError {
    let name = settings.keys().nth(failure.index as usize).map_or("", String::as_str);
    let what = if failure.op == Op::Write { "write" } else { "open" };
    StartError::system(format!("{what} sysctl {name}: {}", errno_text(failure.errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_settings() {
        let own = Namespaces::default();
        let refused = |key: &str, spaces: &Namespaces| {
            prepare(&BTreeMap::from([(key.to_owned(), "1".to_owned())]), spaces).err().map(|e| e.message)
        };
        for key in
            ["net.ipv4.ip_forward", "net/core/somaxconn", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"]
        {
            assert_eq!(refused(key, &own), None, "{key}");
        }
        for key in ["kernel.panic", "kernel/panic", "vm.swappiness", "fs.file-max", "kernel.hostname", "network.x"] {
            assert!(refused(key, &own).is_some(), "{key}");
        }
        assert_eq!(
            refused("kernel.panic", &own).unwrap(),
            "sysctl \"kernel.panic\" is not in a separate kernel namespace"
        );
        let hosts =
            Namespaces { net: Namespace::Host, ipc: Namespace::Host, uts: Namespace::Host, ..Namespaces::default() };
        assert_eq!(
            refused("net.ipv4.ip_forward", &hosts).unwrap(),
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace"
        );
        assert_eq!(
            refused("kernel.sem", &hosts).unwrap(),
            "sysctl \"kernel.sem\" is not allowed in the hosts ipc namespace"
        );
        assert!(refused("kernel.domainname", &hosts).is_some() && refused("kernel.hostname", &hosts).is_some());
    }

    #[test]
    fn names_become_paths() {
        assert_eq!(path_of("net.ipv4.ip_forward").as_deref(), Some("sys/net/ipv4/ip_forward"));
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding").as_deref(), Some("sys/net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(path_of("net/ipv4/conf/eth0.1/x").as_deref(), Some("sys/net/ipv4/conf/eth0.1/x"));
        for bad in ["", "net", "net..x", "net/../x", "/net/x", "net.ipv4."] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}
