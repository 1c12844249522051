//! Volumes whose files lie elsewhere: the `local` driver's options `type`, `device` and `o`, and the mounts that they make.
//!
//! Such a volume is mounted on its `_data` folder when the first container that has it starts, and unmounted when the last has ended. Who
//! uses it is counted by name, in memory: an engine that begins counts the containers that run, and unmounts the rest.

use naru_base::{Error, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

/// Checks options by the driver's rules.
///
/// # Errors
/// docker's texts: an unknown option, one that another needs, a quota.
pub(crate) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    let missing = |name: &str| Err(Error::invalid(format!("missing required option: {name:?}")));
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size")) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    let has = |name: &str| options.contains_key(name);
    if has("size") {
        return Err(Error::invalid(
            "quota size requested but no quota support: for a limit use the options type=tmpfs, device=tmpfs and o=size=SIZE",
        ));
    }
    if (has("type") || has("o")) && !has("device") {
        return missing("device");
    }
    if (has("device") || has("o")) && !has("type") {
        return missing("type");
    }
    if let Some(address) = options.get("o").and_then(|o| address(o))
        && address.parse::<IpAddr>().is_err()
    {
        return Err(Error::invalid(format!(
            "addr={address}: give the server's IP address, names are not looked up here"
        )));
    }
    Ok(())
}

/// `addr=` among mount options.
fn address(options: &str) -> Option<&str> {
    options.split(',').find_map(|option| option.strip_prefix("addr=")).filter(|address| !address.is_empty())
}

/// Who uses which volume's mount.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    users: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Mounts {
    /// `user` has the volume from now on: mounted, if it was not.
    ///
    /// # Errors
    /// When it can't be mounted.
    pub(crate) fn take(&self, name: &str, user: &str, options: &BTreeMap<String, String>, at: &Path) -> Result<()> {
        let mut users = crate::lock(&self.users);
        let of_volume = users.entry(name.to_owned()).or_default();
        if of_volume.is_empty() && !is_mounted(at) {
            attach(options, at)?;
        }
        of_volume.insert(user.to_owned());
        Ok(())
    }

    /// `user` has it no more; the last one unmounts it.
    pub(crate) fn give_back(&self, name: &str, user: &str, at: &Path) {
        let mut users = crate::lock(&self.users);
        let Some(of_volume) = users.get_mut(name) else { return };
        if of_volume.remove(user) && of_volume.is_empty() {
            users.remove(name);
            detach(name, at);
        }
    }

    /// Whether it is mounted and nobody has it.
    pub(crate) fn is_left(&self, name: &str, at: &Path) -> bool {
        !crate::lock(&self.users).contains_key(name) && is_mounted(at)
    }

    /// Unmounts it unless somebody has it: what an engine that was killed left.
    pub(crate) fn tidy(&self, name: &str, at: &Path) {
        let users = crate::lock(&self.users);
        if !users.contains_key(name) && is_mounted(at) {
            detach(name, at);
        }
    }
}

fn detach(name: &str, at: &Path) {
    if let Err(error) = unmount(at, UnmountFlags::DETACH) {
        tracing::warn!(volume = name, "cannot unmount it: {error}");
    }
}

/// Whether something is mounted on the folder (statx(2), `STATX_ATTR_MOUNT_ROOT`).
pub(crate) fn is_mounted(at: &Path) -> bool {
    let flags = rustix::fs::AtFlags::NO_AUTOMOUNT | rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(rustix::fs::CWD, at, flags, rustix::fs::StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

fn attach(options: &BTreeMap<String, String>, at: &Path) -> Result<()> {
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (text("type"), text("device"));
    let (flags, data) = parse(text("o"));
    let fail = |e: Errno| {
        let why = naru_base::error::as_go_says(&std::io::Error::from(e).to_string());
        Error::system(format!(
            "failed to mount local volume: mount {device}:{}, flags: {:#x}, data: {data}: {why}",
            at.display(),
            flags.bits()
        ))
    };
    let options = CString::new(data.as_str()).map_err(|_| fail(Errno::INVAL))?;
    mount(device, at, kind, flags, options.as_c_str()).map_err(fail)?;
    // A bind takes no other flags when it is made.
    let more = flags & !(MountFlags::BIND | MountFlags::REC);
    if flags.contains(MountFlags::BIND) && !more.is_empty() {
        let changed = mount_remount(at, MountFlags::BIND | more, "");
        if let Err(e) = changed {
            let _ = unmount(at, UnmountFlags::DETACH);
            return Err(fail(e));
        }
    }
    Ok(())
}

/// The options of mount(8) as flags, and the rest for the file system.
fn parse(text: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        match option {
            "defaults" | "rw" | "suid" | "dev" | "exec" | "async" | "atime" | "diratime" | "relatime" => {
                if option == "relatime" {
                    flags |= MountFlags::RELATIME;
                }
            }
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        let said = |pairs: &[(&str, &str)]| check(&map(pairs)).map_err(|e| e.message().to_owned());
        assert_eq!(said(&[]), Ok(()));
        assert_eq!(said(&[("type", "none"), ("device", "/x"), ("o", "bind")]), Ok(()));
        assert_eq!(said(&[("nope", "1")]), Err("invalid option: \"nope\"".into()));
        assert_eq!(said(&[("device", "/x")]), Err("missing required option: \"type\"".into()));
        assert_eq!(said(&[("type", "nfs")]), Err("missing required option: \"device\"".into()));
        assert!(said(&[("size", "1g")]).is_err_and(|e| e.starts_with("quota size requested but no quota support")));
        assert!(said(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=host,rw")]).is_err());
    }

    #[test]
    fn mount_options_are_flags_or_the_file_systems() {
        let (flags, data) = parse("bind,ro,noatime,size=5m,,uid=1000");
        assert_eq!(flags, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(data, "size=5m,uid=1000");
    }
}
