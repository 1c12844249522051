//! PIDFD_GET_INFO (linux/pidfd.h): what the kernel knows of a process, without its number having to be trusted.

use crate::call::check;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Result;

/// `struct pidfd_info`, as of its first version (64 bytes).
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

/// Sends `signal`, any that there is, to the process behind `pidfd` (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` for one that has ended, `EINVAL`, `EPERM`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: rustix knows named signals only. The information about the sender is left to the kernel, and there are no flags.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) }).map(drop)
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` for 64 bytes.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;

/// What [`info`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidfdInfo {
    /// Process id in the caller's PID namespace.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Effective user.
    pub euid: u32,
    /// Wait status, once the process has ended and been reaped.
    pub exit_status: Option<i32>,
}

/// What the kernel knows of the process behind `pidfd`.
///
/// # Errors
/// `ENOTTY` or `EINVAL` before Linux 6.13, `ESRCH` for an ended one whose exit the kernel doesn't keep.
pub fn info(pidfd: BorrowedFd<'_>) -> Result<PidfdInfo> {
    let mut raw = RawInfo { mask: PIDFD_INFO_EXIT, ..RawInfo::default() };
    // SAFETY: rustix has no such ioctl. The structure has the size that is part of the request's number.
    check(libc::c_long::from(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut raw) }))?;
    let exit_status = (raw.mask & PIDFD_INFO_EXIT != 0).then_some(raw.exit_code);
    Ok(PidfdInfo { pid: raw.pid, parent: raw.ppid, euid: raw.euid, exit_status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use std::os::fd::AsFd;

    #[test]
    fn own_pidfd_tells_own_pid() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        match info(pidfd.as_fd()) {
            Ok(told) => assert_eq!(told.pid as i32, getpid().as_raw_nonzero().get()),
            Err(error) => assert!(matches!(error, rustix::io::Errno::NOTTY | rustix::io::Errno::INVAL)),
        }
    }
}
