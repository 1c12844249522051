//! A container in a user namespace with true ids on disk.
//!
//! Layers and the folder of upper and work are cloned with the container's id map (mount_setattr(2), `MOUNT_ATTR_IDMAP`), and the overlay
//! is made of the clones: files are 0 on disk, 100000 to the host's kernel, and 0 again in the container. Overlay makes its own work
//! folder with the ids of the calling thread, so these are the container's root's for that moment (otherwise it turns read-only).

use crate::StartError;
use crate::namespaces::write_id_maps;
use crate::plan::{IdMap, IdRange};
use crate::report::errno_text;
use naru_sys::clone::{CloneFlags, clone3};
use naru_sys::credentials::set_filesystem_ids;
use naru_sys::mount_attr::{MountChange, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};
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

/// A user namespace with `map`, held by nothing but the descriptor.
pub(crate) fn user_namespace(map: &IdMap) -> Result<OwnedFd, StartError> {
    let fail = |e: Errno| StartError::system(format!("make the user namespace: {}", errno_text(e)));
    // Stopped until it is ended: it exists only so that its namespace can be opened.
    let holder = clone3(CloneFlags::NEWUSER | CloneFlags::CLEAR_SIGHAND, None, || {
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    })
    .map_err(fail)?;
    let path = format!("/proc/{}/ns/user", holder.pid.as_raw_nonzero());
    let opened = write_id_maps(holder.pid, map)
        .and_then(|()| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail));
    // It can only be gone already.
    let _ = pidfd_send_signal(&holder.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED));
    opened
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

/// While it lives, this thread makes files as the container's root, with all its capabilities.
#[derive(Debug)]
pub(crate) struct AsContainerRoot {
    ids: (u32, u32),
    bits: CapabilitiesSecureBits,
}

impl AsContainerRoot {
    pub(crate) fn become_it(map: &IdMap) -> Result<Self, StartError> {
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
}
