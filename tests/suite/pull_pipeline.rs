//! How a pull goes through the machine: layers unpacked side by side while they come, one sync, and the name last.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, Fault, Faults, Registry, Tar, eventually, image};
use naru_tests::only_naru;
use serde_json::{Value, json};

/// Ports of a registry and of what stands in front of it.
fn ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(6000);
    let one = NEXT.fetch_add(2, Ordering::Relaxed);
    (one, one + 1)
}

/// A layer with two files, `first-N` and `last-N`, that compress badly.
fn layer(n: u32) -> Vec<u8> {
    let bytes = |seed: u32| -> Vec<u8> {
        (0..600_000_u32)
            .map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761).rotate_left(at % 13) >> 24) as u8)
            .collect()
    };
    Tar::new()
        .file(&format!("first-{n}"), 0o644, &bytes(n))
        .file(&format!("last-{n}"), 0o644, &bytes(n + 1000))
        .finish()
}

/// Names of the files below `folder`, at any depth.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is renamed meanwhile is looked for again.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => drop(found.insert(entry.file_name().to_string_lossy().into_owned())),
            }
        }
    }
    found
}

#[test]
fn layers_are_unpacked_side_by_side_while_they_come() -> Result<()> {
    if only_naru("docker unpacks one after the other, and what has come whole") {
        return Ok(());
    }
    let (engine, (own, front)) = (Engine::start()?, ports());
    let registry = Registry::start(&engine, own)?;
    let proxy = Faults::start(&engine, front, own, 200_000)?;
    registry.fill(&image::archive("kit/side:1", &[layer(0), layer(1), layer(2)], &json!({})), "side:1", &[])?;
    let reference = format!("{}/side:1", proxy.address());
    let images = engine.data_root().join("images");
    // The second half of each layer doesn't come yet.
    proxy.set(Fault::Hold)?;
    let mut pull = engine.docker().start(["pull", &reference])?;
    eventually("the first file of each layer", || {
        let there = files(&images.join("unpack"));
        ensure!((0..3).all(|n| there.contains(&format!("first-{n}"))), "{there:?}");
        Ok(())
    })?;
    // Nothing of it is an image or a layer, and the pull goes on.
    ensure!(engine.cli().run(["inspect", &reference])?.code != 0 && pull.is_running()?);
    assert_eq!(fs::read_dir(images.join("layers"))?.count(), 0);
    proxy.set(Fault::None)?;
    let done = pull.finish()?;
    ensure!(done.code == 0, "{done:?}");
    let there = files(&images.join("layers"));
    ensure!((0..3).all(|n| there.contains(&format!("last-{n}"))), "{there:?}");
    Ok(())
}

/// strace(1) on a running process, all of its threads.
struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    fn begin(pid: u32, file: PathBuf) -> Result<Trace> {
        let calls = "trace=fsync,fdatasync,sync,syncfs,renameat,renameat2";
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-e", calls, "-o"])
            .arg(&file)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start strace (tools/setup-tests installs it)")?;
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().context("its standard error")?);
        while !said.contains("attached") {
            ensure!(lines.read_line(&mut said)? > 0, "strace ended: {said}");
        }
        // What it says later is read, so that it doesn't wait for anybody.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Trace { child, file })
    }

    /// The calls, those that were taken up again as their beginnings.
    fn end(mut self) -> Result<Vec<String>> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.child.wait()?;
        let text = fs::read_to_string(&self.file)?;
        let call = |line: &str| line.split_once(' ').map_or(String::new(), |(_, call)| call.trim().to_owned());
        Ok(text.lines().map(call).filter(|call| !call.starts_with("<...") && !call.starts_with(['+', '-'])).collect())
    }
}

#[test]
fn one_sync_and_then_the_name() -> Result<()> {
    if only_naru("it is about naru's store") {
        return Ok(());
    }
    let (engine, (own, _)) = (Engine::start()?, ports());
    let registry = Registry::start(&engine, own)?;
    registry.fill(&image::archive("kit/sync:1", &[layer(10), layer(11), layer(12)], &json!({})), "sync:1", &[])?;
    let reference = registry.reference("sync:1");
    let file = engine.scratch("trace")?.join("calls");
    let trace = Trace::begin(engine.pid()?, file)?;
    engine.cli().ok(["pull", &reference])?;
    let calls = trace.end()?;
    let of = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    // All content at once; the index in its temporary file, and the folder that it is renamed in.
    assert_eq!((of("syncfs("), of("fsync("), of("fdatasync(") + of("sync(")), (1, 2, 0), "{calls:#?}");
    let at = |wanted: &[&str]| calls.iter().position(|call| wanted.iter().all(|part| call.contains(part)));
    let (sync, name) = (at(&["syncfs("]), at(&["rename", "\"index.json\""]));
    ensure!(sync.is_some() && sync < name, "{calls:#?}");
    // And no layer or blob comes after it.
    let last = calls.iter().rposition(|call| call.starts_with("rename"));
    assert_eq!(last, name, "{calls:#?}");
    Ok(())
}

#[test]
fn zstd_chunked_is_read_as_zstd() -> Result<()> {
    if only_naru("dockerd 20.10 does not know zstd") {
        return Ok(());
    }
    let (engine, (own, _)) = (Engine::start()?, ports());
    let registry = Registry::start(&engine, own)?;
    let layers = [image::busybox_rootfs()?, layer(20)];
    let config = json!({"Env": ["PATH=/bin"]});
    let form = ["--format", "oci", "--dest-compress-format", "zstd:chunked"];
    registry.fill(&image::archive("kit/chunked:1", &layers, &config), "chunked:1", &form)?;
    let manifest = registry.manifest("chunked:1")?;
    let chunked = |layer: &Value| layer["annotations"].to_string().contains("io.containers.zstd-chunked");
    ensure!(manifest["layers"].as_array().is_some_and(|all| all.iter().all(chunked)), "{manifest}");
    let (reference, again) = (registry.reference("chunked:1"), registry.reference("again:1"));
    let cli = engine.cli();
    cli.ok(["pull", &reference])?;
    assert_eq!(cli.ok(["run", "--rm", &reference, "wc", "-c", "/last-20"])?, "600000 /last-20");
    // It goes on as it came, with the table of its chunks.
    cli.ok(["tag", &reference, &again])?;
    cli.ok(["push", &again])?;
    assert_eq!(registry.manifest("again:1")?, manifest);
    Ok(())
}
