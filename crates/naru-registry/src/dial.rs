//! TCP connections for hyper: look up, connect to the addresses of a host in a staggered race, through a proxy if need be.

use crate::location::default_port;
use crate::proxy::{Hop, Proxies};
use crate::resolver::{LookupError, Resolver};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Until the next address is tried beside one that doesn't answer (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The longest answer of a proxy to CONNECT.
const PROXY_ANSWER_LIMIT: usize = 16 << 10;

/// Why there is no connection; reads as Go's `net.OpError` does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The host has no address.
    #[error("dial tcp: {0}")]
    Lookup(LookupError),
    /// No address answers.
    #[error("dial tcp {address}: connect: {}", plain(.source))]
    Connect { address: SocketAddr, source: io::Error },
    /// It took too long.
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
    /// The proxy doesn't let us through.
    #[error("proxyconnect {host}: {detail}")]
    Proxy { host: String, detail: String },
}

/// An error's text without Rust's `(os error N)`, in lower case as in C.
pub(crate) fn plain(error: &io::Error) -> String {
    naru_base::error::as_go_says(&error.to_string())
}

/// Makes connections; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resolver: Resolver,
    proxies: Proxies,
    timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(resolver: Resolver, proxies: Proxies, timeout: Duration) -> Self {
        Self(Arc::new(Inner { resolver, proxies, timeout }))
    }

    async fn dial(&self, url: &Uri) -> Result<Conn, DialError> {
        let scheme = url.scheme_str().unwrap_or("https");
        let host = url.host().unwrap_or_default();
        let port = url.port_u16().unwrap_or(default_port(scheme));
        let hop = self.0.proxies.hop(url).map_err(|detail| DialError::Proxy { host: host.to_owned(), detail })?;
        let (to, to_port) = hop.as_ref().map_or((host, port), |h| (h.host.as_str(), h.port));
        let whole = async {
            let addresses = self.0.resolver.lookup(to).await.map_err(DialError::Lookup)?;
            let mut stream = race(addresses.into_iter().map(|ip| SocketAddr::new(ip, to_port)).collect()).await?;
            prepare(&stream);
            if let Some(hop) = hop.as_ref().filter(|_| scheme == "https") {
                tunnel(&mut stream, hop, &format!("{host}:{port}")).await?;
            }
            Ok(stream)
        };
        let stream = tokio::time::timeout(self.0.timeout, whole)
            .await
            .map_err(|_| DialError::Timeout(format!("{to}:{to_port}")))??;
        Ok(Conn { io: TokioIo::new(stream), proxied: hop.is_some() && scheme == "http" })
    }
}

/// Sends small requests at once and notices a peer that is gone. Both only improve a connection that works already.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
}

/// The first address that answers; a refused one makes room for the next at once.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last = None;
    loop {
        match waiting.next() {
            Some(address) => {
                running.spawn(async move { (address, TcpStream::connect(address).await) });
            }
            None if running.is_empty() => {
                return Err(last.unwrap_or_else(|| DialError::Timeout("no address".to_owned())));
            }
            None => {}
        }
        tokio::select! {
            Some(Ok((address, result))) = running.join_next() => match result {
                Ok(stream) => return Ok(stream),
                Err(source) => last = Some(DialError::Connect { address, source }),
            },
            () = tokio::time::sleep(STAGGER) => {}
        }
    }
}

/// `CONNECT` (RFC 9110 section 9.3.6).
async fn tunnel(stream: &mut TcpStream, hop: &Hop, target: &str) -> Result<(), DialError> {
    let fail = |detail: String| DialError::Proxy { host: format!("{}:{}", hop.host, hop.port), detail };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &hop.authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| fail(plain(&e)))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER_LIMIT || stream.read_buf(&mut answer).await.map_err(|e| fail(plain(&e)))? == 0 {
            return Err(fail("malformed answer to CONNECT".to_owned()));
        }
    }
    let status = String::from_utf8_lossy(answer.split(|&b| b == b'\r').next().unwrap_or_default()).into_owned();
    match status.split_once(' ') {
        Some((version, rest)) if version.starts_with("HTTP/1.") && rest.starts_with('2') => Ok(()),
        Some((_, rest)) => Err(fail(rest.to_owned())),
        None => Err(fail("malformed answer to CONNECT".to_owned())),
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = Conn;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(&url).await })
    }
}

/// A TCP connection that knows whether a proxy wants whole URLs.
#[derive(Debug)]
pub(crate) struct Conn {
    io: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_address_costs_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = race(vec![closed, closed, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let e = race(vec![closed]).await.unwrap_err();
        assert_eq!(e.to_string(), format!("dial tcp {closed}: connect: connection refused"));
    }

    #[tokio::test]
    async fn connect_goes_through_a_proxy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hop = Hop { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port(), authorization: None };
        for (reply, refused) in [
            ("HTTP/1.1 200 ok\r\n\r\n", None),
            ("HTTP/1.0 407 Proxy Authentication Required\r\nX: y\r\n\r\n", Some("407 Proxy Authentication Required")),
            ("SSH-2.0\r\n\r\n", Some("malformed answer to CONNECT")),
            ("HTTP/1.1 200 ok\r\n", Some("malformed answer to CONNECT")),
        ] {
            let server = async {
                let (mut s, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let n = s.read(&mut request).await.unwrap();
                assert!(request[..n].starts_with(b"CONNECT reg:443 HTTP/1.1\r\nHost: reg:443\r\n"));
                s.write_all(reply.as_bytes()).await.unwrap();
            };
            let client = async {
                let mut s = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                tunnel(&mut s, &hop, "reg:443").await
            };
            let ((), result) = tokio::join!(server, client);
            match refused {
                None => result.unwrap(),
                Some(text) => assert!(result.unwrap_err().to_string().ends_with(text), "{reply}"),
            }
        }
    }
}
