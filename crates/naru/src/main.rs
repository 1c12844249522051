//! The program: picks a personality by its arguments. In this build none can be picked yet: it says so, and ends with 125.

use std::process::ExitCode;

const HELP: &str = "\
Usage:  naru [OPTIONS] COMMAND

A container engine for Linux. This build has no commands yet; the README tells which parts stand.

Options:
      --help      Print this
  -v, --version   Print the version
";

/// docker's exit code for a command line that can't be acted on.
const REFUSED: u8 = 125;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program's own answers")]
fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None | Some("--help" | "help") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("--version" | "-v" | "version") => {
            println!("naru version {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(command) => {
            eprintln!("naru: {command}: this build has no commands yet\n\nRun 'naru --help' for more information");
            ExitCode::from(REFUSED)
        }
    }
}
