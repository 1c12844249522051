//! What a handler answers.

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use naru_base::{Error, Result};
use naru_engine::types::ClientStream;
use serde::Serialize;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// An answer.
pub(crate) enum Reply {
    /// A response.
    Response(Response<ReplyBody>),
    /// The connection is to be the handler's.
    TakeOver(TakeOver),
}

/// Pieces of a body. An error breaks the connection off, so that the client knows that there is more.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A response's body.
pub(crate) enum ReplyBody {
    /// Known bytes; `None` once they are sent.
    Whole(Option<Bytes>),
    /// A stream. Dropped when the client goes away.
    Stream(Pieces),
}

/// Connects the client's stream with a process.
pub(crate) type Connect = Box<dyn FnOnce(ClientStream) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send>;

/// How the connection is taken over.
pub(crate) struct TakeOver {
    /// Media type of what comes.
    pub(crate) content_type: &'static str,
    /// Whether the client asked by `Upgrade` (101), or not (200).
    pub(crate) upgrade: bool,
    /// Called once the head is sent.
    pub(crate) connect: Connect,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Response(r) => write!(f, "response {}", r.status()),
            Self::TakeOver(_) => f.write_str("take over"),
        }
    }
}

/// JSON as docker writes it: one line with its newline, `<` and `&` as they are.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|e| {
        // Only a map with other keys than strings fails, and there is none.
        tracing::error!(error = %e, "a reply could not be written as JSON");
        b"null".to_vec()
    });
    text.push(b'\n');
    text
}

impl Reply {
    /// JSON.
    pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Self> {
        Ok(Self::bytes(status, JSON, json_line(value)))
    }

    /// JSON with status 200.
    pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Self::json(StatusCode::OK, value)
    }

    /// Nothing but a status.
    pub(crate) fn status(status: StatusCode) -> Self {
        Self::build(status, None, ReplyBody::Whole(None))
    }

    /// 204.
    pub(crate) fn no_content() -> Result<Self> {
        Ok(Self::status(StatusCode::NO_CONTENT))
    }

    /// Known bytes.
    pub(crate) fn bytes(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::build(status, Some(content_type), ReplyBody::Whole(Some(bytes.into())))
    }

    /// A stream with status 200.
    pub(crate) fn stream(content_type: &'static str, pieces: Pieces) -> Self {
        Self::build(StatusCode::OK, Some(content_type), ReplyBody::Stream(pieces))
    }

    fn build(status: StatusCode, content_type: Option<&'static str>, body: ReplyBody) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if let Some(content_type) = content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Self::Response(response)
    }

    /// With a further header; one that can't be sent is left out.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let (Self::Response(response), Ok(value)) = (&mut self, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
        self
    }
}

/// An error as a response.
pub(crate) fn error(error: &Error) -> Response<ReplyBody> {
    let status = crate::errors::status(error.class());
    let mut response = Response::new(ReplyBody::Whole(None));
    *response.status_mut() = status;
    if status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        *response.body_mut() = ReplyBody::Whole(Some(crate::errors::body(error).into()));
    }
    response
}

/// The headers of every reply.
pub(crate) fn add_common_headers(headers: &mut HeaderMap) {
    let server = format!("Docker/{} (linux)", crate::version::ENGINE_VERSION);
    for (name, value) in [
        ("server", server.as_str()),
        ("api-version", &crate::version::NEWEST.to_string()),
        ("ostype", "linux"),
        ("docker-experimental", "false"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(pieces) => pieces.as_mut().poll_next(cx).map(|piece| piece.map(|p| p.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
