//! The engine is killed at the worst moment, and a new one takes up everything.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use naru_tests::only_naru;

/// An engine that is meant to lose nothing: Naru always, dockerd when told.
fn engine() -> Result<Engine> {
    let target = Target::from_env();
    let args = if target == Target::Dockerd { vec!["--live-restore".into()] } else { Vec::new() };
    let engine = Engine::with(target, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    Ok(engine)
}

#[test]
fn output_goes_on_without_a_gap() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    for name in ["out1", "out2", "out3"] {
        cli.ok(["run", "-d", "--name", name, "busybox", "sh", "-c", script])?;
    }
    let pids: Vec<String> =
        ["out1", "out2", "out3"].iter().map(|n| cli.inspect(n, "{{.State.Pid}}")).collect::<Result<_>>()?;
    for _ in 0..3 {
        let before = cli.ok(["logs", "--tail", "1", "out1"])?.parse::<u32>().unwrap_or(0);
        engine.kill()?;
        engine.launch()?;
        for (name, pid) in ["out1", "out2", "out3"].iter().zip(&pids) {
            assert_eq!(&cli.inspect(name, "{{.State.Running}} {{.State.Pid}}")?, &format!("true {pid}"));
        }
        eventually("more output", || {
            let now = cli.ok(["logs", "--tail", "1", "out1"])?.parse::<u32>()?;
            ensure!(now > before + 5, "{now} after {before}");
            Ok(())
        })?;
    }
    for name in ["out1", "out2", "out3"] {
        let said = cli.ok(["logs", name])?;
        for (line, number) in said.lines().zip(1_u32..) {
            assert_eq!(line, number.to_string(), "a gap in {name}");
        }
    }
    engine.finish()
}

#[test]
fn an_exit_meanwhile_is_not_lost() -> Result<()> {
    let mut engine = engine()?;
    let folder = engine.scratch("exit")?;
    let cli = engine.cli();
    let mount = format!("{}:/b", folder.display());
    let script = "until [ -e /b/go ]; do sleep 0.02; done; echo last words; exit 7";
    cli.ok(["run", "-d", "--name", "one", "-v", &mount, "busybox", "sh", "-c", script])?;
    let pid = cli.inspect("one", "{{.State.Pid}}")?;
    engine.kill()?;
    fs::write(folder.join("go"), "")?;
    let world = engine.world();
    eventually("the container to end without its engine", || {
        let there = world.command("test").args(["-e", &format!("/proc/{pid}")]).status()?.success();
        ensure!(!there, "process {pid} is there");
        Ok(())
    })?;
    engine.launch()?;
    cli.wait_for("one", "{{.State.Status}} {{.State.ExitCode}}", "exited 7")?;
    assert_eq!(cli.ok(["wait", "one"])?, "7");
    if !only_naru("dockerd loses what is written while it is away and ends meanwhile") {
        assert!(cli.ok(["logs", "one"])?.contains("last words"));
    }
    assert_ne!(cli.inspect("one", "{{.State.FinishedAt}}")?, "0001-01-01T00:00:00Z");
    engine.finish()
}

#[test]
fn a_clock_that_was_set_back_loses_no_exit() -> Result<()> {
    if only_naru("its record on the disk is changed") {
        return Ok(());
    }
    let mut engine = engine()?;
    let folder = engine.scratch("clock")?;
    let cli = engine.cli();
    let (mount, go) = (format!("{}:/b", folder.display()), folder.join("go"));
    let script = "until [ -e /b/go ]; do sleep 0.02; done; exit 7";
    fs::write(&go, "")?;
    cli.run(["run", "--name", "one", "-v", &mount, "busybox", "sh", "-c", script])?;
    fs::remove_file(&go)?;
    cli.ok(["start", "one"])?;
    let (pid, id) = (cli.inspect("one", "{{.State.Pid}}")?, cli.inspect("one", "{{.Id}}")?);
    engine.kill()?;
    // As if its first run had ended an hour from now.
    let path = engine.data_root().join("containers").join(id).join("config.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    let ended = &mut record["record"]["state"]["finished_at"];
    *ended = (ended.as_i64().context("the end of its first run")? + 3_600_000_000_000).into();
    fs::write(&path, record.to_string())?;
    fs::write(&go, "")?;
    let world = engine.world();
    eventually("the container to end without its engine", || {
        let there = world.command("test").args(["-e", &format!("/proc/{pid}")]).status()?.success();
        ensure!(!there, "process {pid} is there");
        Ok::<_, anyhow::Error>(())
    })?;
    engine.launch()?;
    cli.wait_for("one", "{{.State.Status}} {{.State.ExitCode}}", "exited 7")?;
    engine.finish()
}

#[test]
fn attach_exec_and_stop_work_afterwards() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok(["run", "-dit", "--name", "shell", "busybox", "sh"])?;
    let script = "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    cli.ok(["run", "-d", "--name", "polite", "busybox", "sh", "-c", script])?;
    engine.kill()?;
    engine.launch()?;
    assert_eq!(cli.ok(["exec", "shell", "echo", "still here"])?, "still here");
    let mut pty = cli.pty(["attach", "shell"])?;
    pty.send("echo fr''om; exit 5\r")?;
    pty.expect("from")?;
    assert_eq!(pty.finish()?.0, 5);
    cli.ok(["stop", "polite"])?;
    assert_eq!(cli.inspect("polite", "{{.State.ExitCode}}")?, "3");
    assert!(cli.ok(["logs", "polite"])?.contains("bye"));
    // And start again, and a new one.
    cli.ok(["start", "polite"])?;
    assert_eq!(cli.ok(["run", "--rm", "busybox", "echo", "new"])?, "new");
    engine.finish()
}

#[test]
fn names_images_and_stopped_ones_are_kept() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.run(["run", "--name", "stopped", "-e", "A=1", "busybox", "sh", "-c", "echo said; echo kept >/f; exit 4"])?;
    cli.ok(["create", "--name", "created", "busybox", "true"])?;
    cli.ok(["volume", "create", "vol"])?;
    cli.ok(["tag", "busybox", "other:tag"])?;
    let before = cli.ok(["inspect", "stopped", "created"])?;
    engine.kill()?;
    engine.launch()?;
    let [before, after] = [before, cli.ok(["inspect", "stopped", "created"])?]
        .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default());
    for key in ["Id", "Name", "Created", "State", "Config", "HostConfig", "Path", "Args", "Image"] {
        assert_eq!(before[0][key], after[0][key], "{key}");
        assert_eq!(before[1][key], after[1][key], "{key}");
    }
    assert_eq!(cli.ok(["logs", "stopped"])?, "said");
    assert!(cli.fails(125, ["run", "--name", "stopped", "busybox"])?.contains("Conflict"));
    assert!(cli.ok(["images"])?.contains("other"));
    assert!(cli.ok(["volume", "ls", "-q"])?.contains("vol"));
    engine.finish()
}

#[test]
fn a_rm_container_that_ended_meanwhile_is_removed() -> Result<()> {
    if only_naru("dockerd leaves it") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok(["run", "-d", "--rm", "--name", "short", "busybox", "sleep", "0.5"])?;
    engine.kill()?;
    let world = engine.world();
    eventually("the container to end", || {
        let there = world.processes()?.iter().any(|process| process.ends_with(" sleep"));
        ensure!(!there, "it is there");
        Ok(())
    })?;
    engine.launch()?;
    eventually("the container to be removed", || {
        let left = cli.ok(["ps", "-aq"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    engine.finish()
}

#[test]
fn a_restart_policy_is_kept_up() -> Result<()> {
    let mut engine = engine()?;
    let folder = engine.scratch("policy")?;
    let cli = engine.cli();
    let mount = format!("{}:/b", folder.display());
    let script = "echo started; until [ -e /b/go ]; do sleep 0.02; done; rm /b/go; exit 1";
    cli.ok(["run", "-d", "--name", "always", "--restart", "always", "-v", &mount, "busybox", "sh", "-c", script])?;
    cli.wait_for_log("always", "started")?;
    engine.kill()?;
    fs::write(folder.join("go"), "")?;
    eventually("the container to end without its engine", || {
        ensure!(!folder.join("go").exists(), "it has not seen the file");
        Ok(())
    })?;
    engine.launch()?;
    cli.wait_for("always", "{{.State.Running}}", "true")?;
    cli.wait_for_log("always", "started\nstarted")?;
    engine.finish()
}

#[test]
fn a_published_port_stays_open() -> Result<()> {
    if only_naru("docker-proxy dies with dockerd") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok([
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:7000",
        "busybox",
        "sh",
        "-c",
        "while :; do echo open | nc -l -p 7000; done",
    ])?;
    let ask = || -> Result<()> {
        eventually("an answer", || {
            let output = engine.world().command("busybox").args(["nc", "-w", "5", "127.0.0.1", "8080"]).output()?;
            ensure!(output.stdout == b"open\n", "{output:?}");
            Ok(())
        })
    };
    ask()?;
    engine.kill()?;
    ask()?;
    engine.launch()?;
    ask()?;
    engine.finish()
}

#[test]
fn a_clean_stop_and_start() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    cli.ok(["run", "-d", "--name", "on", "busybox", "sleep", "1000"])?;
    cli.run(["run", "--name", "off", "busybox", "false"])?;
    engine.terminate()?;
    assert!(!engine.socket().exists() || std::os::unix::net::UnixStream::connect(engine.socket()).is_err());
    engine.launch()?;
    assert_eq!(cli.inspect("on", "{{.State.Running}}")?, "true");
    assert_eq!(cli.inspect("off", "{{.State.ExitCode}}")?, "1");
    engine.finish()
}

#[test]
fn killed_in_the_middle_of_starts_and_removals() -> Result<()> {
    if only_naru("dockerd promises nothing here") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    for round in 0..4 {
        let mut clients = Vec::new();
        for n in 0..6 {
            let name = format!("r{round}-{n}");
            clients.push(cli.start(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?);
            if round > 0 {
                clients.push(cli.start(["rm", "-f", &format!("r{}-{n}", round - 1)])?);
            }
        }
        // Not a wait for anything: each round kills at another moment.
        std::thread::sleep(std::time::Duration::from_millis(5 * round + 3));
        engine.kill()?;
        for client in clients {
            client.finish()?;
        }
        engine.launch()?;
        for line in cli.ok(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"])?.lines() {
            let (id, state) = line.split_once(' ').context("id and state")?;
            ensure!(["created", "running", "exited"].contains(&state), "{line}");
            if state == "running" {
                cli.ok(["exec", id, "true"])?;
            }
        }
    }
    engine.finish()
}

#[test]
fn two_engines_side_by_side() -> Result<()> {
    if only_naru("two dockerds share docker0") {
        return Ok(());
    }
    let mut one = engine()?;
    let mut two = one.beside()?;
    two.load_busybox()?;
    for engine in [&one, &two] {
        engine.cli().ok([
            "run",
            "-d",
            "--name",
            "same",
            "busybox",
            "sh",
            "-c",
            "while :; do echo hi | nc -l -p 7000; done",
        ])?;
    }
    assert_ne!(one.cli().inspect("same", "{{.Id}}")?, two.cli().inspect("same", "{{.Id}}")?);
    let address =
        |engine: &Engine| engine.cli().inspect("same", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    assert_ne!(address(&one)?, address(&two)?);
    one.kill()?;
    assert_eq!(two.cli().ok(["exec", "same", "echo", "alive"])?, "alive");
    one.launch()?;
    assert_eq!(one.cli().ok(["exec", "same", "echo", "alive"])?, "alive");
    two.finish()?;
    drop(two);
    assert_eq!(one.cli().ok(["run", "--rm", "busybox", "echo", "still"])?, "still");
    one.finish()
}

#[test]
fn monitors_keep_little_and_none_is_left() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    for n in 0..5 {
        cli.ok(["run", "-d", "--name", &format!("m{n}"), "busybox", "sleep", "1000"])?;
    }
    cli.ok(["rm", "-f", "m0", "m1", "m2", "m3", "m4"])?;
    engine.finish()
}

#[test]
fn an_engine_that_ends_leaves_nothing_of_its_own() -> Result<()> {
    if only_naru("dockerd keeps its groups") {
        return Ok(());
    }
    let engine = engine()?;
    let (cli, world) = (engine.cli(), engine.world());
    let tops = std::fs::read_to_string(world.folder().join("cgroups"))?;
    let parents = || -> Vec<_> {
        let below = tops.lines().flat_map(|top| std::fs::read_dir(top).into_iter().flatten().flatten());
        below.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("/naru-")).collect()
    };
    // The ids that containers have, as all engines of the host see them.
    let register = format!("/proc/{}/root/run/naru-ids", world.pid());
    cli.ok(["run", "-d", "--name", "on", "busybox", "sleep", "1000"])?;
    let first = cli.ok(["exec", "on", "cat", "/proc/self/uid_map"])?;
    let first = first.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let entry = format!("{register}/{first}");
    assert_eq!(std::fs::read_link(&entry)?, std::fs::canonicalize(engine.data_root())?);
    // A container that goes on keeps both.
    engine.terminate()?;
    std::fs::read_link(&entry)?;
    assert!(!parents().is_empty(), "the group of a running container is gone");
    engine.launch()?;
    engine.kill()?;
    engine.launch()?;
    assert_eq!(cli.ok(["exec", "on", "echo", "alive"])?, "alive");
    cli.ok(["rm", "-f", "on"])?;
    eventually("the container's group to be gone", || {
        let groups = world.container_groups()?;
        ensure!(groups.is_empty(), "{groups:?}");
        Ok(())
    })?;
    engine.terminate()?;
    assert!(std::fs::read_link(&entry).is_err() && parents().is_empty(), "{:?}", parents());
    Ok(())
}

#[test]
fn a_monitor_that_stands_still_holds_up_nobody() -> Result<()> {
    if only_naru("it is one of its monitors") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.cli();
    for name in ["still", "other"] {
        cli.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
    }
    let id = cli.inspect("still", "{{.Id}}")?;
    let is_its_monitor = |pid: &&str| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("naru-monitor") && line.contains(&id[..12])
    };
    let processes = engine.world().processes()?;
    let monitor = processes.iter().filter_map(|p| p.split(' ').next()).find(is_its_monitor).context("its monitor")?;
    let signal = |name: &str| std::process::Command::new("kill").args([name, monitor]).status();
    ensure!(signal("-STOP")?.success(), "it can't be stopped");
    engine.kill()?;
    engine.launch()?;
    // Lists don't wait for monitors at all, and whatever else there is for a few seconds.
    assert_eq!(cli.ok(["ps", "-q"])?.lines().count(), 2);
    assert_eq!(cli.ok(["exec", "other", "echo", "in"])?, "in");
    ensure!(signal("-CONT")?.success(), "it can't go on");
    eventually("it to be used again", || cli.ok(["exec", "still", "echo", "in"]).map(drop))?;
    engine.finish()
}
