//! Execs.

use crate::call::Call;
use crate::dto::exec::{ExecConfig, ExecInspect, ExecStart};
use crate::reply::{Reply, TakeOver};
use crate::version::v1;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::types::ExecSettings;
use serde::Serialize;

/// POST /containers/{id}/exec
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        id: String,
    }
    let asked: ExecConfig = call.json().await?.unwrap_or_default();
    let command = asked.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    if !asked.working_dir.is_empty() && !asked.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            asked.working_dir
        )));
    }
    let settings = ExecSettings {
        command,
        env: asked.env,
        working_dir: asked.working_dir,
        user: asked.user,
        privileged: asked.privileged,
        tty: asked.tty,
        attach_stdin: asked.attach_stdin,
        attach_stdout: asked.attach_stdout,
        attach_stderr: asked.attach_stderr,
        detach_keys: Some(asked.detach_keys).filter(|k| !k.is_empty()),
        console_size: asked.console_size.given().filter(|_| call.version >= v1(42)),
    };
    let id = call.engine.exec_create(&call.name, settings).await?;
    Reply::json(StatusCode::CREATED, &Answer { id: id.to_string() })
}

/// POST /exec/{id}/start
pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    let asked: ExecStart = call.json().await?.unwrap_or_default();
    let size = asked.console_size.given().filter(|_| call.version >= v1(42));
    if size.is_some() && !asked.tty {
        return Err(Error::invalid("console size is only supported when using a tty"));
    }
    let ticket = call.engine.exec_begin(&call.name, asked.tty)?;
    if asked.detach {
        ticket.connect(None, size).await?;
        return Ok(Reply::status(StatusCode::OK));
    }
    Ok(Reply::TakeOver(TakeOver {
        content_type: call.stream_type(asked.tty),
        upgrade: call.upgrades(),
        connect: Box::new(move |stream| Box::pin(ticket.connect(Some(stream), size))),
    }))
}

/// POST /exec/{id}/resize
pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (rows, columns) = (call.query.dimension("h")?, call.query.dimension("w")?);
    call.engine.exec_resize(&call.name, rows, columns).await?;
    Ok(Reply::status(StatusCode::OK))
}

/// GET /exec/{id}/json
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Reply::ok(&ExecInspect::of(call.engine.exec_inspect(&call.name).await?))
}
