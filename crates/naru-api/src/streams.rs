//! Bodies that stream, and docker's framing of two outputs on one stream.

use crate::reply::Pieces;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use naru_base::{Error, Result};
use tokio::sync::mpsc;

/// Standard output's number in a frame.
pub(crate) const STDOUT: u8 = 1;
/// Standard error's.
pub(crate) const STDERR: u8 = 2;
/// An error of the engine's own, after which a client stops reading.
pub(crate) const SYSTEM_ERROR: u8 = 3;

/// Adds a frame: stream, three zeros, length (big endian), bytes.
pub(crate) fn push_frame(out: &mut BytesMut, stream: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    out.reserve(8 + length);
    out.put_slice(&[stream, 0, 0, 0]);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for part in parts {
        out.put_slice(part);
    }
}

/// Bytes from the engine as a body. A failure breaks the connection off; it can't be told otherwise any more.
pub(crate) fn from_engine(receiver: mpsc::Receiver<Result<Bytes>>) -> Pieces {
    let next = |mut receiver: mpsc::Receiver<Result<Bytes>>| async move {
        let piece = receiver.recv().await?;
        Some((piece.map_err(broken), receiver))
    };
    Box::pin(stream::unfold(receiver, next))
}

/// Waits for the first piece, so that a failure before it is still an answer of its own.
///
/// # Errors
/// That failure.
pub(crate) async fn started(mut receiver: mpsc::Receiver<Result<Bytes>>) -> Result<Pieces> {
    match receiver.recv().await {
        None => Ok(Box::pin(stream::empty())),
        Some(Err(error)) => Err(error),
        Some(Ok(first)) => Ok(Box::pin(stream::iter([Ok(first)]).chain(from_engine(receiver)))),
    }
}

fn broken(error: Error) -> std::io::Error {
    tracing::warn!(%error, "a body was broken off");
    std::io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_header_of_eight() {
        let mut out = BytesMut::new();
        push_frame(&mut out, STDERR, &[b"ab", b"c"]);
        push_frame(&mut out, STDOUT, &[]);
        assert_eq!(&out[..], b"\x02\0\0\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_early_failure_is_an_error_and_a_late_one_breaks_off() {
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Err(Error::not_found("x"))).await.unwrap();
        assert!(started(receiver).await.is_err());
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
        sender.send(Err(Error::system("x"))).await.unwrap();
        drop(sender);
        let pieces: Vec<_> = started(receiver).await.unwrap().collect().await;
        assert!(matches!(&pieces[..], [Ok(a), Err(_)] if a == "a"));
    }
}
