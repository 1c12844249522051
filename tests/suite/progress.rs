//! How far long work is: told to who asks for it, in plain lines where nobody watches, in lines that change on a terminal; docker's client and
//! docker's answers stay as they are.

use anyhow::{Context as _, Result, ensure};
use naru_testkit::{Engine, EngineOptions, Target};
use naru_tests::only_naru;
use serde_json::Value;

fn own() -> Result<Option<Engine>> {
    if only_naru("docker has no progress for these") {
        return Ok(None);
    }
    let engine = Engine::with(Target::Naru, EngineOptions::default())?;
    engine.load_busybox()?;
    Ok(Some(engine))
}

fn messages(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn of_a_commit() -> Result<()> {
    let Some(mut engine) = own()? else { return Ok(()) };
    let cli = engine.naru();
    let fill = "head -c 8000000 /dev/urandom >/data";
    cli.ok(["run", "--name", "full", "busybox", "sh", "-c", fill])?;
    let piped = cli.run(["commit", "full", "one"])?;
    ensure!(piped.stdout.starts_with("sha256:") && piped.stdout.lines().count() == 1, "{}", piped.stdout);
    assert!(piped.stderr.starts_with("Packing the changes of full\nPacked 8"), "{}", piped.stderr);
    assert!(piped.stderr.ends_with("MB\n") && piped.stderr.lines().count() == 2, "{}", piped.stderr);
    let (code, screen) = cli.pty(["commit", "full", "two"])?.finish()?;
    ensure!(code == 0 && screen.contains("Packing the changes of full") && screen.contains("Packing  "), "{screen:?}");
    // docker's client, and whoever doesn't ask.
    let docker = engine.docker().run(["commit", "full", "three"])?;
    ensure!(docker.stderr.is_empty() && docker.stdout.lines().count() == 1, "{}", docker.stderr);
    let answer = engine.http().post("/commit?container=full&repo=four", &Value::Null)?;
    ensure!(answer.status == 201 && answer.json()?["Id"].is_string(), "{}", answer.text());
    let answer = engine.http().post("/commit?container=full&repo=five&progress=1", &Value::Null)?;
    let all = messages(&answer.text())?;
    ensure!(answer.status == 200 && all.iter().any(|m| m["progressDetail"]["current"].is_u64()), "{}", answer.text());
    let last = all.last().context("an answer")?;
    ensure!(last["aux"]["Id"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{last}");
    let refused = cli.fails(1, ["commit", "nobody"])?;
    ensure!(refused.contains("No such container: nobody"), "{refused}");
    engine.finish()
}

#[test]
fn of_prunes() -> Result<()> {
    let Some(mut engine) = own()? else { return Ok(()) };
    let cli = engine.naru();
    let make = || -> Result<()> {
        for n in 0..3 {
            let name = format!("c{n}");
            cli.ok(["run", "--name", &name, "-v", "/data", "busybox", "touch", &format!("/{n}")])?;
            cli.ok(["commit", &name])?;
        }
        Ok(())
    };
    make()?;
    let piped = cli.run(["system", "prune", "-f", "--volumes"])?;
    for line in ["Looking at 3 containers", "Removed 3 containers, ", "Removed 3 volumes, ", "Removed 3 images, "] {
        ensure!(piped.stderr.contains(line), "no {line:?} in {}", piped.stderr);
    }
    ensure!(piped.stdout.starts_with("Deleted Containers:\n") && piped.stdout.contains("Total reclaimed space: "));
    ensure!(!piped.stderr.contains("Pruning"), "numbers that change in plain lines: {}", piped.stderr);
    make()?;
    let (code, screen) = cli.pty(["container", "prune", "-f"])?.finish()?;
    ensure!(code == 0 && screen.contains("containers: Pruning") && screen.contains("3/3 containers"), "{screen:?}");
    let docker = engine.docker().run(["image", "prune", "-f"])?;
    ensure!(docker.stderr.is_empty() && docker.stdout.contains("Deleted Images:"), "{}", docker.stderr);
    let answer = engine.http().post("/volumes/prune?progress=1", &Value::Null)?;
    let all = messages(&answer.text())?;
    let last = all.last().context("an answer")?;
    ensure!(last["aux"]["VolumesDeleted"].as_array().is_some_and(|v| v.len() == 3), "{last}");
    let answer = engine.http().post("/volumes/prune", &Value::Null)?;
    ensure!(answer.json()?["SpaceReclaimed"] == 0, "{}", answer.text());
    engine.finish()
}
