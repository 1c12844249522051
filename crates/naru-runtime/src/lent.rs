//! What one container lends another: a mount out of its mount namespace, where alone it can be cloned (open_tree(2)).

use crate::inside;
use naru_sys::clone::{CloneFlags, clone3};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd, pidfd_send_signal, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::path::Path;

/// `/proc/PID/root/…` in two.
pub(crate) fn of_process(path: &Path) -> Option<(u32, CString)> {
    let (pid, below) = path.strip_prefix("/proc").ok()?.to_str()?.split_once("/root/")?;
    Some((pid.parse().ok()?, CString::new(below).ok()?))
}

/// A detached clone of `below` in the root of the process `pid`, where no component of it may be a link. A child goes there for it, since a
/// process with threads can't.
pub(crate) fn clone(pid: u32, below: &CStr, how: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty())?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
        let tree = clone_there(&namespace, below, how);
        let number = tree.as_ref().map_or_else(|errno| -errno.raw_os_error(), AsRawFd::as_raw_fd);
        // Its reader is there, or nobody is.
        let _ = rustix::io::write(&tell, &number.to_ne_bytes());
        // The descriptor is fetched out of this process, which is ended then.
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    })?;
    drop(tell);
    let mut number = [0; 4];
    let told = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut number));
    let tree = match (told, i32::from_ne_bytes(number)) {
        (Ok(4), number) if number >= 0 => pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty()),
        (Ok(4), errno) => Err(Errno::from_raw_os_error(-errno)),
        (Ok(_), _) => Err(Errno::SRCH),
        (Err(errno), _) => Err(errno),
    };
    // It can only be gone already.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED));
    tree
}

/// After clone.
fn clone_there(namespace: &OwnedFd, below: &CStr, how: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let place = inside::open_ordinary(&root, below, OFlags::PATH)?;
    open_tree(&place, c"", how | OpenTreeFlags::AT_EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_processes() {
        assert_eq!(of_process(Path::new("/proc/12/root/dev/shm")), Some((12, c"dev/shm".into())));
        for other in ["/proc/self/root/x", "/proc/12/cwd", "/data/12/root/x"] {
            assert_eq!(of_process(Path::new(other)), None);
        }
    }
}
