//! The program: picks a personality by its arguments. In this build it is the client of an engine that runs elsewhere (a dockerd, by
//! `-H` or `DOCKER_HOST`); the engine, the spawner and the monitor are not there yet, and it says so.

use std::path::Path;
use std::process::ExitCode;

/// docker's exit code for a command line that can't be acted on.
const REFUSED: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "daemon") {
        return refuse_daemon();
    }
    let code = naru_cli::main(args, naru_cli::Hooks { start_engine: Some(no_engine) });
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(REFUSED))
}

/// Called by the client when nothing listens on the default socket.
fn no_engine(socket: &Path) -> Result<(), String> {
    Err(format!(
        "nothing listens on {}, and this build has no engine of its own yet: name one by -H or DOCKER_HOST",
        socket.display()
    ))
}

#[expect(clippy::print_stderr, reason = "the program's own answer")]
fn refuse_daemon() -> ExitCode {
    eprintln!("naru: daemon: this build has no engine yet; the README tells which parts stand");
    ExitCode::from(REFUSED)
}
