//! Does what a plan says, and compares what is there with what must be there.

use super::check;
use super::model::{Done, Model};
use super::plan::{Kind, Op, Step};
use anyhow::{Context as _, Error, Result, ensure};
use naru_testkit::http::Http;
use naru_testkit::invariants::{self, Seen};
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use naru_tests::note;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// So many steps lie between two looks at everything.
const LOOK: usize = 8;

/// What was done.
#[derive(Default)]
pub struct Counts {
    operations: usize,
    acknowledged: usize,
    engines: usize,
    monitors: usize,
    inits: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} of them acknowledged; killed: {} engines, {} monitors, {} first processes",
            self.operations, self.acknowledged, self.engines, self.monitors, self.inits
        )
    }
}

/// Does the steps in a world of their own.
///
/// # Errors
/// With the number of the step after which something was wrong.
pub fn run(steps: &[Step]) -> Result<Counts, (usize, Error)> {
    let fresh = || -> Result<Engine> {
        let engine = Engine::with(Target::Naru, EngineOptions::default())?;
        engine.load_busybox()?;
        Ok(engine)
    };
    let mut engine = fresh().map_err(|e| (0, e))?;
    let (mut model, mut counts) = (Model::new(), Counts::default());
    for (at, step) in steps.iter().enumerate() {
        let whole = at % LOOK == LOOK - 1 || at + 1 == steps.len();
        let done = do_step(&engine, step, &mut model, &mut counts, whole);
        if let Err(error) = done {
            let error = error.context(format!("after {step:?}; the engine's log ends with:\n{}", last(&engine.log())));
            // What is left is of no interest any more.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(engine)));
            return Err((at, error));
        }
    }
    engine.finish().context("at the end").map_err(|e| (steps.len().saturating_sub(1), e))?;
    Ok(counts)
}

fn last(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn do_step(engine: &Engine, step: &Step, model: &mut Model, counts: &mut Counts, whole: bool) -> Result<()> {
    let http = engine.http();
    let results: Vec<Result<Done>> = thread::scope(|scope| {
        let workers: Vec<_> = step.iter().map(|op| scope.spawn(|| do_op(engine, &http, *op))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::msg("a worker panicked"))))
            .collect()
    });
    let disaster = step.iter().any(|op| op.is_disaster());
    if step.iter().any(|op| matches!(op, Op::KillEngine(_))) {
        engine.launch().context("a new engine")?;
        // Answered when everything has been taken up; lists are answered before that.
        http.get("/info")?;
    }
    let mut done = Vec::new();
    for result in results {
        let (op, status) = result?;
        // docker answers 500 to an unpause of what isn't paused, and to a disconnect of what isn't connected.
        let may_fail = disaster || matches!(op, Op::Unpause(_) | Op::Disconnect(..));
        ensure!(may_fail || status.is_none_or(|s| s < 500), "{op:?} answered {status:?}");
        ensure!(disaster || status.is_some(), "{op:?} was not answered");
        counts.operations += 1;
        counts.acknowledged += usize::from(status.is_some_and(|s| s < 400));
        match op {
            Op::KillEngine(_) => counts.engines += 1,
            Op::KillMonitor(_) => counts.monitors += 1,
            Op::KillInit(_) => counts.inits += 1,
            _ => {}
        }
        done.push((op, status));
    }
    model.take(step, &done);
    // Ends, removals and restarts come when they come; what must be true will be.
    let seen = eventually("what was acknowledged to be true", || {
        let seen = invariants::see(&http)?;
        compare(model, &seen)?;
        Ok::<_, Error>(seen)
    })?;
    if whole {
        eventually("nothing to be left over", || check::everything(engine, &invariants::see(&http)?, counts.engines))?;
    }
    resynchronise(model, &seen);
    Ok(())
}

fn compare(model: &Model, seen: &BTreeMap<String, Seen>) -> Result<()> {
    for (at, known) in model.known.iter().enumerate() {
        let found = seen.get(&name(at));
        if let Some(present) = known.present {
            ensure!(found.is_some() == present, "container {at} should be {known:?}, and is {found:?}");
        }
        if let (Some(running), Some(found)) = (known.running, found) {
            ensure!(found.is_running() == running, "container {at} should be {known:?}, and is {found:?}");
        }
    }
    Ok(())
}

/// What wasn't known is what is seen, as far as it lasts.
fn resynchronise(model: &mut Model, seen: &BTreeMap<String, Seen>) {
    for (at, known) in model.known.iter_mut().enumerate() {
        let found = seen.get(&name(at));
        known.kind = found.and_then(check::kind);
        let lasts = known.kind.is_none_or(Kind::lasts);
        known.present = if lasts { Some(found.is_some()) } else { known.present };
        match found {
            None => known.running = Some(false),
            Some(found) if lasts => known.running = Some(found.is_running()),
            Some(_) => {}
        }
    }
}

fn volume(n: usize) -> String {
    format!("soak-volume-{n}")
}

fn network(n: usize) -> String {
    format!("soak-network-{n}")
}

/// Reads for a moment what a container says, and leaves.
fn follow(http: &Http, at: usize) -> Option<u16> {
    let path = format!("/containers/{}/logs?stdout=1&follow=1", name(at));
    let (head, stream) = http.stream("GET", &path).ok()?;
    thread::sleep(Duration::from_millis(5));
    drop(stream);
    Some(head.status)
}

/// The name of a container: no beginning of an id.
fn name(at: usize) -> String {
    format!("soak-{at}")
}

/// The status of an answer; what an engine says that could not do something is told.
fn told(op: Op, answer: &naru_testkit::http::Answer) -> u16 {
    if answer.status >= 500 && !matches!(op, Op::Unpause(_) | Op::Disconnect(..)) {
        note(&format!("{op:?} answered {} {}", answer.status, answer.text().trim()));
    }
    answer.status
}

fn do_op(engine: &Engine, http: &Http, op: Op) -> Result<Done> {
    let send = |method: &str, path: String| http.request(method, &path, &[], &[]).ok().map(|a| told(op, &a));
    let (post, get, delete) =
        (|path: String| send("POST", path), |path: String| send("GET", path), |path: String| send("DELETE", path));
    let status = match op {
        Op::Create(at, kind) => {
            let path = format!("/containers/create?name={}", name(at));
            http.post(&path, &settings(kind)).ok().map(|a| told(op, &a))
        }
        Op::Start(at) => post(format!("/containers/{}/start", name(at))),
        Op::Stop(at) => post(format!("/containers/{}/stop?t=0", name(at))),
        Op::Kill(at) => post(format!("/containers/{}/kill", name(at))),
        Op::Restart(at) => post(format!("/containers/{}/restart?t=0", name(at))),
        Op::Pause(at) => post(format!("/containers/{}/pause", name(at))),
        Op::Unpause(at) => post(format!("/containers/{}/unpause", name(at))),
        Op::Remove(at, force) => delete(format!("/containers/{}?v=1&force={force}", name(at))),
        Op::Exec(at) => exec(http, at),
        Op::Update(at) => {
            let limits = json!({"Memory": 128 << 20, "MemorySwap": 256 << 20});
            http.post(&format!("/containers/{}/update", name(at)), &limits).ok().map(|a| a.status)
        }
        Op::Logs(at) => get(format!("/containers/{}/logs?stdout=1&tail=10", name(at))),
        Op::Inspect(at) => get(format!("/containers/{}/json", name(at))),
        Op::List => get("/containers/json?all=1".into()),
        // As docker has it, a prune of containers leaves their volumes.
        Op::Prune => post("/containers/prune".into()).and_then(|_| post("/volumes/prune".into())),
        Op::MakeVolume(n) => http.post("/volumes/create", &json!({"Name": volume(n)})).ok().map(|a| told(op, &a)),
        Op::RemoveVolume(n) => delete(format!("/volumes/{}", volume(n))),
        Op::MakeNetwork(n) => {
            let settings = json!({"Name": network(n), "CheckDuplicate": true, "EnableIPv6": n == 1});
            http.post("/networks/create", &settings).ok().map(|a| told(op, &a))
        }
        Op::RemoveNetwork(n) => delete(format!("/networks/{}", network(n))),
        Op::Connect(at, n) => {
            let path = format!("/networks/{}/connect", network(n));
            http.post(&path, &json!({"Container": name(at)})).ok().map(|a| told(op, &a))
        }
        Op::Disconnect(at, n) => {
            let path = format!("/networks/{}/disconnect", network(n));
            http.post(&path, &json!({"Container": name(at)})).ok().map(|a| told(op, &a))
        }
        Op::Commit(at) => post(format!("/commit?container={0}&repo=made-{0}", name(at))),
        Op::RemoveImage(at) => delete(format!("/images/made-{}?force=1", name(at))),
        Op::Follow(at) => follow(http, at),
        Op::KillEngine(after) => {
            thread::sleep(Duration::from_millis(after));
            engine.kill()?;
            None
        }
        Op::KillMonitor(which) => {
            let world = engine.world().processes()?;
            let monitors: Vec<&String> = world.iter().filter(|p| p.contains("naru-monitor")).collect();
            let chosen = monitors.get((which % monitors.len().max(1) as u64) as usize);
            if let Some(pid) = chosen.and_then(|p| p.split(' ').next()) {
                let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words = title.split(['\0', ' ']);
                let is_id = |word: &&str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
                let id = words.filter(is_id).last().unwrap_or_default().to_owned();
                let before = child_of(pid);
                // One that has just ended is no failure.
                Command::new("kill").args(["-9", pid]).output()?;
                await_end(http, &id, before)?;
            }
            None
        }
        Op::KillInit(at) => {
            let pid = pid_of(http, &name(at));
            if pid > 0 {
                engine.world().command("kill").args(["-9", &pid.to_string()]).output()?;
                await_end(http, &name(at), pid)?;
            }
            None
        }
    };
    Ok((op, status))
}

/// The first process of a container that runs, 0 for none: a frozen one dies when it is thawed.
fn pid_of(http: &Http, id: &str) -> u64 {
    let answer = http.get(&format!("/containers/{id}/json")).ok().and_then(|a| a.json().ok());
    let state = answer.map(|v| v["State"].clone()).filter(|state| state["Status"] == "running");
    state.and_then(|state| state["Pid"].as_u64()).unwrap_or(0)
}

/// The first process of a monitor's container, as the world numbers it (`NSpid` of proc_pid_status(5)); 0 for none.
fn child_of(monitor: &str) -> u64 {
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap_or_default();
    let first = children.split_whitespace().next().unwrap_or_default().to_owned();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Waits until the engine has heard of a process's death: what it shows before that is of the past.
fn await_end(http: &Http, id: &str, pid: u64) -> Result<()> {
    eventually("the engine to hear of a death", || {
        // No answer is an engine that dies as well; the next one looks for itself.
        ensure!(pid == 0 || pid_of(http, id) != pid, "container {id} still has process {pid}");
        Ok::<_, Error>(())
    })
}

fn exec(http: &Http, at: usize) -> Option<u16> {
    let made = http.post(&format!("/containers/{}/exec", name(at)), &json!({"Cmd": ["true"]})).ok()?;
    if made.status != 201 {
        return Some(made.status);
    }
    let id = made.json().ok()?["Id"].as_str()?.to_owned();
    let started = http.post(&format!("/exec/{id}/start"), &json!({"Detach": true})).ok()?;
    Some(started.status)
}

fn settings(kind: Kind) -> serde_json::Value {
    let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    let command = match kind {
        Kind::Steady | Kind::Fleeting | Kind::Unless | Kind::Checked | Kind::Served => json!(["sleep", "1000"]),
        Kind::Counter => json!(["sh", "-c", count]),
        Kind::Short | Kind::FleetingShort | Kind::Crashing => json!(["sh", "-c", "exit 3"]),
    };
    let policy = match kind {
        Kind::Unless => "unless-stopped",
        Kind::Crashing => "always",
        _ => "no",
    };
    let mut body = json!({
        "Image": "busybox",
        "Cmd": command,
        "Labels": {"kind": format!("{kind:?}")},
        "Volumes": {"/v": {}},
        "HostConfig": {
            "RestartPolicy": {"Name": policy},
            "AutoRemove": matches!(kind, Kind::Fleeting | Kind::FleetingShort),
        },
    });
    if kind == Kind::Served {
        body["HostConfig"]["Binds"] = json!([format!("{}:/named", volume(0))]);
        body["HostConfig"]["PortBindings"] = json!({
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
            "81/tcp": [{"HostPort": ""}],
            "53/udp": [{"HostPort": ""}],
        });
    }
    if kind == Kind::Checked {
        body["Healthcheck"] = json!({"Test": ["CMD", "true"], "Interval": 50_000_000, "Timeout": 20_000_000_000_u64});
    }
    body
}
