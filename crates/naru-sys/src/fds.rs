//! Descriptor hygiene.

use crate::call::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use std::convert::Infallible;

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

/// Moves the descriptors of `keep` to the numbers `first` and `first + 1`, closes everything else from `first` on, and goes on in `then`,
/// which never returns: no owner of a closed descriptor may be used in it. Returns only with the reason why it could not. After clone.
pub fn keep_then(
    first: u32,
    keep: [Option<BorrowedFd<'_>>; 2],
    then: impl FnOnce([Option<OwnedFd>; 2]) -> Infallible,
) -> Errno {
    let mut kept = [None, None];
    // Out of the way of both numbers first.
    let mut copies = [-1; 2];
    for (copy, fd) in copies.iter_mut().zip(keep) {
        let Some(fd) = fd else { continue };
        // SAFETY: a duplicate of a borrowed descriptor; libc's fcntl takes the lowest number as an int.
        let made = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first as libc::c_int + 2) };
        match check(libc::c_long::from(made)) {
            Ok(number) => *copy = number as libc::c_int,
            Err(errno) => return errno,
        }
    }
    for (at, (copy, kept)) in copies.into_iter().zip(&mut kept).enumerate() {
        if copy < 0 {
            continue;
        }
        let number = first as libc::c_int + at as libc::c_int;
        // SAFETY: what is closed by it has no owner that is used again, as the caller promises.
        let moved = unsafe { libc::syscall(libc::SYS_dup3, copy, number, libc::O_CLOEXEC) };
        match check(moved) {
            // SAFETY: the descriptor is new, and this is its only owner.
            Ok(_) => *kept = Some(unsafe { OwnedFd::from_raw_fd(number) }),
            Err(errno) => return errno,
        }
    }
    // SAFETY: as above. A number that was not used for a kept descriptor may hold an inherited one.
    unsafe {
        for (at, kept) in kept.iter().enumerate() {
            if kept.is_none() {
                libc::syscall(libc::SYS_close, first as libc::c_int + at as libc::c_int);
            }
        }
        libc::syscall(libc::SYS_close_range, first + 2, libc::c_uint::MAX, 0);
    }
    go_on(then, kept)
}

fn go_on<K>(then: impl FnOnce(K) -> Infallible, kept: K) -> ! {
    match then(kept) {}
}

/// How many descriptors this process has open. For tests and self-checks: it reads `/proc/self/fd`.
///
/// # Errors
/// `/proc` isn't there.
pub fn fd_count() -> std::io::Result<usize> {
    // The listing itself holds one.
    Ok(std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}
