//! The spawner and monitors on the real kernel: containers of busybox, clients on sockets, an engine played by the test. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: what fails, fails it, and it is its own harness"
)]

mod ends;
mod execs;
mod streams;
mod world;

use naru_monitor::Spawner;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// One test: its name, and what it does with a spawner.
type Case = (&'static str, fn(&Spawner));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "spawner") {
        return ExitCode::from(u8::try_from(naru_monitor::spawner_process()).unwrap());
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: containers need root");
        return ExitCode::SUCCESS;
    }
    let spawner = naru_monitor::start_spawner().unwrap();
    let filter = args.iter().find(|a| !a.starts_with('-'));
    let cases = [streams::CASES, execs::CASES, ends::CASES].concat();
    let wanted = |name: &str| filter.is_none_or(|f| name.contains(f.as_str()));
    let mut failed = Vec::new();
    for (name, case) in cases.into_iter().filter(|(name, _)| wanted(name)) {
        let passed = catch_unwind(AssertUnwindSafe(|| case(&spawner))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    println!("failed: {failed:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
