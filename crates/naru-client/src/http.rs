//! HTTP/1.1 as far as the Engine API needs it: request heads and bodies out, response heads in.

use crate::endpoint::Stream;
use crate::{Error, Result};
use std::io::{self, Read, Write};

/// Response heads larger than this are refused.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes read from a request body at a time; one chunk each.
const CHUNK: usize = 128 * 1024;

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads without a body.
    Head,
    /// Does something.
    Post,
    /// Uploads.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What a request carries.
pub enum Body<'a> {
    /// Nothing.
    Empty,
    /// A JSON text.
    Json(Vec<u8>),
    /// A stream of unknown length (a tar, mostly), sent in chunks.
    Reader(&'a mut dyn Read),
}

/// One request. The path has no version; [`crate::Client`] adds it.
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub path: String,
    /// The body.
    pub body: Body<'a>,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: Body::Empty, headers: Vec::new() }
    }

    /// GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::Post, path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, value: &impl serde::Serialize) -> Self {
        let text = serde_json::to_vec(value).unwrap_or_default();
        Self { body: Body::Json(text), ..self }
    }

    /// With a streamed body.
    #[must_use]
    pub fn reader(self, reader: &'a mut dyn Read) -> Self {
        Self { body: Body::Reader(reader), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whether it can be sent a second time.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self.body, Body::Reader(_))
    }
}

/// What precedes a request's own headers.
pub(crate) struct Envelope<'a> {
    pub host: &'a str,
    pub agent: &'a str,
    /// `/v1.50`, or empty.
    pub prefix: &'a str,
    pub upgrade: bool,
    /// Headers from the user's configuration.
    pub extra: &'a [(String, String)],
}

/// Writes a request. A body that the other side stops reading early is not an error here: its answer says why.
pub(crate) fn write_request(stream: &mut Stream, request: &mut Request<'_>, envelope: &Envelope<'_>) -> Result<()> {
    let mut head = Vec::with_capacity(1024);
    let Request { method, path, body, headers } = request;
    let line = write!(
        head,
        "{} {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n",
        method.name(),
        envelope.prefix,
        envelope.host,
        envelope.agent
    );
    line.map_err(Error::io("writing the request"))?;
    if envelope.upgrade {
        head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: tcp\r\n");
    }
    let extra = envelope.extra.iter().map(|(n, v)| (n.as_str(), v));
    for (name, value) in headers.iter().map(|(n, v)| (*n, v)).chain(extra) {
        // A line end in a value would start another header.
        if !name.contains(['\r', '\n']) && !value.contains(['\r', '\n']) {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    match body {
        Body::Empty if matches!(method, Method::Get | Method::Head | Method::Delete) => head.extend_from_slice(b"\r\n"),
        Body::Empty => head.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        Body::Json(text) => {
            let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", text.len());
            head.extend_from_slice(length.as_bytes());
            head.extend_from_slice(text);
        }
        Body::Reader(_) => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
    }
    stream.write_all(&head).map_err(Error::io("writing the request"))?;
    if let Body::Reader(reader) = body {
        write_chunks(stream, *reader)?;
    }
    Ok(())
}

fn write_chunks(stream: &mut Stream, reader: &mut dyn Read) -> Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        let n = match reader.read(&mut buf) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Io { what: "reading what is to be sent", source }),
        };
        let mut frame = Vec::with_capacity(n + 16);
        frame.extend_from_slice(format!("{n:x}\r\n").as_bytes());
        frame.extend_from_slice(&buf[..n]);
        frame.extend_from_slice(b"\r\n");
        match stream.write_all(&frame) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => return Ok(()),
            Err(source) => return Err(Error::Io { what: "sending the request's body", source }),
        }
        if n == 0 {
            return Ok(());
        }
    }
}

/// How a response's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A response without its body.
#[derive(Debug)]
pub(crate) struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub framing: Framing,
    pub keep_alive: bool,
    /// What was read beyond the head.
    pub rest: Vec<u8>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Reads a response's head, skipping `100 Continue`.
pub(crate) fn read_head(stream: &mut Stream, method: Method) -> Result<Head> {
    let mut buf = Vec::with_capacity(4096);
    loop {
        if let Some((used, mut head)) = parse_head(&buf, method)? {
            if head.status == 100 {
                buf.drain(..used);
                continue;
            }
            head.rest = buf.split_off(used);
            return Ok(head);
        }
        if buf.len() > MAX_HEAD {
            return Err(Error::Protocol("the response's head is too large".into()));
        }
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) if buf.is_empty() => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "EOF");
                return Err(Error::Io { what: "error during connect: reading the answer", source });
            }
            Ok(0) => return Err(Error::Protocol("the connection closed in the middle of the head".into())),
            Ok(n) => buf.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Io { what: "error during connect: reading the answer", source }),
        }
    }
}

/// The head at the start of `buf` and its length; `None` when it is not whole yet.
fn parse_head(buf: &[u8], method: Method) -> Result<Option<(usize, Head)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let used = match parsed.parse(buf) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(Error::Protocol(e.to_string())),
    };
    let status = parsed.code.unwrap_or(0);
    let headers: Vec<_> = parsed
        .headers
        .iter()
        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).trim().to_owned()))
        .collect();
    let mut head =
        Head { status, headers, framing: Framing::UntilClose, keep_alive: parsed.version == Some(1), rest: Vec::new() };
    if head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
        head.keep_alive = false;
    }
    head.framing = framing(&head, method)?;
    Ok(Some((used, head)))
}

fn framing(head: &Head, method: Method) -> Result<Framing> {
    if method == Method::Head || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if head.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().ends_with("chunked")) {
        return Ok(Framing::Chunked);
    }
    match head.header("content-length") {
        Some(n) => n.parse().map(Framing::Length).map_err(|_| Error::Protocol(format!("content length {n:?}"))),
        None => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_when_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nApi-Version: 1.41\r\n\r\nhello";
        for cut in 0..text.len() - 5 {
            assert!(parse_head(&text[..cut], Method::Get).unwrap().is_none());
        }
        let (used, head) = parse_head(text, Method::Get).unwrap().unwrap();
        assert_eq!((used, head.status, head.framing, head.keep_alive), (text.len() - 5, 200, Framing::Length(5), true));
        assert_eq!(head.header("API-version"), Some("1.41"));
    }

    #[test]
    fn framing_follows_the_headers() {
        let of = |text: &[u8], m| parse_head(text, m).unwrap().unwrap().1;
        assert_eq!(of(b"HTTP/1.1 204 No Content\r\n\r\n", Method::Post).framing, Framing::Length(0));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        assert_eq!(of(chunked, Method::Get).framing, Framing::Chunked);
        assert!(!of(chunked, Method::Get).keep_alive);
        assert_eq!(of(chunked, Method::Head).framing, Framing::Length(0));
        assert_eq!(of(b"HTTP/1.1 200 OK\r\n\r\n", Method::Get).framing, Framing::UntilClose);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Method::Get).is_err());
        assert!(parse_head(b"nonsense\r\n\r\n", Method::Get).is_err());
    }
}
