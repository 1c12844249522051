//! The OCI runtime: `naru oci create`, `start`, `run`, … with runc's arguments (OCI runtime specification, runtime.md and
//! runtime-linux.md; runc's manual pages).
//!
//! Nothing of the engine takes part. `create` makes the container itself and leaves it behind, waiting at its gate; whoever called
//! (conmon, a shim of containerd) is its subreaper and learns of its end. What must outlive a call is one file per container below `--root`.

mod args;
mod commands;
mod console;
mod container;
mod convert;
mod foreground;
mod global;
mod listener;
mod log;
mod own_program;
mod spec;
mod state;

use args::Parsed;
use global::Global;
use naru_base::{Error, Result};
use std::ffi::OsString;

/// The version of the specification that a state document is of.
pub(crate) const OCI_VERSION: &str = "1.2.0";

/// The exit code of a command that failed.
const FAILED: i32 = 1;
/// The exit code of an exec that failed before its program ran, as runc has it.
const EXEC_FAILED: i32 = 255;

/// The names under which the program is the runtime alone, without `oci` as its first argument.
pub const PROGRAM_NAMES: [&str; 2] = ["naru-oci", "runc"];

/// Runs the command of `args` (what follows `naru oci`) and tells its exit code.
pub fn main(args: &[OsString]) -> i32 {
    let (global, rest) = match text(args).and_then(Global::parse) {
        Ok(parsed) => parsed,
        Err(error) => return log::fail(&Global::default(), &error, FAILED),
    };
    let Some((name, rest)) = rest.split_first() else {
        return commands::help(global.asks_for_help());
    };
    let failed = if name == "exec" { EXEC_FAILED } else { FAILED };
    match run(&global, name, rest.to_vec()) {
        Ok(code) => code,
        Err(error) => log::fail(&global, &error, failed),
    }
}

fn run(global: &Global, name: &str, args: Vec<String>) -> Result<i32> {
    let command = commands::find(name)?;
    if command.enters_containers {
        own_program::protect()?;
    }
    let parsed = Parsed::parse(name, command.flags, args, !command.ends_with_a_program)?;
    if parsed.has("help") {
        return Ok(commands::usage(command));
    }
    (command.run)(global, &parsed)
}

fn text(args: &[OsString]) -> Result<Vec<String>> {
    let one = |arg: &OsString| {
        let invalid = || Error::invalid(format!("argument {arg:?} is not UTF-8"));
        arg.to_str().map(str::to_owned).ok_or_else(invalid)
    };
    args.iter().map(one).collect()
}
