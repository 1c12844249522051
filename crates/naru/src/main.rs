//! The program: picks a personality by its arguments, before any thread exists.

mod daemon;
mod settings;
mod start;

use std::process::ExitCode;

/// docker's exit code for a command line that can't be acted on.
const REFUSED: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let code = match args.get(1).and_then(|a| a.to_str()) {
        Some("daemon") => daemon::main(&args[2..]),
        Some("spawner") => naru_monitor::spawner_process(),
        _ => naru_cli::main(args, naru_cli::Hooks { start_engine: Some(start::engine) }),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(REFUSED))
}
