//! Reading the configuration again, as SIGHUP asks for.

use anyhow::{Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target, eventually};
use naru_tests::only_naru;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// An engine whose configuration file can be changed.
struct Configured {
    engine: Engine,
    file: PathBuf,
}

impl Configured {
    fn new(text: &str) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("{}.json", naru_testkit::unique("reload")));
        std::fs::write(&file, text)?;
        let args = vec!["--config-file".into(), file.clone().into()];
        let engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
        Ok(Self { engine, file })
    }

    fn reload(&self, text: &str) -> Result<()> {
        std::fs::write(&self.file, text)?;
        let pid = i32::try_from(self.engine.pid()?)?;
        let pid = Pid::from_raw(pid).ok_or_else(|| anyhow::anyhow!("no engine"))?;
        Ok(kill_process(pid, Signal::HUP)?)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn now() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:09}", now.as_secs(), now.subsec_nanos()))
}

#[test]
fn what_can_change_changes_and_is_told() -> Result<()> {
    let mut configured = Configured::new(r#"{"labels": ["a=1"], "registry-mirrors": ["http://127.0.0.1:5001/"]}"#)?;
    let cli = configured.engine.docker();
    let info = || {
        let format = "{{.Debug}} {{json .Labels}} {{.RegistryConfig.Mirrors}} {{.RegistryConfig.IndexConfigs}}";
        cli.ok(["info", "--format", format])
    };
    let before = info()?;
    ensure!(before.starts_with(r#"false ["a=1"] [http://127.0.0.1:5001/]"#), "{before}");
    let since = now()?;
    configured.reload(
        r#"{"debug": true, "labels": ["a=2", "b=3"], "registry-mirrors": ["http://127.0.0.1:5002/"],
            "insecure-registries": ["r.test:5000"], "max-concurrent-downloads": 7}"#,
    )?;
    eventually("the settings to hold", || {
        let after = info()?;
        ensure!(after.starts_with(r#"true ["a=2","b=3"] [http://127.0.0.1:5002/]"#), "{after}");
        ensure!(after.contains("r.test:5000"), "{after}");
        Ok(())
    })?;
    let told = |since: &str| {
        let until = now()?;
        let flags = ["--filter", "type=daemon", "--filter", "event=reload", "--format", "{{json .Actor}}"];
        cli.ok([&["events", "--since", since, "--until", &until], &flags[..]].concat())
    };
    let event: serde_json::Value = serde_json::from_str(&eventually("the event", || {
        let event = told(&since)?;
        ensure!(!event.is_empty(), "no event");
        Ok(event)
    })?)?;
    let attribute = |key: &str| event["Attributes"][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(attribute("debug"), "true");
    assert_eq!(attribute("labels"), r#"["a=2","b=3"]"#);
    assert_eq!(attribute("max-concurrent-downloads"), "7");
    assert!(attribute("insecure-registries").contains("r.test:5000"), "{event}");
    assert_eq!(attribute("name"), cli.ok(["info", "--format", "{{.Name}}"])?);
    assert_eq!(event["ID"].as_str().unwrap_or_default(), cli.ok(["info", "--format", "{{.ID}}"])?);
    assert_eq!(cli.ok(["events", "--since", &since, "--until", &now()?, "--filter", "type=container"])?, "");
    configured.engine.finish()
}

#[test]
fn what_is_wrong_is_refused_and_the_old_stays() -> Result<()> {
    let mut configured = Configured::new(r#"{"labels": ["a=1"]}"#)?;
    let cli = configured.engine.docker();
    let labels = || cli.ok(["info", "--format", "{{json .Labels}}"]);
    for (at, wrong) in
        ["{", r#"{"nonsense": 1}"#, r#"{"labels": ["a"]}"#, r#"{"labels": ["a=1", "a=2"]}"#].into_iter().enumerate()
    {
        configured.reload(wrong)?;
        eventually("the mistake to be told", || {
            let log = configured.engine.log();
            let told = log.to_lowercase().matches("config").filter(|_| log.contains("rror")).count();
            ensure!(told > at, "{log}");
            Ok(())
        })?;
        assert_eq!(labels()?, r#"["a=1"]"#, "{wrong}");
    }
    configured.reload(r#"{"labels": ["c=4"]}"#)?;
    eventually("a right one to hold", || {
        let now = labels()?;
        ensure!(now == r#"["c=4"]"#, "{now}");
        Ok(())
    })?;
    configured.engine.finish()
}

#[test]
fn what_cannot_change_while_it_runs_is_named() -> Result<()> {
    if only_naru("dockerd says nothing of it") {
        return Ok(());
    }
    let mut configured = Configured::new("{}")?;
    configured.reload(r#"{"log-driver": "local", "labels": ["x=y"]}"#)?;
    let cli = configured.engine.docker();
    eventually("the rest to hold", || {
        let labels = cli.ok(["info", "--format", "{{json .Labels}}"])?;
        ensure!(labels == r#"["x=y"]"#, "{labels}");
        Ok(())
    })?;
    eventually("it to be named", || {
        let log = configured.engine.log();
        ensure!(log.contains("log-driver") && log.contains("started again"), "{log}");
        Ok(())
    })?;
    assert_eq!(cli.ok(["info", "--format", "{{.LoggingDriver}}"])?, "json-file");
    configured.engine.finish()
}

#[test]
fn another_mirror_is_asked() -> Result<()> {
    if only_naru("its registry client is its own") {
        return Ok(());
    }
    let mut configured = Configured::new(r#"{"registries": [{"prefix": "127.0.0.1:1/x", "blocked": true}]}"#)?;
    let cli = configured.engine.docker();
    let said = cli.fails(1, ["pull", "127.0.0.1:1/x/y"])?;
    ensure!(said.contains("blocked") || said.contains("127.0.0.1:1/x"), "{said}");
    configured.reload("{}")?;
    eventually("it to be asked", || {
        let said = cli.fails(1, ["pull", "127.0.0.1:1/x/y"])?;
        ensure!(said.contains("refused"), "{said}");
        Ok(())
    })?;
    configured.engine.finish()
}
