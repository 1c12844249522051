//! Accepting connections, and HTTP on them.

use crate::call::RequestBody;
use crate::dispatch::{self, Target};
use crate::listen::Listener;
use crate::reply::{self, Reply, ReplyBody};
use crate::socket::{Sniffer, Socket};
use crate::takeover;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_base::{Error, Result};
use naru_engine::Engine;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So long after the last coming and going of a client, memory that its work took is given back.
const QUIET: Duration = Duration::from_secs(3);

/// Serves the API on `listeners` until `shutdown` is done, then stops accepting and drops the connections. Streams that a
/// container's monitor has go on.
///
/// # Errors
/// When there is no listener.
pub async fn serve(engine: Arc<Engine>, listeners: Vec<Listener>, shutdown: impl Future) -> Result<()> {
    if listeners.is_empty() {
        return Err(Error::invalid("there is nothing to listen on"));
    }
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(Arc::clone(&engine), listener));
    }
    shutdown.await;
    accepting.shutdown().await;
    Ok(())
}

async fn accept(engine: Arc<Engine>, listener: Listener) {
    let mut connections = JoinSet::new();
    let mut used = true;
    loop {
        let socket = tokio::select! {
            socket = accept_one(&listener) => socket,
            Some(_) = connections.join_next() => continue,
            () = tokio::time::sleep(QUIET), if used => {
                naru_engine::give_memory_back();
                used = false;
                continue;
            }
        };
        used = true;
        match socket {
            Ok(socket) => {
                connections.spawn(connection(Arc::clone(&engine), socket));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_one(listener: &Listener) -> std::io::Result<Socket> {
    match listener {
        Listener::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
    }
}

async fn connection(engine: Arc<Engine>, socket: Socket) {
    let mut sniffer = Sniffer::new(socket);
    loop {
        sniffer = http(&engine, sniffer).await;
        if !sniffer.takes_over() {
            return;
        }
        match takeover::answer(&engine, sniffer).await {
            Ok(Some(back)) => sniffer = back,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a stream ended early");
                return;
            }
        }
    }
}

/// HTTP until the client leaves or asks for the connection.
async fn http(engine: &Arc<Engine>, sniffer: Sniffer) -> Sniffer {
    let between_requests = sniffer.between_requests();
    let service = service_fn(|request| Box::pin(respond(engine, request, Arc::clone(&between_requests))));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(sniffer), service);
    if let Err(error) = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await {
        tracing::debug!(%error, "a connection ended early");
    }
    connection.into_parts().io.into_inner()
}

async fn respond(
    engine: &Arc<Engine>,
    request: Request<Incoming>,
    between_requests: Arc<AtomicBool>,
) -> Result<Response<Tracked>, Infallible> {
    let (head, body) = request.into_parts();
    let target = Target {
        method: head.method.clone(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        raw: false,
    };
    let answer = dispatch::handle(engine, target, head.headers, RequestBody::Incoming(body)).await;
    let mut response = match answer {
        Ok(Reply::Response(response)) => response,
        Ok(Reply::TakeOver(_)) => reply::error(&Error::system("the connection could not be taken over")),
        Err(error) => reply::error(&error),
    };
    tracing::debug!(method = %head.method, path = head.uri.path(), status = response.status().as_u16(), "answered");
    reply::add_common_headers(response.headers_mut());
    Ok(response.map(|body| Tracked { body, between_requests }))
}

/// A body that tells when its response is over.
struct Tracked {
    body: ReplyBody,
    between_requests: Arc<AtomicBool>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.between_requests.store(true, Ordering::Relaxed);
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
