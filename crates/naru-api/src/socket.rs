//! A client's connection, and the look at each request before HTTP's machinery has it.
//!
//! `attach` and `exec start` hand the client's own socket to a container's monitor. hyper gives a connection away only for status 101,
//! and old clients want 200; so requests to those routes never reach it: [`Sniffer`] reads ahead at the start of every request, and
//! reports the end of the stream to hyper when the next request is one of them.

use crate::router;
use crate::routes::ROUTES;
use bytes::{Buf as _, BytesMut};
use http::Method;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Longest head of a request that is looked at.
const HEAD_LIMIT: usize = 64 << 10;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// unix(7).
    Unix(UnixStream),
    /// tcp(7).
    Tcp(TcpStream),
}

impl Socket {
    /// The descriptor, non-blocking as it is.
    pub(crate) fn into_fd(self) -> std::io::Result<OwnedFd> {
        Ok(match self {
            Self::Unix(stream) => stream.into_std()?.into(),
            Self::Tcp(stream) => stream.into_std()?.into(),
        })
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Unix($stream) => $call,
            Socket::Tcp($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        delegate!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        delegate!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// What the beginning of a request says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// hyper's.
    Pass,
    /// Ours.
    TakeOver,
    /// Can't be told yet.
    More,
}

/// A socket that reads ahead at the start of each request.
#[derive(Debug)]
pub(crate) struct Sniffer {
    socket: Socket,
    ahead: BytesMut,
    between_requests: Arc<AtomicBool>,
    take_over: bool,
}

impl Sniffer {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, ahead: BytesMut::new(), between_requests: Arc::new(AtomicBool::new(true)), take_over: false }
    }

    /// Set whenever a response is over.
    pub(crate) fn between_requests(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.between_requests)
    }

    /// Whether a request is waiting that takes the connection over. Its head is in what was read ahead.
    pub(crate) fn takes_over(&self) -> bool {
        self.take_over
    }

    /// The socket and what was read ahead.
    pub(crate) fn into_parts(self) -> (Socket, BytesMut) {
        (self.socket, self.ahead)
    }

    /// Goes on after a request that did not take the connection over after all.
    pub(crate) fn resume(socket: Socket, ahead: BytesMut) -> Self {
        Self { ahead, ..Self::new(socket) }
    }
}

impl AsyncRead for Sniffer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        while this.between_requests.load(Ordering::Relaxed) {
            match verdict(&this.ahead) {
                Verdict::Pass if !this.ahead.is_empty() => this.between_requests.store(false, Ordering::Relaxed),
                Verdict::TakeOver => {
                    this.take_over = true;
                    return Poll::Ready(Ok(()));
                }
                Verdict::Pass | Verdict::More => {
                    let mut piece = [0u8; 4096];
                    let mut piece = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.socket).poll_read(cx, &mut piece))?;
                    if piece.filled().is_empty() {
                        this.between_requests.store(false, Ordering::Relaxed);
                    }
                    this.ahead.extend_from_slice(piece.filled());
                }
            }
        }
        if this.ahead.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sniffer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// Looks at the beginning of a request. `Pass` for nothing at all means that nothing is known yet.
fn verdict(bytes: &[u8]) -> Verdict {
    const POST: &[u8] = b"POST ";
    if bytes.is_empty() || !bytes.starts_with(&POST[..bytes.len().min(POST.len())]) {
        return Verdict::Pass;
    }
    let Some(line_end) = bytes.iter().position(|&b| b == b'\n') else {
        return if bytes.len() < HEAD_LIMIT { Verdict::More } else { Verdict::Pass };
    };
    let target = bytes[POST.len()..line_end].split(|&b| b == b' ').next().unwrap_or_default();
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    let path = String::from_utf8_lossy(path);
    let path = crate::query::decode(&path, false);
    let (_, path) = crate::version::split(&path);
    match router::find(&ROUTES, &Method::POST, path) {
        Some((route, _)) if route.takes_over => {}
        _ => return Verdict::Pass,
    }
    match crate::takeover::head_length(bytes) {
        Some(_) => Verdict::TakeOver,
        None if bytes.len() < HEAD_LIMIT => Verdict::More,
        None => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_heads_of_streams_are_taken() {
        for (text, expected) in [
            ("", Verdict::Pass),
            ("GET /containers/x/attach HTTP/1.1\r\n\r\n", Verdict::Pass),
            ("PO", Verdict::More),
            ("PUT", Verdict::Pass),
            ("POST /v1.41/cont", Verdict::More),
            ("POST /v1.41/containers/create HTTP/1.1\r\n", Verdict::Pass),
            ("POST /v1.41/containers/a/attach?stream=1 HTTP/1.1\r\nHost: d\r\n", Verdict::More),
            ("POST /v1.41/containers/a/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\nabc", Verdict::TakeOver),
            ("POST /exec/a/start HTTP/1.1\r\n\r\n", Verdict::TakeOver),
            ("POST /containers/a/start HTTP/1.1\r\n\r\n", Verdict::Pass),
        ] {
            assert_eq!(verdict(text.as_bytes()), expected, "{text}");
        }
    }
}
