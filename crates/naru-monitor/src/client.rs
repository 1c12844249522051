//! A client's stream: what it is sent, bounded, and what it types.

use crate::detach::DetachKeys;
use crate::protocol::Attach;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// So much may wait for a slow client before the process has to.
const BUFFER_LIMIT: usize = 1 << 20;
/// More than this isn't kept when it isn't needed.
const KEPT: usize = 4 << 10;
/// Read at once from a client; on the stack.
const CHUNK: usize = 4 << 10;

/// So long may a client take to read the head of its HTTP answer before output follows it anyway.
const HEAD_LIMIT: Duration = Duration::from_millis(100);
/// How often it is asked whether it has.
const HEAD_STEP: Duration = Duration::from_millis(1);

/// How many of those are read away from a client that is let go.
const DRAIN_ROUNDS: usize = 16;

/// One attached client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: OwnedFd,
    /// Which streams it wants.
    wants: [bool; 2],
    multiplexed: bool,
    input: InputState,
    keys: DetachKeys,
    /// Input that came before the stream.
    early: Vec<u8>,
    /// What has not been sent yet, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// Until when what waits is held back because it has not read the head of its answer yet. Clients that read it through a buffer and then
    /// take the bare socket (docker-py) would lose what came with it.
    held: Option<Instant>,
    /// Nothing is added any more; it is closed once all has been sent.
    closing: bool,
    /// It is of no more use: it doesn't take output and gives no input.
    gone: bool,
}

/// What becomes of what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputState {
    /// It is the process's input.
    Open,
    /// It has ended.
    Ended,
    /// It is left unread.
    Unwanted,
}

/// What reading from a client brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Input, or nothing yet.
    Input,
    /// The client's input has ended.
    End,
    /// It has typed its detach keys.
    Detach,
}

impl Client {
    /// A client that is sent its preamble first. `reads` tells whether the process takes input.
    pub(crate) fn new(stream: OwnedFd, attach: Attach, terminal: bool, reads: bool) -> Self {
        // A socket or pipe that can't be made non-blocking doesn't exist.
        let _ = rustix::io::ioctl_fionbio(&stream, true);
        let mut client = Self {
            stream,
            wants: [attach.stdout, attach.stderr && !terminal],
            multiplexed: attach.multiplexed,
            input: if attach.stdin && reads { InputState::Open } else { InputState::Unwanted },
            keys: DetachKeys::new(if terminal { attach.detach_keys } else { Vec::new() }),
            early: attach.early_input,
            waiting: attach.preamble,
            sent: 0,
            held: Some(Instant::now() + HEAD_LIMIT),
            closing: false,
            gone: false,
        };
        client.flush();
        client
    }

    /// The stream.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether it is sent what comes on this stream.
    pub(crate) fn wants(&self, stream: usize) -> bool {
        self.wants[stream] && !self.closing && !self.gone
    }

    /// Whether the process has to wait for it.
    pub(crate) fn is_full(&self) -> bool {
        !self.gone && self.unsent() >= BUFFER_LIMIT
    }

    /// Whether it has input that may be read.
    pub(crate) fn may_have_input(&self) -> bool {
        self.input == InputState::Open && !self.closing
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.gone && self.unsent() > 0
    }

    /// When to [`Client::flush`] though the stream has room for long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.held.is_some() && self.has_output()).then(|| Instant::now() + HEAD_STEP)
    }

    /// Sends what was held back, if it needn't be any longer.
    pub(crate) fn release(&mut self) {
        if self.held.is_some() && self.has_output() {
            self.flush();
        }
    }

    /// Whether the stream's room is all that is waited for.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.has_output() && self.held.is_none()
    }

    /// Whether it has read all that came before its first output, or has had the time to.
    fn has_read_head(&mut self) -> bool {
        if let Some(limit) = self.held {
            let unread = naru_sys::socket::unread(&self.stream).is_ok_and(|bytes| bytes > 0);
            if unread && Instant::now() < limit {
                return false;
            }
            self.held = None;
        }
        true
    }

    /// Whether it can be dropped.
    pub(crate) fn is_done(&self) -> bool {
        if self.gone { !self.may_have_input() } else { self.closing && self.unsent() == 0 }
    }

    /// No further output: it is done when it has what waits.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    fn unsent(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// Sends a stream's output, or keeps it for later; the caller has asked [`Client::is_full`] before it read so much.
    pub(crate) fn send(&mut self, stream: usize, output: &[u8]) {
        let mut header = [0; 8];
        let header: &[u8] = if self.multiplexed {
            header[0] = stream as u8 + 1;
            header[4..].copy_from_slice(&(output.len() as u32).to_be_bytes());
            &header
        } else {
            &[]
        };
        let mut sent = 0;
        if self.unsent() == 0 && self.has_read_head() {
            match rustix::io::writev(&self.stream, &[IoSlice::new(header), IoSlice::new(output)]) {
                Ok(count) => sent = count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return self.lose(),
            }
        }
        let (header_sent, output_sent) = (sent.min(header.len()), sent.saturating_sub(header.len()));
        self.waiting.extend_from_slice(&header[header_sent..]);
        self.waiting.extend_from_slice(&output[output_sent..]);
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        if self.unsent() > 0 && !self.has_read_head() {
            return;
        }
        while self.unsent() > 0 {
            match rustix::io::write(&self.stream, &self.waiting[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.lose(),
            }
        }
        self.waiting.clear();
        self.waiting.shrink_to(KEPT);
        self.sent = 0;
    }

    /// It takes no more output. What it has sent before may still be read.
    pub(crate) fn lose(&mut self) {
        self.gone = true;
        self.waiting = Vec::new();
        self.sent = 0;
    }

    /// Reads what it has sent; what goes on to the process is appended to `out`.
    pub(crate) fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return self.heard(&early, out);
        }
        let mut chunk = [0; CHUNK];
        match rustix::io::read(&self.stream, &mut chunk) {
            Ok(0) => self.end(out),
            Ok(count) => self.heard(&chunk[..count], out),
            Err(Errno::AGAIN | Errno::INTR) => Heard::Input,
            Err(_) => {
                self.lose();
                self.end(out)
            }
        }
    }

    /// Whether there is input that came before the stream.
    pub(crate) fn has_early_input(&self) -> bool {
        self.may_have_input() && !self.early.is_empty()
    }

    fn heard(&mut self, input: &[u8], out: &mut Vec<u8>) -> Heard {
        if self.keys.feed(input, out) {
            self.input = InputState::Ended;
            return Heard::Detach;
        }
        Heard::Input
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Heard {
        self.keys.end(out);
        self.input = InputState::Ended;
        Heard::End
    }
}

impl Drop for Client {
    /// Ends the stream. What the client still typed is read away, or the kernel would tell it of a reset in the place of an end (unix(7),
    /// tcp(7)).
    fn drop(&mut self) {
        // Fails for what is no socket, or isn't connected any more.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        let mut chunk = [0; CHUNK];
        let read = |chunk: &mut [u8]| matches!(rustix::io::read(&self.stream, chunk), Ok(count) if count > 0);
        let _ = (0..DRAIN_ROUNDS).take_while(|_| read(&mut chunk)).count();
    }
}

/// Tells a client why its process could not be started, as docker does, and lets it go.
pub(crate) fn tell_failure(stream: OwnedFd, attach: Attach, terminal: bool, message: &str) {
    let attach = Attach { stdout: true, ..attach };
    let mut client = Client::new(stream, attach, terminal, false);
    client.send(0, format!("{message}\r\n").as_bytes());
    while client.held.is_some() && client.has_output() {
        std::thread::sleep(HEAD_STEP);
        client.flush();
    }
    // One line fits, or the client has not read for long.
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn client(attach: Attach) -> (Client, UnixStream) {
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        (Client::new(here, attach, false, true), there.into())
    }

    fn both() -> Attach {
        Attach { stdin: true, stdout: true, stderr: true, ..Attach::default() }
    }

    #[test]
    fn frames_are_dockers_and_follow_the_preamble() {
        let (mut client, mut there) =
            client(Attach { multiplexed: true, preamble: b"HTTP\r\n\r\n".to_vec(), ..both() });
        client.send(0, b"out");
        client.send(1, b"error");
        client.close();
        assert!(client.is_done());
        drop(client);
        let mut all = Vec::new();
        there.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"HTTP\r\n\r\n\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x05error");
    }

    #[test]
    fn output_waits_until_the_head_is_read() {
        let (here, mut there) = UnixStream::pair().unwrap();
        (&here).write_all(b"head").unwrap();
        let mut client = Client::new(here.into(), Attach { preamble: b"log ".to_vec(), ..both() }, false, true);
        client.send(0, b"out");
        assert!(client.has_output() && !client.waits_for_room() && client.deadline().is_some());
        let mut buffer = [0; 64];
        assert_eq!(there.read(&mut buffer).unwrap(), 4);
        client.release();
        assert!(!client.has_output() && client.deadline().is_none());
        assert_eq!(there.read(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn a_client_that_never_reads_its_head_holds_nothing_up() {
        let (here, mut there) = UnixStream::pair().unwrap();
        (&here).write_all(b"head").unwrap();
        tell_failure(here.into(), both(), false, "no such program");
        let mut all = String::new();
        there.read_to_string(&mut all).unwrap();
        assert_eq!(all, "headno such program\r\n");
    }

    #[test]
    fn a_slow_client_fills_up_and_loses_nothing() {
        let (mut client, mut there) = client(both());
        let block: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
        let mut sent = Vec::new();
        while !client.is_full() {
            client.send(0, &block);
            sent.extend_from_slice(&block);
            assert!(sent.len() < 8 << 20, "never full");
        }
        client.close();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            there.read_to_end(&mut all).unwrap();
            all
        });
        while !client.is_done() {
            client.flush();
            std::thread::yield_now();
        }
        drop(client);
        assert!(reader.join().unwrap() == sent);
    }

    #[test]
    fn what_a_client_sent_before_it_went_is_read() {
        let (mut client, mut there) = client(Attach { early_input: b"early ".to_vec(), ..both() });
        there.write_all(b"late").unwrap();
        drop(there);
        client.send(0, b"x");
        client.send(0, b"x");
        assert!(!client.is_done());
        let mut input = Vec::new();
        assert_eq!(client.read(&mut input), Heard::Input);
        assert_eq!(client.read(&mut input), Heard::Input);
        assert_eq!(client.read(&mut input), Heard::End);
        assert_eq!(input, b"early late");
        assert!(client.is_done());
    }
}
