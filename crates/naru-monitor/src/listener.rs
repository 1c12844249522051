//! The socket on which later engines find a monitor.

use crate::protocol::SOCKET_NAME;
use naru_base::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A listening socket; its name goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    folder: OwnedFd,
}

impl Listener {
    /// Listens on [`SOCKET_NAME`] in `folder`, for the owner only.
    ///
    /// # Errors
    /// socket(2)'s, bind(2)'s, listen(2)'s.
    pub(crate) fn bind(folder: OwnedFd) -> Result<Self> {
        let fail = |e: Errno| Error::system(format!("listen on {SOCKET_NAME}: {e}"));
        naru_sys::fault::point();
        match unlinkat(&folder, SOCKET_NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail)?;
        // Through a descriptor: the whole path may be longer than an address can be (unix(7)).
        let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_raw_fd());
        let address = SocketAddrUnix::new(path).map_err(fail)?;
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        naru_sys::fault::point();
        let bound = rustix::net::bind(&socket, &address);
        rustix::process::umask(mask);
        bound.map_err(fail)?;
        let listener = Self { socket, folder };
        naru_sys::fault::point();
        rustix::net::listen(&listener.socket, 16).map_err(fail)?;
        Ok(listener)
    }

    /// The socket.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A connection that waits, if any.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The engine removes the whole folder, maybe before.
        let _ = unlinkat(&self.folder, SOCKET_NAME, AtFlags::empty());
    }
}
