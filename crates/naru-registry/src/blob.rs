//! Blobs: layers and configurations. A [`Download`] goes on where a broken connection left off.

use crate::endpoint::{Endpoint, Target};
use crate::errors::{Failure, Result};
use crate::manifest::digest_of;
use crate::session::Session;
use crate::transport::{Answer, Call};
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use naru_base::Digest;
use std::time::Duration;

/// A connection that brings less than this before it breaks counts as a failed attempt.
const PROGRESS: u64 = 1 << 20;

/// The bytes of a blob from one answer.
#[derive(Debug)]
pub struct Blob {
    /// Nothing when nothing is missing.
    answer: Option<Answer>,
    start: u64,
    position: u64,
    size: u64,
    length: Option<u64>,
}

impl Blob {
    /// Where the bytes begin: the offset that was asked for, or 0 if the registry sends all of it again.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes this answer promises, if it does.
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes; nothing after the last.
    ///
    /// # Errors
    /// When the connection breaks, or the registry sends less or more than the blob has.
    pub async fn chunk(&mut self) -> naru_base::Result<Option<Bytes>> {
        self.next_chunk().await.map_err(|e| e.plainly())
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(answer) = &mut self.answer else { return Ok(None) };
        match answer.chunk().await? {
            Some(bytes) => {
                self.position += bytes.len() as u64;
                if self.position > self.size {
                    return Err(answer.protocol(format!("the blob is longer than the {} bytes promised", self.size)));
                }
                Ok(Some(bytes))
            }
            None if self.position < self.size => Err(Failure::short(answer.request.clone(), self.position, self.size)),
            None => Ok(None),
        }
    }
}

/// What a [`Download`] has to say.
#[derive(Debug, Clone)]
pub enum DownloadEvent {
    /// The next bytes.
    Data(Bytes),
    /// The registry can't go on in the middle: what came so far must be thrown away, the next data begins at 0.
    Restart,
    /// It will be tried again; the next call waits that long first.
    Retry {
        /// The pause.
        delay: Duration,
        /// Why.
        cause: String,
    },
}

/// A blob that is being fetched, over as many connections as it takes.
///
/// The bytes are not verified: whoever stores them computes the digest anyway.
#[derive(Debug)]
pub struct Download {
    session: Session,
    digest: Digest,
    size: u64,
    position: u64,
    /// The furthest that any connection came: who starts over again and again makes no progress.
    mark: u64,
    failed: u32,
    pause: Option<Duration>,
    blob: Option<Blob>,
}

impl Download {
    /// Where the next data belongs.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next thing that happens; nothing after the last byte.
    ///
    /// # Errors
    /// When it can't be had at all, or not after as many attempts as the [`crate::RetryPolicy`] allows.
    pub async fn next(&mut self) -> naru_base::Result<Option<DownloadEvent>> {
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
            self.pause = None;
        }
        match self.step().await {
            Ok(event) => Ok(event),
            Err(e) => self.fail(&e),
        }
    }

    async fn step(&mut self) -> Result<Option<DownloadEvent>> {
        let blob = match &mut self.blob {
            Some(blob) => blob,
            None => {
                let blob = self.session.open_blob(&self.digest, self.size, self.position).await?;
                let restarted = blob.start != self.position;
                self.position = blob.start;
                let blob = self.blob.insert(blob);
                if restarted {
                    return Ok(Some(DownloadEvent::Restart));
                }
                blob
            }
        };
        let bytes = blob.next_chunk().await?;
        self.position = blob.position;
        Ok(bytes.map(DownloadEvent::Data))
    }

    fn fail(&mut self, failure: &Failure) -> naru_base::Result<Option<DownloadEvent>> {
        self.blob = None;
        if self.position.saturating_sub(self.mark) >= PROGRESS {
            self.failed = 0;
        }
        self.mark = self.mark.max(self.position);
        self.failed += 1;
        match self.session.client().config().retry.delay(self.failed) {
            Some(own) if failure.is_retryable() => {
                let delay = failure.pause(own);
                self.pause = Some(delay);
                Ok(Some(DownloadEvent::Retry { delay, cause: failure.to_string() }))
            }
            _ => Err(failure.pulling(self.session.reference())),
        }
    }
}

impl Session {
    /// Begins to fetch a blob of `size` bytes, of which the first `offset` are there already.
    pub fn download(&self, digest: &Digest, size: u64, offset: u64) -> Download {
        Download {
            session: self.clone(),
            digest: digest.clone(),
            size,
            position: if offset <= size { offset } else { 0 },
            mark: if offset <= size { offset } else { 0 },
            failed: 0,
            pause: None,
            blob: None,
        }
    }

    /// A blob of `size` bytes from `offset` on, over one connection. Look at [`Blob::start`].
    ///
    /// # Errors
    /// With docker's texts of a failing pull.
    pub async fn blob(&self, digest: &Digest, size: u64, offset: u64) -> naru_base::Result<Blob> {
        self.open_blob(digest, size, offset).await.map_err(|e| e.pulling(self.reference()))
    }

    /// A small blob as a whole, verified.
    ///
    /// # Errors
    /// When it is larger than `limit`, or not what its digest says; else as [`Session::download`].
    pub async fn blob_bytes(&self, digest: &Digest, size: u64, limit: u64) -> naru_base::Result<Bytes> {
        if size > limit {
            return Err(naru_base::Error::invalid(format!("blob {digest} is too large: {size} bytes")));
        }
        let mut download = self.download(digest, size, 0);
        let mut bytes = Vec::new();
        while let Some(event) = download.next().await? {
            match event {
                DownloadEvent::Data(data) => bytes.extend_from_slice(&data),
                DownloadEvent::Restart => bytes.clear(),
                DownloadEvent::Retry { delay, cause } => tracing::info!(%digest, ?delay, cause, "trying again"),
            }
        }
        let actual = digest_of(&bytes);
        if actual != *digest {
            return Err(naru_base::Error::system(format!("blob {digest} has other content: {actual}")));
        }
        Ok(bytes.into())
    }

    /// Whether the repository has the blob, and its size.
    ///
    /// # Errors
    /// When the registry doesn't say.
    pub async fn blob_exists(&self, digest: &Digest) -> naru_base::Result<Option<u64>> {
        let target = self.own_target();
        self.patiently(|| self.blob_exists_at(&target, digest)).await.map_err(|e| e.pushing(self.reference()))
    }

    async fn blob_exists_at(&self, target: &Target, digest: &Digest) -> Result<Option<u64>> {
        let answer = self.send(target, |e| self.blob_call(e, Method::HEAD, digest)).await?;
        match self.expect(answer, &[200]).await {
            Ok(answer) => Ok(answer.header(CONTENT_LENGTH).and_then(|l| l.parse().ok()).or(Some(0))),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn open_blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Blob> {
        if offset == size && size > 0 {
            return Ok(Blob { answer: None, start: size, position: size, size, length: Some(0) });
        }
        let mut failed = None;
        for target in self.targets() {
            match self.blob_at(target, digest, size, offset).await {
                Ok(blob) => return Ok(blob),
                Err(e) if self.falls_through(target, &e) => failed = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::Local(format!("no endpoint for {}", self.reference()))))
    }

    async fn blob_at(&self, target: &Target, digest: &Digest, size: u64, offset: u64) -> Result<Blob> {
        if offset > 0 && offset < size {
            let ranged =
                |e: &Endpoint| Ok(self.blob_call(e, Method::GET, digest)?.header(RANGE, &format!("bytes={offset}-")));
            let answer = self.send(target, ranged).await?;
            match answer.status.as_u16() {
                206 if continues(answer.header(CONTENT_RANGE), offset, size) => return blob(answer, size, offset),
                200 => return blob(answer, size, 0),
                // Another part than we asked for, or none: all of it again.
                206 | 416 => {}
                _ => return Err(self.refusal(answer).await),
            }
        }
        let answer = self.send(target, |e| self.blob_call(e, Method::GET, digest)).await?;
        blob(self.expect(answer, &[200]).await?, size, 0)
    }

    fn blob_call(&self, endpoint: &Endpoint, method: Method, digest: &Digest) -> Result<Call> {
        let url = endpoint.url(&self.path(endpoint.repository.as_deref(), &format!("blobs/{digest}")))?;
        Ok(Call::new(method, url, endpoint.trust.clone()).header(ACCEPT_ENCODING, "identity"))
    }
}

fn blob(answer: Answer, size: u64, start: u64) -> Result<Blob> {
    let length = answer.header(CONTENT_LENGTH).and_then(|l| l.parse::<u64>().ok());
    match length {
        Some(length) if length != size - start => {
            Err(answer.protocol(format!("the blob has {length} bytes where {} are promised", size - start)))
        }
        _ => Ok(Blob { answer: Some(answer), start, position: start, size, length }),
    }
}

/// Whether `Content-Range` is `bytes <offset>-<size - 1>/<size or *>` (RFC 9110 section 14.4).
fn continues(header: Option<&str>, offset: u64, size: u64) -> bool {
    let parse = || {
        let (range, whole) = header?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |t: &str| t.trim().parse::<u64>().ok();
        Some((number(first)?, number(last)?, whole.trim() == "*" || number(whole)? == size))
    };
    parse() == Some((offset, size - 1, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges() {
        assert!(continues(Some("bytes 5-9/10"), 5, 10));
        assert!(continues(Some("bytes 5-9/*"), 5, 10));
        for wrong in ["", "bytes 0-9/10", "bytes 5-8/10", "bytes 5-9/11", "5-9/10", "bytes */10", "bytes 5-9"] {
            assert!(!continues(Some(wrong), 5, 10), "{wrong}");
        }
        assert!(!continues(None, 5, 10));
    }

    proptest! {
        #[test]
        fn content_range_never_panics(text in "(bytes )?[0-9*/ -]{0,30}") {
            continues(Some(&text), 5, 10);
        }
    }
}
