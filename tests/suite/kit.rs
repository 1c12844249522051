//! The kit itself: an engine comes up, runs something, and leaves nothing behind.

use std::fs;

use anyhow::Result;
use naru_testkit::{Engine, EngineOptions, Target, World, eventually};

#[test]
fn a_world_is_gone_with_its_processes() -> Result<()> {
    let world = World::new()?;
    let folder = world.folder().to_owned();
    let groups = fs::read_to_string(folder.join("cgroups"))?;
    let mut sleeper = world.command("sleep").arg("1000").spawn()?;
    eventually("the sleeper to be seen", || {
        let processes = world.processes()?;
        anyhow::ensure!(processes.iter().any(|p| p.ends_with(" sleep")), "there are {processes:?}");
        Ok(())
    })?;
    assert_eq!(world.links()?, ["lo"]);
    drop(world);
    assert!(!sleeper.wait()?.success());
    assert!(!folder.exists());
    for group in groups.lines() {
        assert!(!fs::exists(group)?, "{group} is left");
    }
    assert!(!fs::read_to_string("/proc/self/mounts")?.contains(folder.to_str().unwrap_or_default()));
    Ok(())
}

#[test]
fn an_engine_runs_a_container_and_leaves_nothing() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let said = engine.cli().ok(["run", "--rm", "busybox", "echo", "hello"])?;
    assert_eq!(said, "hello");
    engine.cli().ok(["run", "-d", "--name", "left", "busybox", "sleep", "1000"])?;
    engine.finish()
}

#[test]
fn an_engine_that_never_comes_up_is_an_error() {
    let args = vec!["--no-such-flag".into()];
    let error = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() }).err();
    let said = error.map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(said.contains("ended at once") && said.contains("--no-such-flag"), "{said}");
}
