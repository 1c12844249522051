//! Commands that change a container's state, one request per container.

use super::for_each;
use crate::context::Context;
use crate::failure::{Failure, Outcome, joined};
use crate::flag::Matches;
use crate::reconnect;
use crate::types::Waited;
use naru_client::{Client, Query, Request, escape_path};

fn post(client: &Client, name: &str, action: &str, query: &Query) -> Result<(), Failure> {
    client.call(Request::post(format!("/containers/{}/{action}{}", escape_path(name), query.as_str())))?;
    Ok(())
}

/// `-s` and `-t` of `stop` and `restart`.
fn stop_query(m: &Matches) -> Query {
    let query = Query::new().with_some("signal", m.str("signal"));
    match m.opt("timeout") {
        Some(seconds) => query.with("t", seconds),
        None => query,
    }
}

/// `stop`.
pub fn stop(context: &mut Context, m: &Matches) -> Outcome {
    let query = stop_query(m);
    for_each(context, &m.args, |client, name| post(client, name, "stop", &query))
}

/// `restart`.
pub fn restart(context: &mut Context, m: &Matches) -> Outcome {
    let query = stop_query(m);
    for_each(context, &m.args, |client, name| post(client, name, "restart", &query))
}

/// `kill`.
pub fn kill(context: &mut Context, m: &Matches) -> Outcome {
    let query = Query::new().with_some("signal", m.str("signal"));
    for_each(context, &m.args, |client, name| post(client, name, "kill", &query))
}

/// `pause`.
pub fn pause(context: &mut Context, m: &Matches) -> Outcome {
    for_each(context, &m.args, |client, name| post(client, name, "pause", &Query::new()))
}

/// `unpause`.
pub fn unpause(context: &mut Context, m: &Matches) -> Outcome {
    for_each(context, &m.args, |client, name| post(client, name, "unpause", &Query::new()))
}

/// `rm`.
pub fn rm(context: &mut Context, m: &Matches) -> Outcome {
    let force = m.bool("force");
    let query = Query::new().flag("v", m.bool("volumes")).flag("link", m.bool("link")).flag("force", force);
    let work = |client: &Client, name: &str| {
        let bare = name.trim_matches('/');
        if bare.is_empty() {
            return Err(Failure::new("container name cannot be empty"));
        }
        client.call(Request::delete(format!("/containers/{}{}", escape_path(bare), query.as_str())))?;
        Ok(())
    };
    let results = super::in_parallel(context, &m.args, &work)?;
    let mut failures = Vec::new();
    for (name, result) in m.args.iter().zip(results) {
        match result {
            Ok(()) => context.printer.line(name)?,
            Err(e) if force && e.status == Some(404) => context.printer.err(e.message),
            Err(e) => failures.push(e),
        }
    }
    joined(failures)
}

/// `rename`.
pub fn rename(context: &mut Context, m: &Matches) -> Outcome {
    let (old, new) = (m.arg(0).trim(), m.arg(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    let query = Query::new().with("name", new);
    post(context.client()?, old, "rename", &query).map_err(|e| {
        let message = format!("{}\nError: failed to rename container named {old}", e.message);
        Failure { message, ..e }
    })?;
    Ok(0)
}

/// `wait`.
pub fn wait(context: &mut Context, m: &Matches) -> Outcome {
    let mut failures = Vec::new();
    for name in &m.args {
        match wait_for(context, name) {
            Ok(code) => {
                context.printer.line(code.to_string())?;
                context.printer.flush()?;
            }
            Err(e) => failures.push(e),
        }
    }
    joined(failures)
}

fn wait_for(context: &Context, name: &str) -> Result<i32, Failure> {
    let request = || Request::post(format!("/containers/{}/wait", escape_path(name)));
    let mut answer = context.send(request())?.bytes();
    while answer.as_ref().is_err_and(naru_client::Error::is_gone) {
        answer = reconnect::send_again(context, request)?.bytes();
    }
    let waited: Waited =
        serde_json::from_slice(&answer?).map_err(|e| Failure::new(format!("malformed answer from the engine: {e}")))?;
    match waited.error {
        Some(e) if !e.message.is_empty() => Err(Failure::new(e.message)),
        _ => Ok(waited.status_code),
    }
}
