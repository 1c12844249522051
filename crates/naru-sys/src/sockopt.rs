//! Options of sockets whose values are structures of some subsystem.

use crate::call::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Result;

/// Asks for an option whose value also says what is asked for; how many bytes of `value` are the answer.
///
/// # Errors
/// As getsockopt(2).
pub fn get(socket: impl AsFd, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel reads and writes at most `length` bytes of `value`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    check(libc::c_long::from(result))?;
    Ok(length as usize)
}
