//! The image store when the engine dies, or its disk gets full, at random points of pull, load, commit and prune: what was answered with
//! success is there and whole, what was not is there whole or not at all, and nothing else is left.
//!
//! `NARU_STORE_POINTS` is how many points are tried (24), `NARU_STORE_SEED` the seed of their choice (1). Points of death
//! are those of a debug build (`naru_sys::fault`), which is what a test program is given.
#![expect(clippy::tests_outside_test_module, reason = "a test program of its own")]

use anyhow::{Context as _, Result, bail, ensure};
use naru_testkit::http::Http;
use naru_testkit::{Engine, EngineOptions, Registry, Tar, Target, eventually, image};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

const POINTS: u64 = 24;
/// The disk, in MiB: all of the work fits several times.
const DISK_MIB: u32 = 64;
/// More bytes than the work takes.
const WORK: u64 = 10 << 20;
/// More points than the work has, to begin with.
const MOST_POINTS: u64 = 4000;
const PULLED: &str = "127.0.0.1:5000/kit/pulled:1";
const NAMES: [&str; 5] = [PULLED, "kit/loaded:1", "kit/second:1", "kit/made:1", "kit/again:1"];

struct Random(u64);

impl Random {
    /// xorshift64*, below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.below(256) as u8).take(length).collect()
    }
}

/// A layer with many small files and a large one, which don't compress.
fn layer(name: &str, random: &mut Random) -> Vec<u8> {
    let mut tar = Tar::new().dir(name, 0o755);
    for n in 0..60 {
        tar = tar.file(&format!("{name}/{n}"), 0o644, &random.bytes(700));
    }
    tar.file(&format!("{name}/large"), 0o644, &random.bytes(500_000)).finish()
}

/// What is known about images by their names: whether they are there. Nothing, while a request that may change it has no answer.
#[derive(Debug, Default)]
struct Promised(BTreeMap<&'static str, bool>);

struct Work<'a> {
    http: &'a Http,
    archive: &'a [u8],
    promised: Promised,
}

impl Work<'_> {
    fn ask(
        &mut self,
        names: &[&'static str],
        there: bool,
        path: &str,
        kind: &str,
        body: &[u8],
        says: &str,
    ) -> Result<()> {
        for name in names {
            self.promised.0.remove(name);
        }
        let answer = self.http.request("POST", path, &[("Content-Type", kind)], body)?;
        let text = answer.text();
        ensure!(matches!(answer.status, 200..=204) && text.contains(says), "{path}: {} {text}", answer.status);
        for name in names {
            self.promised.0.insert(name, there);
        }
        Ok(())
    }

    /// Each step whether or not the one before succeeded: on a full disk the others go on.
    fn all(&mut self) -> Result<()> {
        let json = "application/json";
        let steps = [
            self.ask(
                &[PULLED],
                true,
                "/images/create?fromImage=127.0.0.1:5000/kit/pulled&tag=1",
                json,
                b"",
                "Status: ",
            ),
            self.ask(
                &NAMES[1..3],
                true,
                "/images/load",
                "application/x-tar",
                self.archive,
                "Loaded image: kit/second:1",
            ),
            self.ask(&["kit/made:1"], true, "/commit?container=source&repo=kit/made&tag=1", json, b"{}", "sha256:"),
            self.ask(&["kit/again:1"], true, &format!("/images/{PULLED}/tag?repo=kit/again&tag=1"), json, b"", ""),
        ];
        let pruned = self.prune();
        // The same once more, into a store that has just been emptied.
        let again = self.ask(&NAMES[1..3], true, "/images/load", "application/x-tar", self.archive, "Loaded image");
        steps.into_iter().chain([pruned, again]).collect()
    }

    /// Removes all images that no container has.
    fn prune(&mut self) -> Result<()> {
        let path = "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D";
        self.ask(&NAMES, false, path, "application/json", b"", "SpaceReclaimed")
    }
}

struct Bench<'a> {
    engine: &'a Engine,
    archive: Vec<u8>,
}

impl Bench<'_> {
    /// What the check says is wrong.
    fn check(&self) -> Result<Value> {
        Ok(self.engine.http().post("/system/check", &Value::Null)?.json()?["Problems"].clone())
    }

    /// Nothing that was promised is lost, everything that is there is whole, and there is nothing else.
    fn holds(&self, promised: &Promised) -> Result<()> {
        let problems = self.check()?;
        ensure!(problems == json!([]), "the check found {problems}");
        let http = self.engine.http();
        for (name, there) in &promised.0 {
            let found = http.get(&format!("/images/{name}/json"))?.status == 200;
            ensure!(found == *there, "{name} is there: {found}, in place of {there}");
        }
        Ok(())
    }

    /// Back to the beginning; and everything can be done now.
    fn begin(&self) -> Result<()> {
        let http = self.engine.http();
        let mut work = Work { http: &http, archive: &self.archive, promised: Promised::default() };
        work.prune()?;
        let left = http.get("/images/json?all=1")?.json()?;
        let left = left.as_array().map_or(0, Vec::len);
        ensure!(left <= 2, "{left} images are left beside busybox");
        Ok(())
    }

    /// Dies at that point; whether the work was over before it.
    fn die(&self, at: u64) -> Result<bool> {
        self.engine.terminate()?;
        // It may die before it serves.
        let _ = self.engine.launch_with(&[("NARU_FAULT_AT", &at.to_string())]);
        let http = self.engine.http();
        let mut work = Work { http: &http, archive: &self.archive, promised: Promised::default() };
        let worked = work.all();
        let promised = work.promised;
        let alive = http.get("/_ping").is_ok();
        if alive {
            worked.context("with an engine that lives")?;
            self.engine.kill()?;
        } else {
            let _ = self.engine.wait_for_end();
        }
        self.engine.launch()?;
        self.holds(&promised)?;
        Ok(alive)
    }

    /// Works with so many bytes on the disk; whether they were enough.
    fn fill(&self, free: u64) -> Result<bool> {
        let ballast = self.engine.data_root().join("ballast");
        let script = "free=$(df --output=avail -B1 \"$2\" | tail -n1); [ \"$free\" -le \"$1\" ] || fallocate -l $((free - $1)) \"$2/ballast\"";
        let sh = |script: &str, first: &str| -> Result<()> {
            let mut command = self.engine.world().command("sh");
            let done = command.args(["-c", script, "sh", first]).arg(self.engine.data_root()).output()?;
            ensure!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
            Ok(())
        };
        sh(script, &free.to_string())?;
        let http = self.engine.http();
        let mut work = Work { http: &http, archive: &self.archive, promised: Promised::default() };
        let worked = work.all();
        let promised = work.promised;
        // As full as it is: what was answered holds there, too.
        let held = eventually("what was promised on a full disk", || self.holds(&promised));
        sh("rm -f \"$2/ballast\"", "")?;
        held.with_context(|| format!("the work said {worked:?}; {}", ballast.display()))?;
        if let Err(error) = &worked {
            let text = format!("{error:#}");
            ensure!(text.contains("no space left") || text.contains("No such image"), "another error: {text}");
        }
        self.holds(&promised)?;
        Ok(worked.is_ok())
    }
}

/// The end of a log.
fn last(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[test]
fn a_store_survives_death_and_a_full_disk_at_any_point() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let points = number("NARU_STORE_POINTS").unwrap_or(POINTS);
    let seed = number("NARU_STORE_SEED").unwrap_or(1).max(1);
    let mut random = Random(seed);
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_naru")));
    let options = EngineOptions { program, data_tmpfs_mib: Some(DISK_MIB), ..EngineOptions::default() };
    let mut engine = Engine::with(Target::Naru, options)?;
    engine.load_busybox()?;
    let registry = Registry::start(&engine, 5000)?;
    let config = json!({"Env": ["PATH=/bin"]});
    let shared = layer("shared", &mut random);
    let pulled = image::archive("kit/pulled:1", &[shared.clone(), layer("pulled", &mut random)], &config);
    registry.fill(&pulled, "kit/pulled:1", &[])?;
    let mut bench = Bench { engine: &engine, archive: Vec::new() };
    // Two images in one archive, which share a layer with the one that is pulled.
    for (tag, name) in [("kit/loaded:1", "loaded"), ("kit/second:1", "second")] {
        let archive = image::archive(tag, &[shared.clone(), layer(name, &mut random)], &config);
        engine.load(&archive)?;
    }
    bench.archive = {
        let answer = engine.http().get("/images/get?names=kit/loaded:1&names=kit/second:1")?;
        ensure!(answer.status == 200, "save: {}", answer.status);
        answer.body
    };
    engine.http().post("/containers/create?name=source", &json!({"Image": "busybox", "Cmd": ["true"]}))?;
    let files = layer("own", &mut random);
    let kind = [("Content-Type", "application/x-tar")];
    let put = engine.http().request("PUT", "/containers/source/archive?path=/", &kind, &files)?;
    ensure!(put.status == 200, "fill the container: {}", put.text());
    let (mut end, mut dead, mut full) = (MOST_POINTS, 0, 0);
    for point in 0..points {
        bench.begin().with_context(|| format!("NARU_STORE_SEED={seed}, before point {point}"))?;
        let kill = point % 2 == 0;
        let (what, at) = if kill { ("dead at", 1 + random.below(end)) } else { ("bytes free", random.below(WORK)) };
        let done = if kill { bench.die(at) } else { bench.fill(at) };
        match done
            .with_context(|| format!("NARU_STORE_SEED={seed}, point {point}: {at} {what}\n{}", last(&engine.log())))
        {
            // Beyond the last one.
            Ok(true) if kill => end = end.min(at),
            Ok(true) => {}
            Ok(false) if kill => dead += 1,
            Ok(false) => full += 1,
            Err(error) => bail!(error),
        }
    }
    bench.begin()?;
    // Nothing to do when the test's standard error is closed.
    let text = format!("{points} points from seed {seed}: dead at {dead} (of {end}), a full disk at {full}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    ensure!(dead > 0, "no point of death was met: a build without them?");
    drop(registry);
    engine.finish()
}
