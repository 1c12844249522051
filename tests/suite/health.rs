//! Health checks: docker's states, events and log; probes without a process; what follows from being unhealthy; and all of it without an
//! engine.

use std::fs;

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, eventually};
use naru_tests::only_naru;
use serde_json::Value;

fn engine() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    Ok(engine)
}

/// Starts a container with a check every 100 ms.
fn run(cli: &Client, name: &str, check: &str, more: &[&str]) -> Result<()> {
    let flags =
        ["run", "-d", "--name", name, "--health-interval", "100ms", "--health-retries", "2", "--health-cmd", check];
    let script = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    cli.ok([&flags[..], more, &["busybox", "sh", "-c", script]].concat())?;
    Ok(())
}

fn log(cli: &Client, name: &str) -> Result<Vec<Value>> {
    let text = cli.inspect(name, "{{json .State.Health.Log}}")?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn results_are_kept_and_told() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    run(&cli, "talks", "echo said; echo err >&2; test -e /ok", &["--health-timeout", "20s"])?;
    cli.wait_for("talks", "{{.State.Health.Status}}", "unhealthy")?;
    let last = log(&cli, "talks")?.pop().unwrap_or_default();
    assert_eq!(last["ExitCode"], 1);
    let said = last["Output"].as_str().unwrap_or_default();
    assert!(said.contains("said\n") && said.contains("err\n"), "{said:?}");
    assert!(last["Start"].as_str() < last["End"].as_str(), "{last}");
    eventually("five results", || {
        ensure!(log(&cli, "talks")?.len() == 5, "not yet");
        Ok(())
    })?;
    assert_eq!(cli.ok(["ps", "-q", "--filter", "health=healthy"])?, "");
    cli.ok(["exec", "talks", "touch", "/ok"])?;
    cli.wait_for("talks", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "healthy 0")?;
    assert!(cli.ok(["ps", "--format", "{{.Status}}"])?.ends_with("(healthy)"));
    assert_ne!(cli.ok(["ps", "-q", "--filter", "health=healthy"])?, "");
    let until = (cli.ok(["info", "--format", "{{.SystemTime}}"])?).clone();
    let events = cli.ok([
        "events",
        "--since",
        "1",
        "--until",
        &until,
        "--format",
        "{{.Status}} {{.Actor.Attributes.exitCode}}",
    ])?;
    for wanted in [
        "health_status: unhealthy",
        "health_status: healthy",
        "exec_create: /bin/sh -c echo said",
        "exec_start: /bin/sh -c echo said",
        "exec_die",
    ] {
        assert!(events.contains(wanted), "no {wanted} in {events}");
    }
    cli.ok(["stop", "-t", "0", "talks"])?;
    assert_eq!(cli.inspect("talks", "{{.State.Health.Status}}")?, "unhealthy");
    engine.finish()
}

#[test]
fn a_check_that_hangs_or_floods_is_contained() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    run(&cli, "hangs", "echo begun; sleep 1000 & sleep 1000", &["--health-timeout", "300ms"])?;
    run(&cli, "floods", "yes | head -c 10000000", &["--health-timeout", "20s"])?;
    cli.wait_for("hangs", "{{.State.Health.Status}}", "unhealthy")?;
    let last = log(&cli, "hangs")?.pop().unwrap_or_default();
    assert_eq!(last["ExitCode"], -1);
    assert!(last["Output"].as_str().unwrap_or_default().starts_with("Health check exceeded timeout (300ms)"), "{last}");
    cli.wait_for("floods", "{{.State.Health.Status}}", "healthy")?;
    let last = log(&cli, "floods")?.pop().unwrap_or_default();
    let said = last["Output"].as_str().unwrap_or_default();
    assert!(said.len() <= 4099 && said.ends_with("..."), "{} bytes", said.len());
    if !only_naru("dockerd leaves a hanging check's children") {
        // What was killed took its children with it: one check's at the most is there.
        eventually("few sleepers", || {
            let there = cli.ok(["top", "hangs"])?.lines().filter(|l| l.contains("sleep 1000")).count();
            ensure!(there <= 3, "{there} are there");
            Ok(())
        })?;
    }
    engine.finish()
}

#[test]
fn a_start_period_forgives() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    let period = ["--health-start-period", "1h", "--health-timeout", "20s"];
    run(&cli, "slow", "test -e /ok", &period)?;
    if only_naru("dockerd 20.10 knows no start interval") {
        return engine.finish();
    }
    let naru = engine.naru();
    let interval = ["--health-start-interval", "50ms"];
    run(&naru, "quick", "echo x >>/n; test $(wc -l </n) -gt 3", &[&period[..], &interval].concat())?;
    cli.wait_for("quick", "{{.State.Health.Status}}", "healthy")?;
    assert_eq!(cli.inspect("slow", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}")?, "starting 0");
    assert!(cli.ok(["ps", "--filter", "name=slow", "--format", "{{.Status}}"])?.ends_with("(health: starting)"));
    engine.finish()
}

#[test]
fn probes_need_no_process() -> Result<()> {
    if only_naru("dockerd has no probes") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    run(&cli, "web", "http://localhost:8080/up", &[])?;
    run(&cli, "port", "tcp://localhost:8080", &[])?;
    for name in ["web", "port"] {
        cli.wait_for(name, "{{.State.Health.Status}}", "unhealthy")?;
        let server = "mkdir /w && echo fine >/w/up && exec httpd -f -p 8080 -h /w";
        cli.ok(["exec", "-d", name, "sh", "-c", server])?;
        cli.wait_for(name, "{{.State.Health.Status}}", "healthy")?;
    }
    let last = log(&cli, "web")?.pop().unwrap_or_default();
    assert_eq!(last["Output"], "HTTP/1.1 200 OK");
    let said = cli.fails(125, ["run", "--health-cmd", "http://elsewhere/", "busybox"])?;
    assert!(said.contains("the host can be localhost or an IP address"), "{said}");
    engine.finish()
}

#[test]
fn what_is_unhealthy_is_acted_on() -> Result<()> {
    if only_naru("dockerd acts on nothing") {
        return Ok(());
    }
    let mut engine = engine()?;
    let (cli, naru) = (engine.cli(), engine.naru());
    let label = |action: &str| format!("naru.health-on-failure={action}");
    run(&cli, "stops", "false", &["-l", &label("stop"), "--restart", "always"])?;
    run(&cli, "kills", "false", &["-l", &label("kill")])?;
    run(&naru, "restarts", "test $(hostname) = fine", &["--health-on-failure", "restart"])?;
    cli.wait_for("stops", "{{.State.Status}} {{.State.ExitCode}}", "exited 5")?;
    cli.wait_for("kills", "{{.State.Status}} {{.State.ExitCode}}", "exited 137")?;
    eventually("two restarts", || {
        let count = cli.inspect("restarts", "{{.RestartCount}}")?;
        ensure!(count.parse::<u32>()? >= 2, "{count}");
        Ok(())
    })?;
    let said = cli.fails(125, ["run", "-l", &label("nonsense"), "busybox"])?;
    assert!(said.contains("use one of none, kill, stop, restart"), "{said}");
    engine.finish()
}

#[test]
fn checks_go_on_without_an_engine() -> Result<()> {
    if only_naru("dockerd checks nothing while it is away") {
        return Ok(());
    }
    let mut engine = engine()?;
    let folder = engine.scratch("health")?;
    let mount = format!("{}:/b", folder.display());
    let cli = engine.cli();
    run(
        &cli,
        "alone",
        "echo x >>/b/checks; test ! -e /b/sick",
        &["-v", &mount, "-l", "naru.health-on-failure=restart"],
    )?;
    cli.wait_for("alone", "{{.State.Health.Status}}", "healthy")?;
    engine.kill()?;
    let before = fs::read_to_string(folder.join("checks"))?.len();
    eventually("further checks", || {
        let now = fs::read_to_string(folder.join("checks"))?.len();
        ensure!(now >= before + 6, "{now} after {before}");
        Ok::<_, anyhow::Error>(())
    })?;
    engine.launch()?;
    assert_eq!(cli.inspect("alone", "{{.State.Health.Status}} {{.RestartCount}}")?, "healthy 0");
    engine.kill()?;
    fs::write(folder.join("sick"), "")?;
    eventually("the container to be stopped", || {
        let there = engine.world().processes()?.iter().any(|p| p.contains("naru-monitor"));
        ensure!(!there, "its monitor is there");
        Ok(())
    })?;
    fs::remove_file(folder.join("sick"))?;
    engine.launch()?;
    cli.wait_for("alone", "{{.State.Health.Status}} {{.RestartCount}}", "healthy 1")?;
    engine.finish()
}
