//! The one network setting that a bare network namespace needs.

use crate::call::check;
use rustix::fd::AsRawFd;
use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Sets the interface `lo` up in the calling thread's network namespace (netdevice(7)). After clone.
///
/// # Errors
/// As socket(2) and the SIOCGIFFLAGS and SIOCSIFFLAGS ioctls.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: the request is a null-terminated name, and the kernel fills in the flags.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) }))?;
    // SAFETY: SIOCGIFFLAGS has made `ifru_flags` the union's valid member.
    unsafe { request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short };
    // SAFETY: as above; the kernel only reads it.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }))
        .map(drop)
}
