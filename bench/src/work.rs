//! What is measured.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Registry, image};

use crate::sample::Series;
use crate::{Settings, Subject};

type Step = Box<dyn Fn(&Engine, &Client) -> Result<()>>;

/// One row of the table: untimed steps around a timed one.
pub struct Row {
    /// What the row is called.
    pub name: &'static str,
    rounds: usize,
    /// Once per engine.
    prepare: Step,
    timed: Step,
    /// After each measurement.
    after: Step,
    /// Once per engine.
    clear: Step,
    with_registry: bool,
}

impl Row {
    /// Measures all subjects in turn, round by round.
    ///
    /// # Errors
    /// When a command fails.
    pub fn measure(&self, engines: &[Engine], subjects: &[Subject]) -> Result<Vec<Series>> {
        let mut registries = Vec::new();
        for engine in engines {
            if self.with_registry {
                let registry = Registry::start(engine, 5000)?;
                registry.fill(&image::debian()?, "debian:1", &[])?;
                registries.push(registry);
            }
            (self.prepare)(engine, &engine.docker())?;
        }
        let mut series = vec![Series::default(); subjects.len()];
        for _ in 0..self.rounds {
            for (subject, own) in subjects.iter().zip(&mut series) {
                let engine = &engines[subject.engine];
                own.time(|| (self.timed)(engine, &subject.client))
                    .with_context(|| format!("{}: {}", subject.name, self.name))?;
                (self.after)(engine, &subject.client)?;
            }
        }
        for engine in engines {
            (self.clear)(engine, &engine.docker())?;
        }
        Ok(series)
    }
}

fn nothing() -> Step {
    Box::new(|_, _| Ok(()))
}

fn command(args: &'static [&'static str]) -> Step {
    Box::new(move |_, client| client.ok(args).map(|_| ()))
}

fn remove_all() -> Step {
    Box::new(|_, client| {
        let all = client.ok(["ps", "-aq"])?;
        if all.is_empty() {
            return Ok(());
        }
        client.ok(["rm", "-f"].into_iter().chain(all.lines())).map(|_| ())
    })
}

/// All rows.
pub fn rows(settings: Settings) -> Vec<Row> {
    let (rounds, containers) = (settings.rounds, settings.containers);
    let row = |name, timed| Row {
        name,
        rounds,
        prepare: nothing(),
        timed,
        after: nothing(),
        clear: nothing(),
        with_registry: false,
    };
    let create = move |_: &Engine, client: &Client| {
        (0..containers).try_for_each(|_| client.ok(["create", "busybox", "true"]).map(|_| ()))
    };
    vec![
        row("`run --rm busybox true`", command(&["run", "--rm", "busybox", "true"])),
        row("`run --rm --userns host`", command(&["run", "--rm", "--userns", "host", "busybox", "true"])),
        row("`run --rm --network none`", command(&["run", "--rm", "--network", "none", "busybox", "true"])),
        Row {
            prepare: command(&["network", "create", "bench"]),
            clear: command(&["network", "rm", "bench"]),
            ..row(
                "`run --rm` on a network with names",
                command(&["run", "--rm", "--network", "bench", "busybox", "true"]),
            )
        },
        Row {
            prepare: command(&["run", "-d", "--name", "bench", "busybox", "sleep", "100000"]),
            clear: remove_all(),
            ..row("`exec true`", command(&["exec", "bench", "true"]))
        },
        Row { prepare: Box::new(create), clear: remove_all(), ..row("`ps -a`", command(&["ps", "-a"])) },
        Row {
            rounds: rounds.div_ceil(6),
            after: remove_all(),
            ..row("20 × `run -d` at once", Box::new(|_, client| twenty_at_once(client)))
        },
        Row {
            rounds: rounds.div_ceil(10),
            after: command(&["rmi", "127.0.0.1:5000/debian:1"]),
            with_registry: true,
            ..row("pull of Debian from loopback", command(&["pull", "127.0.0.1:5000/debian:1"]))
        },
    ]
}

fn twenty_at_once(client: &Client) -> Result<()> {
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(client.start(["run", "-d", "busybox", "sleep", "100000"])?);
    }
    for running in all {
        let done = running.finish()?;
        ensure!(done.code == 0, "run -d exited with {}: {}", done.code, done.stderr);
    }
    Ok(())
}
