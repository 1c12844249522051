//! Attaching to a container, and waiting for it.

use crate::call::Call;
use crate::reply::{JSON, Reply, TakeOver, json_line};
use futures_util::stream;
use naru_base::{Error, Result};
use naru_engine::types::{AttachOptions, WaitCondition, WaitOutcome};
use serde::Serialize;

/// POST /containers/{id}/attach: registered before it is answered, so that a start that follows misses nothing.
pub(crate) async fn attach(call: Call) -> Result<Reply> {
    let options = AttachOptions {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        stream: call.query.flag("stream"),
        logs: call.query.flag("logs"),
        detach_keys: call.query.given("detachKeys"),
    };
    let ticket = call.engine.attach_begin(&call.name, options)?;
    Ok(Reply::TakeOver(TakeOver {
        content_type: call.stream_type(ticket.tty()),
        upgrade: call.upgrades(),
        connect: Box::new(|stream| Box::pin(ticket.connect(stream))),
    }))
}

/// POST /containers/{id}/wait: the head goes out once the wait is registered, the body when it is over.
pub(crate) async fn wait(call: Call) -> Result<Reply> {
    let condition = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {other:?}"))),
    };
    let end = call.engine.wait(&call.name, condition)?;
    let body = stream::once(async move { Ok(json_line(&Answer::of(end.await)).into()) });
    Ok(Reply::stream(JSON, Box::pin(body)))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    status_code: i32,
    error: Option<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

impl Answer {
    fn of(outcome: WaitOutcome) -> Self {
        Self { status_code: outcome.exit_code, error: outcome.error.map(|message| Failure { message }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_in_dockers_shape() {
        let text = |o: WaitOutcome| String::from_utf8(json_line(&Answer::of(o))).unwrap();
        assert_eq!(text(WaitOutcome { exit_code: 3, error: None }), "{\"StatusCode\":3,\"Error\":null}\n");
        assert_eq!(
            text(WaitOutcome { exit_code: 0, error: Some("x".into()) }),
            "{\"StatusCode\":0,\"Error\":{\"Message\":\"x\"}}\n"
        );
    }
}
