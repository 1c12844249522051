//! `start`: stopped containers, attached to one or not at all.

use super::attach::{self, Attached};
use super::run::exit_code;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::stream::Ended;
use crate::types::Inspected;
use naru_client::{Query, Request, escape_path};

/// Runs the command.
pub fn start(context: &mut Context, m: &Matches) -> Outcome {
    if m.bool("attach") || m.bool("interactive") {
        if m.args.len() > 1 {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        }
        return start_attached(context, m);
    }
    let query =
        Query::new().with_some("checkpoint", m.str("checkpoint")).with_some("checkpoint-dir", m.str("checkpoint-dir"));
    let mut failed = Vec::new();
    for name in &m.args {
        match context.call(Request::post(format!("/containers/{}/start{}", escape_path(name), query.as_str()))) {
            Ok(_) => context.printer.line(name)?,
            Err(e) => {
                context.printer.err(e.message);
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
}

fn start_attached(context: &mut Context, m: &Matches) -> Outcome {
    let inspected: Inspected = context.get(format!("/containers/{}/json", escape_path(m.arg(0))))?;
    let tty = inspected.config.tty;
    let stdin = m.bool("interactive") && inspected.config.open_stdin;
    attach::check_tty(stdin, tty)?;
    let keys = attach::detach_keys(context, m)?;
    let streams = Attached {
        id: &inspected.id,
        tty,
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        keys: &keys,
        forward_signals: !tty,
        resize: tty,
    };
    let connection = streams.open(context)?;
    let condition = if inspected.host_config.auto_remove { "removed" } else { "next-exit" };
    let query = Query::new().with("condition", condition);
    let path = format!("/containers/{}/wait{}", inspected.id, query.as_str());
    let status = context.send(Request::post(path))?.into_body();
    if let Err(e) = context.call(Request::post(format!("/containers/{}/start", inspected.id))) {
        drop(connection);
        if inspected.host_config.auto_remove {
            let _ = exit_code(context, &inspected.id, status);
        }
        return Err(e);
    }
    match streams.copy(context, connection)? {
        Ended::Closed => exit_code(context, &inspected.id, status),
        Ended::Detached => Ok(0),
        Ended::Signalled(signal) => Err(Failure::silent(128 + signal)),
    }
}
