//! What health checks cost: processor time of everything but the containers' own programs, per check, beside dockerd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually};

use crate::say;

/// Containers that are checked.
const CONTAINERS: usize = 20;
/// How long is measured. The pause between two checks is a second.
const MEASURED: Duration = Duration::from_secs(20);
/// Where our engine tells how many checks there were, in its world's own network.
const METRICS: &str = "127.0.0.1:9323";

/// Prints the table.
///
/// # Errors
/// When a command fails.
pub fn compare() -> Result<()> {
    say(&format!(
        "{CONTAINERS} containers, a check each second, {} s\n\n| engine | check | checks | ms of processor time per check | × cheaper |\n|---|---|---|---|---|\n",
        MEASURED.as_secs()
    ))?;
    let mut first = None;
    for (target, check) in [
        (Target::Dockerd, "true"),
        (Target::Naru, "true"),
        (Target::Naru, "tcp://localhost:8080"),
        (Target::Naru, "http://localhost:8080/"),
    ] {
        let (checks, each) = measure(target, check)?;
        let name = if target == Target::Naru { "naru" } else { "dockerd, containerd, shims, runc" };
        let ratio = *first.get_or_insert(each) / each;
        say(&format!("| {name} | `{check}` | {checks} | {each:.2} | {ratio:.1} |\n"))?;
    }
    Ok(())
}

/// How many checks there were, and milliseconds for each.
fn measure(target: Target, check: &str) -> Result<(u64, f64)> {
    let ours = target == Target::Naru;
    let args = if ours { vec!["--metrics-addr".into(), METRICS.into()] } else { Vec::new() };
    let mut engine = Engine::with(target, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.docker();
    for number in 0..CONTAINERS {
        let name = format!("checked-{number}");
        let health = ["--health-interval", "1s", "--health-timeout", "20s", "--health-cmd", check];
        let server = "mkdir /w; touch /w/index.html; exec httpd -f -p 8080 -h /w";
        cli.ok([&["run", "-d", "--name", &name], &health[..], &["busybox", "sh", "-c", server]].concat())?;
    }
    eventually("every container to be healthy", || {
        let healthy = cli.ok(["ps", "-q", "--filter", "health=healthy"])?.lines().count();
        ensure!(healthy == CONTAINERS, "{healthy} are");
        Ok(())
    })?;
    let total = || if ours { metric(&engine, "engine_daemon_health_checks_total") } else { Ok(0) };
    let (before, used) = (total()?, used(&engine)?);
    std::thread::sleep(MEASURED);
    let spent = self::used(&engine)? - used;
    let counted = if ours {
        total()? - before
    } else {
        // dockerd counts nothing, and keeps few events: from one check's begin to the next one's, as one container has it.
        let each = pause(&cli.inspect("checked-0", "{{json .State.Health.Log}}")?)?;
        CONTAINERS as u64 * MEASURED.as_nanos() as u64 / each
    };
    engine.finish()?;
    Ok((counted, spent as f64 / 1e6 / counted as f64))
}

/// From one check's begin to the next one's, in nanoseconds: the mean of those that are kept.
fn pause(log: &str) -> Result<u64> {
    let log: serde_json::Value = serde_json::from_str(log)?;
    let starts: Vec<u64> = log
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|result| nanoseconds_of_day(result["Start"].as_str()?))
        .collect();
    let (first, last) = starts.first().zip(starts.last()).context("results")?;
    ensure!(starts.len() > 1 && last > first, "too few results");
    Ok((last - first) / (starts.len() as u64 - 1))
}

/// Of `2026-01-02T03:04:05.678Z`.
fn nanoseconds_of_day(time: &str) -> Option<u64> {
    let mut fields = time.split('T').nth(1)?.get(..8)?.split(':');
    let mut next = || fields.next()?.parse::<u64>().ok();
    let seconds = next()? * 3600 + next()? * 60 + next()?;
    let digits: String = time.split('.').nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some(seconds * 1_000_000_000 + format!("{digits:0<9}").parse::<u64>().ok()?)
}

fn metric(engine: &Engine, name: &str) -> Result<u64> {
    let url = format!("http://{METRICS}/metrics");
    let output = engine.world().command("busybox").args(["wget", "-qO-", &url]).output().context("wget")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).context("the metric")?;
    value.trim().parse().context("a number")
}

/// Processor time of all that is in the engine's world, in nanoseconds, ended processes as well.
fn used(engine: &Engine) -> Result<u64> {
    let groups = std::fs::read_to_string(engine.world().folder().join("cgroups"))?;
    let file = |name: &str| -> Option<(PathBuf, String)> {
        let path = groups.lines().map(|group| Path::new(group).join(name)).find(|path| path.exists())?;
        Some((path.clone(), std::fs::read_to_string(path).ok()?))
    };
    if let Some((_, text)) = file("cpuacct.usage") {
        return text.trim().parse().context("cpuacct.usage");
    }
    let (path, text) = file("cpu.stat").context("a group that counts processor time")?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).with_context(|| format!("{path:?}"))?;
    Ok(usage.trim().parse::<u64>()? * 1000)
}
