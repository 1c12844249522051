//! An overlay of detached layers, on kernels before 6.15.
//!
//! Overlay clones its layers when it is created, and an older kernel clones only what is in the calling process's mount table
//! (`clone_private_mount`). So a child with a table of its own attaches the layers there, creates the overlay, and ends; its table goes
//! with it, the overlay has its clones. The overlay's configuration has resolved the layers before, so nothing is looked up by name, and
//! it doesn't matter that they lie on top of each other.

use crate::seccomp::KernelVersion;
use naru_sys::clone::{CloneFlags, clone3};
use naru_sys::process::exit_now;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, fsconfig_create, mount_change, move_mount};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Whether overlay takes layers that are attached nowhere.
pub(crate) fn is_needed() -> bool {
    KernelVersion::host() < KernelVersion { major: 6, minor: 15 }
}

/// Creates the file system that `context` describes, where `trees` are attached. They can't be attached anywhere else afterwards.
///
/// # Errors
/// As mount(2), move_mount(2) and fsconfig(2); `EINTR` when something killed the child.
pub(crate) fn create(context: BorrowedFd<'_>, trees: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let child = clone3(CloneFlags::CLEAR_SIGHAND | CloneFlags::NEWNS, None, || {
        let code = create_here(context, trees).map_or_else(Errno::raw_os_error, |()| 0);
        exit_now(code)
    })?;
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED))?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        // An exit status has eight bits, and every error number of these calls fits.
        Some(code) => Err(Errno::from_raw_os_error(code)),
        None => Err(Errno::INTR),
    }
}

/// After clone.
fn create_here(context: BorrowedFd<'_>, trees: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for tree in trees {
        move_mount(tree, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    fsconfig_create(context)
}
