//! Connections that the kernel can't lead to a container by itself: those that come by IPv6 for one that has IPv4 alone, from ::1, or
//! from an address of the link. What comes at a socket of the host is passed on, and what is answered passed back.
//!
//! Everything waits in two epoll instances (epoll(7)), so that the monitor's own loop watches two descriptors more, however many ports and
//! connections there are. Without a connection there is no buffer and no timer.

use crate::protocol::Transport;
use crate::served::Targets;
use naru_sys::datagram::{self, OwnAddress};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

/// Moved at once in one direction of a connection, and as a rule before others have their turn.
const CHUNK: usize = 64 << 10;
const ROUNDS: usize = 16;
/// A flow of datagrams is over when nothing has come for so long (docker's figure).
const FLOW_IDLE: Duration = Duration::from_secs(90);
/// Flows at once; the one that was idle for longest makes room.
const FLOWS: usize = 256;
/// Connections at once, when the limit of open files allows more.
const STREAMS: usize = 4096;
/// After a failure to take a connection, the next is taken so much later, unless one ends before.
const PAUSE: Duration = Duration::from_secs(1);
/// Events handled at once.
const EVENTS: usize = 64;

/// What has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A port.
    Port,
    /// A connection or flow.
    Traffic,
}

/// All ports of a container that are served here.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// The ports' sockets, and where each leads.
    ports: Vec<OwnedFd>,
    to: Targets,
    arrivals: OwnedFd,
    traffic: OwnedFd,
    streams: Vec<Option<Stream>>,
    flows: Vec<Option<Flow>>,
    /// Streams that have had their turn and have more.
    unfinished: Vec<usize>,
    limit: usize,
    resume: Option<Instant>,
}

/// A connection, from both sides.
#[derive(Debug)]
struct Stream {
    /// The client's, the container's.
    ends: [OwnedFd; 2],
    /// From the client, from the container.
    ways: [Way; 2],
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    /// Read, and not yet written.
    rest: Vec<u8>,
    /// Its sender has ended it, and the receiver has been told.
    over: bool,
}

/// The datagrams of one client at one port, and at one of the host's addresses.
#[derive(Debug)]
struct Flow {
    port: usize,
    client: SocketAddrV6,
    own: Option<OwnAddress>,
    socket: OwnedFd,
    used: Instant,
}

fn token(kind: u64, at: usize) -> EventData {
    EventData::new_u64(kind << 32 | at as u64)
}

const STREAM: u64 = 0;
const FLOW: u64 = 1;

impl Forwarder {
    /// Serves the sockets, which listen or are bound and never block.
    ///
    /// # Errors
    /// As `epoll_create1(2)` and `epoll_ctl(2)`.
    pub(crate) fn new(ports: Vec<OwnedFd>, to: Targets) -> Result<Self, Errno> {
        let arrivals = epoll::create(CreateFlags::CLOEXEC)?;
        let traffic = epoll::create(CreateFlags::CLOEXEC)?;
        for (at, socket) in ports.iter().enumerate() {
            epoll::add(&arrivals, socket, token(0, at), EventFlags::IN)?;
            if to.get(at).is_some_and(|to| to.transport == Transport::Udp) {
                datagram::tell_own_address(socket)?;
            }
        }
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        // Half of what the monitor may open besides.
        let limit = usize::try_from(files.saturating_sub(ports.len() as u64) / 4).unwrap_or(STREAMS).clamp(1, STREAMS);
        Ok(Self {
            ports,
            to,
            arrivals,
            traffic,
            streams: Vec::new(),
            flows: Vec::new(),
            unfinished: Vec::new(),
            limit,
            resume: None,
        })
    }

    /// New connections go elsewhere from now on; `to` has a place for each port. Those that are open stay where they are.
    pub(crate) fn turn(&mut self, to: Targets) {
        self.to = to;
        self.flows.clear();
    }

    /// What is to be waited for.
    pub(crate) fn watch<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        if self.resume.is_none() {
            add(Source::Port, self.arrivals.as_fd(), PollFlags::IN);
        }
        if self.streams.iter().any(Option::is_some) || self.flows.iter().any(Option::is_some) {
            add(Source::Traffic, self.traffic.as_fd(), PollFlags::IN);
        }
    }

    /// When something is to be done, whatever happens until then.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.unfinished.is_empty() {
            return Some(now);
        }
        let idle = self.flows.iter().flatten().map(|f| f.used + FLOW_IDLE);
        idle.chain(self.resume).min()
    }

    /// What time brings.
    pub(crate) fn settle(&mut self, now: Instant, chunk: &mut Vec<u8>) {
        if self.resume.is_some_and(|at| at <= now) {
            self.resume = None;
        }
        for flow in self.flows.iter_mut().filter(|f| f.as_ref().is_some_and(|f| f.used + FLOW_IDLE <= now)) {
            *flow = None;
        }
        for at in std::mem::take(&mut self.unfinished) {
            self.move_on(at, chunk);
        }
        chunk.clear();
    }

    /// Handles what has something to say.
    pub(crate) fn handle(&mut self, source: Source, chunk: &mut Vec<u8>) {
        let mut space = [MaybeUninit::<Event>::uninit(); EVENTS];
        let from = if source == Source::Port { &self.arrivals } else { &self.traffic };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(from, &mut space, Some(&none)) else { return };
        let tokens: Vec<u64> = events.iter().map(|e| e.data.u64()).collect();
        for token in tokens {
            let at = (token & u64::from(u32::MAX)) as usize;
            match (source, token >> 32) {
                (Source::Port, _) => match self.to.get(at).map(|to| to.transport) {
                    Some(Transport::Tcp) => self.accept(at, chunk),
                    Some(Transport::Udp) => self.take_datagrams(at, chunk),
                    None => {}
                },
                (_, STREAM) => self.move_on(at, chunk),
                _ => self.answer_datagrams(at, chunk),
            }
        }
        chunk.clear();
    }

    fn accept(&mut self, at: usize, chunk: &mut Vec<u8>) {
        let (Some(port), Some(to)) = (self.ports.get(at), self.to.get(at)) else { return };
        if self.streams.iter().flatten().count() >= self.limit {
            self.resume = Some(Instant::now() + PAUSE);
            return;
        }
        let client = match rustix::net::accept_with(port, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => client,
            // It went again, or there was none.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(_) => {
                self.resume = Some(Instant::now() + PAUSE);
                return;
            }
        };
        // A client whose connection can't be passed on is let go.
        let Ok(server) = connect(to.address, SocketType::STREAM) else { return };
        for socket in [&client, &server] {
            // Only a matter of delay, and of when a dead peer is noticed.
            let _ = sockopt::set_tcp_nodelay(socket, true);
            let _ = sockopt::set_socket_keepalive(socket, true);
        }
        let ends = [client, server];
        let place = free_place(&mut self.streams);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if ends.iter().all(|end| epoll::add(&self.traffic, end, token(STREAM, place), flags).is_ok()) {
            self.streams[place] = Some(Stream { ends, ways: [Way::default(), Way::default()] });
            self.move_on(place, chunk);
        }
    }

    /// Moves what there is to move on a connection, and ends one that is over.
    fn move_on(&mut self, at: usize, chunk: &mut Vec<u8>) {
        let Some(Some(stream)) = self.streams.get_mut(at) else { return };
        match stream.pump(chunk) {
            Pumped::Waits => {}
            Pumped::More => {
                if !self.unfinished.contains(&at) {
                    self.unfinished.push(at);
                }
            }
            Pumped::Over => {
                self.streams[at] = None;
                self.resume = None;
            }
        }
    }

    fn take_datagrams(&mut self, at: usize, chunk: &mut Vec<u8>) {
        chunk.resize(CHUNK, 0);
        for _ in 0..ROUNDS {
            let Some(port) = self.ports.get(at) else { return };
            let Ok((length, client, own)) = datagram::receive(port, chunk) else { return };
            let Some(flow) = self.flow(at, client, own) else { continue };
            flow.used = Instant::now();
            // What can't be sent is lost, as datagrams are.
            let _ = rustix::net::send(&flow.socket, &chunk[..length], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// The flow of this client, which may be a new one.
    fn flow(&mut self, port: usize, client: SocketAddrV6, own: Option<OwnAddress>) -> Option<&mut Flow> {
        let is_it = |f: &Flow| (f.port, f.client, f.own) == (port, client, own);
        let known = self.flows.iter().position(|f| f.as_ref().is_some_and(is_it));
        let place = match known {
            Some(place) => place,
            None => {
                let to = self.to.get(port)?.address;
                if self.flows.iter().flatten().count() >= FLOWS {
                    let oldest = self.flows.iter_mut().min_by_key(|f| f.as_ref().map(|f| f.used))?;
                    *oldest = None;
                }
                let socket = connect(to, SocketType::DGRAM).ok()?;
                let place = free_place(&mut self.flows);
                epoll::add(&self.traffic, &socket, token(FLOW, place), EventFlags::IN).ok()?;
                self.flows[place] = Some(Flow { port, client, own, socket, used: Instant::now() });
                place
            }
        };
        self.flows.get_mut(place)?.as_mut()
    }

    fn answer_datagrams(&mut self, at: usize, chunk: &mut Vec<u8>) {
        chunk.resize(CHUNK, 0);
        for _ in 0..ROUNDS {
            let Some(Some(flow)) = self.flows.get_mut(at) else { return };
            let Some(port) = self.ports.get(flow.port) else { return };
            match rustix::net::recv(&flow.socket, &mut **chunk, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    flow.used = Instant::now();
                    let _ = datagram::send(port, &chunk[..length], &flow.client, flow.own);
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                // Nobody listens there now (ICMP): somebody may soon.
                Err(_) => {}
            }
        }
    }
}

/// The first free place, made when there is none.
fn free_place<T>(places: &mut Vec<Option<T>>) -> usize {
    match places.iter().position(Option::is_none) {
        Some(place) => place,
        None => {
            places.push(None);
            places.len() - 1
        }
    }
}

fn connect(to: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Waits,
    More,
    Over,
}

impl Stream {
    fn pump(&mut self, chunk: &mut Vec<u8>) -> Pumped {
        let [client, server] = &self.ends;
        let [out, back] = &mut self.ways;
        let outcomes = [out.pump(client, server, chunk), back.pump(server, client, chunk)];
        // A peer that has ended its direction is not read any more, so a reset of its shows only here.
        let broken = || self.ends.iter().any(|end| !matches!(sockopt::socket_error(end), Ok(Ok(()))));
        let (one, all) = (out.over || back.over, out.over && back.over);
        if outcomes.contains(&Pumped::Over) || all || (one && broken()) {
            return Pumped::Over;
        }
        if outcomes.contains(&Pumped::More) { Pumped::More } else { Pumped::Waits }
    }
}

impl Way {
    /// Until one side would block, or has had its turn. `Over` for a connection that is broken.
    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd, chunk: &mut Vec<u8>) -> Pumped {
        chunk.resize(CHUNK, 0);
        for _ in 0..ROUNDS {
            if self.over {
                return Pumped::Waits;
            }
            if !self.rest.is_empty() {
                match rustix::net::send(to, &self.rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                    Ok(count) => drop(self.rest.drain(..count)),
                    Err(Errno::AGAIN) => return Pumped::Waits,
                    Err(Errno::INTR) => {}
                    Err(_) => return Pumped::Over,
                }
                if self.rest.is_empty() {
                    self.rest = Vec::new();
                }
                continue;
            }
            match rustix::net::recv(from, &mut **chunk, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.over = true;
                    // One that is gone needs no end.
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                    return Pumped::Waits;
                }
                Ok((count, _)) => {
                    match rustix::net::send(to, &chunk[..count], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                        Ok(sent) => self.rest.extend_from_slice(&chunk[sent..count]),
                        Err(Errno::AGAIN | Errno::INTR) => self.rest.extend_from_slice(&chunk[..count]),
                        Err(_) => return Pumped::Over,
                    }
                }
                Err(Errno::AGAIN) => return Pumped::Waits,
                Err(Errno::INTR) => {}
                Err(_) => return Pumped::Over,
            }
        }
        Pumped::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ForwardTo;
    use rustix::event::{PollFd, poll};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

    /// Serves until `done`, as the monitor does.
    fn serve(forwarder: &mut Forwarder, mut done: impl FnMut(&Forwarder) -> bool) {
        let mut chunk = Vec::new();
        while !done(forwarder) {
            let mut sources = Vec::new();
            let mut fds = Vec::new();
            forwarder.watch(&mut |source, fd, flags| {
                sources.push(source);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            });
            let short = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            poll(&mut fds, Some(&short)).unwrap();
            let ready: Vec<_> =
                sources.into_iter().zip(&fds).filter(|(_, f)| !f.revents().is_empty()).map(|(s, _)| s).collect();
            drop(fds);
            ready.into_iter().for_each(|source| forwarder.handle(source, &mut chunk));
            forwarder.settle(Instant::now(), &mut chunk);
        }
    }

    fn forwarder(socket: OwnedFd, transport: Transport, address: SocketAddr) -> Forwarder {
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        Forwarder::new(vec![socket], vec![ForwardTo { transport, address }].into()).unwrap()
    }

    #[test]
    fn a_connection_is_passed_on_both_ways_to_its_end() {
        let inside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let outside = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let at = outside.local_addr().unwrap();
        let mut forwarder = forwarder(outside.into(), Transport::Tcp, inside.local_addr().unwrap());
        let big = vec![7_u8; 5 << 20];
        let echo = std::thread::spawn(move || {
            let (mut peer, _) = inside.accept().unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            peer.write_all(&all).unwrap();
        });
        let sent = big.clone();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        serve(&mut forwarder, |f| client.is_finished() && f.streams.iter().all(Option::is_none));
        assert!(client.join().unwrap() == big);
        echo.join().unwrap();
    }

    #[test]
    fn a_connection_that_nobody_takes_is_ended() {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let outside = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let at = outside.local_addr().unwrap();
        let mut forwarder = forwarder(outside.into(), Transport::Tcp, closed);
        let client = std::thread::spawn(move || {
            let mut all = Vec::new();
            // An end or a reset.
            let _ = TcpStream::connect(at).unwrap().read_to_end(&mut all);
            all.len()
        });
        serve(&mut forwarder, |f| client.is_finished() && f.streams.iter().all(Option::is_none));
        assert_eq!(client.join().unwrap(), 0);
    }

    #[test]
    fn datagrams_find_their_client() {
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let outside = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let at = outside.local_addr().unwrap();
        let mut forwarder = forwarder(outside.into(), Transport::Udp, inside.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            for _ in 0..2 {
                let (length, from) = inside.recv_from(&mut buffer).unwrap();
                buffer[..length].reverse();
                inside.send_to(&buffer[..length], from).unwrap();
            }
        });
        let ask = |text: &'static [u8]| {
            std::thread::spawn(move || {
                let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
                socket.send_to(text, at).unwrap();
                let mut buffer = [0; 64];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(from, at);
                buffer[..length].to_vec()
            })
        };
        let (one, two) = (ask(b"abc"), ask(b"xyz1"));
        serve(&mut forwarder, |_| one.is_finished() && two.is_finished());
        assert_eq!((one.join().unwrap(), two.join().unwrap()), (b"cba".to_vec(), b"1zyx".to_vec()));
        server.join().unwrap();
        assert_eq!(forwarder.flows.iter().flatten().count(), 2);
        assert!(forwarder.deadline(Instant::now()).is_some());
        forwarder.settle(Instant::now() + FLOW_IDLE, &mut Vec::new());
        assert_eq!(forwarder.deadline(Instant::now()), None);
    }
}
