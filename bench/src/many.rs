//! Many running containers on one engine of ours: how long it takes to start them, to list them, and for an engine that begins anew under
//! them, while clients ask, to serve again.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target};

use crate::sample::Series;
use crate::say;

/// Clients that start containers at the same time.
const STARTERS: usize = 4;
/// Engines that are killed.
const KILLS: usize = 5;
/// Pause of a look at whether the engine serves.
const LOOK: Duration = Duration::from_millis(1);

/// Prints the figures for `containers` running ones; lists are taken `rounds` times.
///
/// # Errors
/// When a command fails, or a container is lost.
pub fn measure(containers: usize, rounds: usize) -> Result<()> {
    let mut engine = Engine::with(Target::Naru, EngineOptions::default())?;
    engine.load_busybox()?;
    let cli = engine.naru();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let start =
            |share: usize| (0..share).try_for_each(|_| cli.ok(["run", "-d", "busybox", "sleep", "100000"]).map(drop));
        let share = |number: usize| containers / STARTERS + usize::from(number < containers % STARTERS);
        let starters: Vec<_> = (0..STARTERS).map(|number| scope.spawn(move || start(share(number)))).collect();
        starters.into_iter().try_for_each(|starter| starter.join().unwrap_or_else(|_| Ok(())))
    })?;
    let took = started.elapsed();
    say(&format!("{containers} × `run -d`, {STARTERS} at a time: {:.1} s\n", took.as_secs_f64()))?;
    let running = running(&cli)?;
    ensure!(running.len() == containers, "{} run", running.len());

    say("\n| work | median ms | p90 | p99 |\n|---|---|---|---|\n")?;
    for (name, client) in [("naru `ps -a`", cli.clone()), ("docker `ps -a`", engine.docker())] {
        let mut series = Series::default();
        for _ in 0..rounds {
            series.time(|| client.ok(["ps", "-a"]).map(drop))?;
        }
        row(name, &series)?;
    }
    let mut one = Series::default();
    for _ in 0..rounds {
        one.time(|| cli.ok(["run", "--rm", "busybox", "true"]).map(drop))?;
    }
    row("naru `run --rm` beside them", &one)?;
    let (mut serving, mut whole) = (Series::default(), Series::default());
    for _ in 0..KILLS {
        let (until_served, until_whole) = restart(&engine, &cli, &running)?;
        serving.push(until_served.as_secs_f64() * 1000.0);
        whole.push(until_whole.as_secs_f64() * 1000.0);
    }
    row("engine killed under load: from its start to its first answer", &serving)?;
    row("… to a list with every container running", &whole)?;
    let stopped = Instant::now();
    cli.ok(["rm", "-f"].into_iter().map(str::to_owned).chain(running))?;
    say(&format!("\n`rm -f` of all: {:.1} s\n", stopped.elapsed().as_secs_f64()))?;
    engine.finish()
}

fn row(name: &str, series: &Series) -> Result<()> {
    let [median, p90, p99] = [50, 90, 99].map(|percent| series.percentile(percent));
    say(&format!("| {name} | {median:.1} | {p90:.1} | {p99:.1} |\n"))
}

fn running(cli: &Client) -> Result<BTreeSet<String>> {
    Ok(cli.ok(["ps", "-q", "--no-trunc"])?.lines().map(str::to_owned).collect())
}

/// Kills the engine while clients ask, and begins another: the times to its first answer, and to one with all that ran.
fn restart(engine: &Engine, cli: &Client, wanted: &BTreeSet<String>) -> Result<(Duration, Duration)> {
    engine.kill()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let launched = scope.spawn(|| engine.launch());
        // Clients that ask all the time.
        let ask = || {
            while began.elapsed() < Duration::from_secs(1) {
                let _ = engine.http().get("/containers/json");
                std::thread::sleep(LOOK * 10);
            }
        };
        let (_one, _two) = (scope.spawn(ask), scope.spawn(ask));
        let until = |what: &dyn Fn() -> bool| -> Result<Duration> {
            loop {
                if what() {
                    return Ok(began.elapsed());
                }
                ensure!(began.elapsed() < Duration::from_secs(60), "the engine does not serve");
                std::thread::sleep(LOOK);
            }
        };
        let answers = || UnixStream::connect(engine.socket()).is_ok() && engine.http().get("/_ping").is_ok();
        let served = until(&answers)?;
        let whole = until(&|| running(cli).is_ok_and(|now| now == *wanted))?;
        launched.join().ok().context("the thread that launches has panicked")??;
        Ok((served, whole))
    })
}
