//! Terminals: sent to whoever asked for a container's, by `--console-socket`.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, sendmsg, socket_with,
};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What is sent beside the descriptor; runc sends the terminal's name.
const NAME: &[u8] = b"/dev/ptmx";

/// A socket that the terminal will be sent to: connected before anything is made, so that a wrong path is told at once.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn connect_to(path: &Path) -> Result<OwnedFd> {
    let fail = |e: rustix::io::Errno| Error::system(format!("console socket {}: {e}", path.display()));
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
    // An address has room for 107 bytes.
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", handle.as_raw_fd())).map_err(fail)?;
    connect(&socket, &address).map_err(fail)?;
    Ok(socket)
}

/// Sends the master of a terminal.
///
/// # Errors
/// The receiver is gone.
pub(crate) fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Error::system("send the terminal: no room for its descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(NAME)], &mut control, SendFlags::NOSIGNAL).map(drop).system("send the terminal")
}
