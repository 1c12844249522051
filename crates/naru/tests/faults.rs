//! The engine dies at a point of its work, at every one in turn: the next one finds a world in order, and nothing that was acknowledged is
//! lost. The points are those of a debug build (`naru_sys::fault`), which is what a test program is given.
//!
//! `NARU_FAULT_STEP=1 cargo test -p naru --test faults` tries every point; the default is a sample of them.
#![expect(clippy::tests_outside_test_module, reason = "a test program of its own")]

use anyhow::{Context as _, Result, ensure};
use naru_testkit::http::Http;
use naru_testkit::invariants;
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Points between two that are tried.
const STEP: u64 = 23;
/// More points than the work has.
const END: u64 = 100_000;

/// What has been answered with success.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Whether the container is there, by its name.
    present: BTreeMap<String, bool>,
    running: BTreeMap<String, bool>,
    volume: bool,
    tag: bool,
}

/// A client that stops at the first request without an answer.
struct Client<'a> {
    http: &'a Http,
    known: Acknowledged,
}

impl Client<'_> {
    /// Forgets what the request may change, asks, and expects success.
    fn ask(&mut self, method: &str, path: &str, body: &Value, name: &str) -> Result<()> {
        self.known.running.remove(name);
        if method == "DELETE" || path.contains("/create") || path.contains("/rename") {
            self.known.present.remove(name);
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.http.request(method, path, &[("Content-Type", "application/json")], text.as_bytes())?;
        ensure!(matches!(answer.status, 200..=304), "{method} {path} answered {} {}", answer.status, answer.text());
        Ok(())
    }

    fn post(&mut self, path: &str, name: &str) -> Result<()> {
        self.ask("POST", path, &Value::Null, name)
    }

    fn is(&mut self, name: &str, running: bool) {
        self.known.running.insert(name.into(), running);
    }

    /// A container's life, and what goes with it.
    fn work(&mut self) -> Result<()> {
        let body = |command: Value, host: Value| json!({"Image": "busybox", "Cmd": command, "Volumes": {"/v": {}}, "HostConfig": host});
        let sleeper = json!(["sleep", "1000"]);
        self.ask("POST", "/volumes/create", &json!({"Name": "kept"}), "")?;
        self.known.volume = true;
        for (name, host) in [
            ("plain", json!({"Binds": ["kept:/kept"]})),
            ("policy", json!({"RestartPolicy": {"Name": "unless-stopped"}})),
            ("fleeting", json!({"AutoRemove": true})),
        ] {
            self.ask("POST", &format!("/containers/create?name={name}"), &body(sleeper.clone(), host), name)?;
            self.known.present.insert(name.into(), true);
            self.post(&format!("/containers/{name}/start"), name)?;
            self.is(name, true);
        }
        self.post("/containers/plain/pause", "plain")?;
        self.post("/containers/plain/unpause", "plain")?;
        self.is("plain", true);
        let limits = json!({"Memory": 64 << 20, "MemorySwap": 64 << 20});
        self.ask("POST", "/containers/plain/update", &limits, "")?;
        self.post("/containers/plain/restart?t=0", "plain")?;
        self.is("plain", true);
        self.post("/containers/policy/stop?t=0", "policy")?;
        self.is("policy", false);
        self.known.present.remove("renamed");
        self.post("/containers/plain/rename?name=renamed", "plain")?;
        self.known.present.insert("renamed".into(), true);
        self.known.present.insert("plain".into(), false);
        self.is("renamed", true);
        self.post("/commit?container=renamed&repo=made", "")?;
        self.known.tag = true;
        self.known.present.remove("fleeting");
        self.post("/containers/fleeting/kill", "fleeting")?;
        self.ask("DELETE", "/containers/renamed?force=1&v=1", &Value::Null, "renamed")?;
        self.known.present.insert("renamed".into(), false);
        Ok(())
    }
}

#[test]
fn an_engine_may_die_at_any_point() -> Result<()> {
    let step = std::env::var("NARU_FAULT_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(STEP);
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_naru")));
    let mut engine = Engine::with(Target::Naru, EngineOptions { program, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let (mut at, mut tried) = (1 + u64::from(std::process::id()) % step, 0);
    loop {
        let finished =
            one(&engine, at).with_context(|| format!("dead at point {at}; the engine's log:\n{}", engine.log()))?;
        tried += 1;
        if finished {
            break;
        }
        ensure!(at < END, "the work has no end");
        at += step;
    }
    // Nothing to do when the test's standard error is closed.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{tried} points tried; the last one, at {at}, lies behind the work\n").as_bytes(),
    );
    ensure!(tried > 3, "only {tried} points: a build without them?");
    engine.finish()
}

/// Dies at that point; whether the work was over before it.
fn one(engine: &Engine, at: u64) -> Result<bool> {
    engine.terminate()?;
    // It may die before it serves.
    let _ = engine.launch_with(&[("NARU_FAULT_AT", &at.to_string())]);
    let http = engine.http();
    let mut client = Client { http: &http, known: Acknowledged::default() };
    let worked = client.work();
    let known = client.known;
    let alive = http.get("/_ping").is_ok();
    if alive {
        worked.context("with an engine that lives")?;
        engine.kill()?;
    } else {
        // Gone already, when it never served.
        let _ = engine.wait_for_end();
    }
    engine.launch()?;
    eventually("what was acknowledged to be true", || holds(engine, &known))?;
    eventually("nothing to be left over", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    eventually("no volume to be nobody's", || owned(&http))?;
    clear(&http)?;
    eventually("nothing to be left over at last", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    Ok(alive)
}

fn holds(engine: &Engine, known: &Acknowledged) -> Result<()> {
    let http = engine.http();
    let seen = invariants::see(&http)?;
    for (name, present) in &known.present {
        ensure!(seen.contains_key(name) == *present, "{name}: {present} is not so; there is {seen:?}");
    }
    for (name, running) in &known.running {
        // Neither ended nor left frozen.
        let is = seen.get(name).is_some_and(|seen| seen.state == "running");
        ensure!(is == *running, "{name} runs: {is}, in place of {running}");
    }
    ensure!(!known.volume || http.get("/volumes/kept")?.status == 200, "the volume is lost");
    ensure!(!known.tag || http.get("/images/made/json")?.status == 200, "the image is lost");
    Ok(())
}

/// That each volume without a name is a container's.
fn owned(http: &Http) -> Result<()> {
    let dangling = http.get("/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")?.json()?;
    let names = dangling["Volumes"].as_array().into_iter().flatten().filter_map(|v| v["Name"].as_str());
    let left: Vec<&str> = names.filter(|name| *name != "kept").collect();
    ensure!(left.is_empty(), "volumes of nobody: {left:?}");
    Ok(())
}

/// Removes everything but busybox.
fn clear(http: &Http) -> Result<()> {
    for container in invariants::see(http)?.values() {
        let answer = http.request("DELETE", &format!("/containers/{}?force=1&v=1", container.id), &[], &[])?;
        ensure!(matches!(answer.status, 204 | 404 | 409), "a removal answered {}", answer.text());
    }
    eventually("no containers", || {
        let left = invariants::see(http)?;
        ensure!(left.is_empty(), "there is {left:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    http.post("/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D", &Value::Null)?;
    let volumes = http.get("/volumes")?.json()?;
    let left = volumes["Volumes"].as_array().map_or(0, Vec::len);
    ensure!(left == 0, "volumes are left: {volumes}");
    http.request("DELETE", "/images/made?force=1", &[], &[])?;
    Ok(())
}

/// The next build finds what the last one left running, as after any death. `NARU_OLD_BIN` is the last one, of another version maybe; this one
/// with other bytes else.
#[test]
fn another_build_takes_over() -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_naru"));
    let old = std::env::var_os("NARU_OLD_BIN").map(PathBuf::from);
    let first = Some(old.clone().unwrap_or_else(|| program.clone()));
    let options = EngineOptions { program: first, ..EngineOptions::default() };
    let mut engine = Engine::with(Target::Naru, options)?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    cli.ok(["run", "-d", "--name", "up", "busybox", "sh", "-c", script])?;
    let pid = cli.inspect("up", "{{.State.Pid}}")?;
    cli.ok(["network", "create", "named"])?;
    for (name, more) in [
        ("checked", ["--health-cmd", "true", "--health-interval", "100ms"]),
        ("still", ["--network", "named", "-p", "127.0.0.1:8123:80"]),
        ("again", ["--restart", "unless-stopped", "-v", "kept:/kept"]),
    ] {
        let run = ["run", "-d", "--name", name].into_iter().chain(more);
        cli.ok(run.chain(["busybox", "sleep", "1000"]))?;
    }
    cli.ok(["pause", "still"])?;
    // Another file with other bytes: what a package's upgrade puts in the place of the old one.
    let other = engine.scratch("build")?.join("naru");
    let mut bytes = std::fs::read(&program)?;
    if old.is_none() {
        bytes.extend_from_slice(b"another build");
    }
    std::fs::write(&other, bytes)?;
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    engine.terminate()?;
    engine.replace_program(other);
    engine.launch()?;
    assert_eq!(cli.inspect("up", "{{.State.Running}} {{.State.Pid}}")?, format!("true {pid}"));
    assert_eq!(cli.ok(["exec", "up", "echo", "in"])?, "in");
    cli.ok(["run", "--rm", "busybox", "true"])?;
    assert_eq!(cli.inspect("still", "{{.State.Paused}}")?, "true");
    cli.ok(["unpause", "still"])?;
    for name in ["checked", "still", "again"] {
        cli.ok(["pause", name])?;
        cli.ok(["unpause", name])?;
        assert_eq!(cli.ok(["exec", name, "echo", "in"])?, "in");
    }
    cli.wait_for("checked", "{{.State.Health.Status}}", "healthy")?;
    cli.ok(["network", "disconnect", "named", "still"])?;
    cli.ok(["network", "connect", "named", "still"])?;
    let ended = cli.inspect("again", "{{.State.Pid}}")?;
    engine.world().command("kill").args(["-9", &ended]).status()?;
    eventually("its policy to start it again", || {
        let now = cli.inspect("again", "{{.State.Running}} {{.State.Pid}}")?;
        ensure!(now.starts_with("true ") && !now.ends_with(&format!(" {ended}")), "{now}");
        Ok(())
    })?;
    cli.ok(["rm", "-f", "-v", "checked", "still", "again"])?;
    cli.ok(["network", "rm", "named"])?;
    cli.ok(["volume", "rm", "kept"])?;
    cli.ok(["stop", "-t", "0", "up"])?;
    let said = cli.ok(["logs", "up"])?;
    for (line, number) in said.lines().zip(1_u32..) {
        assert_eq!(line, number.to_string(), "a gap");
    }
    engine.finish()
}
