//! What a socket's peer has not taken yet.

use crate::call::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Result;

/// Bytes that were sent on a socket and that its peer has not read (unix(7)), or not acknowledged (tcp(7), `SIOCOUTQ`). On a Unix socket the
/// kernel's own overhead counts, so only zero is exact.
///
/// # Errors
/// As ioctl(2): what is no socket has no such queue.
pub fn unread(socket: impl AsFd) -> Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one integer (SIOCOUTQ is TIOCOUTQ's number).
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) }))?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::unread;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_is_empty_when_its_peer_has_read_all() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unread(&here).unwrap(), 0);
        here.write_all(b"head").unwrap();
        assert!(unread(&here).unwrap() > 0);
        there.read_exact(&mut [0; 2]).unwrap();
        assert!(unread(&here).unwrap() > 0);
        there.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(unread(&here).unwrap(), 0);
        assert!(unread(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
