//! Memory as the kernel shares it out: PSS of every process that is not a container's.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use naru_testkit::{Engine, Target};

/// After so long without a request an engine counts as idle.
const QUIET: Duration = Duration::from_secs(10);
/// How many containers run for the second figure.
const RUNNING: u32 = 10;

/// The table's line for `engine`.
///
/// # Errors
/// When its processes can't be read, or containers not be run.
pub fn row(engine: &Engine) -> Result<String> {
    let name = match engine.target() {
        Target::Naru => "naru",
        Target::Dockerd => "dockerd + containerd",
    };
    // An engine that has just worked isn't idle yet.
    std::thread::sleep(QUIET);
    let idle = engine_kb(engine)?;
    let client = engine.docker();
    for _ in 0..RUNNING {
        client.ok(["run", "-d", "busybox", "sleep", "100000"])?;
    }
    let busy = engine_kb(engine)?;
    let all = client.ok(["ps", "-aq"])?;
    client.ok(["rm", "-f"].into_iter().chain(all.lines()))?;
    let each = (f64::from(busy) - f64::from(idle)) / f64::from(RUNNING) / 1024.0;
    Ok(format!("| {name} | {:.1} | {each:.2} |\n", f64::from(idle) / 1024.0))
}

/// PSS in kB of all of the engine's processes; those of the containers (`sleep`) are left out.
fn engine_kb(engine: &Engine) -> Result<u32> {
    let mut sum = 0;
    for process in engine.world().processes()? {
        let (pid, name) = process.split_once(' ').context("a pid and a name")?;
        if name == "sleep" {
            continue;
        }
        // It may have ended meanwhile.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        sum += pss.and_then(|pss| pss.trim().trim_end_matches(" kB").parse::<u32>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
