//! The one place where a raw system call's result becomes a [`Result`].

use rustix::io::{Errno, Result};

/// Turns what `libc::syscall` and its kin return into a result: -1 means that `errno` says why.
pub(crate) fn check(returned: libc::c_long) -> Result<libc::c_long> {
    if returned == -1 {
        // SAFETY: `__errno_location` always returns the calling thread's own, valid, aligned errno.
        let errno = unsafe { *libc::__errno_location() };
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(returned)
}
