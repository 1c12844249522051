//! A question on its way to other servers.

use crate::message::{self, Query};
use crate::stream::Stream;
use crate::zone::Upstream;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long one server may take (docker's number).
const PATIENCE: Duration = Duration::from_secs(4);
/// How many are asked, one after the other (docker's number).
const SERVERS: usize = 3;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// By UDP, from here.
    Datagram(SocketAddr),
    /// On the stream of this number.
    Stream(u64),
}

/// The network namespaces that questions go out of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The host's, which the calling thread is in.
    pub host: BorrowedFd<'a>,
    /// The container's.
    pub inside: BorrowedFd<'a>,
}

/// How the server that is asked now is reached.
#[derive(Debug)]
enum Way {
    Datagram(OwnedFd),
    Stream(Box<Stream>),
}

/// What came of waiting.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Waiting,
    /// The answer, numbered as the asker wants it.
    Answer(Vec<u8>),
    /// No server answered.
    Failure,
}

/// A question that has been forwarded.
#[derive(Debug)]
pub(crate) struct Pending {
    pub asker: Asker,
    pub query: Query,
    pub asked: Vec<u8>,
    servers: std::vec::IntoIter<Upstream>,
    way: Option<Way>,
    /// Number under which the server is asked: the asker's own could be guessed by whoever saw it.
    id: u16,
    deadline: Instant,
    /// A refusal of a server, in case that none answers better.
    refusal: Option<Vec<u8>>,
}

impl Pending {
    /// Asks the first server; a question that can't be sent to any fails at the next step.
    pub(crate) fn new(asker: Asker, query: Query, asked: Vec<u8>, servers: &[Upstream], places: Places<'_>) -> Self {
        let servers: Vec<_> = servers.iter().take(SERVERS).copied().collect();
        let mut pending = Self {
            asker,
            query,
            asked,
            servers: servers.into_iter(),
            way: None,
            id: 0,
            deadline: Instant::now(),
            refusal: None,
        };
        pending.ask_next(places);
        pending
    }

    /// The socket to wait for, and for what.
    pub(crate) fn watch(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self.way.as_ref()? {
            Way::Datagram(socket) => Some((socket.as_fd(), PollFlags::IN)),
            Way::Stream(stream) => {
                let out = if stream.is_waiting() { PollFlags::OUT } else { PollFlags::empty() };
                Some((stream.fd(), PollFlags::IN | out))
            }
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Something has happened at its socket, or its time is over.
    pub(crate) fn step(&mut self, now: Instant, places: Places<'_>) -> Outcome {
        let got = self.receive();
        match got {
            Ok(Some(mut answer)) => {
                message::renumber(&mut answer, self.query.id);
                // SERVFAIL, NOTIMP, REFUSED: another server may know better (what docker does, and resolv.conf's readers).
                if !matches!(message::code(&answer), Some(2 | 4 | 5)) {
                    return Outcome::Answer(answer);
                }
                self.refusal = Some(answer);
                self.ask_next(places);
            }
            Err(()) => self.ask_next(places),
            Ok(None) if now >= self.deadline => self.ask_next(places),
            Ok(None) => {}
        }
        match (&self.way, self.refusal.take()) {
            (Some(_), refusal) => {
                self.refusal = refusal;
                Outcome::Waiting
            }
            (None, Some(refusal)) => Outcome::Answer(refusal),
            (None, None) => Outcome::Failure,
        }
    }

    /// An answer to our question, none yet, or an error of the socket.
    fn receive(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let is_ours = |message: &[u8]| message::is_answer_to(&self.asked, &self.query, self.id, message);
        match &mut self.way {
            None => Err(()),
            Some(Way::Datagram(socket)) => {
                let mut buffer = vec![0; 4096];
                // What isn't an answer to it may be somebody's guess, and is left aside.
                loop {
                    match rustix::net::recv(&*socket, &mut buffer[..], rustix::net::RecvFlags::empty()) {
                        Ok((read, _)) if is_ours(&buffer[..read]) => {
                            buffer.truncate(read);
                            return Ok(Some(buffer));
                        }
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => return Ok(None),
                        Err(_) => return Err(()),
                    }
                }
            }
            Some(Way::Stream(stream)) => {
                stream.flush();
                stream.fill();
                while let Some(message) = stream.next() {
                    if is_ours(&message) {
                        return Ok(Some(message));
                    }
                }
                if stream.has_ended() { Err(()) } else { Ok(None) }
            }
        }
    }

    /// Asks the next server that can be sent to.
    fn ask_next(&mut self, places: Places<'_>) {
        self.way = None;
        while self.way.is_none() {
            let Some(server) = self.servers.next() else { return };
            self.deadline = Instant::now() + PATIENCE;
            self.id = random();
            message::renumber(&mut self.asked, self.id);
            self.way = self.send_to(server, places).ok();
        }
    }

    fn send_to(&self, server: Upstream, places: Places<'_>) -> Result<Way, Errno> {
        // A random port as well: the kernel chooses one for each socket.
        let kind = if matches!(self.asker, Asker::Datagram(_)) { SocketType::DGRAM } else { SocketType::STREAM };
        let socket = socket_to(server, kind, places)?;
        match rustix::net::connect(&socket, &server.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        if kind == SocketType::DGRAM {
            rustix::net::send(&socket, &self.asked, rustix::net::SendFlags::NOSIGNAL)?;
            return Ok(Way::Datagram(socket));
        }
        let mut stream = Stream::new(socket);
        stream.send(&self.asked);
        Ok(Way::Stream(Box::new(stream)))
    }
}

/// A socket in the network namespace that the server is asked out of. A socket stays where it was made, so the thread only visits.
fn socket_to(server: Upstream, kind: SocketType, places: Places<'_>) -> Result<OwnedFd, Errno> {
    let family = if server.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let make = || rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
    if server.inside { visit(places, make) } else { make() }
}

/// Runs `work` in the container's network namespace.
pub(crate) fn visit<T>(places: Places<'_>, work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(places.inside, network)?;
    let done = work();
    // The way back is open: the namespace is held by a descriptor, and nothing else can refuse it.
    move_into_link_name_space(places.host, network)?;
    done
}

/// A number that nobody can guess.
pub(crate) fn random() -> u16 {
    let mut bytes = [0; 2];
    // Small requests come whole once the kernel has started (getrandom(2)).
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}
