//! keyctl(2): a session keyring of one's own.

use crate::call::check;
use rustix::io::Result;
use std::ffi::CStr;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the inherited session keyring for one called `name`, so that the keys in it stay with the parent. After clone.
///
/// # Errors
/// `ENOSYS` without keyrings, `EDQUOT` when the user has too many keys.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    // SAFETY: rustix has no keyctl. `name` is null-terminated and only read.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}
