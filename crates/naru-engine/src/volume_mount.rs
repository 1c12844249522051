//! Volumes whose files lie elsewhere: the `local` driver's options `type`, `device` and `o`, and the mounts that they make.
//!
//! Such a volume is mounted on its `_data` folder when the first container that has it starts, and unmounted when the last has ended. Who
//! uses it is counted by name, in memory: an engine that begins counts the containers that run, and unmounts the rest.

use naru_base::{Error, Result};
use naru_registry::resolver::{Resolver, ResolverConfig};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

/// Checks options by the driver's rules; gives the bytes that a volume may take, 0 for no limit.
///
/// # Errors
/// docker's texts: an unknown option, one that another needs, a size that is none.
pub(crate) fn check(options: &BTreeMap<String, String>) -> Result<i64> {
    let missing = |name: &str| Err(Error::invalid(format!("missing required option: {name:?}")));
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size")) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    let has = |name: &str| options.contains_key(name);
    if (has("type") || has("o")) && !has("device") {
        return missing("device");
    }
    if (has("device") || has("o")) && !has("type") {
        return missing("type");
    }
    let Some(size) = options.get("size") else { return Ok(0) };
    let bytes = naru_base::size::parse_bytes(size)?;
    if bytes > 0 && has("device") {
        return Err(Error::invalid(
            "the option size limits what is on the engine's own disk, not what a device has: give the file system its own limit \
             (type=tmpfs: o=size=SIZE)",
        ));
    }
    Ok(bytes)
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
    let kind = text("type");
    let (device, given) = with_addresses(kind, text("device"), text("o"), look_up)?;
    let (flags, data) = parse(&given);
    let fail = |e: Errno| {
        let why = naru_base::error::as_go_says(&std::io::Error::from(e).to_string());
        Error::system(format!(
            "failed to mount local volume: mount {device}:{}, flags: {:#x}, data: {}: {why}",
            at.display(),
            flags.bits(),
            masked(&data)
        ))
    };
    let options = CString::new(data.as_str()).map_err(|_| fail(Errno::INVAL))?;
    mount(device.as_str(), at, kind, flags, options.as_c_str()).map_err(fail)?;
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

/// Device and options of a network file system with the address of its server in place of its name, as docker's driver gives them to the
/// kernel: that of `addr=`, or for cifs that of the device.
fn with_addresses(
    kind: &str,
    device: &str,
    options: &str,
    look_up: impl Fn(&str) -> Result<IpAddr>,
) -> Result<(String, String)> {
    let same = || Ok((device.to_owned(), options.to_owned()));
    if !matches!(kind, "nfs" | "nfs4" | "cifs") {
        return same();
    }
    if let Some(name) = address(options) {
        let found = look_up(name)?;
        let changed = options.split(',').map(|option| match option.strip_prefix("addr=") {
            Some(given) if given == name => format!("addr={found}"),
            _ => option.to_owned(),
        });
        return Ok((device.to_owned(), changed.collect::<Vec<_>>().join(",")));
    }
    match device.strip_prefix("//").and_then(|rest| rest.split_once('/')) {
        Some((name, share)) if kind == "cifs" => Ok((format!("//{}/{share}", look_up(name)?), options.to_owned())),
        _ => same(),
    }
}

/// The address of a server, IPv4 where there is one. On a thread of its own: it may be asked for within a runtime and without.
fn look_up(name: &str) -> Result<IpAddr> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    let failed = |why: String| Error::system(format!("error resolving passed in network volume address: {why}"));
    let found = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| failed(e.to_string()))?;
            let resolver = Resolver::new(ResolverConfig::default());
            runtime.block_on(resolver.lookup(name)).map_err(|e| failed(e.to_string()))
        });
        thread.join().unwrap_or_else(|_| Err(failed(format!("lookup {name}: it ended in the middle"))))
    })?;
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| failed(format!("lookup {name}: no such host")))
}

/// Options without the password that may be among them.
fn masked(options: &str) -> String {
    let shown = options.split(',').map(|o| if o.starts_with("password=") { "password=****" } else { o });
    shown.collect::<Vec<_>>().join(",")
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
        assert_eq!(said(&[]), Ok(0));
        assert_eq!(said(&[("type", "none"), ("device", "/x"), ("o", "bind")]), Ok(0));
        assert_eq!(said(&[("nope", "1")]), Err("invalid option: \"nope\"".into()));
        assert_eq!(said(&[("device", "/x")]), Err("missing required option: \"type\"".into()));
        assert_eq!(said(&[("type", "nfs")]), Err("missing required option: \"device\"".into()));
        assert_eq!(said(&[("size", "1g")]), Ok(1 << 30));
        assert_eq!(said(&[("size", "zz")]), Err("invalid size: 'zz'".into()));
        assert!(said(&[("size", "1g"), ("type", "tmpfs"), ("device", "tmpfs")]).is_err());
        assert_eq!(said(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=host,rw")]), Ok(0));
    }

    #[test]
    fn servers_are_given_to_the_kernel_by_address() {
        let look_up = |name: &str| match name {
            "files" => Ok([192, 0, 2, 7].into()),
            other => Err(Error::system(format!("lookup {other}: no such host"))),
        };
        let of = |kind: &str, device: &str, options: &str| with_addresses(kind, device, options, look_up).ok();
        let is = |device: &str, options: &str| Some((device.to_owned(), options.to_owned()));
        assert_eq!(of("nfs", ":/x", "addr=files,rw"), is(":/x", "addr=192.0.2.7,rw"));
        assert_eq!(of("cifs", "//files/x/y", "username=a"), is("//192.0.2.7/x/y", "username=a"));
        assert_eq!(of("cifs", "//other/x", "vers=3,addr=files"), is("//other/x", "vers=3,addr=192.0.2.7"));
        assert_eq!(of("tmpfs", "tmpfs", "addr=files"), is("tmpfs", "addr=files"));
        assert_eq!((of("nfs", ":/x", "addr=nobody"), of("cifs", "//nobody/x", "")), (None, None));
        assert_eq!(look_up_literal("2001:db8::1"), Some("2001:db8::1".into()));
        assert_eq!(masked("username=a,password=b,vers=3"), "username=a,password=****,vers=3");
    }

    fn look_up_literal(text: &str) -> Option<String> {
        super::look_up(text).ok().map(|a| a.to_string())
    }

    #[test]
    fn mount_options_are_flags_or_the_file_systems() {
        let (flags, data) = parse("bind,ro,noatime,size=5m,,uid=1000");
        assert_eq!(flags, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(data, "size=5m,uid=1000");
    }
}
