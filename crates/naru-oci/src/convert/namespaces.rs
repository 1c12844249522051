//! Namespaces: which are new, which are joined by their paths, which stay the caller's (config-linux.md, "Namespaces").

use crate::spec::{IdMapping, Linux, TimeOffset};
use naru_base::{Error, Result};
use naru_runtime::StartOptions;
use naru_runtime::plan::{Descriptors, IdMap, IdRange, Namespace, Namespaces};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, fstatfs};
use std::collections::BTreeMap;
use std::path::Path;

/// NSFS_MAGIC (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// # Errors
/// An unknown or repeated kind, a path that leads to no namespace, one that can't be joined, id maps that are missing or not used.
pub(super) fn convert(linux: &Linux) -> Result<(Namespaces, Descriptors, StartOptions)> {
    let mut spaces = Namespaces {
        pid: Namespace::Host,
        ipc: Namespace::Host,
        uts: Namespace::Host,
        net: Namespace::Host,
        cgroup: Namespace::Host,
        user: None,
    };
    let (mut fds, mut options) = (Descriptors::default(), StartOptions::default());
    let (mut seen, mut mount, mut time) = (Vec::new(), false, false);
    for namespace in &linux.namespaces {
        let kind = namespace.r#type.as_str();
        if seen.contains(&kind) {
            return Err(Error::invalid(format!("malformed spec file: duplicated ns {kind:?}")));
        }
        seen.push(kind);
        let path = namespace.path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let joined = path.map(|path| open(kind, path)).transpose()?;
        let how = if joined.is_some() { Namespace::Join } else { Namespace::New };
        match kind {
            "pid" => (spaces.pid, fds.pid) = (how, joined),
            "network" => (spaces.net, fds.net) = (how, joined),
            "ipc" => (spaces.ipc, fds.ipc) = (how, joined),
            "uts" => (spaces.uts, fds.uts) = (how, joined),
            "cgroup" => {
                // What is joined through the options is none of the plan's.
                spaces.cgroup = Namespace::New;
                options.cgroup_namespace = joined;
            }
            "time" => {
                time = true;
                options.time_namespace = joined;
            }
            "mount" => {
                mount = true;
                joined.as_ref().map(check_mounts).transpose()?;
                options.mount_namespace = joined;
            }
            "user" => match joined {
                None => spaces.user = Some(id_map(linux)?),
                Some(joined) => {
                    spaces.user = Some(joined_ids(linux, &joined)?);
                    fds.user = Some(joined);
                }
            },
            _ => return Err(Error::invalid(format!("namespace {kind:?} does not exist"))),
        }
    }
    if !mount {
        return Err(Error::not_implemented("a container without a mount namespace of its own is not supported"));
    }
    if spaces.user.is_none() && !(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty()) {
        return Err(Error::invalid(
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        ));
    }
    match (time, options.time_namespace.is_some()) {
        (true, false) => options.time_offsets = Some(time_offsets(&linux.time_offsets)?),
        (false, _) if !linux.time_offsets.is_empty() => {
            return Err(Error::invalid(
                "time namespace offsets specified, but time namespace isn't enabled in the config",
            ));
        }
        (true, true) if !linux.time_offsets.is_empty() => {
            return Err(Error::invalid("time namespace offsets specified, but an existing time namespace is joined"));
        }
        _ => {}
    }
    Ok((spaces, fds, options))
}

fn open(kind: &str, path: &Path) -> Result<OwnedFd> {
    let fail = |why: String| Error::invalid(format!("{kind} namespace {}: {why}", path.display()));
    if !path.is_absolute() {
        return Err(fail("not an absolute path".to_owned()));
    }
    let fd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| fail(e.to_string()))?;
    match fstatfs(&fd) {
        Ok(stat) if stat.f_type as u64 == NSFS_MAGIC => Ok(fd),
        _ => Err(fail("not a namespace".to_owned())),
    }
}

/// A container changes the root of its mount namespace, and nothing of the old one stays.
fn check_mounts(namespace: &OwnedFd) -> Result<()> {
    let system = |e: rustix::io::Errno| Error::invalid(format!("mount namespace: {e}"));
    let theirs = fstat(namespace).map_err(system)?;
    for process in ["self", "1"] {
        // One that can't be seen is none that could be joined either.
        let Ok(own) = rustix::fs::stat(format!("/proc/{process}/ns/mnt")) else { continue };
        if (own.st_dev, own.st_ino) == (theirs.st_dev, theirs.st_ino) {
            return Err(Error::invalid(
                "the mount namespace of the host can't be a container's: the host's processes would lose their root",
            ));
        }
    }
    Ok(())
}

fn id_map(linux: &Linux) -> Result<IdMap> {
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return Err(Error::invalid("user namespaces enabled, but no uid mappings or gid mappings found"));
    }
    Ok(IdMap { uids: ranges(&linux.uid_mappings), gids: ranges(&linux.gid_mappings) })
}

/// The map of a namespace that is there. A bundle may say it too, but no other.
fn joined_ids(linux: &Linux, namespace: &OwnedFd) -> Result<IdMap> {
    let ids = naru_runtime::ids_of_namespace(namespace.as_fd())?;
    let (uids, gids) = (ranges(&linux.uid_mappings), ranges(&linux.gid_mappings));
    let other = |said: &[IdRange], there: &[IdRange]| !said.is_empty() && said != there;
    if other(&uids, &ids.uids) || other(&gids, &ids.gids) {
        return Err(Error::invalid("user namespace mappings specified that the joined user namespace does not have"));
    }
    Ok(ids)
}

/// Mappings in the plan's words.
pub(super) fn ranges(mappings: &[IdMapping]) -> Vec<IdRange> {
    mappings.iter().map(|m| IdRange { inside: m.container, outside: m.host, count: m.size }).collect()
}

fn time_offsets(offsets: &BTreeMap<String, TimeOffset>) -> Result<String> {
    let line = |(clock, offset): (&String, &TimeOffset)| match clock.as_str() {
        "monotonic" | "boottime" => Ok(format!("{clock} {} {}\n", offset.secs, offset.nanosecs)),
        _ => Err(Error::invalid(format!("time offset of the clock {clock:?}: monotonic and boottime have one"))),
    };
    offsets.iter().map(line).collect()
}
