//! `exec`: another process in a running container.

use super::attach::{check_tty, detach_keys, first_resize, resize_to};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::run::environment;
use crate::signals::Signals;
use crate::stream::{DEFAULT_DETACH_KEYS, Ended, Session, parse_detach_keys};
use crate::term::{self, RawMode};
use crate::types::Created;
use naru_client::{Request, escape_path};
use serde::Serialize;
use signal_hook::consts::SIGWINCH;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    user: &'a str,
    privileged: bool,
    tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    console_size: Option<[u16; 2]>,
    attach_stdin: bool,
    attach_stderr: bool,
    attach_stdout: bool,
    detach_keys: &'a str,
    env: Option<Vec<String>>,
    working_dir: &'a str,
    cmd: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Start {
    detach: bool,
    tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    console_size: Option<[u16; 2]>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    running: bool,
    exit_code: Option<i32>,
}

/// Runs the command.
pub fn exec(context: &mut Context, m: &Matches) -> Outcome {
    let detach = m.bool("detach");
    let tty = m.bool("tty");
    let stdin = m.bool("interactive") && !detach;
    let env = environment::variables(&m.list("env-file"), &m.list("env"))?;
    let keys = detach_keys(context, m)?;
    if !detach {
        check_tty(stdin, tty)?;
    }
    let console_size = if tty { term::size().map(|(h, w)| [h, w]) } else { None };
    let body = Create {
        user: m.str("user"),
        privileged: m.bool("privileged"),
        tty,
        console_size,
        attach_stdin: stdin,
        attach_stderr: !detach,
        attach_stdout: !detach,
        detach_keys: &keys,
        env: (!env.is_empty()).then_some(env),
        working_dir: m.str("workdir"),
        cmd: &m.args[1..],
    };
    let path = format!("/containers/{}/exec", escape_path(m.arg(0)));
    let id = context.send(Request::post(path).json(&body))?.json::<Created>()?.id;
    if id.is_empty() {
        return Err(Failure::new("exec ID empty"));
    }
    let start = Request::post(format!("/exec/{id}/start")).json(&Start { detach, tty, console_size });
    if detach {
        context.call(start)?;
        return Ok(0);
    }
    context.printer.flush()?;
    match copy(context, &id, start, tty, stdin, &keys)? {
        Ended::Closed => exit_code(context, &id),
        Ended::Detached => Err(Failure::new("read escape sequence")),
        Ended::Signalled(signal) => Err(Failure::silent(128 + signal)),
    }
}

fn copy(context: &Context, id: &str, start: Request<'_>, tty: bool, stdin: bool, keys: &str) -> Result<Ended, Failure> {
    let client = context.client()?;
    let connection = client.hijack(start)?;
    let _raw = if tty && stdin { Some(RawMode::enter(true)?) } else { None };
    let path = format!("/exec/{id}/resize");
    let resize = tty && term::size().is_some();
    if resize {
        first_resize(client, &path);
    }
    let mut on_signal = |signal: i32| {
        if signal == SIGWINCH {
            let _ = resize_to(client, &path, 0);
            return true;
        }
        false
    };
    let detach = match (tty && stdin, keys) {
        (false, _) => None,
        (true, "") => Some(DEFAULT_DETACH_KEYS.to_vec()),
        (true, keys) => Some(parse_detach_keys(keys)?),
    };
    // Without a terminal to set right, a signal may simply end this process.
    let signals = if tty { Some(Signals::catch(false, resize)?) } else { None };
    Session { connection, tty, input: stdin, detach, signals, on_signal: &mut on_signal }.run()
}

fn exit_code(context: &Context, id: &str) -> Outcome {
    let inspected: Inspected = match context.get(format!("/exec/{id}/json")) {
        Ok(inspected) => inspected,
        Err(e) if e.status.is_none() => return Err(Failure::silent(255)),
        Err(e) => return Err(e),
    };
    if inspected.running { Ok(0) } else { Ok(inspected.exit_code.unwrap_or(0)) }
}
