//! Random operations by several clients at once, while engine, monitors and containers are killed: then nothing is left over, and nothing
//! that was acknowledged is lost.
//!
//! A run is a plan, made from a seed: steps of a few operations that are done at the same time. When it fails, the plan is made shorter for as
//! long as it still fails, and printed. `NARU_SOAK_SEED` and `NARU_SOAK_OPERATIONS` choose another run:
//!
//! ```text
//! NARU_SOAK_OPERATIONS=10000 cargo test -p naru-tests soak -- --nocapture
//! ```

mod check;
mod model;
mod plan;
mod run;

use anyhow::{Result, bail};
use naru_tests::{note, only_naru};
use plan::{Plan, Step};
use std::time::Instant;

/// Of the run in the suite.
const OPERATIONS: usize = 600;
const SEED: u64 = 20_251_128;
/// How often a plan that failed is tried in a shorter form.
const SHRINK_TRIES: u64 = 40;

#[test]
fn nothing_is_lost_and_nothing_is_left() -> Result<()> {
    if only_naru("dockerd makes no such promise") {
        return Ok(());
    }
    let seed = number("NARU_SOAK_SEED").unwrap_or(SEED);
    let operations = number("NARU_SOAK_OPERATIONS").and_then(|n| usize::try_from(n).ok()).unwrap_or(OPERATIONS);
    let plan = Plan::random(seed, operations, operations > OPERATIONS);
    let begun = Instant::now();
    match run::run(&plan.steps) {
        Ok(counts) => {
            note(&format!("seed {seed}: {counts} in {:.1} s", begun.elapsed().as_secs_f64()));
            Ok(())
        }
        Err((at, error)) => {
            note(&format!("seed {seed} fails in step {at} of {}: {error:#}", plan.steps.len()));
            let mut steps = plan.steps;
            steps.truncate(at + 1);
            let (steps, why) = shrink(steps, format!("{error:#}"));
            let told: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
            bail!("seed {seed}; the shortest that fails:\n{}\nwith: {why}", told.join("\n"))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Leaves out what isn't needed for a failure: ever smaller pieces, from the beginning on.
fn shrink(mut steps: Vec<Step>, mut why: String) -> (Vec<Step>, String) {
    let mut tries = number("NARU_SOAK_SHRINK").unwrap_or(SHRINK_TRIES);
    let mut piece = (steps.len() / 2).max(1);
    loop {
        let mut at = 0;
        while at < steps.len() && tries > 0 {
            let mut shorter = steps.clone();
            shorter.drain(at..(at + piece).min(steps.len()));
            tries -= 1;
            match run::run(&shorter) {
                Err((_, error)) if !shorter.is_empty() => {
                    steps = shorter;
                    why = format!("{error:#}");
                }
                _ => at += piece,
            }
        }
        if piece == 1 || tries == 0 {
            return (steps, why);
        }
        piece = (piece / 2).max(1);
    }
}
