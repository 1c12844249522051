//! Events: each of docker's is told, filters choose among them, and the past is told again.

use anyhow::{Context, Result};
use naru_testkit::{Client, Engine, unique};
use std::time::{SystemTime, UNIX_EPOCH};

fn own() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    Ok(engine)
}

/// Seconds since the Unix epoch, with nanoseconds, as `--since` takes them.
fn now() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:09}", now.as_secs(), now.subsec_nanos()))
}

/// What happened since, as `type action`, the newest last.
fn told(cli: &Client, since: &str, more: &[&str]) -> Result<Vec<String>> {
    let until = now()?;
    let args = ["events", "--since", since, "--until", &until, "--format", "{{.Type}} {{.Action}}"];
    Ok(cli.ok([&args[..], more].concat())?.lines().map(str::to_owned).collect())
}

/// Each of `expected` comes, in this order.
fn in_order(told: &[String], expected: &[&str]) -> Result<()> {
    let mut rest = told.iter();
    for event in expected {
        rest.find(|t| t.starts_with(event))
            .with_context(|| format!("{event:?} does not come in its place in {told:#?}"))?;
    }
    Ok(())
}

#[test]
fn of_a_containers_life() -> Result<()> {
    let engine = own()?;
    let (cli, since) = (engine.docker(), now()?);
    cli.ok(["create", "--name", "aa", "busybox", "sleep", "1000"])?;
    cli.ok(["start", "aa"])?;
    cli.ok(["exec", "aa", "true"])?;
    cli.ok(["top", "aa"])?;
    cli.ok(["pause", "aa"])?;
    cli.ok(["unpause", "aa"])?;
    cli.ok(["rename", "aa", "bb"])?;
    cli.ok(["update", "--memory", "64m", "--memory-swap", "64m", "bb"])?;
    cli.ok(["cp", "bb:/etc/passwd", "-"])?;
    cli.ok(["export", "bb"])?;
    cli.ok(["restart", "-t", "0", "bb"])?;
    cli.ok(["stop", "-t", "0", "bb"])?;
    cli.ok(["commit", "bb", "mine"])?;
    cli.ok(["rm", "bb"])?;
    let all = told(&cli, &since, &["--filter", "type=container"])?;
    in_order(
        &all,
        &[
            "container create",
            "container start",
            "container exec_create: true",
            "container exec_start: true",
            "container exec_die",
            "container top",
            "container pause",
            "container unpause",
            "container rename",
            "container update",
            "container archive-path",
            "container export",
            "container kill",
            "container die",
            "container stop",
            "container start",
            "container restart",
            "container kill",
            "container die",
            "container stop",
            "container commit",
            "container destroy",
        ],
    )?;
    cli.ok(["rmi", "mine"])?;
    Ok(())
}

#[test]
fn of_images_volumes_and_networks() -> Result<()> {
    let engine = own()?;
    let (cli, since) = (engine.docker(), now()?);
    let archive = engine.scratch("events")?.join("busybox.tar");
    let archive = archive.display().to_string();
    cli.ok(["tag", "busybox", "second:1"])?;
    cli.ok(["save", "-o", &archive, "second:1"])?;
    cli.ok(["rmi", "second:1"])?;
    cli.ok(["load", "-i", &archive])?;
    cli.ok(["import", &archive, "third:1"])?;
    cli.ok(["rmi", "third:1"])?;
    in_order(
        &told(&cli, &since, &["--filter", "type=image"])?,
        &["image tag", "image save", "image untag", "image load", "image import", "image untag", "image delete"],
    )?;
    cli.ok(["volume", "create", "vv"])?;
    cli.ok(["run", "--rm", "-v", "vv:/v", "busybox", "true"])?;
    cli.ok(["volume", "rm", "vv"])?;
    cli.ok(["volume", "prune", "-f"])?;
    in_order(
        &told(&cli, &since, &["--filter", "type=volume"])?,
        &["volume create", "volume mount", "volume unmount", "volume destroy", "volume prune"],
    )?;
    cli.ok(["network", "create", "nn"])?;
    cli.ok(["run", "-d", "--name", "cc", "busybox", "sleep", "1000"])?;
    cli.ok(["network", "connect", "nn", "cc"])?;
    cli.ok(["network", "disconnect", "nn", "cc"])?;
    cli.ok(["network", "rm", "nn"])?;
    cli.ok(["network", "prune", "-f"])?;
    in_order(
        &told(
            &cli,
            &since,
            &[
                "--filter",
                "type=network",
                "--filter",
                "event=create",
                "--filter",
                "network=nn",
                "--filter",
                "event=connect",
                "--filter",
                "event=disconnect",
                "--filter",
                "event=destroy",
            ],
        )?,
        &["network create", "network connect", "network disconnect", "network destroy"],
    )?;
    in_order(&told(&cli, &since, &["--filter", "type=network"])?, &["network destroy", "network prune"])?;
    cli.ok(["rm", "-f", "cc"])?;
    Ok(())
}

#[test]
fn filters_and_times_choose() -> Result<()> {
    let engine = own()?;
    let (cli, since) = (engine.docker(), now()?);
    let (red, blue) = (unique("red"), unique("blue"));
    cli.ok(["run", "--name", &red, "--label", "color=red", "--label", "seen", "busybox", "true"])?;
    let between = now()?;
    cli.ok(["run", "--name", &blue, "--label", "color=blue", "busybox", "false"]).err().context("false fails")?;
    let count = |filters: &[&str]| -> Result<usize> {
        let filters: Vec<&str> = filters.iter().flat_map(|f| ["--filter", f]).collect();
        Ok(told(&cli, &since, &filters)?.len())
    };
    assert_eq!(count(&["event=create", "type=container"])?, 2);
    assert_eq!(count(&["event=create", "event=die"])?, 4);
    assert_eq!(count(&["event=die", &format!("container={red}")])?, 1);
    assert_eq!(count(&["event=die", "label=color=blue"])?, 1);
    assert_eq!(count(&["event=die", "label=color"])?, 2);
    assert_eq!(count(&["event=die", "label=seen"])?, 1);
    assert_eq!(count(&["event=die", "image=busybox"])?, 2);
    assert_eq!(count(&["event=die", "image=other"])?, 0);
    assert_eq!(count(&["scope=swarm"])?, 0);
    assert_eq!(count(&["event=die", "scope=local"])?, 2);
    assert_eq!(count(&["type=plugin"])?, 0);
    // What came before, and what came after.
    let at = |from: &str, to: &str| {
        cli.ok([
            "events",
            "--since",
            from,
            "--until",
            to,
            "--filter",
            "event=die",
            "--format",
            "{{.Actor.Attributes.name}}",
        ])
    };
    assert_eq!(at(&since, &between)?, red);
    assert_eq!(at(&between, &now()?)?, blue);
    assert_eq!(at("10m", &now()?)?, format!("{red}\n{blue}"));
    let one =
        cli.ok(["events", "--since", &since, "--until", &between, "--filter", "event=die", "--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&one)?;
    assert_eq!((json["Action"].as_str(), json["scope"].as_str()), (Some("die"), Some("local")));
    assert_eq!(json["Actor"]["Attributes"]["exitCode"].as_str(), Some("0"));
    cli.ok(["rm", &red, &blue])?;
    Ok(())
}
