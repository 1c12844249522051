//! Progress of long operations as docker's JSON messages, one object and `\r\n` each.

use crate::call::Call;
use crate::reply::{JSON, Pieces, Reply};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use naru_base::size::human_size;
use naru_base::{Error, Result};
use naru_engine::types::{Progress, ProgressSink};
use serde::Serialize;
use std::pin::Pin;
use tokio::sync::mpsc;

/// The operation whose progress is told; dropping it ends it.
type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Runs an operation and answers with its progress. Dropping the body (the client went away) ends the operation.
///
/// # Errors
/// The operation's, when it fails before it has told anything.
pub(crate) async fn reply<F>(start: impl FnOnce(ProgressSink) -> F) -> Result<Reply>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = Running::begin(start);
    running.step().await;
    match running.failure {
        Some(failure) if running.batch.is_empty() => Err(failure),
        _ => Ok(Reply::stream(JSON, pieces(running))),
    }
}

/// An operation whose answer is one object: with `progress=1` (Naru's own) its progress is told first, and the answer is the last message's
/// `aux`. It goes on when the client leaves: what it holds meanwhile is given back by it alone.
///
/// # Errors
/// The operation's; with progress only when it fails before it has told anything.
pub(crate) async fn answer<F, T>(
    call: &Call,
    status: StatusCode,
    start: impl FnOnce(Option<ProgressSink>) -> F,
) -> Result<Reply>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Serialize + Send + 'static,
{
    let finish = |work: tokio::task::JoinHandle<Result<T>>| async move {
        work.await.map_err(|e| Error::system(format!("the work was broken off: {e}")))?
    };
    if !call.query.flag("progress") {
        return Reply::json(status, &finish(tokio::spawn(start(None))).await?);
    }
    let told = reply(|sink| {
        let work = tokio::spawn(start(Some(sink.clone())));
        async move {
            let answer = serde_json::to_value(finish(work).await?);
            let answer = answer.map_err(|e| Error::system(format!("cannot write the answer: {e}")))?;
            let _ = sink.send(Progress::Aux(answer));
            Ok(())
        }
    });
    Ok(told.await?.with_header("naru-progress", "1"))
}

/// Likewise, but a failure is always told in the stream: so docker answers to an archive that is sent, and clients look for it there.
pub(crate) fn reply_in_stream<F>(start: impl FnOnce(ProgressSink) -> F) -> Reply
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    Reply::stream(JSON, pieces(Running::begin(start)))
}

struct Running {
    /// `None` once it is over.
    work: Option<Work>,
    receiver: mpsc::UnboundedReceiver<Progress>,
    batch: Vec<Progress>,
    /// Told after everything else.
    failure: Option<Error>,
}

fn pieces(running: Running) -> Pieces {
    let next = |mut running: Running| async move { running.next().await.map(|piece| (Ok(piece), running)) };
    Box::pin(stream::unfold(running, next))
}

impl Running {
    fn begin<F>(start: impl FnOnce(ProgressSink) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { work: Some(Box::pin(start(sender))), receiver, batch: Vec::new(), failure: None }
    }

    /// What there is to say next, as many messages as are waiting.
    async fn next(&mut self) -> Option<Bytes> {
        while self.batch.is_empty() && self.failure.is_none() && self.work.is_some() {
            self.step().await;
        }
        let mut text = lines(&std::mem::take(&mut self.batch));
        if self.work.is_none() {
            text.extend(self.failure.take().iter().flat_map(error_line));
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// Until there is something to tell, or the work is over.
    async fn step(&mut self) {
        if let Some(work) = &mut self.work {
            tokio::select! {
                biased;
                Some(progress) = self.receiver.recv() => self.batch.push(progress),
                outcome = work => {
                    self.work = None;
                    self.failure = outcome.err();
                }
            }
        }
        while let Ok(progress) = self.receiver.try_recv() {
            self.batch.push(progress);
        }
    }
}

/// The messages of a batch. Of several positions of one object only the last is told.
fn lines(batch: &[Progress]) -> Vec<u8> {
    let same = |a: &Progress, b: &Progress| match (a, b) {
        (Progress::Bytes { id: x, status: s, .. }, Progress::Bytes { id: y, status: t, .. })
        | (Progress::Count { id: x, status: s, .. }, Progress::Count { id: y, status: t, .. }) => x == y && s == t,
        _ => false,
    };
    let mut text = Vec::new();
    for (at, progress) in batch.iter().enumerate() {
        if !batch[at + 1..].iter().any(|later| same(progress, later)) {
            text.extend(line(progress));
        }
    }
    text
}

/// docker's `jsonmessage.JSONMessage`.
#[derive(Default, Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    progress_detail: Option<Detail<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    progress: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<&'a serde_json::Value>,
}

#[derive(Default, Serialize)]
struct Detail<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    units: &'a str,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    message: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn line(progress: &Progress) -> Vec<u8> {
    write(&match progress {
        Progress::Status { id, status } => Message {
            status: Some(status),
            id: id.as_deref(),
            progress_detail: id.as_deref().is_some_and(is_layer).then(Detail::default),
            ..Message::default()
        },
        Progress::Bytes { id, status, current, total } => Message {
            status: Some(status),
            id: (!id.is_empty()).then_some(id),
            progress_detail: Some(Detail { current: *current, total: *total, units: "" }),
            progress: bar(*current, *total),
            ..Message::default()
        },
        Progress::Count { id, status, current, total } => {
            let (current, total) = (*current as u64, *total as u64);
            Message {
                status: Some(status),
                id: Some(id),
                progress_detail: Some(Detail { current, total, units: id }),
                progress: format!("{current}/{total} {id}"),
                ..Message::default()
            }
        }
        Progress::Stream(text) => Message { stream: Some(text), ..Message::default() },
        Progress::Aux(value) => {
            Message { aux: Some(value), progress_detail: Some(Detail::default()), ..Message::default() }
        }
    })
}

fn error_line(error: &Error) -> Vec<u8> {
    let text = error.message();
    write(&Message { error_detail: Some(ErrorDetail { message: text }), error: Some(text), ..Message::default() })
}

fn write(message: &Message<'_>) -> Vec<u8> {
    let mut text = crate::reply::json_line(message);
    text.pop();
    text.extend(b"\r\n");
    text
}

/// Whether an id is a layer's short one: docker's messages about those have details, empty ones too.
fn is_layer(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(naru_base::id::is_lower_hex)
}

/// The bar that old clients print as it is (docker's `JSONProgress.String` for 200 columns).
fn bar(current: u64, total: u64) -> String {
    if current == 0 && total == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes for people")]
    let size = |n: u64| human_size(n as f64);
    if total == 0 {
        return format!("{:>8}", size(current));
    }
    let percentage = usize::try_from((u128::from(current) * 100 / u128::from(total) / 2).min(50)).unwrap_or(50);
    let numbers =
        if current > total { format!("{:>8}", size(current)) } else { format!("{:>8}/{}", size(current), size(total)) };
    format!("[{}>{}] {numbers}", "=".repeat(percentage), " ".repeat(50 - percentage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    fn bytes(id: &str, current: u64) -> Progress {
        Progress::Bytes { id: id.into(), status: "Downloading".into(), current, total: 2000 }
    }

    fn text(progress: &Progress) -> String {
        String::from_utf8(line(progress)).unwrap()
    }

    #[test]
    fn messages_are_dockers() {
        let status = |id: Option<&str>, s: &str| text(&Progress::Status { id: id.map(Into::into), status: s.into() });
        assert_eq!(status(None, "Digest: x"), "{\"status\":\"Digest: x\"}\r\n");
        assert_eq!(
            status(Some("latest"), "Pulling from a/b"),
            "{\"status\":\"Pulling from a/b\",\"id\":\"latest\"}\r\n"
        );
        assert_eq!(
            status(Some("0123456789ab"), "Pull complete"),
            "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"0123456789ab\"}\r\n"
        );
        assert_eq!(
            text(&bytes("0123456789ab", 1000)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1000,\"total\":2000},\"progress\":\"[=========================>                         ]      1kB/2kB\",\"id\":\"0123456789ab\"}\r\n"
        );
        assert_eq!(text(&Progress::Stream("a\n".into())), "{\"stream\":\"a\\n\"}\r\n");
        assert_eq!(
            text(&Progress::Aux(serde_json::json!({"Tag": "t"}))),
            "{\"progressDetail\":{},\"aux\":{\"Tag\":\"t\"}}\r\n"
        );
        let error = String::from_utf8(error_line(&Error::system("no"))).unwrap();
        assert_eq!(error, "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
    }

    #[test]
    fn only_the_last_position_is_told() {
        let batch = [bytes("a", 1), bytes("b", 1), bytes("a", 2)];
        assert_eq!(lines(&batch), [line(&bytes("b", 1)), line(&bytes("a", 2))].concat());
    }

    #[test]
    fn bars_never_overflow() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(1000, 0), "     1kB");
        assert!(bar(u64::MAX, 1).starts_with(&format!("[{}>]", "=".repeat(50))));
    }

    async fn body(reply: Result<Reply>) -> String {
        let Reply::Response(response) = reply.unwrap() else { panic!("no response") };
        let crate::reply::ReplyBody::Stream(pieces) = response.into_body() else { panic!("no stream") };
        let pieces: Vec<_> = pieces.map(|p| String::from_utf8(p.unwrap().to_vec()).unwrap()).collect().await;
        pieces.concat()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn failures_are_answers_first_and_messages_later() {
        let early = reply(|_sink| async { Err(Error::not_found("no such thing")) }).await;
        assert_eq!(early.unwrap_err().message(), "no such thing");
        let late = reply(|sink| async move {
            sink.send(Progress::Stream("one".into())).unwrap();
            tokio::task::yield_now().await;
            sink.send(Progress::Stream("two".into())).unwrap();
            Err(Error::system("broken"))
        });
        assert_eq!(
            body(late.await).await,
            "{\"stream\":\"one\"}\r\n{\"stream\":\"two\"}\r\n{\"errorDetail\":{\"message\":\"broken\"},\"error\":\"broken\"}\r\n"
        );
        let good = reply(|sink| async move {
            sink.send(Progress::Stream("one".into())).unwrap();
            Ok(())
        });
        assert_eq!(body(good.await).await, "{\"stream\":\"one\"}\r\n");
        assert_eq!(body(reply(|_sink| async { Ok(()) }).await).await, "");
    }
}
