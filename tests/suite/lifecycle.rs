//! A container's life: create, start, attach, stop, kill, pause, rename, remove; and the lists that show it.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, invariants, shared, unique};
use naru_tests::only_naru;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

/// A running container with the given script.
fn started(stem: &str, script: &str) -> Result<(Client, String)> {
    let (cli, name) = (cli()?, unique(stem));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    Ok((cli, name))
}

#[test]
fn create_start_wait() -> Result<()> {
    let (cli, name) = (cli()?, unique("life"));
    let id = cli.ok(["create", "--name", &name, "busybox", "sh", "-c", "echo ran; exit 8"])?;
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.Pid}}")?, "created 0");
    assert_eq!(cli.ok(["start", &name])?, name);
    assert_eq!(cli.ok(["wait", &name])?, "8");
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 8");
    assert_eq!(cli.ok(["logs", &id])?, "ran");
    // Once more: its files and logs are kept.
    assert_eq!(cli.run(["start", "-a", &name])?.code, 8);
    assert_eq!(cli.ok(["logs", &id])?, "ran\nran");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn files_survive_a_restart() -> Result<()> {
    let (cli, name) = started("files", "echo x >>/count; wc -l </count; exec sleep 1000")?;
    cli.wait_for_log(&name, "1")?;
    // Killed, and started before the kernel may have taken everything of it down.
    for count in ["2", "3", "4"] {
        cli.ok(["restart", "-t", "0", &name])?;
        cli.wait_for_log(&name, count)?;
    }
    cli.ok(["kill", &name])?;
    cli.ok(["wait", &name])?;
    cli.ok(["start", &name])?;
    cli.wait_for_log(&name, "5")?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn start_twice_is_no_error() -> Result<()> {
    let (cli, name) = started("twice", "sleep 1000")?;
    let pid = cli.inspect(&name, "{{.State.Pid}}")?;
    cli.ok(["start", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.Pid}}")?, pid);
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn stop_lets_it_end_by_itself() -> Result<()> {
    let (cli, name) = started("stop", "trap 'echo bye; exit 11' TERM; echo up; while :; do sleep 0.1; done")?;
    cli.wait_for_log(&name, "up")?;
    assert_eq!(cli.ok(["stop", &name])?, name);
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 11");
    assert!(cli.ok(["logs", &name])?.contains("bye"));
    // Stopping what is stopped is no error.
    cli.ok(["stop", &name])?;
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn stop_kills_in_the_end() -> Result<()> {
    let (cli, name) = started("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done")?;
    cli.wait_for_log(&name, "up")?;
    cli.ok(["stop", "-t", "1", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.ExitCode}}")?, "137");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn kill_sends_any_signal() -> Result<()> {
    let (cli, name) =
        started("kill", "trap 'echo hup' HUP; trap 'echo usr2' USR2; echo up; while :; do sleep 0.1; done")?;
    cli.wait_for_log(&name, "up")?;
    cli.ok(["kill", "-s", "HUP", &name])?;
    cli.wait_for_log(&name, "hup")?;
    cli.ok(["kill", "--signal", "SIGUSR2", &name])?;
    cli.wait_for_log(&name, "usr2")?;
    cli.ok(["kill", "-s", "9", &name])?;
    cli.wait_for(&name, "{{.State.Running}} {{.State.ExitCode}}", "false 137")?;
    let said = cli.fails(1, ["kill", &name])?;
    assert!(said.contains("is not running"), "{said}");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn an_unknown_signal_is_refused() -> Result<()> {
    let (cli, name) = started("badsig", "sleep 1000")?;
    assert!(cli.fails(1, ["kill", "-s", "NOSUCH", &name])?.to_lowercase().contains("invalid signal"));
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn pause_freezes_it() -> Result<()> {
    let (cli, name) = started("pause", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")?;
    cli.wait_for_log(&name, "3")?;
    cli.ok(["pause", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.Paused}} {{.State.Running}}")?, "paused true true");
    assert!(cli.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"])?.contains("(Paused)"));
    // The engine may still be writing down what came before.
    let settled = eventually("the output to stop", || {
        let before = cli.ok(["logs", &name])?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        ensure!(cli.ok(["logs", &name])? == before, "it goes on");
        Ok(before)
    })?;
    assert!(cli.fails(1, ["pause", &name])?.contains("is already paused"));
    cli.ok(["unpause", &name])?;
    eventually("the output to go on", || {
        ensure!(cli.ok(["logs", &name])?.len() > settled.len(), "no more output");
        Ok(())
    })?;
    assert!(cli.fails(1, ["unpause", &name])?.contains("is not paused"));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn rename() -> Result<()> {
    let (cli, name) = started("old", "sleep 1000")?;
    let new = unique("new");
    cli.ok(["rename", &name, &new])?;
    assert_eq!(cli.inspect(&new, "{{.Name}}")?, format!("/{new}"));
    cli.fails(1, ["inspect", &name])?;
    // The old name is free, the new one is taken.
    cli.ok(["create", "--name", &name, "busybox"])?;
    assert!(cli.fails(1, ["rename", &name, &new])?.contains("already in use"));
    cli.ok(["rm", "-f", &name, &new])?;
    Ok(())
}

#[test]
fn rm_refuses_a_running_one() -> Result<()> {
    let (cli, name) = started("rm", "sleep 1000")?;
    let said = cli.fails(1, ["rm", &name])?;
    assert!(said.to_lowercase().contains("stop the container before"), "{said}");
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    assert_eq!(cli.ok(["rm", "-f", &name])?, name);
    cli.fails(1, ["inspect", &name])?;
    let said = cli.fails(1, ["rm", &name])?;
    assert!(said.contains(&format!("No such container: {name}")), "{said}");
    Ok(())
}

#[test]
fn several_at_once_go_on_after_a_failure() -> Result<()> {
    let (cli, one) = started("one", "sleep 1000")?;
    let (_, two) = started("two", "sleep 1000")?;
    let done = cli.run(["rm", "-f", &one, "no-such-container", &two])?;
    assert!(done.stdout.contains(&one) && done.stdout.contains(&two), "{done:?}");
    let done = cli.run(["stop", "no-such-container"])?;
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("No such container: no-such-container"), "{}", done.stderr);
    Ok(())
}

#[test]
fn wait_gives_each_code() -> Result<()> {
    let (cli, one) = started("w1", "sleep 0.2; exit 1")?;
    let (_, two) = started("w2", "exit 2")?;
    assert_eq!(cli.ok(["wait", &one, &two])?, "1\n2");
    cli.ok(["rm", &one, &two])?;
    Ok(())
}

#[test]
fn attach_shows_and_feeds() -> Result<()> {
    let (cli, name) = (cli()?, unique("attach"));
    let script = "while read x; do echo got $x; [ $x = quit ] && exit 6; done; echo input ended";
    cli.ok(["run", "-d", "-i", "--name", &name, "busybox", "sh", "-c", script])?;
    let mut running = cli.start(["attach", &name])?;
    running.write("one\n")?;
    running.expect("got one\n")?;
    // Its input stays open when an attached client goes away, for the next one to write to.
    running.signal(rustix::process::Signal::KILL)?;
    drop(running);
    let mut next = cli.start(["attach", &name])?;
    next.write("two\n")?;
    next.expect("got two\n")?;
    next.write("quit\n")?;
    next.expect("got quit\n")?;
    assert_eq!(next.finish()?.code, 6);
    assert_eq!(cli.ok(["logs", &name])?, "got one\ngot two\ngot quit");
    assert!(cli.fails(1, ["attach", &name])?.contains("You cannot attach to a stopped container, start it first"));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn two_attached_see_the_same() -> Result<()> {
    let (cli, name) = (cli()?, unique("both"));
    cli.ok(["run", "-dit", "--name", &name, "busybox", "sh"])?;
    let mut first = cli.pty(["attach", &name])?;
    let mut second = cli.pty(["attach", &name])?;
    // A pressed key echoes to whoever is attached by then.
    eventually("both to be attached", || {
        first.send("echo to''gether\r")?;
        std::thread::sleep(std::time::Duration::from_millis(100));
        ensure!(first.screen().contains("together") && second.screen().contains("together"), "{:?}", second.screen());
        Ok(())
    })?;
    second.send("exit 4\r")?;
    assert_eq!((first.finish()?.0, second.finish()?.0), (4, 4));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn detach_keys_leave_it_running() -> Result<()> {
    let (cli, name) = (cli()?, unique("detach"));
    let mut pty = cli.pty(["run", "-it", "--name", &name, "busybox", "sh"])?;
    pty.send("echo rea''dy\r")?;
    pty.expect("ready")?;
    pty.send("\x10\x11")?;
    assert_eq!(pty.finish()?.0, 0);
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");

    let mut pty = cli.pty(["attach", "--detach-keys", "ctrl-a,d", &name])?;
    eventually("the attached shell", || {
        pty.send("echo ag''ain\r")?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        ensure!(pty.screen().contains("again"), "{:?}", pty.screen());
        Ok(())
    })?;
    pty.send("\x01d")?;
    let (_, screen) = pty.finish()?;
    assert!(screen.contains("read escape sequence"), "{screen:?}");
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_lost_client_leaves_it_running() -> Result<()> {
    let (cli, name) = (cli()?, unique("lost"));
    let running =
        cli.start(["run", "-i", "--name", &name, "busybox", "sh", "-c", "echo up; while :; do sleep 0.1; done"])?;
    running.expect("up")?;
    running.signal(rustix::process::Signal::KILL)?;
    drop(running);
    cli.ok(["exec", &name, "true"])?;
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn ps_shows_running_ones_and_all() -> Result<()> {
    let (cli, up) = started("psup", "sleep 1000")?;
    let down = unique("psdown");
    cli.ok(["run", "--name", &down, "busybox", "true"])?;
    let running = cli.ok(["ps"])?;
    let all = cli.ok(["ps", "-a"])?;
    let header: Vec<&str> = running.lines().next().unwrap_or_default().split("  ").filter(|w| !w.is_empty()).collect();
    let header: Vec<&str> = header.iter().map(|word| word.trim()).collect();
    assert_eq!(header, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(running.contains(&up) && !running.contains(&down), "{running}");
    assert!(all.contains(&up) && all.contains(&down), "{all}");
    let line = all.lines().find(|line| line.contains(&up)).unwrap_or_default();
    assert!(line.contains("busybox") && line.contains("\"sh -c 'sleep 1000'\"") && line.contains("Up "), "{line}");
    let line = all.lines().find(|line| line.contains(&down)).unwrap_or_default();
    assert!(line.contains("Exited (0) "), "{line}");
    cli.ok(["rm", "-f", &up, &down])?;
    Ok(())
}

#[test]
fn ps_filters() -> Result<()> {
    let (cli, label) = (cli()?, unique("mark"));
    let mark = format!("label={label}");
    let names: Vec<String> = ["a", "b", "c"].iter().map(|stem| unique(stem)).collect();
    cli.ok(["run", "-d", "--name", &names[0], "-l", &label, "-l", "kind=x", "busybox", "sleep", "1000"])?;
    cli.ok(["run", "--name", &names[1], "-l", &label, "busybox", "true"])?;
    cli.run(["run", "--name", &names[2], "-l", &label, "busybox", "sh", "-c", "exit 3"])?;
    let list = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}", "--filter", &mark];
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        Ok(cli.ok(args)?.lines().map(str::to_owned).collect())
    };
    // The newest comes first.
    assert_eq!(list(&[])?, [names[2].as_str(), &names[1], &names[0]]);
    assert_eq!(list(&["status=running"])?, [names[0].as_str()]);
    assert_eq!(list(&["status=exited"])?, [names[2].as_str(), &names[1]]);
    assert_eq!(list(&["exited=3"])?, [names[2].as_str()]);
    assert_eq!(list(&["label=kind=x"])?, [names[0].as_str()]);
    assert_eq!(list(&[&format!("name={}", names[1])])?, [names[1].as_str()]);
    assert_eq!(list(&[&format!("before={}", names[1])])?, [names[0].as_str()]);
    assert_eq!(list(&[&format!("since={}", names[1])])?, [names[2].as_str()]);
    assert_eq!(list(&["ancestor=busybox"])?.len(), 3);
    assert!(list(&["ancestor=no-such-image"])?.is_empty());
    assert_eq!(list(&["status=running", "status=exited"])?.len(), 3);
    cli.fails(1, ["ps", "--filter", "nosuch=1"])?;
    cli.ok(["rm", "-f", &names[0], &names[1], &names[2]])?;
    Ok(())
}

#[test]
fn ps_formats_and_sizes() -> Result<()> {
    let (cli, name) = started("fmt", "head -c 10000 /dev/zero >/f; echo up; exec sleep 1000")?;
    cli.wait_for_log(&name, "up")?;
    let filter = format!("name={name}");
    let id = cli.inspect(&name, "{{.Id}}")?;
    let ps = |args: &[&str]| cli.ok([&["ps", "--filter", &filter], args].concat());
    assert_eq!(ps(&["-q"])?, id[..12]);
    assert_eq!(ps(&["-q", "--no-trunc"])?, id);
    assert_eq!(
        ps(&["--format", "{{.ID}}|{{.Image}}|{{.State}}|{{.Names}}"])?,
        format!("{}|busybox|running|{name}", &id[..12])
    );
    assert!(ps(&["--format", "table {{.Names}}\t{{.Image}}"])?.starts_with("NAMES"));
    let json: serde_json::Value = serde_json::from_str(&ps(&["--format", "{{json .}}"])?)?;
    assert_eq!((json["Names"].as_str(), json["State"].as_str()), (Some(name.as_str()), Some("running")));
    let size = ps(&["-s", "--format", "{{.Size}}"])?;
    assert!(size.starts_with("10kB (virtual "), "{size}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn ps_last_ones() -> Result<()> {
    // Other tests make containers at the same time, so only counts can be told.
    let (cli, name) = started("last", "sleep 1000")?;
    cli.ok(["create", "--name", &format!("{name}-2"), "busybox"])?;
    assert_eq!(cli.ok(["ps", "-n", "2", "-q"])?.lines().count(), 2);
    assert_eq!(cli.ok(["ps", "-l", "-q"])?.lines().count(), 1);
    cli.ok(["rm", "-f", &name, &format!("{name}-2")])?;
    Ok(())
}

#[test]
fn top_lists_its_processes() -> Result<()> {
    let (cli, name) = started("top", "echo up; sleep 1234")?;
    cli.wait_for_log(&name, "up")?;
    let said = cli.ok(["top", &name])?;
    assert!(said.lines().next().unwrap_or_default().contains("PID") && said.contains("sleep 1234"), "{said}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn diff_and_cp() -> Result<()> {
    let (cli, name) = (cli()?, unique("cp"));
    let folder = shared()?.scratch("cp")?;
    cli.ok([
        "run",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "echo new >/tmp/new; rm /etc/group; mkdir /d; ln -s /tmp/new /d/l",
    ])?;
    let diff = cli.ok(["diff", &name])?;
    for line in ["A /d", "A /d/l", "A /tmp/new", "C /tmp", "D /etc/group", "C /etc"] {
        assert!(diff.lines().any(|have| have == line), "{line} is not in\n{diff}");
    }
    let target = folder.join("out");
    cli.ok(["cp", &format!("{name}:/tmp/new"), &target.display().to_string()])?;
    assert_eq!(std::fs::read_to_string(&target)?, "new\n");
    std::fs::write(folder.join("in"), "copied in")?;
    cli.ok(["cp", &folder.join("in").display().to_string(), &format!("{name}:/etc/in")])?;
    cli.ok(["cp", &format!("{name}:/etc/in"), &folder.join("back").display().to_string()])?;
    assert_eq!(std::fs::read_to_string(folder.join("back"))?, "copied in");
    let said = cli.fails(1, ["cp", &format!("{name}:/no/such"), &target.display().to_string()])?;
    assert!(said.contains("/no/such"), "{said}");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn update_changes_a_running_one() -> Result<()> {
    let (cli, name) = started("update", "sleep 1000")?;
    cli.ok(["update", "-m", "64m", "--memory-swap", "64m", &name])?;
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(cli.ok(["exec", &name, "sh", "-c", limit])?, "67108864");
    assert_eq!(cli.inspect(&name, "{{.HostConfig.Memory}}")?, "67108864");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn restart_policy_starts_it_again() -> Result<()> {
    let (cli, name) = (cli()?, unique("again"));
    let script = "echo x >>/n; test $(wc -l </n) -ge 3";
    cli.ok(["run", "-d", "--restart", "on-failure:5", "--name", &name, "busybox", "sh", "-c", script])?;
    cli.wait_for(&name, "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 2 0")?;
    cli.ok(["rm", &name])?;

    let name = unique("gives-up");
    cli.ok(["run", "-d", "--restart", "on-failure:2", "--name", &name, "busybox", "false"])?;
    cli.wait_for(&name, "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 2 1")?;
    cli.ok(["rm", &name])?;
    let said = cli.fails(125, ["run", "--rm", "--restart", "always", "busybox", "true"])?;
    assert!(said.contains("--restart") && said.contains("--rm"), "{said}");
    Ok(())
}

#[test]
fn stop_ends_a_restarting_one() -> Result<()> {
    let (cli, name) = (cli()?, unique("always"));
    cli.ok(["run", "-d", "--restart", "always", "--name", &name, "busybox", "sh", "-c", "sleep 0.1; exit 1"])?;
    eventually("a restart", || {
        let count = cli.inspect(&name, "{{.RestartCount}}")?;
        ensure!(count != "0", "none yet");
        Ok(())
    })?;
    cli.ok(["stop", "-t", "1", &name])?;
    cli.wait_for(&name, "{{.State.Status}}", "exited")?;
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn healthcheck() -> Result<()> {
    let (cli, name) = (cli()?, unique("health"));
    let flags = [
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "5s",
    ];
    cli.ok([&["run", "-d", "--name", &name], &flags[..], &["busybox", "sleep", "1000"]].concat())?;
    cli.wait_for(&name, "{{.State.Health.Status}}", "unhealthy")?;
    cli.ok(["exec", &name, "touch", "/ok"])?;
    cli.wait_for(&name, "{{.State.Health.Status}}", "healthy")?;
    assert!(cli.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"])?.contains("(healthy)"));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn prune_removes_what_has_ended() -> Result<()> {
    // A filter keeps the other tests' containers out of it.
    let (cli, label) = (cli()?, unique("prune"));
    cli.ok(["run", "-l", &label, "busybox", "true"])?;
    let up = cli.ok(["run", "-d", "-l", &label, "busybox", "sleep", "1000"])?;
    let said = cli.ok(["container", "prune", "-f", "--filter", &format!("label={label}")])?;
    assert!(said.contains("Deleted Containers:") && said.contains("Total reclaimed space:"), "{said}");
    assert_eq!(cli.ok(["ps", "-aq", "--no-trunc", "--filter", &format!("label={label}")])?, up);
    cli.ok(["rm", "-f", &up])?;
    Ok(())
}

#[test]
fn removals_that_meet_leave_nothing() -> Result<()> {
    if only_naru("what is on the disk is another engine's affair") {
        return Ok(());
    }
    let mut engine = Engine::with(Target::Naru, EngineOptions::default())?;
    engine.load_busybox()?;
    let http = engine.http();
    for round in 0..12 {
        let settings = serde_json::json!({
            "Image": "busybox",
            "Cmd": ["sleep", "1000"],
            "Volumes": {"/v": {}},
            "HostConfig": {"AutoRemove": round % 2 == 1},
        });
        let made = http.post("/containers/create", &settings)?.json()?;
        let id = made["Id"].as_str().context("an id")?;
        http.post(&format!("/containers/{id}/start"), &serde_json::Value::Null)?;
        let path = format!("/containers/{id}?v=1&force=1");
        let answers: Vec<u16> = std::thread::scope(|scope| {
            let delete = || http.request("DELETE", &path, &[], &[]).map_or(0, |answer| answer.status);
            let clients: Vec<_> = (0..6).map(|_| scope.spawn(delete)).collect();
            clients.into_iter().map(|client| client.join().unwrap_or(0)).collect()
        });
        ensure!(answers.iter().all(|status| [204, 404, 409].contains(status)), "{answers:?}");
        ensure!(answers.iter().filter(|status| **status == 204).count() <= 1, "removed more than once: {answers:?}");
    }
    eventually("nothing to be left", || invariants::check(&engine, &invariants::see(&http)?, |_| false))?;
    engine.finish()
}
