//! One process with its streams and the clients attached to it: the container's first process, or an exec.

use crate::client::{Client, Heard};
use crate::exits;
use crate::health_state::Capture;
use crate::protocol::{Attach, Event};
use crate::streams::{Ends, Input};
use naru_log::{Log, Lost};
use naru_runtime::Started;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Pid;
use rustix::termios::{Winsize, tcsetwinsize};
use std::time::{Duration, Instant};

/// Read at once from a process: the size of a pipe.
const OUTPUT_CHUNK: usize = 64 << 10;
/// The size of the pipe of a process that has filled one: it waits less often for us.
const WIDE_CHUNK: usize = 256 << 10;
/// So long other holders may keep the streams of an ended process open.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A process that runs, or has ended and is still being told about.
#[derive(Debug)]
pub(crate) struct Session {
    /// The exec's id, `None` for the container's first process.
    pub exec: Option<String>,
    /// Process id.
    pub pid: Pid,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
    pidfd: OwnedFd,
    ended: Option<Ended>,
    terminal: bool,
    input: Option<Input>,
    outputs: [Option<OwnedFd>; 2],
    /// What is read at once from each: as much as its pipe holds.
    chunks: [usize; 2],
    clients: Vec<Client>,
    log: Option<Log>,
    /// Keeps the beginning of its output, for a check of the container's health.
    capture: Option<Capture>,
    /// Close the input when a client's input ends.
    input_once: bool,
    /// Whether its end has been told.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    code: i32,
    signal: Option<i32>,
    /// When its streams are given up.
    deadline: Instant,
}

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The process's end.
    Exit,
    /// Output.
    Output(usize),
    /// Room for input.
    Input,
    /// A client, by its place.
    Client(usize),
}

impl Session {
    /// A process that has just been started.
    pub(crate) fn new(exec: Option<String>, started: Started, ends: Ends) -> Self {
        Self {
            exec,
            pid: started.pid,
            start_time: started.start_time,
            pidfd: started.pidfd,
            ended: None,
            terminal: ends.terminal,
            input: ends.input,
            outputs: ends.outputs,
            chunks: [OUTPUT_CHUNK; 2],
            clients: Vec::new(),
            log: None,
            capture: None,
            input_once: false,
            told: false,
        }
    }

    /// With clients from the first byte on.
    pub(crate) fn with_clients(self, clients: Vec<Client>) -> Self {
        Self { clients, ..self }
    }

    /// With a log for its output.
    pub(crate) fn with_log(self, log: Option<Log>) -> Self {
        Self { log, ..self }
    }

    /// Keeping the beginning of its output.
    pub(crate) fn with_capture(self, capture: Capture) -> Self {
        Self { capture: Some(capture), ..self }
    }

    /// What was kept of its output.
    pub(crate) fn captured(&self) -> String {
        self.capture.as_ref().map(Capture::text).unwrap_or_default()
    }

    /// With an input that ends with the first client's.
    pub(crate) fn with_input_once(self, input_once: bool) -> Self {
        Self { input_once, ..self }
    }

    /// A descriptor of the process; it has been reaped when [`Session::exit_code`] tells something.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// 0 to 255, or 128 and the signal, once it has ended.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.ended.map(|ended| ended.code)
    }

    /// The signal that ended it, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.ended.and_then(|ended| ended.signal)
    }

    /// Connects a client.
    pub(crate) fn attach(&mut self, stream: OwnedFd, attach: Attach) {
        self.clients.push(Client::new(stream, attach, self.terminal, self.input.is_some()));
    }

    /// Sets its terminal's size; without one there is nothing to do.
    ///
    /// # Errors
    /// ioctl_tty(2)'s.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> rustix::io::Result<()> {
        match &self.outputs[0] {
            Some(console) if self.terminal => {
                tcsetwinsize(console, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
            }
            _ => Ok(()),
        }
    }

    /// Everything that it waits for now.
    pub(crate) fn watch<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        if self.ended.is_none() {
            add(Source::Exit, self.pidfd.as_fd(), PollFlags::IN);
        }
        for (which, output) in self.outputs.iter().enumerate() {
            if let Some(output) = output.as_ref().filter(|_| !self.is_blocked(which)) {
                add(Source::Output(which), output.as_fd(), PollFlags::IN);
            }
        }
        if let Some(input) = self.input.as_ref().filter(|input| input.is_waiting()) {
            add(Source::Input, input.fd(), PollFlags::OUT);
        }
        let room = self.has_room();
        for (at, client) in self.clients.iter().enumerate() {
            let reads = client.may_have_input() && room;
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads);
            flags.set(PollFlags::OUT, client.waits_for_room());
            // One that waits for room only would report its hang-up over and over.
            if !flags.is_empty() || !client.may_have_input() {
                add(Source::Client(at), client.fd(), flags);
            }
        }
    }

    /// When something has to be done though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ended = self.ended.filter(|_| self.has_output());
        // After it, a slow client is all that is waited for.
        let ended = ended.filter(|_| !(self.told && self.any_blocked())).map(|ended| ended.deadline);
        self.clients.iter().filter_map(Client::deadline).chain(ended).min()
    }

    /// Whether output may still come.
    fn has_output(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    fn is_blocked(&self, which: usize) -> bool {
        self.clients.iter().any(|c| c.wants(which) && c.is_full())
    }

    fn any_blocked(&self) -> bool {
        (0..2).any(|which| self.outputs[which].is_some() && self.is_blocked(which))
    }

    fn has_room(&self) -> bool {
        self.input.as_ref().is_none_or(Input::has_room)
    }

    /// Something that was waited for has happened.
    pub(crate) fn handle(&mut self, source: Source, flags: PollFlags, chunk: &mut Vec<u8>, events: &mut Vec<Event>) {
        match source {
            Source::Exit => self.reap(),
            Source::Output(which) => self.copy_output(which, chunk),
            Source::Input => self.flush_input(),
            Source::Client(at) => self.serve_client(at, flags, events),
        }
    }

    /// Takes its exit code if it has ended.
    pub(crate) fn reap(&mut self) {
        if let Some((code, signal)) = exits::reap(self.pidfd.as_fd()) {
            self.ended = Some(Ended { code, signal, deadline: Instant::now() + DRAIN_LIMIT });
        }
    }

    /// Copies what there is, once. The end of a terminal is EIO (pty(7)).
    fn copy_output(&mut self, which: usize, chunk: &mut Vec<u8>) {
        let Some(output) = &self.outputs[which] else { return };
        chunk.clear();
        chunk.reserve_exact(self.chunks[which]);
        match rustix::io::read(output, spare_capacity(chunk)) {
            Ok(0) => self.end_output(which),
            Ok(count) => {
                if count >= OUTPUT_CHUNK && self.chunks[which] == OUTPUT_CHUNK && !self.terminal {
                    // Where the pipe may not grow, more is asked for than it holds.
                    let _ = fcntl_setpipe_size(output, WIDE_CHUNK);
                    self.chunks[which] = WIDE_CHUNK;
                }
                let output = chunk.as_slice();
                self.clients.iter_mut().filter(|c| c.wants(which)).for_each(|c| c.send(which, output));
                if let Some(log) = &mut self.log {
                    log.write(which, output);
                }
                if let Some(capture) = &mut self.capture {
                    capture.take(output);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end_output(which),
        }
    }

    fn end_output(&mut self, which: usize) {
        self.outputs[which] = None;
        if let Some(log) = &mut self.log {
            log.end(which);
        }
        if self.terminal {
            self.input = None;
        }
    }

    fn flush_input(&mut self) {
        if self.input.as_mut().is_some_and(|input| !input.flush()) {
            self.input = None;
        }
    }

    fn serve_client(&mut self, at: usize, flags: PollFlags, events: &mut Vec<Event>) {
        let room = self.has_room();
        let Some(client) = self.clients.get_mut(at) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        let left = flags.intersects(PollFlags::HUP | PollFlags::ERR);
        if client.may_have_input() && room && (left || flags.contains(PollFlags::IN)) {
            self.read_client(at, events);
        } else if left {
            client.lose();
        }
    }

    fn read_client(&mut self, at: usize, events: &mut Vec<Event>) {
        let Some(client) = self.clients.get_mut(at) else { return };
        // Without an input, what comes is read and forgotten.
        let mut forgotten = Vec::new();
        let heard = client.read(self.input.as_mut().map_or(&mut forgotten, Input::queue));
        match heard {
            Heard::Input => {}
            Heard::Detach => {
                client.close();
                events.push(Event::Detached { exec: self.exec.clone() });
            }
            Heard::End if self.input_once && !self.terminal => {
                if let Some(input) = &mut self.input {
                    input.close();
                }
            }
            // As docker has it: the client has no more to say, and ends nothing (moby, container/stream/attach.go).
            Heard::End => client.close(),
        }
        self.flush_input();
    }

    /// What follows from what has happened: input that had come early is passed on, clients that are done are dropped, streams of an
    /// ended process are given up after a time.
    pub(crate) fn settle(&mut self, now: Instant, chunk: &mut Vec<u8>, events: &mut Vec<Event>) {
        for at in 0..self.clients.len() {
            while self.has_room() && self.clients[at].has_early_input() {
                self.read_client(at, events);
            }
        }
        self.clients.iter_mut().for_each(Client::release);
        if let Some(ended) = self.ended {
            if now >= ended.deadline && !self.any_blocked() {
                self.give_up_output(chunk);
            }
            if self.told && !self.has_output() {
                self.clients.iter_mut().for_each(Client::close);
            }
        }
        self.clients.retain(|client| !client.is_done());
    }

    /// What others still write is of no interest, but what is there already is the process's own.
    fn give_up_output(&mut self, chunk: &mut Vec<u8>) {
        for which in 0..2 {
            self.copy_output(which, chunk);
            if self.outputs[which].is_some() {
                self.end_output(which);
            }
        }
    }

    /// Whether it has ended and its output has been read, or waited for long enough.
    pub(crate) fn is_complete(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| !self.has_output() || now >= ended.deadline)
    }

    /// Its end has been told: clients are let go when they have everything.
    pub(crate) fn set_told(&mut self) {
        self.told = true;
    }

    /// Whether its end has been told.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// Whether there is nothing left to do for it.
    pub(crate) fn is_over(&self) -> bool {
        self.told && self.clients.is_empty()
    }

    /// Waits for what of its log is written beside; what of it was lost.
    pub(crate) fn finish_log(&mut self) -> Lost {
        let Some(log) = &mut self.log else { return Lost::default() };
        log.finish();
        log.lost()
    }

    /// What of its log was lost so far.
    pub(crate) fn log_lost(&self) -> Lost {
        self.log.as_ref().map(Log::lost).unwrap_or_default()
    }

    /// Gives back memory that only bursts of output need.
    pub(crate) fn relax(&mut self) {
        if let Some(log) = &mut self.log {
            log.relax();
        }
    }
}
