//! A connection over a unix socket: proof of who we are, calls, and signals that come between.

use crate::message::FIXED_HEADER;
use crate::{Error, Kind, Message, Result, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// The most signals that are kept for somebody who may ask; the oldest go first.
const KEPT_SIGNALS: usize = 256;
/// The longest line while we prove who we are.
const LINE_LIMIT: usize = 512;

/// A method to be called.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The name of the peer's on a bus; empty without one.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// A connection. Every wait ends at its deadline.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    serial: u32,
    /// What has come and isn't a whole message yet.
    received: Vec<u8>,
    /// The member that signals must have to be kept.
    wanted: &'static str,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects to the socket at `path` and proves who we are by the kernel's word. Nothing waits longer than until `deadline`.
    ///
    /// # Errors
    /// Nobody listens there, or doesn't take us.
    pub fn open(path: &Path, deadline: Instant) -> Result<Self> {
        let fail = |errno| Error::Socket { operation: "connect", errno };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail)?;
        let address = SocketAddrUnix::new(path).map_err(fail)?;
        loop {
            match rustix::io::retry_on_intr(|| connect(&socket, &address)) {
                Ok(()) => break,
                // Its queue is full: a server under load.
                Err(Errno::AGAIN) if Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(2))
                }
                Err(errno) => return Err(fail(errno)),
            }
        }
        Self::over(socket, deadline)
    }

    /// As [`Connection::open`], over a stream socket that is connected already.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn over(socket: OwnedFd, deadline: Instant) -> Result<Self> {
        let mut connection =
            Self { socket, deadline, serial: 0, received: Vec::new(), wanted: "", signals: VecDeque::new() };
        connection.authenticate()?;
        Ok(connection)
    }

    /// Keeps signals with this name from now on, for [`Connection::signal`].
    pub fn keep_signals(&mut self, member: &'static str) {
        self.wanted = member;
    }

    /// Another time until which calls may wait.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Calls a method, and waits for its answer.
    ///
    /// # Errors
    /// The peer's error, or one of the connection.
    pub fn call(&mut self, call: Call<'_>, body: Vec<Value>) -> Result<Vec<Value>> {
        self.serial = self.serial.checked_add(1).ok_or(Error::Malformed("too many calls"))?;
        let serial = self.serial;
        let message = Message {
            path: call.path.to_owned(),
            interface: call.interface.to_owned(),
            member: call.member.to_owned(),
            destination: call.destination.to_owned(),
            body,
            ..Message::new(Kind::Call, serial)
        };
        self.send(&message.write()?)?;
        loop {
            let message = self.next_message()?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(serial) => {
                    let text = message.body.first().and_then(Value::as_text).unwrap_or(&message.error).to_owned();
                    return Err(Error::Answer { name: message.error, text });
                }
                _ => self.keep(message),
            }
        }
    }

    /// The first kept signal, or one to come, of which `choose` makes something.
    ///
    /// # Errors
    /// None comes in time, or the connection ends.
    pub fn signal<T>(&mut self, choose: impl Fn(&Message) -> Option<T>) -> Result<T> {
        loop {
            while let Some(message) = self.signals.pop_front() {
                if let Some(chosen) = choose(&message) {
                    return Ok(chosen);
                }
            }
            let message = self.next_message()?;
            self.keep(message);
        }
    }

    fn keep(&mut self, message: Message) {
        if message.kind == Kind::Signal && message.member == self.wanted {
            if self.signals.len() == KEPT_SIGNALS {
                self.signals.pop_front();
            }
            self.signals.push_back(message);
        }
    }

    fn next_message(&mut self) -> Result<Message> {
        while self.received.len() < FIXED_HEADER {
            self.receive()?;
        }
        let length = Message::length(&self.received)?;
        while self.received.len() < length {
            self.receive()?;
        }
        let rest = self.received.split_off(length);
        let bytes = std::mem::replace(&mut self.received, rest);
        Message::read(&bytes)
    }

    /// "Authentication protocol": the credentials are those of the socket.
    fn authenticate(&mut self) -> Result<()> {
        let mut id = String::new();
        for byte in rustix::process::geteuid().as_raw().to_string().bytes() {
            let _ = write!(id, "{byte:02x}");
        }
        self.send(format!("\0AUTH EXTERNAL {id}\r\n").as_bytes())?;
        let line = loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let rest = self.received.split_off(end + 2);
                break std::mem::replace(&mut self.received, rest);
            }
            if self.received.len() > LINE_LIMIT {
                return Err(Error::Malformed("a line has no end"));
            }
            self.receive()?;
        };
        if !line.starts_with(b"OK ") && line != b"OK\r\n" {
            return Err(Error::Refused(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        self.send(b"BEGIN\r\n")
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Error::Closed),
                Err(errno) => return Err(Error::Socket { operation: "send", errno }),
            }
        }
        Ok(())
    }

    /// Adds what comes next to what has come.
    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0_u8; 4096];
        loop {
            match recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(Error::Closed),
                Ok((count, _)) => {
                    self.received.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(());
                }
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Socket { operation: "receive", errno }),
            }
        }
    }

    fn wait(&self, flags: PollFlags) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::Socket { operation: "wait", errno }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const CALL: Call<'_> = Call { destination: "", path: "/a", interface: "a.b", member: "Do" };

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A connection, with a server that takes it and then does `serve`.
    fn with_server(serve: impl FnOnce(UnixStream) + Send + 'static) -> Result<Connection> {
        let (client, mut server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut line = [0_u8; 64];
            let length = server.read(&mut line).unwrap();
            assert!(line[..length].starts_with(b"\0AUTH EXTERNAL 3"));
            server.write_all(b"OK 0123\r\n").unwrap();
            let mut begin = [0_u8; 7];
            server.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"BEGIN\r\n");
            serve(server);
        });
        Connection::over(client.into(), soon())
    }

    fn read_message(server: &mut UnixStream) -> Message {
        let mut bytes = vec![0_u8; FIXED_HEADER];
        server.read_exact(&mut bytes).unwrap();
        bytes.resize(Message::length(&bytes).unwrap(), 0);
        server.read_exact(&mut bytes[FIXED_HEADER..]).unwrap();
        Message::read(&bytes).unwrap()
    }

    #[test]
    fn calls_have_answers_and_signals_come_between() {
        let mut connection = with_server(|mut server| {
            let call = read_message(&mut server);
            assert_eq!((call.member.as_str(), call.body.len()), ("Do", 1));
            let signal = |serial, member: &str, text: &str| Message {
                path: "/a".into(),
                member: member.into(),
                body: vec![Value::text(text)],
                ..Message::new(Kind::Signal, serial)
            };
            let answer =
                Message { reply_to: Some(call.serial), body: vec![Value::U32(5)], ..Message::new(Kind::Return, 3) };
            let mut bytes = signal(1, "Other", "x").write().unwrap();
            bytes.extend(signal(2, "Wanted", "first").write().unwrap());
            bytes.extend(answer.write().unwrap());
            // In pieces.
            for piece in bytes.chunks(7) {
                server.write_all(piece).unwrap();
            }
            let call = read_message(&mut server);
            let error = Message {
                reply_to: Some(call.serial),
                error: "a.b.No".into(),
                body: vec![Value::text("can't")],
                ..Message::new(Kind::Error, 4)
            };
            server.write_all(&error.write().unwrap()).unwrap();
            server.write_all(&signal(5, "Wanted", "second").write().unwrap()).unwrap();
        })
        .unwrap();
        connection.keep_signals("Wanted");
        assert_eq!(connection.call(CALL, vec![Value::Bool(true)]).unwrap(), [Value::U32(5)]);
        let error = connection.call(CALL, Vec::new()).unwrap_err();
        assert!(error.is("a.b.No") && error.to_string() == "can't");
        let text = |wanted: &'static str| move |m: &Message| (m.body[0].as_text() == Some(wanted)).then_some(());
        connection.signal(text("first")).unwrap();
        connection.signal(text("second")).unwrap();
        assert_eq!(connection.signal(text("third")).unwrap_err(), Error::Closed);
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(Connection::over(client.into(), deadline).unwrap_err(), Error::TimedOut);
        drop(server);
        let error = Connection::open(Path::new("/nonexistent/bus"), soon()).unwrap_err();
        assert!(error.to_string().starts_with("connect: "), "{error}");
    }

    #[test]
    fn a_refusal_and_nonsense_are_told() {
        let answer = |said: &'static [u8]| {
            let (client, mut server) = UnixStream::pair().unwrap();
            client.set_nonblocking(true).unwrap();
            server.write_all(said).unwrap();
            Connection::over(client.into(), Instant::now() + Duration::from_secs(20)).unwrap_err()
        };
        assert_eq!(answer(b"REJECTED EXTERNAL\r\n"), Error::Refused("REJECTED EXTERNAL".into()));
        let endless = vec![b'x'; 2 * LINE_LIMIT].leak();
        assert_eq!(answer(endless), Error::Malformed("a line has no end"));
        let mut connection = with_server(|mut server| server.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap()).unwrap();
        assert!(matches!(connection.call(CALL, Vec::new()), Err(Error::Malformed(_) | Error::Closed)));
    }
}
