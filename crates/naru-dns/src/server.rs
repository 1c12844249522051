//! The sockets of a server: a part of somebody's poll loop.

use crate::message::{self, Code, Query, Record, Unreadable};
use crate::pending::{Asker, Outcome, Pending, Places, random, visit};
use crate::stream::Stream;
use crate::zone::{Resolver, Verdict};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Where containers find it.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53));
/// Seconds that an answer may be remembered for (docker's number).
const TTL: u32 = 600;
/// Questions forwarded at once; each has a socket.
const PENDING_LIMIT: usize = 256;
/// Streams open at once.
const STREAM_LIMIT: usize = 64;
/// Streams that say nothing are closed after this (RFC 7766 section 6.2.3).
const STREAM_IDLE: Duration = Duration::from_secs(20);
/// Questions answered in one turn, so that nothing else of the loop waits for long.
const TURN: usize = 32;
/// The longest question.
const QUESTION: usize = 4096;

/// What a server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Questions by UDP.
    Datagrams,
    /// New streams.
    Listener,
    /// The stream of this number.
    Stream(u64),
    /// The forwarded question of this number.
    Pending(u64),
}

/// A server's own sockets, in the container's network namespace, and that namespace.
#[derive(Debug)]
pub struct Sockets {
    datagrams: OwnedFd,
    listener: OwnedFd,
    host: OwnedFd,
    inside: OwnedFd,
}

impl Sockets {
    /// Makes them: bound to [`ADDRESS`], or another port of it, in the network namespace `inside`. The calling thread visits it, and must be the only one of
    /// its process that minds.
    ///
    /// # Errors
    /// setns(2)'s, socket(2)'s, bind(2)'s: `EADDRINUSE` when something in the container has the port of every address.
    pub fn open(inside: OwnedFd, port: Option<u16>) -> Result<Self, Errno> {
        use rustix::fs::{Mode, OFlags};
        let host = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let places = Places { host: host.as_fd(), inside: inside.as_fd() };
        let address = SocketAddr::new(ADDRESS.ip(), port.unwrap_or(ADDRESS.port()));
        let both = || Ok((bind(SocketType::DGRAM, &address)?, bind(SocketType::STREAM, &address)?));
        let (datagrams, listener) = visit(places, both)?;
        rustix::net::listen(&listener, 64)?;
        Ok(Self { datagrams, listener, host, inside })
    }
}

fn bind(kind: SocketType, address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    // So that a server in the container may have the port at its other addresses.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

#[derive(Debug)]
struct Client {
    number: u64,
    stream: Stream,
    heard: Instant,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    sockets: Sockets,
    resolver: Resolver,
    clients: Vec<Client>,
    pending: Vec<(u64, Pending)>,
    /// For the next stream or question.
    number: u64,
}

impl Server {
    /// One that answers from now on.
    pub fn new(sockets: Sockets, resolver: Resolver) -> Self {
        Self { sockets, resolver, clients: Vec::new(), pending: Vec::new(), number: 0 }
    }

    /// From now on it knows this. What has been forwarded is still answered.
    pub fn set(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// Everything that it waits for now.
    pub fn watch<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        add(Source::Datagrams, self.sockets.datagrams.as_fd(), PollFlags::IN);
        if self.clients.len() < STREAM_LIMIT {
            add(Source::Listener, self.sockets.listener.as_fd(), PollFlags::IN);
        }
        for client in &self.clients {
            let out = if client.stream.is_waiting() { PollFlags::OUT } else { PollFlags::empty() };
            add(Source::Stream(client.number), client.stream.fd(), PollFlags::IN | out);
        }
        for (number, pending) in &self.pending {
            if let Some((fd, flags)) = pending.watch() {
                add(Source::Pending(*number), fd, flags);
            }
        }
    }

    /// When [`Server::settle`] has something to do although nothing has happened.
    pub fn deadline(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|(_, p)| p.deadline());
        pending.chain(self.clients.iter().map(|c| c.heard + STREAM_IDLE)).min()
    }

    /// Something has happened at what was waited for.
    pub fn handle(&mut self, source: Source) {
        match source {
            Source::Datagrams => self.receive_datagrams(),
            Source::Listener => self.accept(),
            Source::Stream(number) => self.serve_stream(number),
            Source::Pending(number) => {
                if let Some(at) = self.pending.iter().position(|(n, _)| *n == number) {
                    self.step(at, Instant::now());
                }
            }
        }
    }

    /// Gives up what has taken too long.
    pub fn settle(&mut self, now: Instant) {
        for at in (0..self.pending.len()).rev() {
            if self.pending[at].1.deadline() <= now {
                self.step(at, now);
            }
        }
        self.clients.retain(|c| !c.stream.has_ended() && c.heard + STREAM_IDLE > now);
    }

    fn receive_datagrams(&mut self) {
        let mut buffer = [0; QUESTION];
        for _ in 0..TURN {
            let got = rustix::net::recvfrom(&self.sockets.datagrams, &mut buffer[..], RecvFlags::empty());
            match got {
                Ok((read, _, Some(from))) => {
                    if let Ok(from) = SocketAddr::try_from(from) {
                        self.question(Asker::Datagram(from), &buffer[..read]);
                    }
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = rustix::net::accept_with(&self.sockets.listener, flags) {
            let number = self.next_number();
            self.clients.push(Client { number, stream: Stream::new(socket), heard: Instant::now() });
        }
    }

    fn serve_stream(&mut self, number: u64) {
        let Some(client) = self.clients.iter_mut().find(|c| c.number == number) else { return };
        client.stream.flush();
        client.stream.fill();
        client.heard = Instant::now();
        for _ in 0..TURN {
            let Some(client) = self.clients.iter_mut().find(|c| c.number == number) else { return };
            let Some(message) = client.stream.next() else { return };
            self.question(Asker::Stream(number), &message);
        }
    }

    /// Answers a message, or forwards it.
    fn question(&mut self, asker: Asker, asked: &[u8]) {
        let query = match Query::read(asked) {
            Ok(query) => query,
            Err(Unreadable::Silent) => return,
            Err(Unreadable::Answer(code)) => {
                if let Some(answer) = message::refusal(asked, code) {
                    self.reply(asker, &answer);
                }
                return;
            }
        };
        match self.resolver.look_up(&query) {
            Verdict::Known(mut records) => {
                in_turn(&mut records);
                self.conclude(asker, asked, &query, Code::Success, &records);
            }
            Verdict::Forward if self.pending.len() >= PENDING_LIMIT => {
                self.conclude(asker, asked, &query, Code::Refused, &[]);
            }
            Verdict::Forward => {
                let places = Places { host: self.sockets.host.as_fd(), inside: self.sockets.inside.as_fd() };
                let pending = Pending::new(asker, query, asked.to_vec(), &self.resolver.upstreams, places);
                let number = self.next_number();
                self.pending.push((number, pending));
                if let Some((_, pending)) = self.pending.last()
                    && pending.watch().is_none()
                {
                    // Nobody could be asked.
                    self.step(self.pending.len() - 1, Instant::now());
                }
            }
        }
    }

    /// Takes a forwarded question a step further, and answers it when that was the last one.
    fn step(&mut self, at: usize, now: Instant) {
        let places = Places { host: self.sockets.host.as_fd(), inside: self.sockets.inside.as_fd() };
        match self.pending[at].1.step(now, places) {
            Outcome::Waiting => {}
            Outcome::Answer(mut answer) => {
                let (_, pending) = self.pending.swap_remove(at);
                if matches!(pending.asker, Asker::Datagram(_)) {
                    message::truncate(&mut answer, &pending.query, pending.query.udp_size());
                }
                self.reply(pending.asker, &answer);
            }
            Outcome::Failure => {
                let (_, pending) = self.pending.swap_remove(at);
                self.conclude(pending.asker, &pending.asked, &pending.query, Code::Failure, &[]);
            }
        }
    }

    /// Answers of our own knowledge.
    fn conclude(&mut self, asker: Asker, asked: &[u8], query: &Query, code: Code, records: &[Record]) {
        let limit = match asker {
            Asker::Datagram(_) => query.udp_size(),
            Asker::Stream(_) => usize::from(u16::MAX),
        };
        self.reply(asker, &message::answer(asked, query, code, records, TTL, limit));
    }

    fn reply(&mut self, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Datagram(to) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                // An asker without room for it asks again.
                let _ = rustix::net::sendto(&self.sockets.datagrams, answer, flags, &to);
            }
            Asker::Stream(number) => {
                if let Some(client) = self.clients.iter_mut().find(|c| c.number == number) {
                    client.stream.send(answer);
                }
            }
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// Begins with another record each time, so that every address has its turn.
fn in_turn(records: &mut [Record]) {
    if records.len() > 1 {
        let first = usize::from(random()) % records.len();
        records.rotate_left(first);
    }
}
