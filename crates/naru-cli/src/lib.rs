//! The command line: arguments to settings, command, printer.
//!
//! [`main`] reads the few flags before the command, finds the command in the [table](table), reads its flags, and runs it with a
//! [`context::Context`]. Nothing but [`printer::Printer`] (and the raw copying of a container's streams in [`stream`]) writes to
//! standard output or error. This crate talks to the engine through `naru-client` alone and knows nothing of how it works inside.

mod commands;
mod complete;
mod config;
mod context;
mod failure;
mod filters;
mod flag;
mod format;
mod help;
mod positioned;
mod printer;
mod progress;
mod reconnect;
mod run;
mod signals;
mod spec;
mod stream;
mod table;
mod tabwriter;
mod template;
mod term;
mod types;
mod when;

use context::{Context, Settings};
use failure::{Failure, Outcome};
use flag::{Matches, Rejected};
use spec::Found;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the engine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/naru/naru.sock";

/// Starts the engine that listens on a socket; an error is the whole text for the user.
pub type StartEngine = fn(&Path) -> Result<(), String>;

/// What the binary does for the command line.
#[derive(Clone, Copy, Default)]
pub struct Hooks {
    /// Starts the engine that listens on this socket and returns at once; called when nothing listens on the default socket
    /// and the user named no other. It prints its own line about it.
    pub start_engine: Option<StartEngine>,
}

/// Runs the command that `args` (the program's name first) say, and returns the exit code.
pub fn main(args: Vec<OsString>, hooks: Hooks) -> i32 {
    let mut words = args.into_iter().map(|a| a.to_string_lossy().into_owned());
    let program = match words.next() {
        Some(name) if name.rsplit('/').next() == Some("docker") => "docker",
        _ => "naru",
    };
    let words: Vec<String> = words.collect();
    let mut context = Context::new(program, Settings::default(), hooks);
    let outcome = dispatch(&mut context, &words);
    finish(&mut context, outcome)
}

fn finish(context: &mut Context, outcome: Outcome) -> i32 {
    let outcome = outcome.and_then(|code| context.printer.flush().map(|()| code).map_err(Failure::from));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                context.printer.err(&failure.message);
            }
            failure.code
        }
    }
}

fn dispatch(context: &mut Context, words: &[String]) -> Outcome {
    let program = context.program;
    let global = match Matches::parse(help::GLOBAL, words, false) {
        Ok(matches) => matches,
        Err(Rejected::Help) => {
            context.printer.raw(help::program(program, term::help_width()).as_bytes())?;
            return Ok(0);
        }
        Err(Rejected::Bad(text)) => {
            let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
            return Err(
                Failure::new(format!("{text}\n\n{usage}\n\nRun '{program} --help' for more information")).code(125)
            );
        }
    };
    if global.bool("version") {
        context.printer.line(commands::version::one_line(program))?;
        return Ok(0);
    }
    context.settings = settings(&global)?;
    let args = &global.args;
    match spec::find(args) {
        Found::Command(command, path, used) => run(context, command, path, &args[used..]),
        Found::Family(family) => {
            let text = help::family(program, family);
            if args.len() > 1 {
                context.printer.raw(text.as_bytes())?;
            } else {
                context.printer.err_raw(text.as_bytes())?;
            }
            Ok(0)
        }
        Found::Unknown(0) => {
            context.printer.raw(help::program(program, term::help_width()).as_bytes())?;
            Ok(0)
        }
        Found::Unknown(words) => other(context, args, words),
    }
}

/// What is no engine command: help, completion, or a mistake.
fn other(context: &mut Context, args: &[String], words: usize) -> Outcome {
    let program = context.program;
    match args.first().map(String::as_str) {
        Some("help") => match spec::find(&args[1..]) {
            Found::Command(command, path, _) => {
                context.printer.raw(help::command(program, command, path, term::help_width()).as_bytes())?;
                Ok(0)
            }
            Found::Family(family) => {
                context.printer.raw(help::family(program, family).as_bytes())?;
                Ok(0)
            }
            Found::Unknown(0) => {
                context.printer.raw(help::program(program, term::help_width()).as_bytes())?;
                Ok(0)
            }
            Found::Unknown(_) => Err(Failure::new(format!("unknown help topic: {}", args[1..].join(" ")))),
        },
        Some("completion") => complete::script(context, args.get(1).map_or("", String::as_str)),
        Some("__complete") => complete::candidates(context, &args[1..]),
        _ => Err(unknown_command(program, &args[..words])),
    }
}

fn unknown_command(program: &str, words: &[String]) -> Failure {
    let name = words.join(" ");
    let usage = match words {
        [family, _] => format!("Usage:  {program} {family}\n\nRun '{program} {family} --help' for more information"),
        _ => format!("Run '{program} --help' for more information"),
    };
    Failure::new(format!("{program}: unknown command: {program} {name}\n\n{usage}"))
}

fn run(context: &mut Context, command: &'static spec::Command, path: &'static str, args: &[String]) -> Outcome {
    let program = context.program;
    let shown = command.shown(path);
    context.command = shown;
    let usage = || help::usage_line(program, command, path);
    let matches = match Matches::parse(command.flags, args, command.interspersed) {
        Ok(matches) => matches,
        Err(Rejected::Help) => {
            context.printer.raw(help::command(program, command, path, term::help_width()).as_bytes())?;
            return Ok(0);
        }
        Err(Rejected::Bad(text)) => {
            let text = format!("{text}\n\n{}\n\nRun '{program} {shown} --help' for more information", usage());
            return Err(Failure::new(text).code(125));
        }
    };
    if let Some((problem, see)) = command.args.problem(matches.args.len()) {
        let word = if see { "See" } else { "Run" };
        return Err(Failure::new(format!(
            "{program}: '{program} {shown}' {problem}\n\n{}\n\n{word} '{program} {shown} --help' for more information",
            usage()
        )));
    }
    (command.run)(context, &matches)
}

fn settings(global: &Matches) -> Result<Settings, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let hosts = global.list("host");
    if hosts.len() > 1 {
        return Err(Failure::new("specify only one -H"));
    }
    let api_version = match variable("DOCKER_API_VERSION") {
        Some(text) => Some(
            naru_client::Version::parse(&text).ok_or_else(|| Failure::new(format!("invalid API version: {text}")))?,
        ),
        None => None,
    };
    let config = global.opt("config").map(str::to_owned).or_else(|| variable("DOCKER_CONFIG"));
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".docker");
    Ok(Settings {
        host: hosts.first().map(|h| (*h).to_owned()).or_else(|| variable("DOCKER_HOST")),
        api_version,
        config: config.map_or_else(home, PathBuf::from),
        debug: global.bool("debug"),
    })
}
