//! A request on its way to a handler.

use crate::decode::tolerant;
use crate::query::Query;
use crate::version::ApiVersion;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use naru_base::{Error, Result};
use naru_engine::Engine;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Most bytes of a body that is read into memory.
pub(crate) const BODY_LIMIT: usize = 16 << 20;
/// Pieces of a streamed body between the client and the engine.
const BODY_QUEUE: usize = 8;

/// A request, its path taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whom to ask.
    pub(crate) engine: Arc<Engine>,
    /// The client's version.
    pub(crate) version: ApiVersion,
    /// The variable of the path.
    pub(crate) name: String,
    /// Query and form.
    pub(crate) query: Query,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: RequestBody,
}

/// A body, read or not.
pub(crate) enum RequestBody {
    /// On the wire.
    Incoming(Incoming),
    /// In memory.
    Read(Bytes),
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Read(_)) { "read" } else { "incoming" })
    }
}

impl RequestBody {
    /// Known to have no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Incoming(body) => hyper::body::Body::is_end_stream(body),
            Self::Read(bytes) => bytes.is_empty(),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// When it is larger than [`BODY_LIMIT`], and when the client goes away.
    pub(crate) async fn read(&mut self) -> Result<Bytes> {
        let body = match self {
            Self::Read(bytes) => return Ok(std::mem::take(bytes)),
            Self::Incoming(body) => body,
        };
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Error::invalid(format!("the request's body broke off: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if all.len() + data.len() > BODY_LIMIT {
                return Err(Error::invalid(format!("the request's body has more than {BODY_LIMIT} bytes")));
            }
            all.extend_from_slice(&data);
        }
        *self = Self::Read(Bytes::new());
        Ok(all.freeze())
    }
}

impl Call {
    /// Reads a body that is of no interest, as far as [`BODY_LIMIT`].
    pub(crate) async fn skip_body(&mut self) {
        // A client that goes away or sends more is of no interest either.
        let _ = self.body.read().await;
    }

    /// The JSON body; `None` when there is none.
    ///
    /// # Errors
    /// docker's: another content type, no JSON, more than JSON, a member of another type.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let none = self.body.is_empty();
        if let Err(error) = check_content_type(&self.headers, none) {
            // A client that still sends when the connection is closed sees no answer.
            self.skip_body().await;
            return Err(error);
        }
        if none {
            return Ok(None);
        }
        let bytes = self.body.read().await?;
        tolerant::from_slice(&bytes).map(Some)
    }

    /// The body as a stream of pieces; the client is held back when nobody takes them.
    pub(crate) fn stream_body(&mut self) -> mpsc::Receiver<std::io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(BODY_QUEUE);
        let body = std::mem::replace(&mut self.body, RequestBody::Read(Bytes::new()));
        tokio::spawn(forward(body, sender));
        receiver
    }

    /// A header as text, empty when it isn't there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Whether the client asks for the connection in HTTP's words.
    pub(crate) fn upgrades(&self) -> bool {
        self.headers.contains_key(header::UPGRADE)
    }

    /// Media type of multiplexed or raw output, as this version has it.
    pub(crate) fn stream_type(&self, tty: bool) -> &'static str {
        if !tty && self.version >= crate::version::v1(42) {
            "application/vnd.docker.multiplexed-stream"
        } else {
            "application/vnd.docker.raw-stream"
        }
    }
}

/// The most that is taken of a body that nobody wants any more.
const SKIPPED: usize = 64 << 20;

async fn forward(body: RequestBody, sender: mpsc::Sender<std::io::Result<Bytes>>) {
    let mut body = match body {
        RequestBody::Incoming(body) => body,
        RequestBody::Read(bytes) => {
            if !bytes.is_empty() {
                let _ = sender.send(Ok(bytes)).await;
            }
            return;
        }
    };
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_trailers)) => continue,
            Err(e) => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, e)),
        };
        let last = piece.is_err();
        if sender.send(piece).await.is_err() {
            return skip(body).await;
        }
        if last {
            return;
        }
    }
}

/// Takes what the client still sends after the answer is known: a connection that breaks under it would hide the answer.
async fn skip(mut body: Incoming) {
    let mut left = SKIPPED;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

fn check_content_type(headers: &HeaderMap, no_body: bool) -> Result<()> {
    let given = headers.get(header::CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let given = match given {
        None if no_body => return Ok(()),
        given => given.unwrap_or_default(),
    };
    let media = given.split(';').next().unwrap_or("").trim();
    if media.is_empty() || media.contains(|c: char| c.is_whitespace() || c == ',') {
        return Err(Error::invalid(format!("malformed Content-Type header ({given}): mime: no media type")));
    }
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Error::invalid(format!("unsupported Content-Type header ({given}): must be 'application/json'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Option<&str>, no_body: bool) -> Result<()> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        }
        check_content_type(&headers, no_body)
    }

    #[test]
    fn json_must_say_that_it_is() {
        assert!(check(Some("application/json"), false).is_ok());
        assert!(check(Some("application/json; charset=utf-8"), false).is_ok());
        assert!(check(None, true).is_ok());
        assert!(check(Some("application/x-www-form-urlencoded"), true).is_err());
        assert_eq!(
            check(Some("text/plain"), false).unwrap_err().message(),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert!(check(None, false).unwrap_err().message().starts_with("malformed Content-Type header ()"));
    }
}
