//! Checks without a process: an HTTP request or a TCP connection, from within the container's network.

use naru_base::{Error, Result};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::SocketAddr;

/// So much of an answer is read at the most; its first line tells all.
const ANSWER_LIMIT: usize = 4096;

/// A probe under way.
#[derive(Debug)]
pub(crate) struct NetProbe {
    socket: OwnedFd,
    /// What is still to be sent; `None` when a connection is all that is wanted.
    request: Option<Vec<u8>>,
    connected: bool,
    answer: Vec<u8>,
}

/// How a probe ended: 0 or 1, and a sentence.
pub(crate) type Verdict = (i32, String);

impl NetProbe {
    /// Begins to connect, from within `namespace` (`None`: the host's network).
    ///
    /// # Errors
    /// socket(2)'s, setns(2)'s, and connect(2)'s where it fails at once.
    pub(crate) fn begin(namespace: Option<OwnedFd>, address: SocketAddr, request: Option<Vec<u8>>) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_in(namespace, family)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(Error::system(format!("connect to {address}: {errno}"))),
        }
        Ok(Self { socket, request, connected: false, answer: Vec::new() })
    }

    /// What it waits for.
    pub(crate) fn watched(&self) -> (BorrowedFd<'_>, PollFlags) {
        let writes = !self.connected || self.request.as_ref().is_some_and(|r| !r.is_empty());
        (self.socket.as_fd(), if writes { PollFlags::OUT } else { PollFlags::IN })
    }

    /// Whether anything has answered at the address.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// How far it has come, for one that is given up.
    pub(crate) fn stage(&self) -> String {
        match (self.connected, self.answer.is_empty()) {
            (false, _) => "no connection".into(),
            (true, true) => "connected, and no answer".into(),
            (true, false) => format!("connected, and of the answer only {:?}", String::from_utf8_lossy(&self.answer)),
        }
    }

    /// Something has happened; the verdict, once there is one.
    pub(crate) fn advance(&mut self) -> Option<Verdict> {
        if !self.connected {
            match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => self.connected = true,
                Ok(Err(errno)) | Err(errno) => return Some((1, format!("cannot connect: {errno}"))),
            }
        }
        let Some(request) = &mut self.request else { return Some((0, "connected".into())) };
        while !request.is_empty() {
            match rustix::net::send(&self.socket, request, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(request.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(errno) => return Some((1, format!("cannot send: {errno}"))),
            }
        }
        self.read()
    }

    fn read(&mut self) -> Option<Verdict> {
        let mut chunk = [0; ANSWER_LIMIT];
        match rustix::io::read(&self.socket, &mut chunk) {
            Ok(count) => {
                self.answer.extend_from_slice(&chunk[..count]);
                let line = self.answer.iter().position(|b| *b == b'\n');
                match line {
                    Some(end) => Some(status_line(&self.answer[..end])),
                    None if count == 0 || self.answer.len() >= ANSWER_LIMIT => Some(status_line(&self.answer)),
                    None => None,
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(errno) => Some((1, format!("cannot read the answer: {errno}"))),
        }
    }
}

/// 200 to 399 is healthy, as kubelet has it for its HTTP probes.
fn status_line(line: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    let code = text.strip_prefix("HTTP/").and_then(|t| t.split(' ').nth(1)).and_then(|c| c.parse::<u16>().ok());
    match code {
        Some(200..400) => (0, text),
        Some(_) => (1, text),
        None => (1, format!("no HTTP answer: {text:?}")),
    }
}

/// A socket belongs to the network in which it was made, wherever its owner goes.
fn socket_in(namespace: Option<OwnedFd>, family: AddressFamily) -> Result<OwnedFd> {
    let fail = |e: Errno| Error::system(format!("make a socket in the container's network: {e}"));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(fail);
    let Some(namespace) = namespace else { return make() };
    let own = rustix::fs::open(c"/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.map_err(fail)?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network).map_err(fail)?;
    let made = make();
    // Nothing else of a monitor depends on its network, so one that can't come back still does its work.
    move_into_link_name_space(own.as_fd(), network).map_err(fail)?;
    made
}

/// The request of an HTTP probe.
pub(crate) fn http_request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: naru-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, poll};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn run(address: SocketAddr, request: Option<Vec<u8>>) -> Verdict {
        let mut probe = match NetProbe::begin(None, address, request) {
            Ok(probe) => probe,
            Err(error) => return (1, error.to_string()),
        };
        loop {
            let (fd, flags) = probe.watched();
            poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None).unwrap();
            if let Some(verdict) = probe.advance() {
                return verdict;
            }
        }
    }

    /// A server that gives one client this answer; its address, and what it was asked.
    fn serve(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        for (answer, code, text) in [
            ("HTTP/1.1 200 OK\r\n\r\nfine", 0, "HTTP/1.1 200 OK"),
            ("HTTP/1.0 302 Found\r\n\r\n", 0, "HTTP/1.0 302 Found"),
            ("HTTP/1.1 503 Busy\r\n\r\n", 1, "HTTP/1.1 503 Busy"),
            ("SSH-2.0\r\n", 1, "no HTTP answer: \"SSH-2.0\""),
            ("", 1, "no HTTP answer: \"\""),
        ] {
            let (address, server) = serve(answer);
            assert_eq!(run(address, Some(http_request("web", "/up?x=1"))), (code, text.to_owned()));
            let asked = server.join().unwrap();
            assert!(asked.starts_with("GET /up?x=1 HTTP/1.1\r\nHost: web\r\n"), "{asked}");
        }
    }

    #[test]
    fn a_connection_is_enough_for_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(run(address, None), (0, "connected".into()));
        drop(listener);
        let (code, text) = run(address, None);
        assert!(code == 1 && text.contains("connect"), "{text}");
    }
}
