//! A container in a user namespace with true ids on disk.
//!
//! Layers and the folder of upper and work are cloned with the container's id map (mount_setattr(2), `MOUNT_ATTR_IDMAP`), and the overlay
//! is made of the clones: files are 0 on disk, 100000 to the host's kernel, and 0 again in the container. Overlay makes its own work
//! folder with the ids of the calling thread, so these are the container's root's for that moment (otherwise it turns read-only).

use crate::StartError;
use crate::mount_spaces::{self, MountSpaces, MountTemplates};
use crate::plan::{IdMap, IdRange};
use crate::report::errno_text;
use naru_sys::clone::{CloneFlags, clone3};
use naru_sys::credentials::set_filesystem_ids;
use naru_sys::mount_attr::{MountChange, mount_setattr};
use naru_sys::namespace::{NewNamespace, unshare};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{
    CapabilitiesSecureBits, LinkNameSpaceType, capabilities_secure_bits, move_into_link_name_space,
    set_capabilities_secure_bits,
};
use std::path::Path;

/// Ids of the host that the container's ids stand for.
pub(crate) trait Outside {
    /// The host's id of the user `inside`; unmapped ones are nobody's.
    fn user(&self, inside: u32) -> u32;
    /// The host's id of the group `inside`.
    fn group(&self, inside: u32) -> u32;
}

/// nobody (the kernel's overflow id).
const OVERFLOW: u32 = 65_534;

impl Outside for Option<&IdMap> {
    fn user(&self, inside: u32) -> u32 {
        self.map_or(inside, |map| outside(&map.uids, inside))
    }

    fn group(&self, inside: u32) -> u32 {
        self.map_or(inside, |map| outside(&map.gids, inside))
    }
}

fn outside(ranges: &[IdRange], inside: u32) -> u32 {
    let found = ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
        range.outside.checked_add(offset)
    });
    found.unwrap_or(OVERFLOW)
}

/// A user namespace with its map.
#[derive(Debug)]
pub(crate) struct Mapping<'a> {
    pub map: &'a IdMap,
    pub namespace: OwnedFd,
}

/// Namespaces made ahead of a container, held by nothing but these descriptors.
#[derive(Debug)]
pub struct UserSpace {
    /// The user namespace.
    pub user: OwnedFd,
    /// A network namespace that belongs to it; nothing in it is up.
    pub net: OwnedFd,
    /// Mount namespaces that belong to it.
    pub mounts: Option<MountSpaces>,
}

impl UserSpace {
    /// Makes all, or those but the user namespace in the user namespace `within`; mount namespaces only with templates. The caller is
    /// single-threaded.
    ///
    /// # Errors
    /// As clone3(2) and writing the maps: `EPERM` where an outer namespace doesn't have these ids.
    pub fn create(
        map: &IdMap,
        within: Option<OwnedFd>,
        templates: Option<&MountTemplates>,
    ) -> Result<Self, StartError> {
        if let Some(user) = within {
            let net = network_within(&user)?;
            return Ok(Self { user, net, mounts: None });
        }
        let mut more = CloneFlags::NEWNET;
        if templates.is_some() {
            more |= CloneFlags::NEWNS;
        }
        let Held { user, net, mounts } = namespaces_of_a_holder(map, more, templates)?;
        let net = net.ok_or_else(|| StartError::system("make the network namespace"))?;
        let mounts = match (templates, mounts) {
            (Some(templates), Some(own)) => Some(MountSpaces::Own { own, system: templates.system()? }),
            _ => None,
        };
        Ok(Self { user, net, mounts })
    }
}

/// A user namespace with `map`, held by nothing but the descriptor.
pub(crate) fn user_namespace(map: &IdMap) -> Result<OwnedFd, StartError> {
    namespaces_of_a_holder(map, CloneFlags::empty(), None).map(|held| held.user)
}

/// Namespaces of a process that was there for them.
struct Held {
    user: OwnedFd,
    net: Option<OwnedFd>,
    mounts: Option<OwnedFd>,
}

fn namespaces_of_a_holder(
    map: &IdMap,
    more: CloneFlags,
    templates: Option<&MountTemplates>,
) -> Result<Held, StartError> {
    let fail = |e: Errno| StartError::system(format!("make the user namespace: {}", errno_text(e)));
    // It waits until it is ended: it exists only so that its namespaces can be opened.
    let make = || {
        clone3(CloneFlags::NEWUSER | more | CloneFlags::CLEAR_SIGHAND, None, || {
            loop {
                let _ = rustix::event::poll(&mut [], None);
            }
        })
    };
    let holder = match templates {
        Some(templates) => templates.in_empty(make)?,
        None => make(),
    };
    let holder = holder.map_err(fail)?;
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", holder.pid.as_raw_nonzero());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
    };
    let opened = write_id_maps(holder.pid, map).and_then(|()| {
        let net = more.contains(CloneFlags::NEWNET).then(|| open("net")).transpose()?;
        let mounts = more.contains(CloneFlags::NEWNS).then(|| open("mnt")).transpose()?;
        Ok(Held { user: open("user")?, net, mounts })
    });
    // It can only be gone already.
    let _ = pidfd_send_signal(&holder.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED));
    opened
}

/// A network namespace that belongs to `user`.
fn network_within(user: &OwnedFd) -> Result<OwnedFd, StartError> {
    let fail =
        |e: Errno| StartError::system(format!("make a network namespace in a user namespace: {}", errno_text(e)));
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    let holder = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
        let made = move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .and_then(|()| unshare(NewNamespace::Net));
        mount_spaces::hold(made, tell.as_fd())
    })
    .map_err(fail)?;
    drop(tell);
    let opened = match rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut [0; 1])) {
        Ok(1) => {
            let path = format!("/proc/{}/ns/net", holder.pid.as_raw_nonzero());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
        }
        Ok(_) => Err(fail(Errno::PERM)),
        Err(errno) => Err(fail(errno)),
    };
    // It can only be gone already.
    let _ = pidfd_send_signal(&holder.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED));
    opened
}

/// The map of a user namespace that somebody else has made, as this process counts the ids outside. A child goes there for it.
///
/// # Errors
/// `EINVAL` for one's own namespace, `EPERM` for one that isn't below it (setns(2)); a namespace without a map.
pub fn ids_of_namespace(user: BorrowedFd<'_>) -> Result<IdMap, StartError> {
    let fail = |e: Errno| StartError::system(format!("look into the user namespace: {}", errno_text(e)));
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    let visitor = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
        let code =
            move_into_link_name_space(user, Some(LinkNameSpaceType::User)).map_or_else(Errno::raw_os_error, |()| 0);
        // Its reader is there, or nobody is.
        let _ = rustix::io::write(&tell, &code.to_ne_bytes());
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    })
    .map_err(fail)?;
    drop(tell);
    let mut code = [0; 4];
    let read = match rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut code)) {
        Ok(4) if code == [0; 4] => Ok(["uid_map", "gid_map"].map(|file| {
            std::fs::read_to_string(format!("/proc/{}/{file}", visitor.pid.as_raw_nonzero())).unwrap_or_default()
        })),
        Ok(4) => Err(fail(Errno::from_raw_os_error(i32::from_ne_bytes(code)))),
        _ => Err(fail(Errno::SRCH)),
    };
    // It can only be gone already.
    let _ = pidfd_send_signal(&visitor.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(visitor.pidfd.as_fd()), WaitIdOptions::EXITED));
    let [uids, gids] = read?.map(|text| ranges_of(&text));
    if uids.is_empty() || gids.is_empty() {
        return Err(StartError::invalid("the user namespace has no id maps"));
    }
    Ok(IdMap { uids, gids })
}

/// Lines of /proc/PID/uid_map (user_namespaces(7)).
fn ranges_of(text: &str) -> Vec<IdRange> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        Some(IdRange { inside: fields.next()??, outside: fields.next()??, count: fields.next()?? })
    };
    text.lines().filter_map(line).collect()
}

/// Writes the id maps of the new user namespace that `pid` waits in (user_namespaces(7)).
fn write_id_maps(pid: Pid, map: &IdMap) -> Result<(), StartError> {
    let text = |ranges: &[IdRange]| -> String {
        ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
    };
    for (file, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        let fail = |e: Errno| StartError::system(format!("write {file} of the user namespace: {}", errno_text(e)));
        let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        rustix::io::write(fd, text(ranges).as_bytes()).map_err(fail)?;
    }
    Ok(())
}

/// A detached clone of the folder at `path` whose ids are mapped.
pub(crate) fn mapped_clone(path: &Path, namespace: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    let fail = |e: Errno| StartError::system(format!("map ids of {}: {}", path.display(), errno_text(e)));
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags).map_err(fail)?;
    crate::mounts::make_private(tree.as_fd()).map_err(fail)?;
    let change = MountChange { id_map: Some(namespace), ..MountChange::default() };
    mount_setattr(tree.as_fd(), c"", &change).map_err(fail)?;
    Ok(tree)
}

/// Whether the file system of `path` can have its ids mapped by `namespace` (mount_setattr(2), "ID-mapped mounts"). Overlays, most network
/// and all pseudo file systems can't.
pub fn can_map_ids(path: &Path, namespace: BorrowedFd<'_>) -> bool {
    mapped_clone(path, namespace).is_ok()
}

/// Gives a detached clone of `path` the container's ids, so that a file belongs inside to whom it belongs outside. Tells whether all of it
/// could be had: where a file system has no id maps, its files are nobody's inside.
pub(crate) fn map_tree(tree: BorrowedFd<'_>, path: &Path, recursive: bool, mapping: &Mapping<'_>) -> bool {
    if already_inside(tree, mapping.map) {
        return true;
    }
    let change = MountChange { id_map: Some(mapping.namespace.as_fd()), recursive, ..MountChange::default() };
    if mount_setattr(tree, c"", &change).is_ok() {
        return true;
    }
    let top = mount_setattr(tree, c"", &MountChange { recursive: false, ..change }).is_ok();
    if recursive {
        // All or nothing, so one mount below that can't keeps the others from it. Those that can't are mostly /proc and its like.
        for below in mounts_below(path) {
            let _ = mount_setattr(tree, &below, &MountChange { recursive: false, ..change });
        }
    }
    top
}

/// What another container in the same user namespace lends (its /dev/shm) has the container's ids as it is.
fn already_inside(tree: BorrowedFd<'_>, map: &IdMap) -> bool {
    let within =
        |ranges: &[IdRange], id: u32| ranges.iter().any(|r| id.checked_sub(r.outside).is_some_and(|o| o < r.count));
    rustix::fs::fstat(tree).is_ok_and(|stat| within(&map.uids, stat.st_uid) && within(&map.gids, stat.st_gid))
}

/// Mount points below `path`, relative to it (proc_pid_mountinfo(5)).
fn mounts_below(path: &Path) -> Vec<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let Ok(path) = std::fs::canonicalize(path) else { return Vec::new() };
    let points = table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(unescape);
    let below = points.filter_map(|point| {
        let relative = Path::new(std::ffi::OsStr::from_bytes(&point)).strip_prefix(&path).ok()?.as_os_str().as_bytes();
        std::ffi::CString::new(relative).ok().filter(|relative| !relative.is_empty())
    });
    below.collect()
}

/// `\040` and so on.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// While it lives, this thread makes files as the container's root, with all its capabilities.
#[derive(Debug)]
pub struct AsContainerRoot {
    ids: (u32, u32),
    bits: CapabilitiesSecureBits,
}

impl AsContainerRoot {
    /// Becomes it, on this thread only.
    ///
    /// # Errors
    /// `EPERM` without CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
    pub fn become_it(map: &IdMap) -> Result<Self, StartError> {
        let fail = |e: Errno| StartError::system(format!("act as the container's root: {}", errno_text(e)));
        let map = Some(map);
        let bits = capabilities_secure_bits().map_err(fail)?;
        set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP).map_err(fail)?;
        // From here on the destructor undoes it, whatever the calls below say.
        let mut guard = Self { ids: (0, 0), bits };
        guard.ids = set_filesystem_ids(map.user(0), map.group(0)).map_err(fail)?;
        Ok(guard)
    }
}

impl Drop for AsContainerRoot {
    fn drop(&mut self) {
        // Going back to what was is always permitted.
        let _ = set_filesystem_ids(self.ids.0, self.ids.1);
        let _ = set_capabilities_secure_bits(self.bits);
    }
}

/// Ids as the kernel's types.
pub(crate) fn owner(map: Option<&IdMap>, uid: Uid, gid: Gid) -> (Uid, Gid) {
    (Uid::from_raw(map.user(uid.as_raw())), Gid::from_raw(map.group(gid.as_raw())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_their_range() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let map = IdMap { uids: vec![range(0, 1000, 1), range(1, 100_000, 10)], gids: vec![range(0, u32::MAX, 2)] };
        let map = Some(&map);
        assert_eq!([0, 1, 10, 11].map(|id| map.user(id)), [1000, 100_000, 100_009, OVERFLOW]);
        assert_eq!([0, 1].map(|id| map.group(id)), [u32::MAX, OVERFLOW]);
        assert_eq!(None::<&IdMap>.user(7), 7);
    }

    #[test]
    fn maps_are_read() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        assert_eq!(
            ranges_of("         0     100000      65536\n     70000 1 1\n"),
            [range(0, 100_000, 65_536), range(70_000, 1, 1)]
        );
        assert!(ranges_of("").is_empty());
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(b"/a\\040b\\134c\\x"), b"/a b\\c\\x");
        assert!(mounts_below(Path::new("/")).contains(&c"proc".into()));
    }
}
