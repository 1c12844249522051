//! The command line alone, without an engine: for tests against dockerd.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::iter::once("docker".into()).chain(std::env::args_os().skip(1)).collect();
    ExitCode::from(naru_cli::main(args, naru_cli::Hooks::default()) as u8)
}
