//! Blobs on their way to a registry (distribution specification, "Pushing Blobs"): mounted from another repository, in one
//! `PUT`, or in chunks where the registry doesn't take one.

use crate::endpoint::{Endpoint, Target};
use crate::errors::{Failure, Result};
use crate::location;
use crate::session::Session;
use crate::transport::{Answer, Body, Call};
use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{Method, Uri};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use naru_base::{Digest, Reference};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// What is read at once.
const READ_SIZE: usize = 128 << 10;
/// The largest chunk that a registry may insist on.
const CHUNK_LIMIT: u64 = 1 << 30;
const MIN_CHUNK: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// Content to upload. It may be opened more than once: a connection can break.
pub trait BlobSource: Send + Sync + 'static {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// When they can't be read.
    fn open(&self, offset: u64) -> io::Result<Pin<Box<dyn AsyncRead + Send>>>;

    /// `sent` bytes have been handed to the connection. After a failure it may go back.
    fn progress(&self, sent: u64) {
        let _ = sent;
    }

    /// It will be tried again after `delay`.
    fn retrying(&self, delay: Duration, cause: &str) {
        let _ = (delay, cause);
    }
}

impl BlobSource for Bytes {
    fn open(&self, offset: u64) -> io::Result<Pin<Box<dyn AsyncRead + Send>>> {
        let at = usize::try_from(offset).map_or(self.len(), |o| o.min(self.len()));
        Ok(Box::pin(io::Cursor::new(self.slice(at..))))
    }
}

/// A file to upload.
#[derive(Debug, Clone)]
pub struct FileSource(pub PathBuf);

impl BlobSource for FileSource {
    fn open(&self, offset: u64) -> io::Result<Pin<Box<dyn AsyncRead + Send>>> {
        let mut file = std::fs::File::open(&self.0)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        Ok(Box::pin(tokio::fs::File::from_std(file)))
    }
}

impl Session {
    /// Takes over a blob from another repository of the same registry. False: the registry can't, it must be uploaded.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses the session.
    pub async fn mount_blob(&self, digest: &Digest, from: &Reference) -> naru_base::Result<bool> {
        if from.domain() != self.reference().domain() {
            return Ok(false);
        }
        let target = self.own_target();
        self.patiently(|| self.mount_at(&target, digest, from)).await.map_err(|e| e.pushing(self.reference()))
    }

    async fn mount_at(&self, target: &Target, digest: &Digest, from: &Reference) -> Result<bool> {
        let query = location::form(&[("mount", digest.as_str()), ("from", from.path())]);
        let scopes = [self.scope_at(target), format!("repository:{}:pull", from.path())];
        let make = |e: &Endpoint| {
            let url = e.url(&self.path(None, &format!("blobs/uploads/?{query}")))?;
            Ok(Call::new(Method::POST, url, e.trust.clone()).bytes(Bytes::new()))
        };
        let answer = self.send_scoped(target, &scopes, make).await?;
        match answer.status.as_u16() {
            201 => Ok(true),
            202 => {
                // An upload was begun instead: end it, or the registry keeps it until it expires.
                if let Ok(place) = place(&answer) {
                    let _ = self.send(target, |e| Ok(self.upload_call(e, Method::DELETE, &place))).await;
                }
                Ok(false)
            }
            // No right to read the other repository, or it hasn't got the blob.
            400 | 401 | 403 | 404 | 405 => Ok(false),
            _ => Err(self.refusal(answer).await),
        }
    }

    /// Uploads a blob of `size` bytes.
    ///
    /// # Errors
    /// When the registry refuses it, the source fails, or it isn't through after as many attempts as the
    /// [`crate::RetryPolicy`] allows.
    pub async fn upload_blob(&self, digest: &Digest, size: u64, source: Arc<dyn BlobSource>) -> naru_base::Result<()> {
        let upload = Upload { session: self, target: self.own_target(), digest, size, source };
        upload.run().await.map_err(|e| e.pushing(self.reference()))
    }

    fn upload_call(&self, endpoint: &Endpoint, method: Method, place: &Uri) -> Call {
        let mut call = Call::new(method, place.clone(), endpoint.trust.clone());
        call.patient = true;
        call
    }
}

struct Upload<'a> {
    session: &'a Session,
    target: Target,
    digest: &'a Digest,
    size: u64,
    source: Arc<dyn BlobSource>,
}

impl Upload<'_> {
    async fn run(&self) -> Result<()> {
        let policy = self.session.client().config().retry;
        let mut failed = 0;
        let mut chunked = self.size > self.session.client().config().single_upload_limit;
        loop {
            let attempt = if chunked { self.in_chunks().await } else { self.at_once().await };
            let e = match attempt {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            // Limits on the size of a request: chunks may pass.
            if !chunked && matches!(e.status().map(|s| s.as_u16()), Some(405 | 411 | 413 | 415 | 501)) {
                chunked = true;
                continue;
            }
            failed += 1;
            match policy.delay(failed) {
                Some(own) if e.is_retryable() => {
                    let delay = e.pause(own);
                    self.source.retrying(delay, &e.to_string());
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(e),
            }
        }
    }

    /// `POST`: a place to upload to, and the smallest chunk it takes.
    async fn begin(&self) -> Result<(Uri, u64)> {
        let make = |e: &Endpoint| {
            let url = e.url(&self.session.path(None, "blobs/uploads/"))?;
            Ok(Call::new(Method::POST, url, e.trust.clone()).bytes(Bytes::new()))
        };
        let answer = self.session.send(&self.target, make).await?;
        let answer = self.session.expect(answer, &[202]).await?;
        let least = answer.header(&MIN_CHUNK).and_then(|l| l.parse().ok()).unwrap_or(0);
        Ok((place(&answer)?, least))
    }

    async fn at_once(&self) -> Result<()> {
        let (place, _) = self.begin().await?;
        let place = self.finished(&place)?;
        let body = |e: &Endpoint| {
            let mut call = self.call(e, Method::PUT, &place);
            call.body = Some(self.body(0, self.size)?);
            Ok(call.header(CONTENT_TYPE, "application/octet-stream"))
        };
        let answer = self.session.send(&self.target, body).await?;
        self.stored(answer).await
    }

    async fn in_chunks(&self) -> Result<()> {
        let (mut place, least) = self.begin().await?;
        let chunk = self.session.client().config().chunk.max(least).clamp(1, CHUNK_LIMIT);
        let mut at = 0;
        let mut stuck = 0;
        while at < self.size {
            let end = (at + chunk).min(self.size);
            let make = |e: &Endpoint| {
                let mut call = self.call(e, Method::PATCH, &place);
                call.body = Some(self.body(at, end - at)?);
                let range = format!("{at}-{}", end - 1);
                Ok(call.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_RANGE, &range))
            };
            let answer = self.session.send(&self.target, make).await;
            let next = match answer {
                Ok(answer) if matches!(answer.status.as_u16(), 201 | 202 | 204) => {
                    place = self::place(&answer).unwrap_or(place);
                    received(&answer).unwrap_or(end)
                }
                // Ask where we are: after a broken connection, or when the registry counts otherwise.
                Ok(answer) if answer.status.as_u16() != 416 => return Err(self.session.refusal(answer).await),
                Err(e) if !e.is_retryable() => return Err(e),
                _ => self.whereabouts(&mut place).await?,
            };
            if next > self.size {
                return Err(Failure::Source(format!("the registry has {next} of {} bytes", self.size)));
            }
            stuck = if next > at { 0 } else { stuck + 1 };
            if stuck > self.session.client().config().retry.attempts {
                return Err(Failure::Source(format!("the upload is stuck at byte {at}")));
            }
            at = next;
        }
        let place = self.finished(&place)?;
        let make = |e: &Endpoint| Ok(self.call(e, Method::PUT, &place).bytes(Bytes::new()));
        let answer = self.session.send(&self.target, make).await?;
        self.stored(answer).await
    }

    /// How many bytes the registry has.
    async fn whereabouts(&self, place: &mut Uri) -> Result<u64> {
        let at = place.clone();
        let answer = self.session.send(&self.target, |e| Ok(self.call(e, Method::GET, &at))).await?;
        let answer = self.session.expect(answer, &[200, 202, 204]).await?;
        if let Ok(new) = self::place(&answer) {
            *place = new;
        }
        Ok(received(&answer).unwrap_or(0))
    }

    async fn stored(&self, answer: Answer) -> Result<()> {
        self.session.expect(answer, &[200, 201, 204]).await.map(drop)
    }

    fn call(&self, endpoint: &Endpoint, method: Method, place: &Uri) -> Call {
        self.session.upload_call(endpoint, method, place)
    }

    /// The place with the digest that ends the upload.
    fn finished(&self, place: &Uri) -> Result<Uri> {
        let mut text = place.to_string();
        location::push_query(&mut text, "digest", self.digest.as_str());
        text.parse().map_err(|_| Failure::Local(format!("malformed URL {text:?}")))
    }

    fn body(&self, offset: u64, length: u64) -> Result<Body> {
        let reader = self.source.open(offset).map_err(|e| Failure::Source(e.to_string()))?;
        Ok(SourceBody { source: self.source.clone(), reader, sent: offset, left: length, buffer: Vec::new() }
            .boxed_unsync())
    }
}

/// `Location` of an upload.
fn place(answer: &Answer) -> Result<Uri> {
    answer
        .header(LOCATION)
        .and_then(|l| location::join(&answer.url, l))
        .ok_or_else(|| answer.protocol("the registry names no place to upload to"))
}

/// How many bytes `Range: 0-<last>` says are there. `0-0` of an empty upload can't be told from one byte; both go on at 0
/// or 1 and are corrected by a 416.
fn received(answer: &Answer) -> Option<u64> {
    let (first, last) = answer.header(RANGE)?.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| if last == 0 { 0 } else { last.saturating_add(1) })
}

/// A part of a source, with its length known beforehand.
struct SourceBody {
    source: Arc<dyn BlobSource>,
    reader: Pin<Box<dyn AsyncRead + Send>>,
    sent: u64,
    left: u64,
    buffer: Vec<u8>,
}

impl hyper::body::Body for SourceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let want = usize::try_from(this.left).map_or(READ_SIZE, |l| l.min(READ_SIZE));
        this.buffer.resize(want, 0);
        let mut buffer = ReadBuf::new(&mut this.buffer);
        match this.reader.as_mut().poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(e)) => return Poll::Ready(Some(Err(e))),
            Poll::Ready(Ok(())) => {}
        }
        let n = buffer.filled().len();
        if n == 0 {
            let text = format!("the content is {} bytes shorter than promised", this.left);
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))));
        }
        this.left -= n as u64;
        this.sent += n as u64;
        this.source.progress(this.sent);
        this.buffer.truncate(n);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(std::mem::take(&mut this.buffer))))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
