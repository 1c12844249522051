//! Attacks on the engine itself that other engines had: what it makes of requests, plugins, checkpoints and clients that break off. As in
//! `attacks`, each test is named after what it was called there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use naru_testkit::{Engine, Tar, eventually, image, shared, unique};
use naru_tests::only_naru;
use serde_json::{Value, json};

/// Loads busybox with `layer` on top, and gives the name.
fn load(engine: &Engine, layer: Tar, config: &Value) -> Result<String> {
    let tag = format!("{}:1", unique("engine-attack"));
    engine.load(&image::archive(&tag, &[image::busybox_rootfs()?, layer.finish()], config))?;
    Ok(tag)
}

/// Files that a process has in its memory, by name.
fn mapped(pid: u32) -> Result<BTreeSet<String>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let name = |line: &str| line.split_whitespace().nth(5).filter(|name| name.starts_with('/')).map(str::to_owned);
    Ok(maps.lines().filter_map(name).collect())
}

#[test]
fn cve_2019_14271_cp_loads_nothing_of_the_containers() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    // A name service of the image's own, where a dynamic program looks for one when it is asked whose a file is.
    let mut layer = Tar::new().file("etc/nsswitch.conf", 0o644, b"passwd: files evil\ngroup: files evil\n");
    for folder in ["lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu"] {
        for name in ["libnss_files.so.2", "libnss_evil.so.2", "libc.so.6"] {
            layer = layer.file(&format!("{folder}/{name}"), 0o755, b"\x7fELF not a library");
        }
    }
    let tag = load(engine, layer.file_of("etc/owned", 0o644, (4711, 4712), b"kept"), &json!({}))?;
    let (name, folder) = (unique("nss"), engine.scratch("nss")?);
    cli.ok(["run", "-d", "--name", &name, &tag, "sleep", "1000"])?;
    let before = mapped(engine.pid()?)?;
    let cli = cli.in_folder(&folder);
    for _ in 0..3 {
        cli.ok(["cp", "-a", &format!("{name}:/etc/owned"), "owned"])?;
        cli.ok(["cp", "owned", &format!("{name}:/tmp/back")])?;
    }
    assert_eq!(fs::read(folder.join("owned"))?, b"kept");
    if !only_naru("dockerd is a dynamic program") {
        assert_eq!(mapped(engine.pid()?)?, before);
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2026_42306_cp_into_a_mount_that_is_exchanged() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("exchange"));
    let (share, inner, victim) = (engine.scratch("share")?, engine.scratch("inner")?, engine.scratch("victim")?);
    fs::write(victim.join("file"), "of the host")?;
    fs::create_dir_all(share.join("place"))?;
    let climbing = format!("{}{}", "../".repeat(24), victim.display().to_string().trim_start_matches('/'));
    symlink(climbing, share.join("out"))?;
    let folder = engine.scratch("from")?;
    fs::write(folder.join("file"), "from the client")?;
    let (outer, bound) = (format!("{}:/share", share.display()), format!("{}:/share/place", inner.display()));
    cli.ok(["create", "--name", &name, "-v", &outer, "-v", &bound, "busybox", "sleep", "1000"])?;
    // Where the inner bind is to be shown there is now and then a link out of the container.
    let racer = unique("racer");
    let swap = "cd /share; while :; do mv place x; mv out place; mv place out; mv x place; done 2>/dev/null";
    cli.ok(["run", "-d", "--name", &racer, "-v", &outer, "busybox", "sh", "-c", swap])?;
    let cli = cli.in_folder(&folder);
    for _ in 0..12 {
        cli.run(["cp", "file", &format!("{name}:/share/place/file")])?;
        cli.run(["cp", &format!("{name}:/share/place/file"), "back"])?;
        ensure!(fs::read_to_string(victim.join("file"))? == "of the host", "the host's file was written");
        let back = fs::read_to_string(folder.join("back")).unwrap_or_default();
        ensure!(back != "of the host", "the host's file came out");
    }
    ensure!(fs::read_dir(&victim)?.count() == 1, "something was made in the host's folder");
    cli.ok(["rm", "-f", &racer, &name])?;
    Ok(())
}

/// Names of all containers.
fn names(engine: &Engine) -> Result<String> {
    engine.cli().ok(["ps", "-a", "--format", "{{.Names}}"])
}

#[test]
fn cve_2024_41110_and_2026_34040_what_is_decided_on_is_what_is_done() -> Result<()> {
    let engine = shared()?;
    let http = engine.http();
    // A plugin once saw no body, or only its first megabyte: here is no second reader that could see another request.
    let plugins = http.get("/info")?.json()?["Plugins"]["Authorization"].clone();
    ensure!(plugins.is_null() || plugins == json!([]), "{plugins}");
    let headers = [("Content-Type", "application/json")];
    let empty = unique("empty");
    let answer = http.request("POST", &format!("/containers/create?name={empty}"), &headers, b"")?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    ensure!(!names(engine)?.contains(&empty), "it was made of nothing");
    // What stands behind two megabytes counts as much as what stands before them.
    let long = unique("long");
    let padding = "x".repeat(2 << 20);
    let body = format!(
        r#"{{"Image":"busybox","Cmd":["true"],"Labels":{{"pad":"{padding}"}},"HostConfig":{{"Privileged":true}}}}"#
    );
    let answer = http.request("POST", &format!("/containers/create?name={long}"), &headers, body.as_bytes())?;
    if answer.status == 201 {
        assert_eq!(engine.cli().inspect(&long, "{{.HostConfig.Privileged}}")?, "true");
        engine.cli().ok(["rm", &long])?;
    }
    // The same member twice: whatever is shown is what the container gets.
    let twice = unique("twice");
    let body = br#"{"Image":"busybox","Cmd":["grep","CapEff","/proc/self/status"],"HostConfig":{"CapAdd":["ALL"],"CapAdd":[],"CapDrop":["ALL"]}}"#;
    let answer = http.request("POST", &format!("/containers/create?name={twice}"), &headers, body)?;
    if answer.status == 201 {
        let said = engine.cli().ok(["start", "-a", &twice])?;
        let shown = engine.cli().inspect(&twice, "{{.HostConfig.CapAdd}}")?;
        assert_eq!(said.contains("0000000000000000"), !shown.contains("ALL"), "{said} {shown}");
        engine.cli().ok(["rm", &twice])?;
    }
    Ok(())
}

#[test]
fn go_2026_4883_no_plugin_gets_privileges() -> Result<()> {
    if only_naru("dockerd has plugins") {
        return Ok(());
    }
    let http = shared()?.http();
    for path in ["/plugins/pull?remote=evil/plugin:1&name=evil", "/plugins/create?name=evil", "/plugins/evil/enable"] {
        let answer = http.post(path, &json!([{"Name": "network", "Value": ["host"]}]))?;
        ensure!((400..600).contains(&answer.status), "{path}: {}", answer.status);
    }
    assert_eq!(http.get("/plugins")?.json()?, json!([]));
    Ok(())
}

#[test]
fn cve_2026_53489_and_53492_neither_checkpoints_nor_annotations_give_anything() -> Result<()> {
    if only_naru("dockerd 20.10 takes checkpoints when it is experimental") {
        return Ok(());
    }
    let engine = shared()?;
    let (cli, http, name) = (engine.cli(), engine.http(), unique("restored"));
    // A checkpoint made by somebody else, with a log that is a link.
    let folder = engine.scratch("checkpoint")?;
    fs::create_dir_all(folder.join("evil"))?;
    symlink("/etc/shadow", folder.join("evil/container.log"))?;
    fs::write(folder.join("evil/config.dump"), r#"{"privileged": true}"#)?;
    cli.ok(["create", "--name", &name, "busybox", "true"])?;
    let path = format!("/containers/{name}/start?checkpoint=evil&checkpoint-dir={}", folder.display());
    let answer = http.post(&path, &Value::Null)?;
    ensure!((400..600).contains(&answer.status), "a checkpoint was taken: {}", answer.status);
    assert_eq!(cli.inspect(&name, "{{.State.Status}}")?, "created");
    cli.ok(["rm", &name])?;
    // A device by an annotation, a label or the image's labels: only who is asked by `--device` gives one.
    let (key, device) = ("cdi.k8s.io/evil", "vendor.com/class=all");
    let tag = load(engine, Tar::new(), &json!({"Labels": {key: device}}))?;
    let body = json!({
        "Image": tag, "Cmd": ["sh", "-c", "ls /dev | sort | tr '\\n' ' '"], "Labels": {key: device},
        "HostConfig": {"Annotations": {key: device}},
    });
    let made = http.post(&format!("/containers/create?name={name}"), &body)?;
    assert_eq!(made.status, 201, "{}", made.text());
    let (with, without) = (
        cli.ok(["start", "-a", &name])?,
        cli.ok(["run", "--rm", "busybox", "sh", "-c", "ls /dev | sort | tr '\\n' ' '"])?,
    );
    assert_eq!(with, without);
    cli.ok(["rm", &name])?;
    Ok(())
}

/// Descriptors and threads of a process.
fn held(pid: u32) -> Result<(usize, usize)> {
    Ok((fs::read_dir(format!("/proc/{pid}/fd"))?.count(), fs::read_dir(format!("/proc/{pid}/task"))?.count()))
}

#[test]
fn cve_2025_64329_attaches_that_break_off_leave_nothing() -> Result<()> {
    // An engine of its own: the others' requests would be counted.
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (cli, http) = (engine.cli(), engine.http());
    cli.ok(["run", "-d", "-i", "--name", "held", "busybox", "cat"])?;
    let attach = "/containers/held/attach?stream=1&stdin=1&stdout=1&stderr=1";
    // The first of each kind may leave caches behind.
    drop(http.hijack(attach, true, &Value::Null)?);
    drop(http.stream("GET", "/containers/held/logs?follow=1&stdout=1")?);
    let before = held(engine.pid()?)?;
    for _ in 0..40 {
        drop(http.hijack(attach, true, &Value::Null)?);
        drop(http.stream("GET", "/containers/held/logs?follow=1&stdout=1")?);
    }
    eventually("what the attaches held to be free", || {
        let now = held(engine.pid()?)?;
        ensure!(now.0 <= before.0 + 4 && now.1 <= before.1 + 4, "{now:?}, and it was {before:?}");
        Ok(())
    })?;
    cli.ok(["rm", "-f", "held"])?;
    engine.finish()
}

#[test]
fn cve_2024_9341_places_of_the_engines_own_files_are_links() -> Result<()> {
    let engine = shared()?;
    let (cli, victim) = (engine.cli(), engine.scratch("victim")?);
    fs::write(victim.join("file"), "of the host")?;
    let up = format!("{}{}", "../".repeat(24), victim.display().to_string().trim_start_matches('/'));
    for target in [format!("{up}/file"), format!("{}/file", victim.display()), format!("{up}/new")] {
        let layer = ["resolv.conf", "hosts", "hostname"]
            .into_iter()
            .fold(Tar::new(), |tar, name| tar.symlink(&format!("etc/{name}"), &target));
        let tag = load(engine, layer.symlink("run/secrets", &up), &json!({}))?;
        let script = "cat /etc/hosts /etc/resolv.conf /run/secrets/file; for f in hosts hostname resolv.conf; do echo x >/etc/$f; done";
        let done = cli.run(["run", "--rm", &tag, "sh", "-c", script])?;
        ensure!(!done.stdout.contains("of the host"), "{target}: {}", done.stdout);
        ensure!(fs::read_to_string(victim.join("file"))? == "of the host", "{target}: the host's file was written");
        ensure!(fs::read_dir(&victim)?.count() == 1, "{target}: something was made in the host's folder");
    }
    Ok(())
}
