//! `naru why`: the cause of each kind of end, from facts that outlive the engine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Client, Engine, eventually, unique};
use naru_tests::only_naru;
use serde_json::Value;

#[test]
fn every_end_has_its_cause() -> Result<()> {
    if only_naru("dockerd keeps no reasons") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, naru) = (engine.cli(), engine.naru());
    let run = |name: &str, more: &[&str], command: &[&str]| {
        cli.ok([&["run", "-d", "--name", name], more, &["busybox"], command].concat())
    };
    run("itself", &[], &["sh", "-c", "exit 3"])?;
    run("asked", &[], &["sleep", "1000"])?;
    run("outside", &[], &["sleep", "1000"])?;
    run("hungry", &["-m", "16m", "--memory-swap", "16m"], &["sh", "-c", "x=a; while :; do x=$x$x; done"])?;
    run("crashing", &["--restart", "always"], &["false"])?;
    run(
        "sick",
        &["--health-cmd", "echo no; false", "--health-interval", "100ms", "--health-retries", "1"],
        &["sleep", "1000"],
    )?;
    cli.fails(127, ["run", "--name", "missing", "busybox", "/no/such"])?;
    cli.ok(["kill", "asked"])?;
    let pid = cli.inspect("outside", "{{.State.Pid}}")?;
    engine.world().command("kill").args(["-9", &pid]).status()?;
    for name in ["itself", "outside", "hungry"] {
        cli.wait_for(name, "{{.State.Status}}", "exited")?;
    }
    cli.wait_for("sick", "{{.State.Health.Status}}", "unhealthy")?;
    cli.wait_for("crashing", "{{.State.Restarting}}", "true")?;
    // A later engine knows it, too.
    engine.kill()?;
    engine.launch()?;
    for (name, wanted) in [
        ("itself", "its program ended by itself, with 3"),
        ("asked", "was ended by SIGKILL, which a user asked for"),
        ("outside", "SIGKILL, which came from itself or from outside"),
        ("hungry", "for want of memory: it reached its limit of 16MiB"),
        ("crashing", "times by itself"),
        ("sick", "is unhealthy, "),
        ("missing", "could not be started: "),
    ] {
        let said = naru.ok(["why", name])?;
        assert!(said.contains(wanted), "{name}: no {wanted:?} in\n{said}");
    }
    assert!(naru.ok(["why", "sick"])?.contains("the last check said \"no\""));
    let told: Value = serde_json::from_str(&naru.ok(["why", "--format", "json", "asked"])?).context("JSON")?;
    let ended =
        told["History"].as_array().and_then(|h| h.last()).map(|f| f["Fact"]["ended"].clone()).unwrap_or_default();
    assert_eq!((&ended["signal"], &ended["asked_signal"]), (&Value::from(9), &Value::from(9)), "{told}");
    run(
        "holder",
        &["-p", "127.0.0.1:18099:80", "-v", "kept:/kept"],
        &["sh", "-c", "head -c 50000 /dev/zero >/f; echo up; exec sleep 1000"],
    )?;
    cli.wait_for_log("holder", "up")?;
    let told: Value = serde_json::from_str(&naru.ok(["why", "--format", "json", "holder"])?).context("JSON")?;
    let reason = |topic: &str| told["Reasons"].as_array().into_iter().flatten().find(|r| r["Topic"] == topic).cloned();
    for (topic, wanted) in [
        ("state", "runs"),
        ("port", "holds port 18099 of \"127.0.0.1\" for 80/tcp, because it runs"),
        ("disk", "holds until it is removed: writable layer 5"),
        ("disk", "keeps from being pruned: volume kept"),
    ] {
        let reason = reason(topic).with_context(|| format!("nothing about {topic} in {told}"))?;
        assert!(reason["Text"].as_str().is_some_and(|text| text.contains(wanted)), "no {wanted:?} in {reason}");
        assert!(reason["Time"].as_str().is_some_and(|time| time.starts_with("20")), "no time in {reason}");
    }
    let said = naru.fails(1, ["why", "nobody"])?;
    assert!(said.contains("No such container: nobody"), "{said}");
    engine.finish()
}

/// Waits until `why` has the text.
fn says(naru: &Client, name: &str, wanted: &str) -> Result<()> {
    eventually(&format!("why {name} to say {wanted:?}"), || {
        let said = naru.ok(["why", name])?;
        ensure!(said.contains(wanted), "it says\n{said}");
        Ok(())
    })
}

#[test]
fn a_start_that_fails_has_its_cause() -> Result<()> {
    if only_naru("dockerd looks at no program") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let folder = engine.scratch("programs")?;
    let (cli, naru) = (engine.cli(), engine.naru());
    let mount = format!("{}:/b", folder.display());
    let elf = |loader: &str, machine: u8| {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        // ET_EXEC of this machine, one program header, which names the loader.
        file.extend([2, 0, machine, 0, 1, 0, 0, 0]);
        file.extend([0; 8]);
        file.extend(64_u64.to_le_bytes());
        file.extend([0; 12]);
        file.extend([64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let length = (loader.len() as u64 + 1).to_le_bytes();
        file.extend(3_u32.to_le_bytes());
        file.extend([4, 0, 0, 0]);
        file.extend(120_u64.to_le_bytes());
        file.extend([0; 16]);
        file.extend(length);
        file.extend(length);
        file.extend(1_u64.to_le_bytes());
        file.extend(loader.as_bytes());
        file.push(0);
        file.resize(4096, 0);
        file
    };
    let (own, other) = if cfg!(target_arch = "aarch64") { (183, 62) } else { (62, 183) };
    for (name, code, mode, content, wanted) in [
        (
            "script",
            127,
            0o755,
            &b"#!/no/such x\n"[..],
            "its first line asks for \"/no/such\", which is not in the container",
        ),
        ("windows", 127, 0o755, b"#!/bin/sh\r\n", "the lines of the script end as Windows has it"),
        ("dynamic", 127, 0o755, &elf("/lib/ld-musl-x86_64.so.1", own), "built for musl, such as Alpine's"),
        ("foreign", 128, 0o755, &elf("/lib/ld.so", other), "it is a program of 64 bits for "),
        ("garbage", 128, 0o755, &[0xff; 100], "it is no program: neither ELF nor a script"),
        ("empty", 128, 0o755, b"", "the file is empty"),
        ("bare", 128, 0o755, b"echo hi\n", "it is a text without a first line such as #!/bin/sh"),
        ("locked", 126, 0o644, b"#!/bin/sh\n", "its mode is 0644, which lets nobody execute it"),
    ] {
        let path = folder.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        let done = cli.run(["run", "--name", name, "-v", &mount, "busybox", &format!("/b/{name}")])?;
        ensure!(done.stderr.contains(wanted), "{name}: {}", done.stderr);
        // docker's client makes 125 of what it doesn't know.
        assert_eq!(cli.inspect(name, "{{.State.ExitCode}}")?, code.to_string(), "{name}: {}", done.stderr);
        says(&naru, name, wanted)?;
    }
    let taken = engine.world().in_network(|| TcpListener::bind("127.0.0.1:18097"))?;
    let taken = taken.join().ok().context("the listener's thread")???;
    cli.fails(125, ["run", "-d", "--name", "port", "-p", "127.0.0.1:18097:80", "busybox", "sleep", "1000"])?;
    says(&naru, "port", "18097")?;
    drop(taken);
    cli.ok(["network", "create", "leaves"])?;
    cli.ok(["create", "--name", "network", "--network", "leaves", "busybox", "true"])?;
    cli.ok(["network", "rm", "leaves"])?;
    cli.fails(1, ["start", "network"])?;
    says(&naru, "network", "network leaves not found")?;
    // A layer that somebody has taken away, and brought back.
    cli.ok(["create", "--name", "layer", "busybox", "true"])?;
    let layers = fs::read_dir(engine.data_root().join("images/layers"))?.flatten();
    let layer = layers.map(|entry| entry.path()).find(|path| path.join("diff").is_dir()).context("a layer")?;
    fs::rename(layer.join("diff"), layer.join("away"))?;
    let failed = cli.fails(1, ["start", "layer"]);
    fs::rename(layer.join("away"), layer.join("diff"))?;
    assert!(failed?.contains("a layer of its image is not on the disk any more"));
    cli.ok(["start", "layer"])?;
    let gone = engine.scratch("gone")?;
    cli.ok(["create", "--name", "bind", "-v", &format!("{}:/v", gone.display()), "busybox", "true"])?;
    fs::remove_dir(&gone)?;
    cli.fails(1, ["start", "bind"])?;
    says(&naru, "bind", &format!("{:?}", gone.display().to_string()))?;
    engine.finish()
}

#[test]
fn memory_is_short_by_somebodys_limit() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, naru) = (engine.cli(), engine.naru());
    let grows = "x=a; while :; do x=$x$x; done";
    let flags = ["-m", "16m", "--memory-swap", "16m"];
    let script = format!("({grows}); exec sleep 1000");
    cli.ok([&["run", "-d", "--name", "child"], &flags[..], &["busybox", "sh", "-c", &script]].concat())?;
    eventually("an event of the kill", || {
        let until = cli.ok(["info", "--format", "{{.SystemTime}}"])?;
        let events = cli.ok(["events", "--since", "1", "--until", &until, "--filter", "event=oom"])?;
        ensure!(events.contains("name=child"), "{events:?}");
        Ok(())
    })?;
    assert_eq!(cli.inspect("child", "{{.State.Running}}")?, "true");
    if only_naru("dockerd keeps no reasons") {
        return engine.finish();
    }
    says(&naru, "child", "the kernel killed 1 process in it for want of memory: it reached its limit of 16MiB")?;
    // A group above the container's: its limit is written where an administrator would.
    let team = unique("team");
    let eats = format!("until [ -e /go ]; do sleep 0.05; done; {grows}");
    cli.ok(["run", "-d", "--name", "member", "--cgroup-parent", &format!("/{team}"), "busybox", "sh", "-c", &eats])?;
    let limit = format!(
        "cd /sys/fs/cgroup; if [ -d memory/{team} ]; then cd memory/{team}; echo 48m >memory.limit_in_bytes; \
         [ ! -e memory.memsw.limit_in_bytes ] || echo 48m >memory.memsw.limit_in_bytes; else cd {team}; \
         echo 48m >memory.max; [ ! -e memory.swap.max ] || echo 0 >memory.swap.max; fi"
    );
    let done = engine.world().command("sh").args(["-c", &limit]).output()?;
    ensure!(done.status.success(), "{done:?}");
    cli.ok(["exec", "member", "touch", "/go"])?;
    cli.wait_for("member", "{{.State.Status}} {{.State.OOMKilled}}", "exited true")?;
    says(&naru, "member", &format!("the group /{team}, in which it is, reached its limit of 48MiB"))?;
    engine.finish()
}

#[test]
fn an_end_tells_who_asked_and_what_was_said() -> Result<()> {
    if only_naru("dockerd keeps no reasons") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, naru) = (engine.cli(), engine.naru());
    let run = |name: &str, more: &[&str], script: &str| {
        cli.ok([&["run", "-d", "--name", name], more, &["busybox", "sh", "-c", script]].concat())
    };
    run("polite", &[], "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")?;
    cli.wait_for_log("polite", "up")?;
    cli.ok(["stop", "polite"])?;
    says(&naru, "polite", "a user asked for its end: stop, which sends SIGTERM, and SIGKILL after 10 s")?;
    says(&naru, "polite", "its program ended with 0, after SIGTERM that a user sent")?;
    run("talks", &[], "echo fine; echo cannot open the database >&2; exit 3")?;
    says(&naru, "talks", "the last line of its output: \"cannot open the database\"")?;
    run("forks", &["--pids-limit", "3"], "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait")?;
    says(&naru, "forks", "its limit of 3 of processes refused it a further one")?;
    run("tries", &["--restart", "on-failure:1"], "exit 3")?;
    says(
        &naru,
        "tries",
        "its policy on-failure doesn't start it again: it has been started again as often as that allows (1)",
    )?;
    run(
        "sick",
        &[
            "--health-cmd",
            "echo bad; false",
            "--health-interval",
            "50ms",
            "--health-retries",
            "1",
            "-l",
            "naru.health-on-failure=kill",
        ],
        "exec sleep 1000",
    )?;
    says(&naru, "sick", "became unhealthy: the check said \"bad\"")?;
    says(&naru, "sick", "was ended for being unhealthy (kill), with 137")?;
    run("asleep", &["--health-cmd", "true", "--health-interval", "1h"], "exec sleep 1000")?;
    cli.ok(["pause", "asleep"])?;
    says(&naru, "asleep", "counts as unhealthy while it is paused: nothing checks it")?;
    cli.ok(["unpause", "asleep"])?;
    run("watched", &["--restart", "always"], "exec sleep 1000")?;
    for name in ["alone", "before"] {
        run(name, &[], "exec sleep 1000")?;
    }
    // Its monitor is killed, and another machine boots: what nobody saw.
    let id = cli.inspect("alone", "{{.Id}}")?;
    let monitor = engine.world().processes()?.into_iter().filter_map(|process| {
        let pid = process.split(' ').next()?.to_owned();
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        title.contains(&id[..12]).then_some(pid)
    });
    let monitor = monitor.last().context("its monitor")?;
    ensure!(std::process::Command::new("kill").args(["-9", &monitor]).status()?.success(), "kill {monitor}");
    says(&naru, "alone", "ended with 137, and nobody saw how: its monitor was killed, and it with that")?;
    engine.kill()?;
    for name in ["before", "watched"] {
        let path = record_of(&engine, name)?;
        let mut record: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let pid = record["record"]["state"]["pid"].as_i64().context("its process")?;
        record["record"]["state"]["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
        fs::write(&path, record.to_string())?;
        // As the machine's end would have done, monitors with it.
        engine
            .world()
            .command("sh")
            .args(["-c", &format!("kill -9 $(cat /proc/{pid}/stat | cut -d' ' -f4)")])
            .status()?;
        eventually("its process to be gone", || {
            let there = engine.world().command("test").args(["-e", &format!("/proc/{pid}")]).status()?.success();
            ensure!(!there, "{pid} is there");
            Ok::<_, anyhow::Error>(())
        })?;
    }
    engine.launch()?;
    says(&naru, "before", "ended with 255, and nobody saw how: the machine went down")?;
    cli.wait_for("watched", "{{.State.Running}} {{.State.Restarting}}", "true false")?;
    says(&naru, "watched", "started again by the engine")?;
    engine.finish()
}

/// The file of a container's record, found by its name.
fn record_of(engine: &Engine, name: &str) -> Result<std::path::PathBuf> {
    for entry in fs::read_dir(engine.data_root().join("containers"))?.flatten() {
        let path = entry.path().join("config.json");
        let record: Value = serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default();
        if record["record"]["name"] == name {
            return Ok(path);
        }
    }
    anyhow::bail!("no record of {name}")
}
