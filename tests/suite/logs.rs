//! `logs` and `events`.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, eventually, shared, unique};

fn ended(script: &str) -> Result<(Client, String)> {
    let (cli, name) = (shared()?.cli(), unique("logs"));
    cli.run(["run", "--name", &name, "busybox", "sh", "-c", script])?;
    Ok((cli, name))
}

#[test]
fn both_streams_apart() -> Result<()> {
    let (cli, name) = ended("echo out1; echo err1 >&2; echo out2; echo err2 >&2")?;
    let done = cli.run(["logs", &name])?;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "out1\nout2\n", "err1\nerr2\n"));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn a_terminals_output_as_it_was() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("logs"));
    cli.ok(["run", "-t", "--name", &name, "busybox", "sh", "-c", "echo a; echo b >&2"])?;
    assert_eq!(cli.ok(["logs", &name])?, "a\r\nb\r");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn tail() -> Result<()> {
    let (cli, name) = ended("seq 1 1000")?;
    assert_eq!(cli.ok(["logs", "--tail", "3", &name])?, "998\n999\n1000");
    assert_eq!(cli.ok(["logs", "-n", "1", &name])?, "1000");
    assert_eq!(cli.ok(["logs", "--tail", "0", &name])?, "");
    assert_eq!(cli.ok(["logs", "--tail", "all", &name])?.lines().count(), 1000);
    assert_eq!(cli.ok(["logs", "--tail", "5000", &name])?.lines().count(), 1000);
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn follow_until_its_end() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("follow"));
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo second; sleep 0.2; echo third";
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    let running = cli.start(["logs", "-f", &name])?;
    running.expect("first\n")?;
    cli.ok(["exec", &name, "touch", "/go"])?;
    let done = running.finish()?;
    assert_eq!((done.code, done.stdout.as_str()), (0, "first\nsecond\nthird\n"));
    // Of a stopped one, follow ends at once.
    assert_eq!(cli.ok(["logs", "-f", "--tail", "1", &name])?, "third");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn timestamps_and_since() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("since"));
    let script = "echo early; while [ ! -e /go ]; do sleep 0.05; done; echo late";
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    cli.wait_for_log(&name, "early")?;
    // A whole second between the two, so that seconds tell them apart.
    let now =
        || Ok::<u64, anyhow::Error>(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs());
    let start = now()?;
    let between = eventually("the clock to go on by two seconds", || {
        let time = now()?;
        ensure!(time >= start + 2, "it is {time}");
        Ok::<_, anyhow::Error>(time)
    })?;
    cli.ok(["exec", &name, "touch", "/go"])?;
    cli.ok(["wait", &name])?;
    let between = between.to_string();
    assert_eq!(cli.ok(["logs", "--since", &between, &name])?, "late");
    assert_eq!(cli.ok(["logs", "--until", &between, &name])?, "early");
    assert_eq!(cli.ok(["logs", "--since", "1h", &name])?, "early\nlate");

    let said = cli.ok(["logs", "-t", &name])?;
    for (line, text) in said.lines().zip(["early", "late"]) {
        let (time, rest) = line.split_once(' ').context("a time before the line")?;
        assert_eq!(rest, text);
        // 2026-01-02T03:04:05.123456789Z
        assert!(
            time.len() == 30 && time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.' && time.ends_with('Z'),
            "{time}"
        );
    }
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn long_lines_and_no_line_end() -> Result<()> {
    let (cli, name) = ended("head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no end'")?;
    let said = cli.run(["logs", &name])?.stdout;
    assert_eq!(said.len(), 100_000 + 1 + 6);
    assert!(said.ends_with("x\nno end"));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn log_options_rotate() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("rotate"));
    let flags = ["--log-opt", "max-size=10k", "--log-opt", "max-file=2"];
    cli.ok([&["run", "--name", &name], &flags[..], &["busybox", "seq", "1", "5000"]].concat())?;
    let said = cli.ok(["logs", &name])?;
    assert!(said.ends_with("\n4999\n5000"), "the newest lines are kept");
    assert!(said.lines().count() < 5000, "the oldest are not");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn no_logs_when_none_are_kept() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("nolog"));
    assert_eq!(cli.ok(["run", "--log-driver", "none", "--name", &name, "busybox", "echo", "seen"])?, "seen");
    let said = cli.fails(1, ["logs", &name])?;
    assert!(said.contains("configured logging driver does not support reading"), "{said}");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn of_an_unknown_container() -> Result<()> {
    let said = shared()?.cli().fails(1, ["logs", "no-such-container"])?;
    assert!(said.contains("No such container: no-such-container"), "{said}");
    Ok(())
}

#[test]
fn events_tell_a_containers_life() -> Result<()> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().to_string();
    let follow = cli.start(["events", "--since", &since, "--format", "{{.Type}} {{.Action}}"])?;
    cli.ok(["run", "--rm", "--name", "eve", "busybox", "true"])?;
    follow.expect("container destroy")?;
    let said = follow.stdout();
    let order = [
        "container create",
        "container attach",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
    ];
    let mut rest = said.as_str();
    for event in order {
        let at = rest.find(event).with_context(|| format!("{event} does not come in order in\n{said}"))?;
        rest = &rest[at + event.len()..];
    }
    // And again from the past, filtered.
    let now = (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 1).to_string();
    let past = ["events", "--since", &since, "--until", &now, "--filter", "container=eve", "--filter", "event=die"];
    let said = cli.ok(past)?;
    assert!(said.lines().count() == 1 && said.contains("container die") && said.contains("exitCode=0"), "{said}");
    assert!(said.contains("image=busybox") && said.contains("name=eve"), "{said}");
    Ok(())
}
