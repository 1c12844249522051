//! The spawner, monitors, and what is to become a container's program die at a point of their work, at every one in turn: the engine says so,
//! and nothing is left over. The points are those of a debug build (`naru_sys::fault`).
//!
//! `NARU_FAULT_STEP=1 cargo test -p naru --test monitor_faults` tries every point; the default is a sample of them.
#![expect(clippy::tests_outside_test_module, reason = "a test program of its own")]

use anyhow::{Context as _, Result, ensure};
use naru_testkit::http::Http;
use naru_testkit::{Engine, EngineOptions, Target, eventually, invariants};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Points between two that are tried.
const STEP: usize = 3;
/// So many tries in a row in which no death was noticed: there are no more points.
const QUIET: usize = 3;
/// More points than a monitor has.
const END: usize = 200;

#[test]
fn a_monitor_may_die_at_any_point() -> Result<()> {
    at_each_point("monitors", |engine, at| one(engine, "NARU_FAULT_MONITOR_AT", at))
}

#[test]
fn what_becomes_a_program_may_die_at_any_point() -> Result<()> {
    at_each_point("children", |engine, at| one(engine, "NARU_FAULT_CHILD_AT", at))
}

#[test]
fn a_spawner_may_die_at_any_point() -> Result<()> {
    at_each_point("spawners", spawner)
}

/// Points from the first on, until no death is noticed any more.
fn at_each_point(whose: &str, one: impl Fn(&Engine, usize) -> Result<bool>) -> Result<()> {
    let step = std::env::var("NARU_FAULT_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(STEP);
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_naru")));
    let mut engine = Engine::with(Target::Naru, EngineOptions { program, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let (mut died, mut quiet) = (0, 0);
    for at in (1..END).step_by(step) {
        let dead =
            one(&engine, at).with_context(|| format!("dead at point {at}; the engine's log:\n{}", engine.log()))?;
        // Nobody notices one that dies when all is written down.
        (died, quiet) = if dead { (died + 1, 0) } else { (died, quiet + 1) };
        if quiet == QUIET {
            break;
        }
    }
    // Nothing to do when the test's standard error is closed.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{whose}: deaths at {died} points were noticed\n").as_bytes(),
    );
    ensure!((2..END / step).contains(&died), "{whose} died at {died} points");
    engine.terminate()?;
    engine.launch()?;
    engine.finish()
}

/// The spawner dies at that point; whether it has. The engine begins again by itself then, as the same process.
fn spawner(engine: &Engine, at: usize) -> Result<bool> {
    engine.terminate()?;
    let told = |engine: &Engine| engine.log().matches("the spawner has died").count();
    let before = told(engine);
    engine.launch_with(&[("NARU_FAULT_SPAWNER_AT", &at.to_string())])?;
    let (http, pid) = (engine.http(), engine.pid()?);
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Volumes": {"/v": {}}});
    // A request may be on its way when the engine begins again.
    eventually("the container to be made", || {
        let made = http.post("/containers/create?name=plain", &body)?;
        ensure!([201, 409].contains(&made.status), "a creation answered {} {}", made.status, made.text());
        Ok::<_, anyhow::Error>(())
    })?;
    eventually("the container to be started", || {
        let started = http.post("/containers/plain/start", &Value::Null)?;
        ensure!([204, 304].contains(&started.status), "a start answered {} {}", started.status, started.text());
        Ok::<_, anyhow::Error>(())
    })?;
    eventually("the container to be found", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    ensure!(engine.pid()? == pid, "the engine is another process");
    eventually("the container to be removed", || {
        let removed = http.request("DELETE", "/containers/plain?force=1&v=1", &[], &[])?;
        ensure!([204, 404].contains(&removed.status), "a removal answered {} {}", removed.status, removed.text());
        Ok::<_, anyhow::Error>(())
    })?;
    eventually("nothing to be left over", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    Ok(told(engine) > before)
}

/// Every process that has this variable dies at that point of its own; whether any has.
fn one(engine: &Engine, variable: &str, at: usize) -> Result<bool> {
    engine.terminate()?;
    engine.launch_with(&[(variable, &at.to_string())])?;
    let http = engine.http();
    let body =
        |host: Value| json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Volumes": {"/v": {}}, "HostConfig": host});
    let mut dead = false;
    let told = |engine: &Engine| engine.log().matches("its monitor has died").count();
    let before = told(engine);
    for (name, host) in [("plain", json!({})), ("fleeting", json!({"AutoRemove": true}))] {
        let made = http.post(&format!("/containers/create?name={name}"), &body(host))?;
        ensure!(made.status == 201, "a creation answered {} {}", made.status, made.text());
        let started = http.post(&format!("/containers/{name}/start"), &Value::Null)?;
        ensure!([204, 500, 503].contains(&started.status), "a start answered {} {}", started.status, started.text());
        dead |= started.status != 204;
        // Its end has points of its own.
        let killed = http.post(&format!("/containers/{name}/kill"), &Value::Null)?;
        ensure!(
            [204, 404, 409, 500, 503].contains(&killed.status),
            "a kill answered {} {}",
            killed.status,
            killed.text()
        );
        dead |= killed.status != 204;
        eventually("its end to be known", || ended(&http, name))?;
        let code = http.get(&format!("/containers/{name}/json"))?.json()?["State"]["ExitCode"].take();
        ensure!(started.status != 204 || name != "plain" || code == 137, "it has ended with {code}");
    }
    eventually("nothing to be left over", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    dead |= told(engine) > before;
    // What the engine has in memory is what the next one finds.
    let before = states(&http)?;
    engine.kill()?;
    engine.launch()?;
    eventually("the next engine to see the same", || {
        let after = states(&http)?;
        ensure!(before == after, "{before:?} became {after:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    eventually("nothing to be left over then", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    for name in ["plain", "fleeting"] {
        let removed = http.request("DELETE", &format!("/containers/{name}?force=1&v=1"), &[], &[])?;
        ensure!([204, 404].contains(&removed.status), "a removal answered {} {}", removed.status, removed.text());
    }
    eventually("nothing to be left over at last", || invariants::check(engine, &invariants::see(&http)?, |_| false))?;
    Ok(dead)
}

/// It doesn't run, or is gone.
fn ended(http: &Http, name: &str) -> Result<()> {
    let seen = invariants::see(http)?;
    let wrong = seen.get(name).filter(|s| name == "fleeting" || s.is_running());
    ensure!(wrong.is_none(), "there is {wrong:?}");
    Ok(())
}

fn states(http: &Http) -> Result<Vec<(String, String)>> {
    Ok(invariants::see(http)?.into_iter().map(|(name, seen)| (name, seen.state)).collect())
}
