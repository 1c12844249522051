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

/// Closes every descriptor from `first` on and goes on in `then`, which never returns: no owner of a closed descriptor is ever used or
/// dropped again, save those in statics. After clone.
pub fn close_from_then(first: u32, then: fn(i32) -> !, argument: i32) -> ! {
    // SAFETY: `then` captures nothing and the callers' frames are never returned to, so no owner outlives its descriptor. Where the
    // call isn't there (before Linux 5.9) they stay open.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    then(argument)
}

/// How many descriptors this process has open. For tests and self-checks: it reads `/proc/self/fd`.
///
/// # Errors
/// `/proc` isn't there.
pub fn fd_count() -> std::io::Result<usize> {
    // The listing itself holds one.
    Ok(std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}
