//! How fast a container can say something that is logged, with nobody attached. The container itself takes the time.

use anyhow::{Context, Result};
use naru_testkit::{Engine, EngineOptions, Target};

use crate::sample::{PAUSE, Series};
use crate::say;

/// What one measurement says.
const MEGABYTES: u32 = 256;
/// As long as lines of real programs are, and written 64 KiB at a time.
const SCRIPT: &str = "\
    yes '2026-01-01T00:00:00.000Z INFO a line of a program that says about a hundred bytes at a time, path=/x' \
        | head -c 16777216 >/dev/shm/text; \
    read begin rest </proc/uptime; \
    i=0; while [ $i -lt 16 ]; do dd if=/dev/shm/text bs=64k 2>/dev/null; i=$((i+1)); done; \
    read end rest </proc/uptime; \
    echo \"$begin $end\" >/times";
const DRIVERS: [(&str, &[&str]); 5] = [
    ("none", &["--log-driver=none"]),
    ("json-file", &["--log-driver=json-file", "--log-opt=max-size=10m", "--log-opt=max-file=3"]),
    ("local", &["--log-driver=local"]),
    ("json-file, non-blocking", &["--log-driver=json-file", "--log-opt=max-size=10m", "--log-opt=mode=non-blocking"]),
    ("local, non-blocking", &["--log-driver=local", "--log-opt=mode=non-blocking"]),
];

/// Prints the table.
///
/// # Errors
/// When an engine doesn't come up, or a container fails.
pub fn compare(rounds: usize) -> Result<()> {
    let mut engines = Vec::new();
    for (name, target) in [("dockerd", Target::Dockerd), ("naru", Target::Naru)] {
        let engine = Engine::with(target, EngineOptions::default())?;
        engine.load_busybox()?;
        engines.push((name, engine));
    }
    let load = std::fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    say(&format!("load {}; {rounds} rounds of {MEGABYTES} MB; pauses of 60 ms\n\n", load.trim()))?;
    say("| log driver | engine | MB/s, median | × faster | slower than its own `none` |\n|---|---|---|---|---|\n")?;
    let mut times = vec![vec![Series::default(); engines.len()]; DRIVERS.len()];
    for _ in 0..rounds {
        for ((_, flags), row) in DRIVERS.iter().zip(&mut times) {
            for ((_, engine), series) in engines.iter().zip(row) {
                std::thread::sleep(PAUSE);
                series.push(once(engine, flags)?);
            }
        }
    }
    for ((driver, _), row) in DRIVERS.iter().zip(&times) {
        for (at, (name, _)) in engines.iter().enumerate() {
            let median = |row: &[Series], at: usize| row[at].percentile(50);
            let (own, first, none) = (median(row, at), median(row, 0), median(&times[0], at));
            let speed = f64::from(MEGABYTES) * 1000.0 / own;
            say(&format!("| {driver} | {name} | {speed:.0} | {:.1} | {:.1} |\n", first / own, own / none))?;
        }
    }
    for (_, mut engine) in engines {
        engine.finish()?;
    }
    Ok(())
}

/// Milliseconds that a container took to say it all.
fn once(engine: &Engine, flags: &[&str]) -> Result<f64> {
    let docker = engine.docker();
    let run = ["run", "-d", "--name", "chatty", "--shm-size=64m"];
    docker.ok([&run, flags, &["busybox", "sh", "-c", SCRIPT]].concat())?;
    docker.ok(["wait", "chatty"])?;
    let archive = docker.run(["cp", "chatty:/times", "-"])?.stdout;
    docker.ok(["rm", "chatty"])?;
    // The second block of the archive is the file's.
    let text = archive.get(512..).unwrap_or_default().trim_matches('\0').trim();
    let (begin, end) = text.split_once(' ').with_context(|| format!("no times in {text:?}"))?;
    Ok((end.trim().parse::<f64>()? - begin.parse::<f64>()?) * 1000.0)
}
