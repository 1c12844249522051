//! What layers may have: device nodes and set-id bits are kept, since distributions have them, and are of no use to whom the container does not
//! give the right; an engine may be told to leave them out or to refuse them.

use anyhow::{Result, ensure};
use naru_testkit::{Engine, EngineOptions, Tar, Target, image, unique};
use naru_tests::only_naru;
use serde_json::json;

/// Busybox, a memory device with two names, and a program with set-id bits.
fn archive(tag: &str) -> Result<Vec<u8>> {
    let layer = Tar::new()
        .char_device("mem", 0o666, (1, 1))
        .hardlink("again", "mem")
        .file("tool", 0o6755, b"#!/bin/sh\n")
        .finish();
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    Ok(image::archive(tag, &[image::busybox_rootfs()?, layer], &config))
}

#[test]
fn what_is_kept_gives_no_rights() -> Result<()> {
    let engine = naru_testkit::shared()?;
    let cli = engine.cli();
    let tag = format!("{}:1", unique("policy"));
    engine.load(&archive(&tag)?)?;
    assert_eq!(cli.ok(["run", "--rm", &tag, "stat", "-c", "%F %t %T", "/mem"])?, "character special file 1 1");
    assert_eq!(cli.ok(["run", "--rm", &tag, "stat", "-c", "%a", "/tool"])?, "6755");
    // Neither root nor a user reads the machine's memory by it.
    for user in ["0", "1000"] {
        let done = cli.run(["run", "--rm", "--user", user, &tag, "head", "-c1", "/mem"])?;
        let refused = done.stderr.contains("Operation not permitted") || done.stderr.contains("Permission denied");
        assert!(done.code == 1 && done.stdout.is_empty() && refused, "{user}: {done:?}");
    }
    cli.ok(["rmi", &tag])?;
    Ok(())
}

fn with_policy(policy: &str) -> Result<Engine> {
    let args = ["--image-policy", policy].iter().map(Into::into).collect();
    Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })
}

#[test]
fn a_policy_leaves_out_or_refuses() -> Result<()> {
    if only_naru("docker has no such setting") {
        return Ok(());
    }
    let mut engine = with_policy("devices=strip,setuid=strip")?;
    let cli = engine.cli();
    engine.load(&archive("policy:1")?)?;
    assert_eq!(cli.ok(["run", "--rm", "policy:1", "sh", "-c", "ls /mem /again 2>/dev/null; stat -c %a /tool"])?, "755");
    // What a container makes itself is not from elsewhere.
    cli.ok(["run", "--name", "own", "policy:1", "chmod", "4711", "/tool"])?;
    cli.ok(["commit", "own", "own:1"])?;
    assert_eq!(cli.ok(["run", "--rm", "own:1", "stat", "-c", "%a", "/tool"])?, "4711");
    // The archive is kept as it came.
    let check = engine.http().post("/system/check", &serde_json::Value::Null)?.json()?;
    ensure!(check["Problems"] == json!([]), "{check}");
    engine.finish()?;
    let mut engine = with_policy("devices=refuse")?;
    let said = engine.load(&archive("policy:1")?).err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(said.contains("\\\"mem\\\" refused: this engine's image policy allows no device nodes"), "{said}");
    assert_eq!(engine.cli().run(["inspect", "policy:1"])?.code, 1);
    engine.finish()?;
    let mut engine = with_policy("setuid=refuse")?;
    let said = engine.load(&archive("policy:1")?).err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(said.contains("allows no set-id bits"), "{said}");
    engine.finish()
}
