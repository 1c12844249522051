//! Health checks: docker's states, events and log; probes without a process; what follows from being unhealthy; and all of it without an
//! engine.

use std::fs;

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually};
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
    if !only_naru("its record on the disk is read") {
        // In real time: no pause is shorter than the interval (but for what the wall clock is corrected by).
        let id = cli.inspect("talks", "{{.Id}}")?;
        let path = engine.data_root().join("containers").join(id).join("config.json");
        let record: Value = serde_json::from_slice(&fs::read(path)?)?;
        let log = record["record"]["state"]["health"]["log"].as_array().cloned().unwrap_or_default();
        assert_eq!(log.len(), 5, "{record}");
        for pair in log.windows(2) {
            let pause = pair[1]["start"].as_i64().zip(pair[0]["end"].as_i64()).map(|(start, end)| start - end);
            assert!(pause >= Some(99_000_000), "{pair:?}");
        }
    }
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

/// Events so far, `wanted` ones alone.
fn events(cli: &Client, name: &str, wanted: &str) -> Result<Vec<String>> {
    let until = cli.ok(["info", "--format", "{{.SystemTime}}"])?;
    let filter = format!("container={name}");
    let all = ["events", "--since", "1", "--until", &until, "--format", "{{.Status}}", "--filter", &filter];
    Ok(cli.ok(all)?.lines().filter(|line| line.starts_with(wanted)).map(str::to_owned).collect())
}

#[test]
fn a_paused_container_counts_as_unhealthy() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    run(&cli, "rests", "true", &["--health-timeout", "20s"])?;
    cli.wait_for("rests", "{{.State.Health.Status}}", "healthy")?;
    cli.ok(["pause", "rests"])?;
    assert_eq!(cli.inspect("rests", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}")?, "unhealthy 0");
    cli.ok(["unpause", "rests"])?;
    cli.wait_for("rests", "{{.State.Health.Status}}", "healthy")?;
    assert_eq!(events(&cli, "rests", "health_status")?, ["health_status: healthy"; 2]);
    // What was said before a restart is still there after it.
    cli.ok(["restart", "-t", "0", "rests"])?;
    assert_ne!(cli.inspect("rests", "{{len .State.Health.Log}}")?, "0");
    cli.wait_for("rests", "{{.State.Health.Status}}", "healthy")?;
    engine.finish()
}

#[test]
fn what_a_pause_breaks_off_says_nothing() -> Result<()> {
    if only_naru("dockerd counts it") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    let check = "if [ -e /hang ]; then rm /hang; sleep 1000; fi";
    run(&cli, "frozen", check, &["--health-timeout", "6s"])?;
    cli.wait_for("frozen", "{{.State.Health.Status}}", "healthy")?;
    cli.ok(["exec", "frozen", "touch", "/hang"])?;
    eventually("a check that hangs", || {
        ensure!(cli.run(["exec", "frozen", "test", "-e", "/hang"])?.code == 1, "not yet");
        Ok(())
    })?;
    cli.ok(["pause", "frozen"])?;
    // The check's time passes; there is nothing to be seen of that.
    std::thread::sleep(std::time::Duration::from_secs(7));
    cli.ok(["unpause", "frozen"])?;
    cli.wait_for("frozen", "{{.State.Health.Status}}", "healthy")?;
    for result in log(&cli, "frozen")? {
        assert_eq!(result["ExitCode"], 0, "{result}");
    }
    engine.finish()
}

#[test]
fn a_fork_bomb_as_a_check_is_contained() -> Result<()> {
    if only_naru("dockerd's checks pile up") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    let bomb = "f() { f | f & }; f; f; sleep 1000";
    run(&cli, "bomb", bomb, &["--health-timeout", "500ms", "--pids-limit", "60"])?;
    run(&cli, "bystander", "true", &["--health-timeout", "20s"])?;
    cli.wait_for("bomb", "{{.State.Health.Status}}", "unhealthy")?;
    cli.wait_for("bystander", "{{.State.Health.Status}}", "healthy")?;
    assert_eq!(cli.inspect("bomb", "{{.State.Running}}")?, "true");
    assert_eq!(cli.ok(["run", "--rm", "busybox", "echo", "fine"])?, "fine");
    // Its own end is what it always is.
    cli.ok(["stop", "-t", "20", "bomb"])?;
    assert_eq!(cli.inspect("bomb", "{{.State.ExitCode}}")?, "5");
    engine.finish()
}

#[test]
fn probes_judge_whatever_answers() -> Result<()> {
    if only_naru("dockerd has no probes") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    let naru = engine.naru();
    let start = |name: &str, flags: &[&str], probe: &str, command: &[&str]| -> Result<()> {
        let health = ["--health-interval", "100ms", "--health-retries", "1", "--health-cmd", probe];
        naru.ok([&["run", "-d", "--name", name], &health[..], flags, &["busybox"], command].concat())?;
        Ok(())
    };
    // A server that answers each with what a script says.
    let serve = "printf '#!/bin/sh\n%s\n' \"$0\" >/answer; chmod +x /answer; exec nc -ll -p 8080 -e /answer";
    let web = "http://localhost:8080/";
    for (name, timeout, answer, status, wanted) in [
        ("moved", "20s", r#"printf "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n""#, "healthy", "HTTP/1.1 302 Found"),
        (
            "large",
            "20s",
            r#"printf "HTTP/1.1 200 OK\r\n\r\n"; head -c 50000000 /dev/zero"#,
            "healthy",
            "HTTP/1.1 200 OK",
        ),
        ("broken", "20s", r#"printf "HTTP/1.1 500 No\r\n\r\n""#, "unhealthy", "HTTP/1.1 500 No"),
        ("odd", "20s", r#"echo "220 mail""#, "unhealthy", "no HTTP answer: \"220 mail\""),
        ("drips", "1s", "while :; do printf x; sleep 0.05; done", "unhealthy", "of the answer only \"x"),
        ("silent", "1s", "exec sleep 1000", "unhealthy", "exceeded timeout (1s): connected, and no answer"),
    ] {
        start(name, &["--health-timeout", timeout], web, &["sh", "-c", serve, answer])?;
        eventually(&format!("{name} to be judged by an answer"), || {
            let last = log(&cli, name)?.pop().unwrap_or_default();
            let said = last["Output"].as_str().unwrap_or_default();
            ensure!(said.contains(wanted), "{last}");
            Ok(())
        })?;
        cli.wait_for(name, "{{.State.Health.Status}}", status)?;
    }
    let six = ["net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.lo.disable_ipv6=0"];
    let six = ["--sysctl", six[0], "--sysctl", six[1]];
    // One that listens on IPv6 alone is at `localhost`, too.
    start("six", &six, web, &["sh", "-c", "mkdir /w; touch /w/index.html; exec httpd -f -p '[::1]:8080' -h /w"])?;
    start("gate", &six, "tcp://[::1]:8080", &["httpd", "-f", "-p", "[::1]:8080"])?;
    start("closed", &[], web, &["sleep", "1000"])?;
    for (name, status) in [("six", "healthy"), ("gate", "healthy"), ("closed", "unhealthy")] {
        cli.wait_for(name, "{{.State.Health.Status}}", status)?;
    }
    let last = log(&cli, "closed")?.pop().unwrap_or_default();
    assert_eq!(last["Output"], "cannot connect: Connection refused (os error 111)");
    engine.finish()
}

#[test]
fn what_became_of_it_without_an_engine_is_told() -> Result<()> {
    if only_naru("dockerd checks nothing while it is away") {
        return Ok(());
    }
    let mut engine = engine()?;
    let folder = engine.scratch("sick")?;
    let mount = format!("{}:/b", folder.display());
    let (cli, naru) = (engine.cli(), engine.naru());
    run(&cli, "sick", "echo x >>/b/checks; test ! -e /b/sick || { echo ill; false; }", &["-v", &mount])?;
    cli.wait_for("sick", "{{.State.Health.Status}}", "healthy")?;
    engine.kill()?;
    fs::write(folder.join("sick"), "")?;
    let before = fs::read_to_string(folder.join("checks"))?.len();
    eventually("further checks", || {
        let now = fs::read_to_string(folder.join("checks"))?.len();
        ensure!(now >= before + 12, "{now} after {before}");
        Ok::<_, anyhow::Error>(())
    })?;
    engine.launch()?;
    assert_eq!(cli.inspect("sick", "{{.State.Health.Status}}")?, "unhealthy");
    let said = naru.ok(["why", "sick"])?;
    assert!(said.contains("became unhealthy: the check said \"ill\""), "{said}");
    engine.finish()
}

#[test]
fn checks_come_from_the_image() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok(["create", "--name", "base", "busybox", "true"])?;
    let change = "HEALTHCHECK --interval=100ms --timeout=20s --retries=2 CMD test ! -e /sick";
    cli.ok(["commit", "--change", change, "base", "checked"])?;
    let script = "trap exit TERM; while :; do sleep 0.05; done";
    cli.ok(["run", "-d", "--name", "as-is", "checked", "sh", "-c", script])?;
    cli.ok(["run", "-d", "--name", "off", "--no-healthcheck", "checked", "sh", "-c", script])?;
    cli.ok([
        "run",
        "-d",
        "--name",
        "own",
        "--health-cmd",
        "false",
        "--health-retries",
        "1",
        "checked",
        "sh",
        "-c",
        script,
    ])?;
    cli.wait_for("as-is", "{{.State.Health.Status}}", "healthy")?;
    cli.wait_for("own", "{{.State.Health.Status}}", "unhealthy")?;
    // Field by field: what the command line doesn't say is the image's.
    let own = cli.inspect("own", "{{json .Config.Healthcheck}}")?;
    let own: Value = serde_json::from_str(&own)?;
    assert_eq!((&own["Interval"], &own["Retries"]), (&Value::from(100_000_000), &Value::from(1)), "{own}");
    assert_eq!(cli.inspect("off", "{{if .State.Health}}checked{{else}}not{{end}}")?, "not");
    for (filter, wanted) in [("healthy", "as-is"), ("unhealthy", "own"), ("none", "off")] {
        let found = cli.ok(["ps", "--filter", &format!("health={filter}"), "--format", "{{.Names}}"])?;
        assert_eq!(found, wanted, "health={filter}");
    }
    assert!(cli.ok(["ps", "--filter", "name=own", "--format", "{{.Status}}"])?.ends_with("(unhealthy)"));
    cli.ok(["exec", "as-is", "touch", "/sick"])?;
    cli.wait_for("as-is", "{{.State.Health.Status}}", "unhealthy")?;
    for (flags, wanted) in [
        (&["--health-interval", "100us"][..], "Interval in Healthcheck cannot be less than 1ms"),
        (&["--health-timeout", "-1s"], "--health-timeout cannot be negative"),
        (&["--no-healthcheck", "--health-cmd", "true"], "--no-healthcheck conflicts with --health-* options"),
    ] {
        let said = cli.fails(125, [&["run"], flags, &["busybox", "true"]].concat())?;
        assert!(said.contains(wanted), "{said}");
    }
    engine.finish()
}

#[test]
fn a_full_disk_stops_neither_checks_nor_restarts() -> Result<()> {
    if only_naru("dockerd does not come back from it") {
        return Ok(());
    }
    let options = EngineOptions { data_tmpfs_mib: Some(48), ..EngineOptions::default() };
    let mut engine = Engine::with(Target::Naru, options)?;
    engine.load_busybox()?;
    let (cli, naru) = (engine.cli(), engine.naru());
    run(&cli, "checked", "true", &["--health-timeout", "20s"])?;
    cli.ok(["run", "-d", "--name", "loops", "--restart", "always", "busybox", "sh", "-c", "sleep 0.2; exit 1"])?;
    cli.wait_for("checked", "{{.State.Health.Status}}", "healthy")?;
    cli.ok(["run", "-d", "--name", "hog", "busybox", "sh", "-c", "dd if=/dev/zero of=/big bs=1M; exec sleep 1000"])?;
    eventually("the disk to be full", || {
        let said = naru.ok(["why", "hog"])?;
        ensure!(said.contains("the file system of its writable layer is full"), "{said}");
        Ok(())
    })?;
    let last = |name: &str| cli.inspect(name, "{{(index .State.Health.Log 0).End}}");
    let before = last("checked")?;
    eventually("a start that fails for want of room", || {
        let error = cli.inspect("loops", "{{.State.Error}}")?;
        ensure!(error.contains("no space left on device"), "{error:?}");
        Ok(())
    })?;
    eventually("further checks", || {
        ensure!(last("checked")? != before, "none");
        Ok(())
    })?;
    assert_eq!(cli.inspect("checked", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}")?, "healthy 0");
    cli.ok(["rm", "-f", "hog"])?;
    // What was missing is back: the policy has gone on trying.
    cli.wait_for("loops", "{{.State.Error}}", "")?;
    engine.finish()
}
