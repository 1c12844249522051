//! Messages on a TCP stream: two bytes of length, then the message (RFC 1035 section 4.2.2).

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A stream, with what has arrived and what waits to go.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    ended: bool,
}

impl Stream {
    /// Takes a non-blocking socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, input: Vec::new(), output: Vec::new(), sent: 0, ended: false }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Whether the other side has closed, or the stream has broken.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Puts a message on its way.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else { return };
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(message);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while self.is_waiting() && !self.ended {
            match rustix::net::send(&self.socket, &self.output[self.sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                // Not yet connected, or full.
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.ended = true,
            }
        }
        self.output.clear();
        self.sent = 0;
    }

    /// Reads what is there, once.
    pub(crate) fn fill(&mut self) {
        let mut chunk = [0; 4096];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut chunk)) {
            Ok(0) => self.ended = true,
            Ok(read) => self.input.extend_from_slice(&chunk[..read]),
            Err(Errno::AGAIN) => {}
            Err(_) => self.ended = true,
        }
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }
}
