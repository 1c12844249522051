//! Naru beside dockerd: the same work in turn, in one run, with pauses between (a loop without them hides what idle
//! costs). Prints a table in Markdown. `naru-bench [--rounds N] [--containers N]`; needs root, dockerd and Debian's image
//! (`tools/setup-tests`). Without a working Naru only dockerd's column is filled. `--runtimes` compares `naru oci run` with crun and runc
//! instead, `--security` tells what confines a container of Docker, of Podman and of Naru by default,
//! `--images` compares the work with images, `--store` what ten of them (`tools/ten-images`) take on disk,
//! `--traffic` how fast bytes and connections move, `--logs` how fast containers' output is logged, `--health` what health checks cost, `--many N` one engine of ours with N running containers.

mod health;
mod images;
mod logs;
mod many;
mod memory;
mod runtimes;
mod sample;
mod security;
mod traffic;
mod work;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use naru_testkit::{Client, Engine, EngineOptions, Target};

use crate::sample::Series;

/// What is asked for on the command line.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Measurements per row; 0 for what suits the comparison.
    rounds: usize,
    /// Containers that `ps -a` lists.
    containers: usize,
    /// The OCI runtimes are compared, not the engines.
    runtimes: bool,
    /// So many containers run, on one engine of ours; 0 for none of that.
    many: usize,
    /// Nothing is measured: what confines containers is told.
    security: bool,
    /// How fast bytes and connections move is compared.
    traffic: bool,
    /// How fast output is logged is compared.
    logs: bool,
    /// What health checks cost is compared.
    health: bool,
    /// Images' times are compared.
    images: bool,
    /// What images take on disk is compared.
    store: bool,
}

/// A client that speaks to an engine.
struct Subject {
    name: &'static str,
    engine: usize,
    client: Client,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == "--fetch" => traffic::fetch(rest),
        _ => settings().and_then(run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing to do when standard error is closed.
            let _ = writeln!(std::io::stderr(), "naru-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<()> {
    match settings {
        Settings { security: true, .. } => security::compare(),
        Settings { many, rounds, .. } if many > 0 => many::measure(many, rounds),
        Settings { health: true, .. } => health::compare(),
        Settings { images: true, rounds, .. } => images::times(rounds),
        Settings { store: true, .. } => images::disk(),
        Settings { logs: true, rounds, .. } => logs::compare(rounds),
        Settings { traffic: true, rounds, .. } => traffic::compare(rounds),
        Settings { runtimes: true, rounds, .. } => runtimes::compare(rounds),
        _ => bench(settings),
    }
}

fn settings() -> Result<Settings> {
    let mut settings = Settings {
        rounds: 0,
        containers: 100,
        runtimes: false,
        security: false,
        traffic: false,
        logs: false,
        health: false,
        images: false,
        store: false,
        many: 0,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let target = match arg.as_str() {
            "--rounds" => &mut settings.rounds,
            "--containers" => &mut settings.containers,
            "--many" => &mut settings.many,
            "--runtimes" => {
                settings.runtimes = true;
                continue;
            }
            "--health" => {
                settings.health = true;
                continue;
            }
            "--images" => {
                settings.images = true;
                continue;
            }
            "--traffic" => {
                settings.traffic = true;
                continue;
            }
            "--logs" => {
                settings.logs = true;
                continue;
            }
            "--store" => {
                settings.store = true;
                continue;
            }
            "--security" => {
                settings.security = true;
                continue;
            }
            other => {
                bail!(
                    "{other}: it takes --rounds N, --containers N, --runtimes, --health, --images, --store, --traffic, --logs, --many N and --security"
                )
            }
        };
        let value = args.next().with_context(|| format!("{arg} needs a number"))?;
        *target = value.parse().with_context(|| format!("{arg} {value}: not a number"))?;
    }
    if settings.rounds == 0 {
        // Rows of seconds each, in place of milliseconds.
        settings.rounds = if settings.images { 5 } else { 30 };
    }
    Ok(settings)
}

fn bench(settings: Settings) -> Result<()> {
    let mut engines = vec![Engine::with(Target::Dockerd, EngineOptions::default())?];
    match Engine::with(Target::Naru, EngineOptions::default()) {
        Ok(naru) => engines.push(naru),
        Err(error) => say(&format!("naru left out: {}\n", error.root_cause()))?,
    }
    for engine in &engines {
        engine.load_busybox()?;
    }
    let mut subjects = vec![Subject { name: "docker → dockerd", engine: 0, client: engines[0].docker() }];
    if let Some(naru) = engines.get(1) {
        subjects.push(Subject { name: "docker → naru", engine: 1, client: naru.docker() });
        subjects.push(Subject { name: "naru → naru", engine: 1, client: naru.naru() });
    }

    let load = std::fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    say(&format!("load {}; {} rounds; pauses of 60 ms\n\n", load.trim(), settings.rounds))?;
    say("| work | client → engine | median ms | p90 | p99 | × faster |\n|---|---|---|---|---|---|\n")?;
    for row in work::rows(settings) {
        report(row.name, &subjects, &row.measure(&engines, &subjects)?)?;
    }
    say("\n| engine | idle MB (PSS) | MB per running container |\n|---|---|---|\n")?;
    for engine in &engines {
        say(&memory::row(engine)?)?;
    }
    for engine in &mut engines {
        engine.finish()?;
    }
    Ok(())
}

/// One line per subject; the first is what the others are compared with.
fn report(name: &str, subjects: &[Subject], series: &[Series]) -> Result<()> {
    for (subject, own) in subjects.iter().zip(series) {
        let [median, p90, p99] = [50, 90, 99].map(|percent| own.percentile(percent));
        let ratio = series[0].percentile(50) / median;
        say(&format!("| {name} | {} | {median:.1} | {p90:.1} | {p99:.1} | {ratio:.1} |\n", subject.name))?;
    }
    Ok(())
}

pub(crate) fn say(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")
}
