//! `naru why`: the cause of each kind of end, from facts that outlive the engine.

use anyhow::{Context as _, Result};
use naru_testkit::Engine;
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
