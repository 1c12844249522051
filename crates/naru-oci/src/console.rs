//! Terminals: sent to whoever asked for a container's, by `--console-socket`.

use naru_base::{Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sendmsg, socket_with,
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
    connect("console socket", path)
}

/// A socket connected to `path`; errors name it as `what`.
pub(crate) fn connect(what: &str, path: &Path) -> Result<OwnedFd> {
    let fail = |e: rustix::io::Errno| Error::system(format!("{what} {}: {e}", path.display()));
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
    // An address has room for 107 bytes.
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", handle.as_raw_fd())).map_err(fail)?;
    rustix::net::connect(&socket, &address).map_err(fail)?;
    Ok(socket)
}

/// Sends the master of a terminal.
///
/// # Errors
/// The receiver is gone.
pub(crate) fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    send_with("the terminal", socket, NAME, master)
}

/// Sends `text` with a descriptor; errors name it as `what`.
pub(crate) fn send_with(what: &str, socket: &OwnedFd, text: &[u8], fd: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Error::system(format!("send {what}: no room for its descriptor")));
    }
    let fail = |e| Error::system(format!("send {what}: {e}"));
    let sent = sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL).map_err(fail)?;
    // The descriptor has gone with the first part.
    let mut rest = text.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let more = rustix::net::send(socket, rest, SendFlags::NOSIGNAL).map_err(fail)?;
        rest = rest.get(more..).unwrap_or_default();
    }
    Ok(())
}
