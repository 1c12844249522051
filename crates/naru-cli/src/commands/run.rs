//! `run`: create, attach, wait, start, and the streams until the container ends.

use super::attach::{self, Attached};
use super::create;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::reconnect;
use crate::run::Create;
use crate::stream::Ended;
use crate::types::Waited;
use naru_client::{BodyReader, Query, Request, Response};
use std::io::Read;

/// Docker could not run the container at all.
const NOT_RUN: i32 = 125;

/// Runs the command.
pub fn run(context: &mut Context, m: &Matches) -> Outcome {
    let (program, command) = (context.program, context.command);
    check(m)?;
    run_container(context, m).map_err(|e| {
        let code = if e.code == 1 { NOT_RUN } else { e.code };
        e.with_help(program, command).code(code)
    })
}

/// What docker refuses without the pointer to its help.
fn check(m: &Matches) -> Result<(), Failure> {
    let detached = m.bool("detach");
    if detached && m.given("attach") {
        return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
    }
    if detached {
        return Ok(());
    }
    let chosen = m.list("attach");
    let stdin = chosen.iter().any(|s| s.eq_ignore_ascii_case("stdin")) || (chosen.is_empty() && m.bool("interactive"));
    attach::check_tty(stdin, m.bool("tty"))
}

fn run_container(context: &mut Context, m: &Matches) -> Outcome {
    let detached = m.bool("detach");
    let body = create::prepare(context, m, detached)?;
    let keys = attach::detach_keys(context, m)?;
    let id = create::make(context, m, &body)?.id;
    let attached = !detached && (body.attach_stdin || body.attach_stdout || body.attach_stderr);
    if !attached {
        start(context, &id)?;
        context.printer.line(&id)?;
        if detached {
            return Ok(0);
        }
        return exit_code(context, &id, wait(context, &id, &body)?.into_body());
    }
    attached_run(context, m, &body, &id, &keys)
}

fn attached_run(context: &mut Context, m: &Matches, body: &Create, id: &str, keys: &str) -> Outcome {
    let streams = Attached {
        id,
        tty: body.tty,
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
        logs: false,
        keys,
        forward_signals: m.bool("sig-proxy"),
        resize: body.tty,
    };
    context.printer.flush()?;
    let connection = streams.open(context)?;
    let status = wait(context, id, body)?.into_body();
    if let Err(e) = start(context, id) {
        drop(connection);
        if body.host_config.auto_remove {
            // The engine removes it; the command ends when it is gone.
            let _ = exit_code(context, id, status);
        }
        let code = start_failure_code(&e.message);
        return Err(e.code(code));
    }
    match streams.copy(context, connection)? {
        Ended::Closed => exit_code(context, id, status),
        Ended::Detached => Ok(0),
        Ended::Signalled(signal) => Err(Failure::silent(128 + signal)),
    }
}

/// Asks for the exit status before the start, so that none is missed: the answer's head says that the engine listens.
fn wait(context: &Context, id: &str, body: &Create) -> Result<Response, Failure> {
    let condition = if body.host_config.auto_remove { "removed" } else { "next-exit" };
    let query = Query::new().with("condition", condition);
    context.send(Request::post(format!("/containers/{id}/wait{}", query.as_str())))
}

fn start(context: &Context, id: &str) -> Result<(), Failure> {
    context.call(Request::post(format!("/containers/{id}/start")))?;
    Ok(())
}

/// Reads the exit code from the answer of `wait` for this container; from another engine's, when this one goes away meanwhile.
pub fn exit_code(context: &Context, id: &str, mut status: BodyReader) -> Outcome {
    let mut text = Vec::new();
    while status.read_to_end(&mut text).is_err() {
        text.clear();
        let request = || Request::post(format!("/containers/{id}/wait"));
        status = match reconnect::send_again(context, request) {
            Ok(response) => response.into_body(),
            Err(e) if e.status == Some(404) => {
                let text = "error waiting for container: it was removed while the engine was away";
                return Err(Failure::new(text).code(NOT_RUN));
            }
            Err(e) => return Err(Failure::new(format!("error waiting for container: {}", e.message)).code(NOT_RUN)),
        };
    }
    let waited: Waited = serde_json::from_slice(&text)
        .map_err(|e| Failure::new(format!("error waiting for container: {e}")).code(NOT_RUN))?;
    match waited.error {
        Some(e) if !e.message.is_empty() => {
            Err(Failure::new(format!("error waiting for container: {}", e.message)).code(NOT_RUN))
        }
        _ => Ok(waited.status_code),
    }
}

/// 127 when the command is not there, 126 when it cannot be executed, else 125.
fn start_failure_code(message: &str) -> i32 {
    let has = |words: &[&str]| words.iter().any(|w| message.contains(w));
    match () {
        () if has(&[
            "executable file not found",
            "no such file or directory",
            "system cannot find the file specified",
        ]) =>
        {
            127
        }
        () if has(&["permission denied", "is a directory"]) => 126,
        () => NOT_RUN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_failed_starts() {
        assert_eq!(start_failure_code("exec: \"x\": executable file not found in $PATH: unknown"), 127);
        assert_eq!(start_failure_code("exec: \"/etc\": permission denied: unknown"), 126);
        assert_eq!(start_failure_code("is a directory"), 126);
        assert_eq!(start_failure_code("other"), 125);
    }
}
