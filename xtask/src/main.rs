//! Checks of the workspace: `cargo xtask layers`, and `power-cut` for `tools/power-cut`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("layers") => match xtask::layers::check(&xtask::workspace_root()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        },
        Some("power-cut") => match xtask::power_cut::run(std::env::args().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        },
        _ => fail("usage: cargo xtask layers | power-cut"),
    }
}

#[expect(clippy::print_stderr, reason = "a developer's tool speaks to the terminal")]
fn fail(text: &str) -> ExitCode {
    eprintln!("xtask: {text}");
    ExitCode::FAILURE
}
