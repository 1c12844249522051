//! The monitor: one thread that waits for everything about one container, and does one small thing after another.

use crate::container::Container;
use crate::forward::{self, Forwarder};
use crate::health::{Health, HealthSource};
use crate::memory::Memory;
use crate::peer::Peer;
use crate::protocol::Event;
use crate::session::{Session, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends of execs that are remembered for an engine that comes later.
const REMEMBERED: usize = 64;
/// After so long without anything to do, buffers are given back.
const IDLE: Duration = Duration::from_secs(5);

/// So long it says nothing new of what its log loses.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// Runs a monitor that speaks to its engine over `control`; returns the exit code of its process. The process has one thread, and
/// children only by this call.
pub fn monitor_main(control: OwnedFd) -> i32 {
    let mut monitor = Monitor { peers: vec![Peer::new(control)], ..Monitor::default() };
    while !monitor.is_over() {
        monitor.wait();
        monitor.settle();
    }
    0
}

/// Everything that a monitor has.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    pub(crate) peers: Vec<Peer>,
    pub(crate) container: Option<Container>,
    pub(crate) execs: Vec<Session>,
    pub(crate) health: Option<Health>,
    pub(crate) memory: Memory,
    /// Execs whose end nobody heard.
    pub(crate) ended_execs: VecDeque<(String, i32)>,
    /// What is kept for as long as the container runs.
    pub(crate) held: Vec<OwnedFd>,
    /// Serves ports of the host that the kernel can't lead to it.
    pub(crate) forwarder: Option<Forwarder>,
    /// A start has failed: there is nothing more to do.
    pub(crate) failed: bool,
    events: Vec<Event>,
    /// How many records of the log were lost when that was last told, and when.
    lost_told: (u64, Option<Instant>),
    /// Room for output on its way.
    chunk: Vec<u8>,
    /// Buffers may be larger than an idle monitor's should.
    stretched: bool,
}

/// What the monitor waits for.
#[derive(Debug, Clone, Copy)]
enum Token {
    Listener,
    Peer(usize),
    Main(Source),
    Exec(usize, Source),
    Health(HealthSource),
    Memory,
    Names(naru_dns::Source),
    Forward(forward::Source),
}

/// Everything that is waited for at once.
#[derive(Default)]
struct Waits<'a> {
    tokens: Vec<Token>,
    fds: Vec<PollFd<'a>>,
}

impl<'a> Waits<'a> {
    fn add(&mut self, token: Token, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.tokens.push(token);
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
    }

    fn poll(mut self, timeout: Option<&Timespec>) -> Vec<(Token, PollFlags)> {
        match poll(&mut self.fds, timeout) {
            Ok(_) => {
                let happened = self.fds.iter().map(PollFd::revents);
                self.tokens.into_iter().zip(happened).filter(|(_, flags)| !flags.is_empty()).collect()
            }
            // A signal, or a kernel that is out of memory for a moment.
            Err(_) => Vec::new(),
        }
    }
}

impl Monitor {
    /// Whether everything has been done and told.
    fn is_over(&self) -> bool {
        if self.peers.iter().any(Peer::is_waiting) {
            return false;
        }
        match &self.container {
            Some(container) => container.main.is_over() && self.execs.is_empty(),
            None => self.failed || self.peers.is_empty(),
        }
    }

    /// Waits until something happens, and handles all that has.
    fn wait(&mut self) {
        let deadline = self.deadline();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout =
            timeout.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let ready = self.poll(timeout.as_ref());
        if ready.is_empty() && self.stretched {
            self.relax();
        }
        for (token, flags) in ready {
            self.handle(token, flags);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sessions = self.execs.iter().chain(self.container.as_ref().map(|c| &c.main));
        let idle = self.stretched.then(|| Instant::now() + IDLE);
        let health = self.health.as_ref().map(Health::deadline);
        let names = self.container.as_ref().and_then(|c| c.names.as_ref()?.deadline());
        let forward = self.forwarder.as_ref().and_then(|f| f.deadline(Instant::now()));
        let memory = self.memory.deadline();
        sessions.filter_map(Session::deadline).chain(idle).chain(health).chain(memory).chain(names).chain(forward).min()
    }

    fn poll(&self, timeout: Option<&Timespec>) -> Vec<(Token, PollFlags)> {
        let mut waits = Waits::default();
        for (at, peer) in self.peers.iter().enumerate() {
            let out = if peer.is_waiting() { PollFlags::OUT } else { PollFlags::empty() };
            waits.add(Token::Peer(at), peer.fd(), PollFlags::IN | out);
        }
        if let Some(container) = &self.container {
            if let Some(listener) = &container.listener {
                waits.add(Token::Listener, listener.fd(), PollFlags::IN);
            }
            container.main.watch(&mut |source, fd, flags| waits.add(Token::Main(source), fd, flags));
            if let Some(names) = &container.names {
                names.watch(&mut |source, fd, flags| waits.add(Token::Names(source), fd, flags));
            }
        }
        if let Some(health) = &self.health {
            health.watch(&mut |source, fd, flags| waits.add(Token::Health(source), fd, flags));
        }
        if let Some((fd, flags)) = self.memory.watched() {
            waits.add(Token::Memory, fd, flags);
        }
        if let Some(forwarder) = &self.forwarder {
            forwarder.watch(&mut |source, fd, flags| waits.add(Token::Forward(source), fd, flags));
        }
        for (at, exec) in self.execs.iter().enumerate() {
            exec.watch(&mut |source, fd, flags| waits.add(Token::Exec(at, source), fd, flags));
        }
        waits.poll(timeout)
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Peer(at) => self.serve_peer(at, flags),
            Token::Main(source) => {
                if let Some(container) = &mut self.container {
                    container.main.handle(source, flags, &mut self.chunk, &mut self.events);
                }
            }
            Token::Health(source) => {
                if let Some(health) = &mut self.health {
                    health.handle(source, flags, &mut self.chunk);
                }
            }
            Token::Memory => self.memory.handle(Instant::now()),
            Token::Forward(source) => {
                if let Some(forwarder) = &mut self.forwarder {
                    forwarder.handle(source, &mut self.chunk);
                }
            }
            Token::Names(source) => {
                if let Some(names) = self.container.as_mut().and_then(|c| c.names.as_mut()) {
                    names.handle(source);
                }
            }
            Token::Exec(at, source) => {
                if let Some(exec) = self.execs.get_mut(at) {
                    exec.handle(source, flags, &mut self.chunk, &mut self.events);
                }
            }
        }
    }

    fn accept(&mut self) {
        let listener = self.container.as_ref().and_then(|c| c.listener.as_ref());
        if let Some(socket) = listener.and_then(|l| l.accept()) {
            self.peers.push(Peer::new(socket));
        }
    }

    fn serve_peer(&mut self, at: usize, flags: PollFlags) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        if flags.contains(PollFlags::OUT) {
            peer.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            for (request, descriptors) in peer.receive() {
                let (response, with) = self.answer(request.body, descriptors);
                if let Some(peer) = self.peers.get_mut(at) {
                    peer.reply(request.seq, response, with);
                }
            }
        }
    }

    /// What follows from what has happened. Places of sessions and peers change only here.
    fn settle(&mut self) {
        let now = Instant::now();
        self.stretched = self.chunk.capacity() > 0;
        let main = self.container.as_mut().map(|c| &mut c.main);
        for session in self.execs.iter_mut().chain(main) {
            session.settle(now, &mut self.chunk, &mut self.events);
        }
        self.tell_ended_execs(|exec| exec.is_complete(now));
        if let Some(names) = self.container.as_mut().and_then(|c| c.names.as_mut()) {
            names.settle(now);
        }
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.settle(now, &mut self.chunk);
        }
        if let (Some(health), Some(container)) = (&mut self.health, &self.container) {
            health.tend(container, now, &mut self.events);
        }
        if let Some(container) = &mut self.container
            && self.memory.tend(container, now)
        {
            self.events.push(Event::OutOfMemory);
        }
        self.tell_lost(now);
        self.end_container(now);
        for event in std::mem::take(&mut self.events) {
            self.tell(&event);
        }
        // Clients of what has been told go as soon as they have everything: most are done now.
        let main = self.container.as_mut().map(|c| &mut c.main);
        for session in self.execs.iter_mut().chain(main).filter(|s| s.is_told()) {
            session.settle(now, &mut self.chunk, &mut self.events);
        }
        if let Some(container) = self.container.as_mut().filter(|c| c.main.is_told()) {
            container.let_go();
        }
        self.execs.retain(|exec| !exec.is_over());
        self.peers.retain(|peer| !peer.is_gone());
    }

    /// Tells what of the log is lost, when something was. What is not told here is in the exit record.
    fn tell_lost(&mut self, now: Instant) {
        let (told, at) = self.lost_told;
        if at.is_some_and(|at| now < at + LOST_INTERVAL) {
            return;
        }
        let lost = self.container.as_ref().map(|c| c.main.log_lost()).unwrap_or_default();
        if lost.records > told {
            self.lost_told = (lost.records, Some(now));
            self.events.push(Event::LogLost(lost));
        }
    }

    /// Tells the ends of execs of which `ready` says that they can be told.
    fn tell_ended_execs(&mut self, ready: impl Fn(&Session) -> bool) {
        let mut killed = false;
        for exec in self.execs.iter_mut().filter(|e| !e.is_told() && ready(e)) {
            let exit_code = exec.exit_code().unwrap_or(128 + 9);
            killed |= exit_code == 128 + 9;
            exec.set_told();
            let id = exec.exec.clone().unwrap_or_default();
            self.events.push(Event::ExecExited { id, exit_code });
        }
        if killed && self.container.as_mut().is_some_and(Container::was_out_of_memory) {
            self.events.push(Event::OutOfMemory);
        }
    }

    /// Once the first process has ended and its output has been read: what else runs is ended, the record is written, clients get the
    /// rest of their output, and the engine is told.
    fn end_container(&mut self, now: Instant) {
        let Some(container) = self.container.as_mut().filter(|c| !c.main.is_told()) else { return };
        let Some(exit_code) = container.main.exit_code().filter(|_| container.main.is_complete(now)) else { return };
        container.end_remains();
        self.execs.iter_mut().for_each(Session::reap);
        self.tell_ended_execs(|_| true);
        self.held.clear();
        self.forwarder = None;
        self.memory.end();
        let Some(container) = &mut self.container else { return };
        let record = container.end(exit_code, self.health.take().as_ref());
        container.main.set_told();
        // Clients first: whoever waits for the end may then read all output. Slow ones are served after it.
        container.main.settle(now, &mut self.chunk, &mut self.events);
        self.events.push(Event::Exited(record));
    }

    /// Tells all engines, or remembers.
    fn tell(&mut self, event: &Event) {
        let mut heard = false;
        for peer in &mut self.peers {
            heard |= peer.tell(event);
        }
        if let (false, Event::ExecExited { id, exit_code }) = (heard, event) {
            if self.ended_execs.len() == REMEMBERED {
                self.ended_execs.pop_front();
            }
            self.ended_execs.push_back((id.clone(), *exit_code));
        }
    }

    /// Gives back memory that only bursts of output need.
    fn relax(&mut self) {
        self.chunk = Vec::new();
        self.stretched = false;
        let main = self.container.as_mut().map(|c| &mut c.main);
        self.execs.iter_mut().chain(main).for_each(Session::relax);
    }
}
