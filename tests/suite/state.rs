//! Commands that meet on one container: one after the other, or refused, as docker does it; and never a state that is none.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, invariants, shared, unique};
use naru_tests::only_naru;
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The answers of requests that are sent at the same time: each with its status, 0 when there was none.
fn at_once(requests: &[(&str, String)]) -> Result<Vec<u16>> {
    let http = shared()?.http();
    let http = &http;
    Ok(std::thread::scope(|scope| {
        let send = |(method, path): &(&str, String)| http.request(method, path, &[], &[]).map_or(0, |a| a.status);
        let clients: Vec<_> = requests.iter().map(|request| scope.spawn(move || send(request))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or(0)).collect()
    }))
}

fn created(cli: &Client, stem: &str, script: &str) -> Result<String> {
    let name = unique(stem);
    cli.ok(["create", "--name", &name, "busybox", "sh", "-c", script])?;
    Ok(name)
}

fn gone(cli: &Client, name: &str) -> Result<()> {
    eventually("the container to be gone", || {
        let left = cli.ok(["ps", "-aq", "--filter", &format!("name=^/?{name}$")])?;
        ensure!(left.is_empty(), "it is there: {left}");
        Ok(())
    })
}

#[test]
fn starts_that_meet_are_one() -> Result<()> {
    let cli = shared()?.cli();
    let name = created(&cli, "meet", "echo ran; exec sleep 1000")?;
    let start = ("POST", format!("/containers/{name}/start"));
    let answers = at_once(&vec![start; 6])?;
    assert_eq!(answers.iter().filter(|status| **status == 204).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 304).count(), 5, "{answers:?}");
    cli.wait_for_log(&name, "ran")?;
    assert_eq!(cli.ok(["logs", &name])?, "ran");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn stops_that_meet_are_all_answered() -> Result<()> {
    let cli = shared()?.cli();
    let name = created(&cli, "stops", "exec sleep 1000")?;
    cli.ok(["start", &name])?;
    let stop = ("POST", format!("/containers/{name}/stop?t=0"));
    let answers = at_once(&vec![stop; 4])?;
    // docker answers each that came while it ran with success.
    assert!(answers.iter().all(|status| [204, 304].contains(status)), "{answers:?}");
    assert!(answers.contains(&204), "{answers:?}");
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn a_stop_and_a_removal_that_meet() -> Result<()> {
    let cli = shared()?.cli();
    for _ in 0..4 {
        let name = created(&cli, "stoprm", "exec sleep 1000")?;
        cli.ok(["start", &name])?;
        let answers = at_once(&[
            ("POST", format!("/containers/{name}/stop?t=0")),
            ("DELETE", format!("/containers/{name}")),
            ("DELETE", format!("/containers/{name}?force=1")),
        ])?;
        // Stopped, or gone before that. A removal comes too early, too late, or in time.
        assert!([204, 304, 404, 409, 500].contains(&answers[0]), "{answers:?}");
        assert!(answers[1..].iter().all(|status| [204, 404, 409].contains(status)), "{answers:?}");
        let answer = shared()?.http().request("DELETE", &format!("/containers/{name}?force=1"), &[], &[])?.status;
        assert!([204, 404, 409].contains(&answer), "{answer}");
        gone(&cli, &name)?;
    }
    Ok(())
}

#[test]
fn a_forced_removal_meets_a_start() -> Result<()> {
    let cli = shared()?.cli();
    for _ in 0..5 {
        let name = created(&cli, "rmstart", "exec sleep 1000")?;
        let answers = at_once(&[
            ("POST", format!("/containers/{name}/start")),
            ("DELETE", format!("/containers/{name}?force=1")),
        ])?;
        assert!([204, 404, 409, 500].contains(&answers[0]), "{answers:?}");
        assert!([204, 404, 409, 500].contains(&answers[1]), "{answers:?}");
        if answers[1] == 204 {
            gone(&cli, &name)?;
        }
        // The name is free, whatever was first.
        cli.run(["rm", "-f", &name])?;
        gone(&cli, &name)?;
        cli.ok(["run", "--rm", "--name", &name, "busybox", "true"])?;
    }
    Ok(())
}

#[test]
fn a_kill_reaches_a_paused_one() -> Result<()> {
    let cli = shared()?.cli();
    let name = created(&cli, "killpaused", "exec sleep 1000")?;
    cli.ok(["start", &name])?;
    cli.ok(["pause", &name])?;
    cli.ok(["kill", &name])?;
    cli.wait_for(&name, "{{.State.Status}} {{.State.Paused}} {{.State.ExitCode}}", "exited false 137")?;
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn commands_that_meet_a_pause() -> Result<()> {
    let cli = shared()?.cli();
    let name = created(&cli, "pauses", "exec sleep 1000")?;
    cli.ok(["start", &name])?;
    for _ in 0..4 {
        let answers = at_once(&[
            ("POST", format!("/containers/{name}/pause")),
            ("POST", format!("/containers/{name}/unpause")),
            ("POST", format!("/containers/{name}/pause")),
        ])?;
        assert!(answers.iter().all(|status| [204, 409, 500].contains(status)), "{answers:?}");
        assert!(answers.contains(&204), "{answers:?}");
        // What inspect says is what the kernel does.
        let paused = cli.inspect(&name, "{{.State.Paused}}")? == "true";
        let answer = shared()?.http().post(&format!("/containers/{name}/unpause"), &Value::Null)?.status;
        assert_eq!(answer == 204, paused, "{answer}");
        assert_eq!(cli.ok(["exec", &name, "echo", "in"])?, "in");
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

/// Sends a request and goes away, so long after it.
fn send_and_leave((method, path): (&str, String), after: Duration) -> Result<()> {
    let mut socket = UnixStream::connect(shared()?.socket())?;
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")?;
    // Not waited for anything: the moment is to be another one each time.
    std::thread::sleep(after);
    drop(socket);
    Ok(())
}

#[test]
fn what_was_asked_for_is_done_whole_though_its_client_leaves() -> Result<()> {
    let cli = shared()?.cli();
    let post = |path: String| ("POST", path);
    for step in 0..6 {
        let after = Duration::from_micros(step * 900);
        let name = created(&cli, "leave", "exec sleep 1000")?;
        let path = |command: &str| format!("/containers/{name}/{command}");
        send_and_leave(post(path("start")), after)?;
        // Done or not begun; either way it can be started, and obeys.
        cli.ok(["start", &name])?;
        assert_eq!(cli.ok(["exec", &name, "echo", "in"])?, "in");
        send_and_leave(post(format!("/commit?container={name}")), after)?;
        // Not left frozen. While it is, dockerd refuses this.
        eventually("it to go on", || {
            let said = cli.ok(["exec", &name, "echo", "in"])?;
            ensure!(said == "in", "it says {said}");
            Ok::<_, anyhow::Error>(())
        })?;
        send_and_leave(post(path("pause")), after)?;
        eventually("it to go on", || {
            // One that is not paused yet, or not any more, answers that.
            cli.run(["unpause", &name])?;
            ensure!(cli.inspect(&name, "{{.State.Paused}}")? == "false", "it is paused");
            Ok(())
        })?;
        send_and_leave(post(path("restart?t=0")), after)?;
        cli.ok(["restart", "-t", "0", &name])?;
        assert_eq!(cli.ok(["exec", &name, "echo", "in"])?, "in");
        send_and_leave(post(path("stop?t=0")), after)?;
        cli.ok(["stop", "-t", "0", &name])?;
        assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 137");
        cli.ok(["start", &name])?;
        send_and_leave(("DELETE", format!("/containers/{name}?force=1")), after)?;
        cli.run(["rm", "-f", &name])?;
        gone(&cli, &name)?;
        cli.ok(["run", "--rm", "--name", &name, "busybox", "true"])?;
    }
    cli.ok(["image", "prune", "-f"])?;
    Ok(())
}

#[test]
fn a_pause_meets_no_process_on_its_way() -> Result<()> {
    if only_naru("its processes are counted, and its engine is killed") {
        return Ok(());
    }
    let mut engine = Engine::with(Target::Naru, EngineOptions::default())?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let check = ["--health-cmd", "true", "--health-interval", "1ms"];
    cli.ok(["run", "-d", "--name", "checked"].into_iter().chain(check).chain(["busybox", "sleep", "1000"]))?;
    for round in 0..25 {
        cli.ok(["pause", "checked"])?;
        // A check's process that is not its program yet would have its monitor's name, and keep that waiting.
        let processes = engine.world().processes()?;
        let monitors = processes.iter().filter(|p| p.contains("naru-monitor")).count();
        assert_eq!(monitors, 1, "in round {round}: {processes:?}");
        if round % 10 == 0 {
            engine.kill()?;
            engine.launch()?;
            assert_eq!(cli.inspect("checked", "{{.State.Paused}}")?, "true");
        }
        cli.ok(["unpause", "checked"])?;
    }
    cli.ok(["rm", "-f", "checked"])?;
    engine.finish()
}

#[test]
fn a_name_goes_to_one() -> Result<()> {
    let cli = shared()?.cli();
    let (one, two, wanted) = (created(&cli, "one", "true")?, created(&cli, "two", "true")?, unique("wanted"));
    let answers = at_once(&[
        ("POST", format!("/containers/{one}/rename?name={wanted}")),
        ("POST", format!("/containers/{two}/rename?name={wanted}")),
    ])?;
    assert_eq!(answers.iter().filter(|status| **status == 204).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 409).count(), 1, "{answers:?}");
    let loser = if answers[0] == 204 { &two } else { &one };
    // The one that lost has its name, and the winner's old one is free.
    assert_eq!(cli.inspect(loser, "{{.Name}}")?, format!("/{loser}"));
    let free = if answers[0] == 204 { &one } else { &two };
    cli.ok(["rename", loser, free])?;
    cli.ok(["rm", &wanted, free])?;
    // Renamed and removed at once: either way nothing has the name in the end.
    let name = created(&cli, "renamed", "true")?;
    let new = unique("new");
    let answers = at_once(&[
        ("POST", format!("/containers/{name}/rename?name={new}")),
        ("DELETE", format!("/containers/{name}")),
    ])?;
    assert!([204, 404, 409, 500].contains(&answers[0]), "{answers:?}");
    cli.run(["rm", "-f", &new])?;
    gone(&cli, &name)?;
    gone(&cli, &new)?;
    for name in [&name, &new] {
        cli.ok(["create", "--name", name, "busybox"])?;
    }
    cli.ok(["rm", &name, &new])?;
    Ok(())
}

#[test]
fn each_condition_of_a_wait() -> Result<()> {
    let (cli, http) = (shared()?.cli(), shared()?.http());
    let name = created(&cli, "wait", "read x; exit 5")?;
    let code = |condition: &str| -> Result<Value> {
        Ok(http.post(&format!("/containers/{name}/wait{condition}"), &Value::Null)?.json()?["StatusCode"].take())
    };
    // One that has never run doesn't run.
    assert_eq!([code("")?, code("?condition=not-running")?], [0, 0]);
    let (next_head, mut next) = http.stream("POST", &format!("/containers/{name}/wait?condition=next-exit"))?;
    let (removed_head, mut removed) = http.stream("POST", &format!("/containers/{name}/wait?condition=removed"))?;
    cli.ok(["start", &name])?;
    let outcome: Value = serde_json::from_slice(&next.body(&next_head)?)?;
    // Its input is closed, so it ends by itself.
    assert_eq!(outcome["StatusCode"], 5);
    assert_eq!(code("?condition=not-running")?, 5);
    cli.ok(["rm", &name])?;
    let outcome: Value = serde_json::from_slice(&removed.body(&removed_head)?)?;
    assert_eq!(outcome["StatusCode"], 5);
    assert!(http.post(&format!("/containers/{name}/wait"), &Value::Null)?.error(404)?.contains("No such container"));
    let other = created(&cli, "bad", "true")?;
    // docker took anything until its version 23.
    if engine_is_naru()? {
        let said = http.post(&format!("/containers/{other}/wait?condition=nonsense"), &Value::Null)?.error(400)?;
        assert!(said.to_lowercase().contains("invalid condition"), "{said}");
    }
    cli.ok(["rm", &other])?;
    Ok(())
}

fn engine_is_naru() -> Result<bool> {
    Ok(shared()?.target() == Target::Naru)
}

#[test]
fn rm_goes_with_d() -> Result<()> {
    let cli = shared()?.cli();
    let name = unique("rmd");
    cli.ok(["run", "-d", "--rm", "--name", &name, "busybox", "sleep", "1000"])?;
    assert_eq!(cli.inspect(&name, "{{.HostConfig.AutoRemove}} {{.State.Running}}")?, "true true");
    // A restart is no end.
    cli.ok(["restart", "-t", "0", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    cli.ok(["stop", "-t", "0", &name])?;
    gone(&cli, &name)?;
    // One that could not be started goes too.
    let done = cli.run(["run", "-d", "--rm", "--name", &name, "busybox", "/no/such/program"])?;
    assert_eq!(done.code, 127, "{done:?}");
    gone(&cli, &name)?;
    let said = cli.fails(125, ["run", "--rm", "--restart", "always", "busybox", "true"])?;
    assert!(said.contains("--rm") || said.contains("AutoRemove"), "{said}");
    Ok(())
}

#[test]
fn groups_below_a_users_parent_are_swept() -> Result<()> {
    if only_naru("an engine's death in the middle of a start is imitated") {
        return Ok(());
    }
    let mut engine = Engine::with(Target::Naru, EngineOptions::default())?;
    engine.load_busybox()?;
    let cli = engine.cli();
    cli.ok(["create", "--cgroup-parent", "/a/users", "--name", "below", "busybox", "true"])?;
    let id = cli.inspect("below", "{{.Id}}")?;
    engine.kill()?;
    let make = "for h in /sys/fs/cgroup /sys/fs/cgroup/*; do [ ! -e $h/cgroup.procs ] || mkdir -p $h/a/users/$0; done";
    let made = engine.world().command("sh").args(["-c", make, &id]).status().context("sh")?;
    ensure!(made.success() && !engine.world().container_groups()?.is_empty(), "no group could be made");
    engine.launch()?;
    eventually("its groups to be gone", || {
        let left = engine.world().container_groups()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    cli.ok(["start", "-a", "below"])?;
    cli.ok(["rm", "below"])?;
    eventually("nothing to be left", || invariants::check(&engine, &invariants::see(&engine.http())?, |_| false))?;
    engine.finish()
}
