//! Requests that take the connection over, by hand on the raw socket.
//!
//! The head is answered here (101 to an `Upgrade`, else 200, both followed by raw bytes in both directions), then the socket itself is
//! given to the engine, with what the client had already sent. An answer that is no such stream leaves the connection to HTTP again.

use crate::call::RequestBody;
use crate::dispatch::{self, Target};
use crate::reply::{self, Reply, ReplyBody, TakeOver};
use crate::socket::{Sniffer, Socket};
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use naru_engine::Engine;
use naru_engine::types::ClientStream;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Most headers of such a request.
const MAX_HEADERS: usize = 100;
/// Most bytes of such a request's body (`ExecStartOptions` in JSON).
const MAX_BODY: usize = 64 << 10;

/// The request that [`Sniffer`] stopped at. Gives the connection back when it goes on with HTTP.
pub(crate) async fn answer(engine: &Arc<Engine>, sniffer: Sniffer) -> io::Result<Option<Sniffer>> {
    let (mut socket, mut ahead) = sniffer.into_parts();
    let head = match Head::parse(&ahead) {
        Ok(head) => head,
        Err(why) => {
            let error = naru_base::Error::invalid(why);
            write_response(&mut socket, reply::error(&error), false).await?;
            return Ok(None);
        }
    };
    ahead.advance(head.length);
    let body = read_body(&mut socket, &mut ahead, &head).await?;
    let Head { target, headers, keep_alive, .. } = head;
    let target = Target { method: Method::POST, path: &target.0, query: &target.1, raw: true };
    let answer = dispatch::handle(engine, target, headers, RequestBody::Read(body)).await;
    match answer {
        Ok(Reply::TakeOver(take_over)) => {
            connect(socket, ahead, take_over).await?;
            Ok(None)
        }
        Ok(Reply::Response(response)) => next(socket, ahead, response, keep_alive).await,
        Err(error) => next(socket, ahead, reply::error(&error), keep_alive).await,
    }
}

async fn next(
    mut socket: Socket,
    ahead: BytesMut,
    response: Response<ReplyBody>,
    keep_alive: bool,
) -> io::Result<Option<Sniffer>> {
    write_response(&mut socket, response, keep_alive).await?;
    Ok(keep_alive.then(|| Sniffer::resume(socket, ahead)))
}

async fn connect(mut socket: Socket, ahead: BytesMut, take_over: TakeOver) -> io::Result<()> {
    let mut head = String::from(if take_over.upgrade { "HTTP/1.1 101 UPGRADED\r\n" } else { "HTTP/1.1 200 OK\r\n" });
    let mut headers = HeaderMap::new();
    reply::add_common_headers(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(take_over.content_type));
    if take_over.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    }
    push_headers(&mut head, &headers);
    socket.write_all(head.as_bytes()).await?;
    let stream = ClientStream { fd: socket.into_fd()?, early_input: ahead.to_vec(), preamble: Vec::new() };
    (take_over.connect)(stream).await.map_err(|e| io::Error::other(e.to_string()))
}

fn push_headers(head: &mut String, headers: &HeaderMap) {
    for (name, value) in headers {
        let _ = write!(head, "{}: {}\r\n", title(name), value.to_str().unwrap_or(""));
    }
    head.push_str("\r\n");
}

/// `content-type` as `Content-Type`, which some clients that read heads by hand want.
fn title(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|w| w[..1].to_ascii_uppercase() + &w[1..]);
    words.collect::<Vec<_>>().join("-")
}

async fn write_response(socket: &mut Socket, response: Response<ReplyBody>, keep_alive: bool) -> io::Result<()> {
    let (mut parts, body) = response.into_parts();
    let ReplyBody::Whole(body) = body else {
        return Err(io::Error::other("a stream was answered to a request for a connection"));
    };
    let body = body.unwrap_or_default();
    reply::add_common_headers(&mut parts.headers);
    if !matches!(parts.status.as_u16(), 204 | 304) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    if !keep_alive {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let mut head = format!("HTTP/1.1 {} {}\r\n", parts.status.as_str(), parts.status.canonical_reason().unwrap_or(""));
    push_headers(&mut head, &parts.headers);
    let mut all = head.into_bytes();
    all.extend_from_slice(&body);
    socket.write_all(&all).await
}

/// The head of a request.
#[derive(Debug)]
struct Head {
    /// Path and query as sent.
    target: (String, String),
    headers: HeaderMap,
    length: usize,
    keep_alive: bool,
}

/// Length of the head at the beginning of `bytes`, once it is whole.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    let newline = |at: usize| bytes[at..].iter().position(|&b| b == b'\n').map(|n| at + n + 1);
    let mut line = newline(0)?;
    loop {
        match &bytes[line..] {
            [b'\n', ..] => return Some(line + 1),
            [b'\r', b'\n', ..] => return Some(line + 2),
            _ => line = newline(line)?,
        }
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut slots);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Err("the request's head is not whole".into()),
            Err(e) => return Err(format!("the request's head is malformed: {e}")),
        };
        let mut headers = HeaderMap::new();
        for h in request.headers.iter() {
            let name = HeaderName::from_bytes(h.name.as_bytes())
                .map_err(|e| format!("the request's head is malformed: {e}"))?;
            let value =
                HeaderValue::from_bytes(h.value).map_err(|e| format!("the request's head is malformed: {e}"))?;
            headers.append(name, value);
        }
        let (path, query) = request.path.unwrap_or("/").split_once('?').unwrap_or((request.path.unwrap_or("/"), ""));
        let says = |word: &str| token(&headers, header::CONNECTION, word);
        let keep_alive = if request.version == Some(1) { !says("close") } else { says("keep-alive") };
        Ok(Self { target: (path.to_owned(), query.to_owned()), length, keep_alive, headers })
    }
}

fn token(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case(word))
}

/// The request's body. What follows it stays in `ahead`: it is the process's input already.
async fn read_body(socket: &mut Socket, ahead: &mut BytesMut, head: &Head) -> io::Result<Bytes> {
    let chunked = token(&head.headers, header::TRANSFER_ENCODING, "chunked");
    let length: usize = match head.headers.get(header::CONTENT_LENGTH) {
        Some(text) if !chunked => {
            text.to_str().ok().and_then(|t| t.trim().parse().ok()).ok_or_else(|| bad("content length is malformed"))?
        }
        _ => 0,
    };
    if length > MAX_BODY {
        return Err(bad("body is too long"));
    }
    let missing = chunked || ahead.len() < length;
    if missing && token(&head.headers, header::EXPECT, "100-continue") {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if chunked {
        return read_chunks(socket, ahead).await;
    }
    fill(socket, ahead, length).await?;
    Ok(ahead.split_to(length).freeze())
}

async fn read_chunks(socket: &mut Socket, ahead: &mut BytesMut) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let line = read_line(socket, ahead).await?;
        let size = line[..].split(|&b| b == b';').next().and_then(|s| std::str::from_utf8(s).ok());
        let size =
            size.and_then(|s| usize::from_str_radix(s.trim(), 16).ok()).ok_or_else(|| bad("chunk is malformed"))?;
        if size > MAX_BODY || body.len() + size > MAX_BODY {
            return Err(bad("body is too long"));
        }
        if size == 0 {
            while !read_line(socket, ahead).await?.is_empty() {}
            return Ok(body.freeze());
        }
        fill(socket, ahead, size + 2).await?;
        body.extend_from_slice(&ahead.split_to(size));
        ahead.advance(2);
    }
}

async fn read_line(socket: &mut Socket, ahead: &mut BytesMut) -> io::Result<BytesMut> {
    loop {
        if let Some(end) = ahead.iter().position(|&b| b == b'\n') {
            let mut line = ahead.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            return Ok(line);
        }
        if ahead.len() > MAX_BODY {
            return Err(bad("chunk is malformed"));
        }
        let so_far = ahead.len();
        fill(socket, ahead, so_far + 1).await?;
    }
}

async fn fill(socket: &mut Socket, ahead: &mut BytesMut, length: usize) -> io::Result<()> {
    while ahead.len() < length {
        if socket.read_buf(ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the request's {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_at_the_blank_line() {
        assert_eq!(head_length(b"POST / HTTP/1.1\r\nA: b\r\n\r\nrest"), Some(25));
        assert_eq!(head_length(b"POST / HTTP/1.1\nA: b\n\nrest"), Some(22));
        assert_eq!(head_length(b"POST / HTTP/1.1\r\nA: b\r\n"), None);
        assert_eq!(head_length(b""), None);
    }

    #[test]
    fn heads_are_taken_apart() {
        let head =
            Head::parse(b"POST /exec/a/start?x=1 HTTP/1.1\r\nConnection: close, Upgrade\r\nX: y\r\n\r\nrest").unwrap();
        assert_eq!(head.target, ("/exec/a/start".into(), "x=1".into()));
        assert_eq!(head.headers["x"], "y");
        assert!(!head.keep_alive);
        assert!(Head::parse(b"POST / HTTP/1.1\r\nA b\r\n\r\n").is_err());
    }

    async fn body_of(sent: &[u8]) -> (io::Result<Bytes>, Vec<u8>) {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        theirs.write_all(sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut socket = Socket::Unix(ours);
        let mut ahead = BytesMut::new();
        let size = head_length(sent).unwrap();
        fill(&mut socket, &mut ahead, size).await.unwrap();
        let head = Head::parse(&ahead).unwrap();
        ahead.advance(head.length);
        let body = read_body(&mut socket, &mut ahead, &head).await;
        let mut rest = ahead.to_vec();
        socket.read_to_end(&mut rest).await.unwrap();
        (body, rest)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn input_after_the_body_is_kept() {
        let (body, rest) = body_of(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{1}input").await;
        assert_eq!((body.unwrap().as_ref(), rest.as_slice()), (&b"{1}"[..], &b"input"[..]));
        let (body, rest) =
            body_of(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{1\r\n1;x\r\n}\r\n0\r\n\r\nin").await;
        assert_eq!((body.unwrap().as_ref(), rest.as_slice()), (&b"{1}"[..], &b"in"[..]));
        let (body, rest) = body_of(b"POST / HTTP/1.1\r\n\r\ninput").await;
        assert_eq!((body.unwrap().as_ref(), rest.as_slice()), (&b""[..], &b"input"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn bodies_that_lie_are_refused() {
        for bad in [
            &b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert!(body_of(bad).await.0.is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
