//! Descriptor hygiene.

use crate::call::check;
use rustix::io::Result;

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Marks every descriptor from `first` on close-on-exec (close_range(2)), whoever opened it. After clone.
///
/// # Errors
/// `ENOSYS` before Linux 5.9, `EINVAL` before 5.11.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: rustix has no close_range. Marking descriptors frees nothing, so no owner is invalidated.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on, in a child that never returns to code owning any of them. After clone.
///
/// # Safety
/// No `OwnedFd` of a number from `first` on may be used or dropped afterwards in this process.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub unsafe fn close_from(first: u32) -> Result<()> {
    // SAFETY: the caller vouches for the owners of what is closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// How many descriptors this process has open. For tests and self-checks: it reads `/proc/self/fd`.
///
/// # Errors
/// `/proc` isn't there.
pub fn fd_count() -> std::io::Result<usize> {
    // The listing itself holds one.
    Ok(std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}
