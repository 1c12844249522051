//! Commands of our client that wait or follow go on when another engine takes the place of theirs.

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually};
use naru_tests::only_naru;

fn own() -> Result<Option<Engine>> {
    if only_naru("docker's client ends with its engine") {
        return Ok(None);
    }
    let engine = Engine::with(Target::Naru, naru_testkit::EngineOptions::default())?;
    engine.load_busybox()?;
    Ok(Some(engine))
}

/// A process id of the container, by which its files are reached while no engine runs.
fn pid(cli: &Client, name: &str) -> Result<String> {
    cli.inspect(name, "{{.State.Pid}}")
}

fn touch(engine: &Engine, pid: &str, file: &str) -> Result<()> {
    let touched = engine.world().command("touch").arg(format!("/proc/{pid}/root{file}")).status()?;
    ensure!(touched.success(), "touch {file} in the container");
    Ok(())
}

/// Waits until a file is in the container, without an engine.
fn there(engine: &Engine, pid: &str, file: &str) -> Result<()> {
    eventually("the container to say it", || {
        let found = engine.world().command("test").args(["-e", &format!("/proc/{pid}/root{file}")]).status()?;
        ensure!(found.success(), "no {file} yet");
        Ok::<_, anyhow::Error>(())
    })
}

#[test]
fn a_followed_log_has_each_line_once() -> Result<()> {
    let Some(mut engine) = own()? else { return Ok(()) };
    let cli = engine.naru();
    let script = "seq 1 500; while [ ! -e /dev/shm/go ]; do sleep 0.05; done; seq 501 3000; touch /dev/shm/said; \
                  while [ ! -e /dev/shm/end ]; do sleep 0.05; done; seq 3001 4000";
    for driver in ["json-file", "local"] {
        let flags = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=90"];
        for killed in [true, false] {
            let run = ["run", "-d", "--name", "chatty"];
            cli.ok([&run, &flags[..], &["busybox", "sh", "-c", script]].concat())?;
            cli.wait_for_log("chatty", "500")?;
            let follow = |tail: &str| cli.start(["logs", "-f", "-n", tail, "chatty"]);
            // What follows nothing old says nothing when it is connected: it begins first, and the others show that clients are served.
            let none = follow("0")?;
            let (all, last) = (follow("all")?, follow("1")?);
            last.expect("500\n")?;
            all.expect("500")?;
            let pid = pid(&cli, "chatty")?;
            if killed {
                engine.kill()?
            } else {
                engine.terminate()?
            };
            touch(&engine, &pid, "/dev/shm/go")?;
            there(&engine, &pid, "/dev/shm/said")?;
            engine.launch()?;
            all.expect("3000")?;
            engine.kill()?;
            touch(&engine, &pid, "/dev/shm/end")?;
            engine.launch()?;
            let lines = |from: u32| -> String { (from..=4000).map(|n| format!("{n}\n")).collect() };
            let whole = all.finish()?;
            // Not all of it in the message of a failure.
            let count = whole.stdout.lines().count();
            ensure!(whole.stdout == lines(1) && whole.code == 0, "{driver}: {count} lines, {}", whole.stderr);
            let said = last.finish()?.stdout;
            ensure!(said == lines(500), "{driver}, the last one: {} lines", said.lines().count());
            // When it began is not known, but nothing is left out after that.
            let said = none.finish()?.stdout;
            let whole = lines(501).ends_with(&said) && said.ends_with(&lines(3001));
            ensure!(whole, "{driver}, none of the old: {} lines", said.lines().count());
            cli.ok(["rm", "chatty"])?;
        }
    }
    engine.finish()
}

#[test]
fn events_go_on() -> Result<()> {
    let Some(mut engine) = own()? else { return Ok(()) };
    let cli = engine.naru();
    cli.ok([
        "run",
        "-d",
        "--name",
        "short",
        "busybox",
        "sh",
        "-c",
        "while [ ! -e /dev/shm/end ]; do sleep 0.05; done",
    ])?;
    let follow = cli.start(["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"])?;
    eventually("the first event", || {
        cli.ok(["rename", "short", "shorter"])?;
        cli.ok(["rename", "shorter", "short"])?;
        ensure!(follow.stdout().contains("rename short\n"), "not yet");
        Ok::<_, anyhow::Error>(())
    })?;
    let pid = pid(&cli, "short")?;
    engine.kill()?;
    touch(&engine, &pid, "/dev/shm/end")?;
    engine.launch()?;
    follow.expect("die short\n")?;
    cli.ok(["rm", "short"])?;
    follow.expect("destroy short\n")?;
    assert_eq!(follow.stdout().matches("die short").count(), 1, "{}", follow.stdout());
    drop(follow);
    engine.finish()
}

#[test]
fn exit_codes_are_waited_for() -> Result<()> {
    let Some(mut engine) = own()? else { return Ok(()) };
    let cli = engine.naru();
    let script = "echo begun; while [ ! -e /dev/shm/end ]; do sleep 0.05; done; echo over; exit 7";
    let run = cli.start(["run", "--name", "seven", "busybox", "sh", "-c", script])?;
    run.expect("begun\n")?;
    let (wait, attach) = (cli.start(["wait", "seven"])?, cli.start(["attach", "--no-stdin", "seven"])?);
    eventually("a client to be attached", || {
        let all = cli.ok([
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--filter",
            "event=attach",
            "--format",
            "{{.Action}}",
        ])?;
        ensure!(all.lines().count() == 2, "{all}");
        Ok::<_, anyhow::Error>(())
    })?;
    let pid = pid(&cli, "seven")?;
    engine.kill()?;
    touch(&engine, &pid, "/dev/shm/end")?;
    run.expect("over\n")?;
    engine.launch()?;
    for (running, said, code) in [(run, "begun\nover\n", 7), (wait, "7\n", 0), (attach, "over\n", 7)] {
        let done = running.finish()?;
        assert_eq!((done.stdout.as_str(), done.code), (said, code), "{}", done.stderr);
    }
    cli.ok(["rm", "seven"])?;
    engine.finish()
}
