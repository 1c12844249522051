//! `attach`, and what every command that attaches shares.

use super::run::exit_code;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::signals::{self, Signals};
use crate::stream::{DEFAULT_DETACH_KEYS, Ended, Session, parse_detach_keys};
use crate::term::{self, RawMode};
use crate::types::Inspected;
use naru_client::{Client, Hijacked, Query, Request, escape_path};
use signal_hook::consts::{SIGINT, SIGTERM, SIGWINCH};
use std::time::Duration;

/// How often the first resize is tried: it may come before the terminal is there.
const RESIZE_TRIES: u32 = 10;

/// How to attach to a container.
pub struct Attached<'a> {
    /// The container.
    pub id: &'a str,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether to send input.
    pub stdin: bool,
    /// Whether to show its output.
    pub stdout: bool,
    /// Whether to show its error output.
    pub stderr: bool,
    /// Whether to show what it printed before.
    pub logs: bool,
    /// The keys that detach, or nothing for the default.
    pub keys: &'a str,
    /// Whether signals go to the container.
    pub forward_signals: bool,
    /// Whether its terminal follows this one's size.
    pub resize: bool,
}

impl Attached<'_> {
    /// Asks the engine for the streams.
    pub fn open(&self, context: &Context) -> Result<Hijacked, Failure> {
        let query = Query::new()
            .with_some("detachKeys", self.keys)
            .flag("logs", self.logs)
            .flag("stderr", self.stderr)
            .flag("stdin", self.stdin)
            .flag("stdout", self.stdout)
            .with("stream", "1");
        let path = format!("/containers/{}/attach{}", escape_path(self.id), query.as_str());
        let request = Request::post(path).header("Content-Type", "text/plain");
        Ok(context.client()?.hijack(request)?)
    }

    /// Copies the streams until one side ends. The terminal is as before when this returns.
    pub fn copy(&self, context: &Context, connection: Hijacked) -> Result<Ended, Failure> {
        let client = context.client()?;
        let resize_path = format!("/containers/{}/resize", escape_path(self.id));
        let _raw = if self.tty && self.stdin { Some(RawMode::enter(true)?) } else { None };
        let resize = self.resize && term::size().is_some();
        if resize {
            first_resize(client, &resize_path);
        }
        let mut ended = 0;
        let mut on_signal = |signal: i32| {
            if signal == SIGWINCH && resize {
                let _ = resize_to(client, &resize_path, 0);
                return true;
            }
            if !self.forward_signals {
                return false;
            }
            forward(client, self.id, signal);
            ended += i32::from(signal == SIGTERM || signal == SIGINT);
            ended < 3
        };
        let detach = (self.tty && self.stdin).then(|| keys_of(self.keys)).transpose()?;
        Session {
            connection,
            tty: self.tty,
            input: self.stdin,
            detach,
            signals: Some(Signals::catch(self.forward_signals, resize)?),
            on_signal: &mut on_signal,
        }
        .run()
        .and_then(|e| match e {
            Ended::Signalled(_) if self.forward_signals => {
                Err(Failure::new("got 3 SIGTERM/SIGINTs, forcefully exiting"))
            }
            other => Ok(other),
        })
    }
}

fn keys_of(keys: &str) -> Result<Vec<u8>, Failure> {
    if keys.is_empty() { Ok(DEFAULT_DETACH_KEYS.to_vec()) } else { Ok(parse_detach_keys(keys)?) }
}

/// `--detach-keys`, or the configuration file's; checked.
pub fn detach_keys(context: &Context, m: &Matches) -> Result<String, Failure> {
    let given = m.str("detach-keys");
    let keys = if given.is_empty() { context.config().text("detachKeys").to_owned() } else { given.to_owned() };
    if !keys.is_empty() {
        parse_detach_keys(&keys).map_err(|e| Failure::new(format!("invalid detach keys ({keys}): {e}")))?;
    }
    Ok(keys)
}

/// A terminal in the container needs one here, when input is attached.
pub fn check_tty(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !term::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}

/// Sets the size of a terminal of the engine; `extra` rows and columns more than this one has.
pub fn resize_to(client: &Client, path: &str, extra: u16) -> Result<(), Failure> {
    let Some((rows, columns)) = term::size() else { return Ok(()) };
    let query = Query::new()
        .with("h", &rows.saturating_add(extra).to_string())
        .with("w", &columns.saturating_add(extra).to_string());
    client.call(Request::post(format!("{path}{}", query.as_str())))?;
    Ok(())
}

/// The first resize, tried a few times.
pub fn first_resize(client: &Client, path: &str) {
    for attempt in 0..RESIZE_TRIES {
        if resize_to(client, path, 0).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10) * (attempt + 1));
    }
}

/// Sends a signal to the container; a container that has ended is no failure.
fn forward(client: &Client, id: &str, signal: i32) {
    let query = Query::new().with("signal", &signals::name(signal));
    let _ = client.call(Request::post(format!("/containers/{}/kill{}", escape_path(id), query.as_str())));
}

/// `attach`.
pub fn attach(context: &mut Context, m: &Matches) -> Outcome {
    let name = m.arg(0);
    let inspected: Inspected = context.get(format!("/containers/{}/json", escape_path(name)))?;
    let state = &inspected.state;
    for (bad, text) in [
        (!state.running, "You cannot attach to a stopped container, start it first"),
        (state.paused, "You cannot attach to a paused container, unpause it first"),
        (state.restarting, "You cannot attach to a restarting container, wait until it is running"),
    ] {
        if bad {
            return Err(Failure::new(text));
        }
    }
    let stdin = !m.bool("no-stdin") && inspected.config.open_stdin;
    let tty = inspected.config.tty;
    check_tty(stdin, tty)?;
    let keys = detach_keys(context, m)?;
    let streams = Attached {
        id: &inspected.id,
        tty,
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        keys: &keys,
        forward_signals: m.bool("sig-proxy") && !tty,
        resize: tty,
    };
    let status = context.send(Request::post(format!("/containers/{}/wait", inspected.id)))?.into_body();
    let connection = streams.open(context)?;
    if tty && term::size().is_some() {
        // A size that differs makes the program draw again.
        let _ = resize_to(context.client()?, &format!("/containers/{}/resize", inspected.id), 1);
    }
    match streams.copy(context, connection)? {
        Ended::Closed => exit_code(context, &inspected.id, status),
        Ended::Detached => Err(Failure::new("read escape sequence")),
        Ended::Signalled(signal) => Err(Failure::silent(128 + signal)),
    }
}
