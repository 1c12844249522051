//! Restart policies: what starts again, when it doesn't, and what an engine that begins does.

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, eventually};
use naru_tests::only_naru;

/// Ends at once, with a failure.
const FAILS: [&str; 4] = ["busybox", "sh", "-c", "exit 3"];

fn engine() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    Ok(engine)
}

/// What `docker` says with these arguments once it finds the container waiting: most of the time, but not always.
fn said_while_waiting(cli: &Client, args: &[&str], wanted: &str) -> Result<()> {
    eventually(wanted, || {
        let done = cli.run(args)?;
        let said = format!("{}{}", done.stdout, done.stderr);
        ensure!(said.contains(wanted), "{said}");
        Ok(())
    })
}

#[test]
fn what_waits_for_a_restart_takes_every_command() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    for name in ["stopped", "killed", "removed", "policed"] {
        cli.ok([&["run", "-d", "--restart", "always", "--name", name], &FAILS[..]].concat())?;
    }
    let state = "{{.State.Status}} {{.State.Running}} {{.State.Restarting}} {{.State.Pid}}";
    for name in ["stopped", "killed", "removed", "policed"] {
        cli.wait_for(name, state, "restarting true true 0")?;
    }
    said_while_waiting(&cli, &["ps", "--filter", "name=stopped", "--format", "{{.Status}}"], "Restarting (3) ")?;
    let restarting = "is restarting, wait until the container is running";
    said_while_waiting(&cli, &["exec", "stopped", "true"], restarting)?;
    said_while_waiting(&cli, &["pause", "stopped"], restarting)?;
    cli.fails(1, ["rm", "stopped"])?;
    cli.ok(["stop", "stopped"])?;
    assert_eq!(cli.inspect("stopped", "{{.State.Status}} {{.State.ExitCode}}")?, "exited 3");
    cli.ok(["kill", "killed"])?;
    cli.wait_for("killed", "{{.State.Status}} {{.State.Restarting}}", "exited false")?;
    cli.ok(["rm", "-f", "removed"])?;
    // It settles at the next chance.
    if !only_naru("dockerd updates no container that waits") {
        cli.ok(["update", "--restart", "no", "policed"])?;
    }
    cli.ok(["stop", "policed"])?;
    assert_eq!(cli.ok(["ps", "-q"])?, "");
    engine.finish()
}

#[test]
fn a_stop_holds_and_a_start_counts_anew() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    let script = "test -e /stay || { touch /stay; exit 1; }; exec sleep 1000";
    cli.ok(["run", "-d", "--restart", "unless-stopped", "--name", "up", "busybox", "sh", "-c", script])?;
    cli.wait_for("up", "{{.State.Status}} {{.RestartCount}}", "running 1")?;
    cli.ok(["stop", "-t", "0", "up"])?;
    assert_eq!(cli.inspect("up", "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
    cli.ok(["start", "up"])?;
    assert_eq!(cli.inspect("up", "{{.State.Status}} {{.RestartCount}}")?, "running 0");
    // Killed from elsewhere it comes back, and a restart by hand keeps the policy.
    cli.ok(["restart", "-t", "0", "up"])?;
    let pid = cli.inspect("up", "{{.State.Pid}}")?;
    engine.world().command("kill").args(["-9", &pid]).status()?;
    cli.wait_for("up", "{{.State.Status}} {{.RestartCount}}", "running 1")?;
    cli.ok(["update", "--restart", "no", "up"])?;
    let pid = cli.inspect("up", "{{.State.Pid}}")?;
    engine.world().command("kill").args(["-9", &pid]).status()?;
    cli.wait_for("up", "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}", "exited no")?;
    engine.finish()
}

#[test]
fn an_engine_that_begins_starts_what_is_to_be_there() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    let run = |name: &str, policy: &str, more: &[&str]| {
        let flags = ["run", "-d", "--name", name, "--restart", policy];
        cli.ok([&flags[..], more, &["busybox", "sleep", "1000"]].concat())
    };
    run("base", "always", &[])?;
    run("guest", "always", &["--network", "container:base"])?;
    run("stopped", "unless-stopped", &[])?;
    run("started", "unless-stopped", &[])?;
    run("none", "no", &[])?;
    cli.ok(["create", "--name", "never", "--restart", "always", "busybox", "sleep", "1000"])?;
    cli.ok(["stop", "-t", "0", "stopped"])?;
    engine.kill()?;
    let world = engine.world();
    // As after a power cut: nothing runs any more, and nobody has written down why.
    for process in world.processes()?.iter().filter(|p| p.contains("naru-monitor") || p.ends_with(" sleep")) {
        let pid = process.split(' ').next().unwrap_or_default();
        std::process::Command::new("kill").args(["-9", pid]).status()?;
    }
    engine.launch()?;
    for name in ["base", "guest", "started"] {
        cli.wait_for(name, "{{.State.Status}}", "running")?;
    }
    for (name, state) in [("stopped", "exited"), ("none", "exited"), ("never", "created")] {
        assert_eq!(cli.inspect(name, "{{.State.Status}}")?, state, "{name}");
    }
    let namespace = |name: &str| cli.ok(["exec", name, "readlink", "/proc/self/ns/net"]);
    assert_eq!(namespace("base")?, namespace("guest")?);
    engine.finish()
}

#[test]
fn failures_are_counted_and_pauses_double() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok([&["run", "-d", "--restart", "on-failure:4", "--name", "counted"], &FAILS[..]].concat())?;
    cli.ok(["run", "-d", "--restart", "on-failure:4", "--name", "fine", "busybox", "true"])?;
    cli.wait_for("counted", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 4 3")?;
    cli.wait_for("fine", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 0 0")?;
    if !only_naru("dockerd keeps no times of restarts") {
        // In real time: no pause is shorter than it has to be. Longer ones are the machine's.
        let id = cli.inspect("counted", "{{.Id}}")?;
        let path = engine.data_root().join("containers").join(id).join("config.json");
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let history = record["record"]["state"]["history"].as_array().cloned().unwrap_or_default();
        let mut pauses = Vec::new();
        let mut planned = None;
        for fact in &history {
            let at = fact["at"].as_u64().unwrap_or_default();
            if let Some(pause) = fact["what"]["restart-planned"]["pause_ms"].as_u64() {
                planned = Some((at, pause));
            } else if let (Some((since, pause)), true) = (planned, fact["what"]["started"].is_object()) {
                assert!(at - since >= pause * 990_000, "{at} is too early after {since}: {history:?}");
                pauses.push(pause);
            }
        }
        assert_eq!(pauses, [100, 200, 400, 800], "{history:?}");
    }
    // A start by hand begins anew.
    cli.ok(["start", "counted"])?;
    cli.wait_for("counted", "{{.State.Status}} {{.RestartCount}}", "exited 4")?;
    engine.finish()
}

#[test]
fn a_stop_lasts_until_the_next_engine() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("killed", "unless-stopped"), ("fails", "on-failure")]
    {
        cli.ok(["run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1000"])?;
    }
    cli.ok(["run", "-d", "--name", "changed", "busybox", "sleep", "1000"])?;
    cli.ok(["update", "--restart", "always", "changed"])?;
    cli.ok(["stop", "-t", "0", "always", "unless"])?;
    cli.ok(["kill", "killed"])?;
    let pid = cli.inspect("changed", "{{.State.Pid}}")?;
    let before = cli.inspect("changed", "{{.State.StartedAt}}")?;
    engine.world().command("kill").args(["-9", &pid]).status()?;
    eventually("another start", || {
        let now = cli.inspect("changed", "{{.State.StartedAt}} {{.State.Running}} {{.State.Restarting}}")?;
        ensure!(!now.starts_with(&before) && now.ends_with(" true false"), "{now}");
        Ok(())
    })?;
    engine.terminate()?;
    engine.launch()?;
    cli.wait_for("always", "{{.State.Status}}", "running")?;
    cli.wait_for("changed", "{{.State.Status}}", "running")?;
    for name in ["unless", "killed"] {
        assert_eq!(cli.inspect(name, "{{.State.Status}}")?, "exited", "{name}");
    }
    engine.finish()
}

#[test]
fn what_is_linked_to_is_started_first() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    // In an order of names and times that is not the one of the links.
    cli.ok(["run", "-d", "--restart", "always", "--name", "z-store", "busybox", "sleep", "1000"])?;
    cli.ok([
        "run",
        "-d",
        "--restart",
        "always",
        "--name",
        "m-app",
        "--link",
        "z-store:db",
        "busybox",
        "sleep",
        "1000",
    ])?;
    cli.ok(["run", "-d", "--restart", "always", "--name", "a-web", "--link", "m-app:app", "busybox", "sleep", "1000"])?;
    cli.ok(["stop", "-t", "0", "z-store", "m-app", "a-web"])?;
    engine.terminate()?;
    engine.launch()?;
    let started = |name: &str| cli.inspect(name, "{{.State.StartedAt}} {{.RestartCount}}");
    for name in ["z-store", "m-app", "a-web"] {
        cli.wait_for(name, "{{.State.Status}}", "running")?;
    }
    let times = [started("z-store")?, started("m-app")?, started("a-web")?];
    assert!(times.is_sorted(), "{times:?}");
    // None had to be tried twice.
    assert!(times.iter().all(|time| time.ends_with(" 0")), "{times:?}");
    let hosts = cli.ok(["exec", "a-web", "cat", "/etc/hosts"])?;
    let address = cli.inspect("m-app", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
    assert!(
        hosts.lines().any(|line| line.starts_with(&address) && line.contains("app")),
        "{address} is not in\n{hosts}"
    );
    engine.finish()
}
