//! The program: picks a personality by its arguments, before any thread exists.

mod again;
mod daemon;
mod settings;
mod start;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// docker's exit code for a command line that can't be acted on.
const REFUSED: u8 = 125;

/// Under the name of a runtime it is one: what calls runtimes wants one path, without arguments in front.
fn is_runtime(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| naru_oci::PROGRAM_NAMES.iter().any(|runtime| name == *runtime))
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let code = match args.get(1).and_then(|a| a.to_str()) {
        Some("daemon") => daemon::main(&args[2..]),
        _ if is_runtime(args.first()) => naru_oci::main(&args[1..]),
        Some("oci") => naru_oci::main(&args[2..]),
        Some("spawner") => naru_monitor::spawner_process(),
        _ => naru_cli::main(args, naru_cli::Hooks { start_engine: Some(start::engine) }),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(REFUSED))
}
