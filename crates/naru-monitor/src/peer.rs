//! A connection with an engine.

use crate::protocol::{Event, Message, Numbered, Request, Response};
use crate::wire::{self, Decoder, WireError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;

/// An engine that doesn't listen to so many messages is none.
const QUEUE_LIMIT: usize = 4096;

/// A request with its descriptors.
pub(crate) type Received = (Numbered<Request>, Vec<OwnedFd>);

/// An engine.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: OwnedFd,
    decoder: Decoder,
    queue: VecDeque<Frame>,
    gone: bool,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

impl Peer {
    /// Takes a connected socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        // What can't be made non-blocking is no socket, and the first receive tells.
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self { socket, decoder: Decoder::default(), queue: VecDeque::new(), gone: false }
    }

    /// The socket.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether messages wait for room.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.is_empty() && !self.gone
    }

    /// Whether the connection is over.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the other end is there now.
    pub(crate) fn is_there(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::empty())];
        let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        !self.gone && asked.is_ok() && !fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Everything that has arrived. The end of the connection, or nonsense on it, ends it.
    pub(crate) fn receive(&mut self) -> Vec<Received> {
        let mut requests = Vec::new();
        let over = loop {
            match self.decoder.next() {
                Ok(Some(request)) => requests.push(request),
                Err(_) => break true,
                Ok(None) => match self.decoder.fill(&self.socket) {
                    Ok(_) => {}
                    Err(WireError::System { errno: Errno::AGAIN, .. }) => break false,
                    Err(_) => break true,
                },
            }
        };
        self.gone |= over;
        requests
    }

    /// Answers a request.
    pub(crate) fn reply(&mut self, seq: u64, body: Response, descriptors: Vec<OwnedFd>) {
        self.send(&Message::Reply(Numbered { seq, body }), descriptors);
    }

    /// Tells something; whether it could be put on its way.
    pub(crate) fn tell(&mut self, event: &Event) -> bool {
        self.send(&Message::Event(event.clone()), Vec::new());
        !self.gone
    }

    fn send(&mut self, message: &Message, descriptors: Vec<OwnedFd>) {
        match wire::encode(message, descriptors.len()) {
            Ok(bytes) if self.queue.len() < QUEUE_LIMIT => self.queue.push_back(Frame { bytes, sent: 0, descriptors }),
            _ => self.gone = true,
        }
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some(frame) = self.queue.front_mut().filter(|_| !self.gone) {
            let descriptors: Vec<_> = frame.descriptors.iter().map(AsFd::as_fd).collect();
            match wire::send(&self.socket, &frame.bytes[frame.sent..], &descriptors) {
                Ok(sent) => {
                    frame.sent += sent;
                    frame.descriptors.clear();
                    if frame.sent == frame.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(_) => self.gone = true,
            }
        }
    }
}
