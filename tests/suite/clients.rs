//! Programs that others wrote for docker: docker-py and docker-compose, as Debian packages them, on an engine of their own.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use naru_testkit::{Engine, eventually};

/// `program` as a user of the engine has it.
fn user(engine: &Engine, program: &str) -> Command {
    let mut command = engine.world().command(program);
    command.env("DOCKER_HOST", format!("unix://{}", engine.socket().display()));
    command
}

fn finish(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[test]
fn docker_py_finds_what_it_knows() -> Result<()> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    let said = finish(user(&engine, "/usr/bin/python3").args(["-c", include_str!("clients/docker_py.py")]))?;
    assert_eq!(said, "ok\n");
    Ok(())
}

#[test]
fn a_project_of_compose_comes_and_goes() -> Result<()> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, folder) = (engine.cli(), engine.scratch("ferry")?);
    fs::write(folder.join("docker-compose.yml"), include_str!("clients/compose.yaml"))?;
    fs::write(folder.join("word"), "secret")?;
    let compose_with = |greeting: &str, args: &[&str]| {
        let mut command = user(&engine, "/usr/bin/docker-compose");
        command.arg("--project-directory").arg(&folder).arg("-f").arg(folder.join("docker-compose.yml"));
        // It needs what images have shown up to that version (docker, API 1.45).
        command.env("COMPOSE_API_VERSION", "1.41").env("GREETING", greeting);
        finish(command.args(["--ansi", "never", "-p", "ferry"]).args(args))
    };
    let compose = |args: &[&str]| compose_with("hello", args);
    compose(&["up", "-d"])?;
    eventually("the published port to answer from the volume through the other service", || {
        let fetched = finish(engine.world().command("sh").args(["-c", "busybox nc -w 5 127.0.0.1 8081 </dev/null"]))?;
        ensure!(fetched == "kept\n", "{fetched:?}");
        Ok(())
    })?;
    cli.wait_for("ferry_store_1", "{{.State.Health.Status}}", "healthy")?;
    assert_eq!(
        compose(&["exec", "-T", "front", "sh", "-c", "echo $GREETING $(cat /run/secrets/word)"])?,
        "hello secret\n"
    );
    assert!(compose(&["logs", "store"])?.contains("store is up"));
    assert_eq!(compose(&["port", "front", "80"])?, "127.0.0.1:8081\n");
    let listed = compose(&["ps", "-a"])?;
    assert!(listed.contains("Exit 0") && listed.contains("Up (healthy)"), "{listed}");
    // Unchanged services stay, what has changed is made again.
    let id = cli.inspect("ferry_store_1", "{{.Id}}")?;
    let front = cli.inspect("ferry_front_1", "{{.Id}}")?;
    compose_with("other", &["up", "-d", "front"])?;
    assert_eq!(cli.inspect("ferry_store_1", "{{.Id}}")?, id);
    assert_ne!(cli.inspect("ferry_front_1", "{{.Id}}")?, front);
    compose(&["stop", "front"])?;
    assert_eq!(cli.inspect("ferry_front_1", "{{.State.Status}}")?, "exited");
    compose(&["up", "-d", "--scale", "store=2", "--no-recreate", "store"])?;
    cli.wait_for("ferry_store_2", "{{.State.Running}}", "true")?;
    compose(&["down", "-v", "-t", "1"])?;
    assert_eq!(cli.ok(["ps", "-aq"])?, "");
    assert_eq!(cli.ok(["volume", "ls", "-q"])?, "");
    assert_eq!(cli.ok(["network", "ls", "-q", "--filter", "type=custom"])?, "");
    Ok(())
}
