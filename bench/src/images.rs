//! Images: pull, push, save, load and list, beside docker and Podman, with the floor (what fetching, inflating and writing cost by
//! themselves) in the same table; and what ten real images take on the disk of four engines.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use naru_testkit::{Engine, EngineOptions, Registry, Target, eventually, image};
use serde_json::{Value, json};

use crate::sample::Series;
use crate::say;

const DEBIAN: &str = "127.0.0.1:5000/debian:1";
const PUSHED: &str = "127.0.0.1:5000/pushed:1";
/// Images for the list.
const MANY: usize = 1000;
/// As many for Podman, which compares each with all others of the same layers: for a thousand it takes minutes.
const FEWER: usize = 100;
/// The ten images of `tools/ten-images`: names, and whether they are a layer on the Debian.
const TEN: [(&str, bool); 10] = [
    ("debian", false),
    ("python", true),
    ("node", true),
    ("ruby", true),
    ("nginx", true),
    ("redis", true),
    ("postgres-client", true),
    ("git", true),
    ("build", false),
    ("php", false),
];

/// A row's name; what is done once before it; what is measured; what is done after each measurement.
type Step<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str], &'a [&'a [&'a str]]);

/// Who does the work: docker's client with an engine, Naru's own, Podman, or nobody (the floor).
struct Subject<'a> {
    name: &'static str,
    engine: Option<&'a Engine>,
    own_client: bool,
    podman: Option<Podman<'a>>,
}

/// Podman with a store of its own.
#[derive(Clone)]
struct Podman<'a> {
    engine: &'a Engine,
    folder: PathBuf,
}

impl Podman<'_> {
    fn run(&self, args: &[&str]) -> Result<()> {
        self.output(args).map(drop)
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        let mut command = self.engine.world().command("podman");
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        let done = command.args(["--storage-driver", "overlay"]).args(args).output().context("start podman")?;
        ensure!(done.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

impl Subject<'_> {
    fn run(&self, args: &[&str]) -> Result<()> {
        match (self.engine, &self.podman) {
            (_, Some(podman)) => podman.run(args),
            (Some(engine), None) => {
                let client = if self.own_client { engine.naru() } else { engine.docker() };
                client.ok(args.iter().filter(|arg| **arg != "--tls-verify=false")).map(drop)
            }
            (None, None) => Ok(()),
        }
    }

    /// Bytes on disk of its store.
    fn taken(&self) -> Result<u64> {
        // What was not yet written has no blocks.
        ensure!(Command::new("sync").status()?.success(), "sync");
        let store = match (self.engine, &self.podman) {
            (_, Some(podman)) => podman.folder.join("root"),
            (Some(engine), None) if engine.target() == Target::Naru => engine.data_root().join("images"),
            (Some(engine), None) => engine.data_root(),
            (None, None) => return Ok(0),
        };
        // Podman makes its own when it is first used.
        if store.exists() { taken(&store) } else { Ok(0) }
    }
}

/// The table of times.
///
/// # Errors
/// When an engine fails at something.
pub fn times(rounds: usize) -> Result<()> {
    let (mut docker, mut naru) = (
        Engine::with(Target::Dockerd, EngineOptions::default())?,
        Engine::with(Target::Naru, EngineOptions::default())?,
    );
    let archive = docker.scratch("bench")?.join("debian.tar");
    fs::write(&archive, image::debian()?)?;
    {
        let registries = [registry(&docker)?, registry(&naru)?];
        let podman = Podman { engine: &naru, folder: naru.scratch("podman")? };
        let subject = |name, engine, own_client| Subject { name, engine, own_client, podman: None };
        let subjects = [
            subject("docker → dockerd", Some(&docker), false),
            Subject { podman: Some(podman), ..subject("podman", None, false) },
            subject("docker → naru", Some(&naru), false),
            subject("naru → naru", Some(&naru), true),
        ];
        let load = fs::read_to_string("/proc/loadavg")?;
        say(&format!("load {}; {rounds} rounds\n\n", load.trim()))?;
        say("| work | by | median ms | p90 | × faster than docker |\n|---|---|---|---|---|\n")?;
        let scratch = naru.scratch("floor")?;
        let files = floor(&registries[1], &scratch, rounds)?;
        disk_of_one(&subjects, files)?;
        let out = scratch.join("out.tar").display().to_string();
        let archive = archive.display().to_string();
        let pull = ["pull", "-q", "--tls-verify=false", DEBIAN];
        let steps: [Step<'_>; 5] = [
            ("pull", &[], &pull, &[&["rmi", DEBIAN]]),
            ("load", &[], &["load", "-q", "-i", &archive], &[&["rmi", "debian:bookworm"]]),
            ("save", &[&["load", "-q", "-i", &archive]], &["save", "-o", &out, "debian:bookworm"], &[]),
            (
                "push, the first time",
                // As it was pulled: what was loaded is pushed by Naru as the archive had it, without compression.
                &[&pull, &["tag", DEBIAN, PUSHED]],
                &["push", "-q", "--tls-verify=false", PUSHED],
                &[],
            ),
            (
                "push, known there",
                &[&["push", "-q", "--tls-verify=false", PUSHED]],
                &["push", "-q", "--tls-verify=false", PUSHED],
                &[],
            ),
        ];
        for (name, before, timed, after) in steps {
            let first = name == "push, the first time";
            let mut all = vec![Series::default(); subjects.len()];
            for subject in &subjects {
                before.iter().try_for_each(|args| subject.run(args))?;
            }
            for _ in 0..rounds {
                for (subject, series) in subjects.iter().zip(&mut all) {
                    // A file that is there already is asked about.
                    let _ = fs::remove_file(&out);
                    if first {
                        registries.iter().try_for_each(forget)?;
                    }
                    series.time(|| subject.run(timed)).with_context(|| format!("{}: {name}", subject.name))?;
                    after.iter().try_for_each(|args| subject.run(args))?;
                }
            }
            report(name, &subjects.iter().collect::<Vec<_>>(), &all)?;
        }
        list(&subjects, &[&docker, &naru], rounds)?;
    }
    docker.finish()?;
    naru.finish()
}

fn registry(engine: &Engine) -> Result<Registry<'_>> {
    let registry = Registry::start(engine, 5000)?;
    registry.fill(&image::debian()?, "debian:1", &[])?;
    Ok(registry)
}

/// The registry forgets everything, so that a push brings all of it: docker remembers where it pulled a layer from, and would have it mounted.
fn forget(registry: &Registry<'_>) -> Result<()> {
    for part in ["repositories", "blobs"] {
        let folder = registry.store().join("docker/registry/v2").join(part);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

fn report(name: &str, subjects: &[&Subject<'_>], all: &[Series]) -> Result<()> {
    for (subject, own) in subjects.iter().zip(all) {
        let (median, p90, ratio) = (own.percentile(50), own.percentile(90), all[0].percentile(50) / own.percentile(50));
        say(&format!("| {name} | {} | {median:.0} | {p90:.0} | {ratio:.1} |\n", subject.name))?;
    }
    Ok(())
}

/// What the pulled Debian takes, and its files alone.
fn disk_of_one(subjects: &[Subject<'_>], files: u64) -> Result<()> {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let name = "disk for the pulled image, in MB";
    say(&format!("| floor: {name} | the files alone | {:.0} | | |\n", mb(files)))?;
    let mut docker = None;
    // The same store, whichever client asks.
    for subject in subjects.iter().filter(|subject| !subject.own_client) {
        let before = subject.taken()?;
        subject.run(&["pull", "-q", "--tls-verify=false", DEBIAN])?;
        let own = subject.taken()?.saturating_sub(before);
        subject.run(&["rmi", DEBIAN])?;
        let ratio = mb(*docker.get_or_insert(own)) / mb(own);
        say(&format!("| {name} | {} | {:.0} | | {ratio:.1} |\n", subject.name, mb(own)))?;
    }
    Ok(())
}

/// The same bytes, fetched from the registry's disk, inflated, and written by programs that do nothing else. How many the files take.
fn floor(registry: &Registry<'_>, scratch: &Path, rounds: usize) -> Result<u64> {
    let digest = registry.layers("debian:1")?.pop().context("a layer")?;
    let (blob, tree) = (registry.blob(&digest), scratch.join("tree"));
    let script = |text: &'static str| {
        let (blob, tree) = (blob.clone(), tree.clone());
        move || -> Result<()> {
            let done = Command::new("sh").args(["-c", text, "sh"]).arg(&blob).arg(&tree).status()?;
            ensure!(done.success(), "{text}");
            Ok(())
        }
    };
    let rows = [
        ("floor: fetch", script("cat \"$1\" >/dev/null")),
        ("floor: fetch, inflate", script("gzip -dc <\"$1\" >/dev/null")),
        (
            "floor: fetch, inflate, write the files",
            script("mkdir \"$2\" && gzip -dc <\"$1\" | tar -C \"$2\" -x && sync -f \"$2\""),
        ),
    ];
    let mut files = 0;
    for (name, work) in rows {
        let mut series = Series::default();
        for _ in 0..rounds {
            series.time(&work)?;
            if tree.exists() {
                files = taken(&tree)?;
                fs::remove_dir_all(&tree)?;
            }
        }
        say(&format!("| {name} | gzip, GNU tar | {:.0} | {:.0} | |\n", series.percentile(50), series.percentile(90)))?;
    }
    Ok(files)
}

/// `images` with many of them.
fn list(subjects: &[Subject<'_>], engines: &[&Engine], rounds: usize) -> Result<()> {
    let all = archive_of_many(MANY);
    for engine in engines {
        engine.load(&all)?;
    }
    subjects.iter().filter_map(|subject| subject.podman.as_ref()).try_for_each(many_of_podman)?;
    let mut series = vec![Series::default(); subjects.len()];
    for _ in 0..rounds {
        for (subject, own) in subjects.iter().zip(&mut series) {
            own.time(|| subject.run(&["images"]))?;
        }
    }
    let all: Vec<_> = subjects.iter().collect();
    report(&format!("`images`, {MANY} of one layer (podman: {FEWER})"), &all, &series)
}

/// Some in Podman's store, made by hand of one that it has loaded: an archive of them takes it long.
fn many_of_podman(podman: &Podman<'_>) -> Result<()> {
    let (file, images) = (podman.folder.join("one.tar"), podman.folder.join("root/overlay-images"));
    fs::write(&file, archive_of_many(1))?;
    podman.run(&["load", "-q", "-i", &file.display().to_string()])?;
    let mut table: Vec<Value> = serde_json::from_slice(&fs::read(images.join("images.json"))?)?;
    let first = image::sha256(config_of(0).as_bytes());
    let entry = table.iter().find(|entry| entry["id"] == *first).context("the loaded image")?.to_string();
    let manifest = fs::read_to_string(images.join(&first).join("manifest"))?;
    let digest = image::sha256(manifest.as_bytes());
    for n in 1..FEWER {
        let config = config_of(n);
        let id = image::sha256(config.as_bytes());
        let own = manifest.replace(&first, &id);
        let own_digest = image::sha256(own.as_bytes());
        let text = entry.replace(&first, &id).replace(&digest, &own_digest).replace(&name_of(0), &name_of(n));
        table.push(serde_json::from_str(&text)?);
        let folder = images.join(&id);
        fs::create_dir(&folder)?;
        fs::write(folder.join("manifest"), &own)?;
        for (key, bytes) in [
            (format!("sha256:{id}"), config.as_str()),
            (format!("manifest-sha256:{own_digest}"), own.as_str()),
            (format!("signature-{own_digest}"), ""),
        ] {
            // As containers/storage names files whose names are no words.
            fs::write(folder.join(format!("={}", BASE64_STANDARD.encode(key))), bytes)?;
        }
    }
    fs::write(images.join("images.json"), json!(table).to_string())?;
    let listed = podman.output(&["images", "--format", "{{.Repository}}"])?;
    let count = listed.lines().filter(|line| line.starts_with("localhost/many/")).count();
    ensure!(count == FEWER, "podman has {count} of {FEWER} images");
    Ok(())
}

/// The name without tag of one of many.
fn name_of(n: usize) -> String {
    format!("many/i{n:04}")
}

fn layer_of_many() -> Vec<u8> {
    naru_testkit::Tar::new().file("f", 0o644, b"x").finish()
}

/// The configuration of one of many: all are of one length.
fn config_of(n: usize) -> String {
    json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"n": format!("{n:04}")}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", image::sha256(&layer_of_many()))]}})
    .to_string()
}

/// One archive with so many images of one layer.
fn archive_of_many(count: usize) -> Vec<u8> {
    let mut out = naru_testkit::Tar::new().file("layer.tar", 0o644, &layer_of_many());
    let mut manifest = Vec::new();
    for n in 0..count {
        let config = config_of(n);
        let name = format!("{}.json", image::sha256(config.as_bytes()));
        out = out.file(&name, 0o644, config.as_bytes());
        manifest.push(json!({"Config": name, "RepoTags": [format!("{}:1", name_of(n))], "Layers": ["layer.tar"]}));
    }
    out.file("manifest.json", 0o644, json!(manifest).to_string().as_bytes()).finish()
}

/// What the ten images take: pulled by each engine into a store of its own.
///
/// # Errors
/// When `tools/ten-images` was not run, or an engine fails.
pub fn disk() -> Result<()> {
    let ten = image::debian_rootfs()?.with_file_name("ten");
    ensure!(ten.join("php.tar").exists(), "{} is not complete: run tools/ten-images", ten.display());
    let (mut docker, mut naru) = (
        Engine::with(Target::Dockerd, EngineOptions::default())?,
        Engine::with(Target::Naru, EngineOptions::default())?,
    );
    {
        let registry = Registry::start(&naru, 5000)?;
        let beside = Registry::start(&docker, 5000)?;
        let base = fs::read(ten.join("debian.tar"))?;
        for (name, on_top) in TEN {
            let own = fs::read(ten.join(format!("{name}.tar")))?;
            let layers = if on_top { vec![base.clone(), own] } else { vec![own] };
            let archive = image::archive("ten/x:1", &layers, &json!({"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}));
            for registry in [&registry, &beside] {
                registry.fill(&archive, &format!("{name}:1"), &[])?;
            }
        }
        let references: Vec<String> = TEN.iter().map(|(name, _)| registry.reference(&format!("{name}:1"))).collect();
        say("| ten images | MB on disk |\n|---|---|\n")?;
        say_mb("what the registry has, compressed", taken(&registry.store())?)?;
        for reference in &references {
            docker.docker().ok(["pull", "-q", reference])?;
            naru.naru().ok(["pull", "-q", reference])?;
        }
        let podman = Podman { engine: &naru, folder: naru.scratch("podman")? };
        for reference in &references {
            podman.run(&["pull", "-q", "--tls-verify=false", reference])?;
        }
        say_mb(
            "docker, overlay2",
            taken(&docker.data_root().join("overlay2"))? + taken(&docker.data_root().join("image"))?,
        )?;
        say_mb("Podman, overlay", taken(&podman.folder.join("root"))?)?;
        say_mb("containerd, overlayfs snapshots and its content store", containerd(&naru, &references)?)?;
        let store = naru.data_root().join("images");
        say_mb("Naru", taken(&store)?)?;
        say_mb("– of it unpacked layers", taken(&store.join("layers"))?)?;
        say_mb("– of it compressed blobs, which push and save need", taken(&store.join("blobs"))?)?;
        say_mb(
            "– what docker needs in their place (its tar-split files)",
            tar_split(&docker.data_root().join("image"))?,
        )?;
        duplicates(&store.join("layers"))?;
        rebuilt(&registry, &store)?;
    }
    docker.finish()?;
    naru.finish()
}

fn say_mb(what: &str, bytes: u64) -> Result<()> {
    say(&format!("| {what} | {:.0} |\n", bytes as f64 / 1e6))
}

/// Bytes on disk of all that is below a folder, each file once.
fn taken(folder: &Path) -> Result<u64> {
    let (mut sum, mut seen) = (0, HashSet::new());
    walk(folder, &mut |_, meta| {
        if seen.insert((meta.dev(), meta.ino())) {
            sum += meta.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(sum)
}

fn walk(folder: &Path, see: &mut impl FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        // An engine may be removing something.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        see(&path, &meta)?;
        // Not what is mounted there.
        if meta.is_dir() && !path.ends_with("merged") {
            walk(&path, see)?;
        }
    }
    Ok(())
}

fn tar_split(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    walk(folder, &mut |path, meta| {
        if path.ends_with("tar-split.json.gz") {
            sum += meta.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(sum)
}

/// What is there more than once: what a store of single files would save, by reflinks (equal content) and by hard links (equal in everything).
fn duplicates(layers: &Path) -> Result<()> {
    let (mut all, mut files) = (0_u64, 0_u64);
    let mut contents: HashSet<String> = HashSet::new();
    let mut same: HashSet<(String, u32, u32, u32, i64)> = HashSet::new();
    let (mut by_content, mut by_all) = (0_u64, 0_u64);
    let mut inodes = HashSet::new();
    walk(layers, &mut |path, meta| {
        if !meta.is_file() || meta.len() == 0 || !inodes.insert(meta.ino()) {
            return Ok(());
        }
        let (size, digest) = (meta.blocks() * 512, image::sha256(&fs::read(path)?));
        all += size;
        files += 1;
        if !contents.insert(digest.clone()) {
            by_content += size;
        }
        if !same.insert((digest, meta.mode(), meta.uid(), meta.gid(), meta.mtime())) {
            by_all += size;
        }
        Ok(())
    })?;
    let percent = |part: u64| 100.0 * part as f64 / all as f64;
    say(&format!(
        "\n{files} files of {:.0} MB in layers: {:.0} MB ({:.1} %) have the content of another one, {:.0} MB ({:.1} %) its owner, mode and time, too.\n",
        all as f64 / 1e6,
        by_content as f64 / 1e6,
        percent(by_content),
        by_all as f64 / 1e6,
        percent(by_all)
    ))
}

/// How many of the registry's layers come out the same when their content is compressed again.
fn rebuilt(registry: &Registry<'_>, store: &Path) -> Result<()> {
    let mut layers: HashMap<String, bool> = HashMap::new();
    for (name, _) in TEN {
        for digest in registry.layers(&format!("{name}:1"))? {
            layers.entry(digest).or_insert(false);
        }
    }
    for (digest, same) in &mut layers {
        let blob = store.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        for level in ["-1", "-6", "-9"] {
            let done = Command::new("sh")
                .args(["-c", "gzip -dc <\"$1\" | gzip -n \"$2\" | sha256sum", "sh"])
                .arg(&blob)
                .arg(level)
                .output()?;
            *same |= digest.ends_with(String::from_utf8_lossy(&done.stdout).split(' ').next().unwrap_or("?"));
        }
    }
    let count = layers.values().filter(|same| **same).count();
    say(&format!("{count} of {} layers come out the same from `gzip -1`, `-6` or `-9`.\n", layers.len()))
}

/// What containerd takes for them.
fn containerd(engine: &Engine, references: &[String]) -> Result<u64> {
    let folder = engine.scratch("containerd")?;
    let config = folder.join("config.toml");
    fs::write(
        &config,
        format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/s\"\n",
            folder.display()
        ),
    )?;
    let log = fs::File::create(folder.join("log"))?;
    let mut daemon = Daemon(
        engine
            .world()
            .command("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start containerd")?,
    );
    let ctr = |args: &[&str]| -> Result<()> {
        let mut command = engine.world().command("ctr");
        let done = command.arg("--address").arg(folder.join("s")).args(args).output()?;
        ensure!(done.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    eventually("containerd to answer", || ctr(&["version"]))?;
    for reference in references {
        ctr(&["images", "pull", "--plain-http", reference])?;
    }
    let bytes = taken(&folder.join("root"))?;
    daemon.end();
    Ok(bytes)
}

/// Ended when dropped, with its child: `nsenter` holds the real program.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self) {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            let _ = Command::new("kill").arg(pid).status();
        }
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
