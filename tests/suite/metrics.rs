//! Numbers for Prometheus.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use naru_tests::only_naru;

#[test]
fn prometheus_reads_them() -> Result<()> {
    if only_naru("Debian's dockerd wants its experimental mode for this") {
        return Ok(());
    }
    let args = vec!["--metrics-addr".into(), "127.0.0.1:9323".into()];
    let mut engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let ask = |path: &str| -> Result<String> {
        let address = format!("http://127.0.0.1:9323{path}");
        let output = engine.world().command("busybox").args(["wget", "-q", "-O", "-", &address]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let number = |name: &str| -> Result<u64> {
        let text = ask("/metrics")?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name} in {text}"))?;
        Ok(line.trim().parse()?)
    };
    cli.ok(["run", "-d", "--name", "up", "busybox", "sleep", "1000"])?;
    cli.ok(["run", "-d", "--name", "fails", "--restart", "on-failure:1", "busybox", "false"])?;
    cli.wait_for("fails", "{{.State.Status}} {{.RestartCount}}", "exited 1")?;
    assert_eq!(number("engine_daemon_container_states_containers{state=\"running\"} ")?, 1);
    assert_eq!(number("engine_daemon_container_states_containers{state=\"stopped\"} ")?, 1);
    assert_eq!(number("naru_container_restarts_total ")?, 1);
    assert_eq!(number("naru_container_deaths_total ")?, 2);
    assert!(number("engine_daemon_events_total ")? > 3);
    assert!(ask("/else").is_err());
    cli.ok(["stop", "-t", "0", "up"])?;
    eventually("a third death", || {
        ensure!(number("naru_container_deaths_total ")? == 3, "not yet");
        Ok::<_, anyhow::Error>(())
    })?;
    engine.finish()
}
