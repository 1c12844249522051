//! The streams of an attached container: one loop over the connection, this process's input, signals and the exit status.
//!
//! Without a terminal, the connection carries frames: one byte that names the stream, three zeros, four bytes of length (big
//! endian), the data. With a terminal it carries bytes as they are.

use crate::failure::Failure;
use crate::signals::Signals;
use naru_client::{BodyReader, Hijacked, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// The default sequence that detaches: ctrl-p, ctrl-q.
pub const DEFAULT_DETACH_KEYS: &[u8] = &[16, 17];

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container closed its side.
    Closed,
    /// The user typed the detach keys.
    Detached,
    /// A signal that is not forwarded came.
    Signalled(i32),
}

/// What the loop needs.
pub struct Session<'a> {
    /// The connection.
    pub connection: Hijacked,
    /// Whether the container has a terminal, so that there are no frames.
    pub tty: bool,
    /// Whether to send this process's input.
    pub input: bool,
    /// The keys that detach, when input is a terminal's.
    pub detach: Option<Vec<u8>>,
    /// Signals to look at.
    pub signals: Option<Signals>,
    /// Called for each signal; returns whether the loop goes on.
    pub on_signal: &'a mut dyn FnMut(i32) -> bool,
}

impl Session<'_> {
    /// Copies until one of the ends is reached.
    ///
    /// # Errors
    /// When this process's output cannot be written, or the engine reports a failure in the stream.
    pub fn run(mut self) -> Result<Ended, Failure> {
        self.connection.stream.set_nonblocking(true)?;
        let mut output = Output::new(self.tty);
        output.accept(&std::mem::take(&mut self.connection.read_ahead))?;
        let mut input = Input::new(self.input, self.detach.take());
        let mut buf = vec![0; 32 * 1024];
        loop {
            let ready = wait(&self.connection.stream, &input, self.signals.as_ref())?;
            if ready.signals
                && let Some(signal) = self.take_signals()
            {
                return Ok(Ended::Signalled(signal));
            }
            if ready.writable {
                input.send(&mut self.connection.stream);
            }
            if ready.input && input.read()? {
                return Ok(Ended::Detached);
            }
            if ready.input || ready.writable {
                input.send(&mut self.connection.stream);
            }
            if ready.readable {
                match self.connection.stream.read(&mut buf) {
                    Ok(0) => return Ok(Ended::Closed),
                    Ok(n) => output.accept(&buf[..n])?,
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Ended::Closed),
                    Err(e) => return Err(Failure::new(format!("reading the container's output: {e}"))),
                }
            }
        }
    }

    /// Hands signals on; gives the one that ends the loop.
    fn take_signals(&mut self) -> Option<i32> {
        let pending = self.signals.as_mut().map(Signals::pending).unwrap_or_default();
        pending.into_iter().find(|s| !(self.on_signal)(*s))
    }
}

#[derive(Default)]
struct Ready {
    readable: bool,
    writable: bool,
    input: bool,
    signals: bool,
}

fn wait(stream: &Stream, input: &Input, signals: Option<&Signals>) -> Result<Ready, Failure> {
    let mut flags = PollFlags::IN;
    if !input.pending.is_empty() {
        flags |= PollFlags::OUT;
    }
    let stdin = stdio::stdin();
    let mut fds = vec![PollFd::new(stream, flags)];
    let input_at = input.wants_more().then(|| {
        fds.push(PollFd::new(&stdin, PollFlags::IN));
        fds.len() - 1
    });
    let signals_at = signals.map(|s| {
        fds.push(PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN));
        fds.len() - 1
    });
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready { signals: signals.is_some(), ..Ready::default() }),
        Err(e) => return Err(Failure::new(format!("waiting for the container's streams: {e}"))),
    }
    let any = |at: Option<usize>| at.is_some_and(|i| !fds[i].revents().is_empty());
    let events = fds[0].revents();
    Ok(Ready {
        readable: events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        writable: events.contains(PollFlags::OUT),
        input: any(input_at),
        signals: any(signals_at),
    })
}

/// This process's input on its way to the container.
struct Input {
    open: bool,
    pending: Vec<u8>,
    at_end: bool,
    keys: Option<DetachKeys>,
}

impl Input {
    fn new(open: bool, detach: Option<Vec<u8>>) -> Self {
        Self { open, pending: Vec::new(), at_end: false, keys: detach.filter(|k| !k.is_empty()).map(DetachKeys::new) }
    }

    /// Nothing is read before what was read is sent, so that a container that does not read stops the reader here.
    fn wants_more(&self) -> bool {
        self.open && !self.at_end && self.pending.is_empty()
    }

    /// Reads; says whether the detach keys came.
    fn read(&mut self) -> Result<bool, Failure> {
        let mut buf = [0; 16 * 1024];
        match rustix::io::read(stdio::stdin(), &mut buf) {
            Ok(0) => self.at_end = true,
            Ok(n) => match &mut self.keys {
                None => self.pending.extend_from_slice(&buf[..n]),
                Some(keys) => return Ok(keys.filter(&buf[..n], &mut self.pending)),
            },
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // A terminal that has gone reads as an error; for the container that is the end of its input.
            Err(_) => self.at_end = true,
        }
        Ok(false)
    }

    fn send(&mut self, stream: &mut Stream) {
        while !self.pending.is_empty() {
            match stream.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The container reads no more; its output may still come.
                Err(_) => {
                    self.pending.clear();
                    self.open = false;
                }
            }
        }
        if self.at_end && self.open {
            self.open = false;
            let _ = stream.shutdown_write();
        }
    }
}

/// Finds the detach keys in what is typed. Keys that may begin the sequence are held back until it is clear that they don't.
struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        false
    }
}

/// Reads `ctrl-p,ctrl-q`, `a,b`, `DEL`.
///
/// # Errors
/// With docker's words.
pub fn parse_detach_keys(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| match key.as_bytes() {
            [byte] => Ok(*byte),
            b"DEL" => Ok(127),
            [b'c', b't', b'r', b'l', b'-', letter] => match letter {
                b'a'..=b'z' => Ok(letter - b'a' + 1),
                b'@' => Ok(0),
                b'[' | b'\\' | b']' | b'^' | b'_' => Ok(letter - b'@'),
                _ => Err(format!("Unknown character: '{key}'")),
            },
            _ => Err(format!("Unknown character: '{key}'")),
        })
        .collect()
}

/// The container's output on its way to this process's.
pub struct Output {
    tty: bool,
    header: [u8; 8],
    header_len: usize,
    left: usize,
    error: Option<Vec<u8>>,
}

const STDERR: u8 = 2;
const SYSTEM_ERROR: u8 = 3;
/// The most that an error text in the stream may hold.
const MAX_ERROR: usize = 64 * 1024;

impl Output {
    /// `tty`: without frames.
    pub fn new(tty: bool) -> Self {
        Self { tty, header: [0; 8], header_len: 0, left: 0, error: None }
    }

    /// Writes what `bytes` carry.
    ///
    /// # Errors
    /// When standard output fails, for a frame of an unknown stream, and when the engine reports a failure.
    pub fn accept(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        if self.tty {
            return write_fd(false, bytes);
        }
        while !bytes.is_empty() || (self.left == 0 && self.error.is_some()) {
            if self.left == 0 && self.error.is_none() {
                let n = (8 - self.header_len).min(bytes.len());
                self.header[self.header_len..self.header_len + n].copy_from_slice(&bytes[..n]);
                self.header_len += n;
                bytes = &bytes[n..];
                if self.header_len == 8 {
                    self.begin()?;
                }
                continue;
            }
            let n = self.left.min(bytes.len());
            let (data, rest) = bytes.split_at(n);
            bytes = rest;
            self.left -= n;
            match &mut self.error {
                Some(text) => {
                    text.extend_from_slice(data);
                    if self.left == 0 {
                        let text = String::from_utf8_lossy(text).into_owned();
                        return Err(Failure::new(format!("error from daemon in stream: {text}")));
                    }
                    if bytes.is_empty() {
                        return Ok(());
                    }
                }
                None => write_fd(self.header[0] == STDERR, data)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.header_len = 0;
        let length = u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]]);
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        match self.header[0] {
            0..=2 => {}
            SYSTEM_ERROR => {
                self.left = self.left.min(MAX_ERROR);
                self.error = Some(Vec::new());
            }
            other => return Err(Failure::new(format!("unrecognized stream: {other}"))),
        }
        Ok(())
    }
}

fn write_fd(error: bool, mut bytes: &[u8]) -> Result<(), Failure> {
    let fd = if error { stdio::stderr() } else { stdio::stdout() };
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
            }
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Ok(())
}

/// Copies a streaming answer (logs) to this process's output.
///
/// # Errors
/// When the connection breaks or output fails.
pub fn copy_output(mut body: BodyReader, tty: bool) -> Result<(), Failure> {
    let mut output = Output::new(tty);
    let mut buf = vec![0; 32 * 1024];
    loop {
        match body.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => output.accept(&buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(Failure::new("unexpected EOF")),
            Err(e) => return Err(Failure::new(format!("reading the container's output: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads() {
        let mut keys = DetachKeys::new(DEFAULT_DETACH_KEYS.to_vec());
        let mut out = Vec::new();
        assert!(!keys.filter(b"a\x10b\x10\x10", &mut out));
        assert_eq!(out, b"a\x10b\x10");
        assert!(keys.filter(b"\x11rest", &mut out));
        assert_eq!(out, b"a\x10b\x10");
    }

    #[test]
    fn detach_key_forms() {
        assert_eq!(parse_detach_keys("ctrl-p,ctrl-q"), Ok(DEFAULT_DETACH_KEYS.to_vec()));
        assert_eq!(parse_detach_keys("a,DEL,ctrl-@,ctrl-_"), Ok(vec![b'a', 127, 0, 31]));
        assert!(
            parse_detach_keys("ctrl-A").is_err() && parse_detach_keys("").is_err() && parse_detach_keys("ab").is_err()
        );
    }

    #[test]
    fn errors_in_the_stream_are_reported_however_it_is_cut() {
        let mut frame = vec![3, 0, 0, 0, 0, 0, 0, 4];
        frame.extend_from_slice(b"oops");
        for cut in 0..frame.len() {
            let mut output = Output::new(false);
            let result = output.accept(&frame[..cut]).and_then(|()| output.accept(&frame[cut..]));
            assert_eq!(result.unwrap_err().message, "error from daemon in stream: oops", "cut at {cut}");
        }
        assert!(Output::new(false).accept(&[9, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn only_detach_keys_are_lost(typed in proptest::collection::vec(0u8..20, 0..64)) {
            let mut keys = DetachKeys::new(DEFAULT_DETACH_KEYS.to_vec());
            let mut out = Vec::new();
            if !keys.filter(&typed, &mut out) {
                out.extend_from_slice(&DEFAULT_DETACH_KEYS[..keys.matched]);
                proptest::prop_assert_eq!(out, typed);
            } else {
                proptest::prop_assert!(typed.windows(2).any(|w| w == DEFAULT_DETACH_KEYS));
            }
        }
    }
}
