//! Images for several platforms: one name, an index kept byte for byte, and of its platforms those that were fetched.

use std::fs;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use naru_testkit::{Client, Engine, Registry, Tar, Target, image};
use naru_tests::only_naru;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(5600);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An index in a registry.
struct Multi {
    bytes: String,
    /// Of the manifests: amd64, arm64.
    manifests: Vec<String>,
}

impl Multi {
    fn digest(&self) -> String {
        format!("sha256:{}", image::sha256(self.bytes.as_bytes()))
    }
}

/// Puts `name:all` into the registry, for amd64 (busybox, with the file `/word`) and arm64.
fn fill(registry: &Registry<'_>, name: &str, word: &str) -> Result<Multi> {
    let own = [image::busybox_rootfs()?, Tar::new().file("word", 0o644, word.as_bytes()).finish()];
    let other = [Tar::new().file("arm", 0o644, word.as_bytes()).finish()];
    let config = json!({"Cmd": ["cat", "/word"], "Env": ["PATH=/bin"]});
    let (mut entries, mut manifests) = (Vec::new(), Vec::new());
    for (architecture, layers) in [("amd64", &own[..]), ("arm64", &other[..])] {
        let tag = format!("{name}:{architecture}");
        registry.fill(&image::archive_for(architecture, "kit/multi:1", layers, &config), &tag, &["--format", "oci"])?;
        let raw = raw(registry, &tag)?;
        let digest = format!("sha256:{}", image::sha256(raw.as_bytes()));
        entries.push(json!({
            "mediaType": MANIFEST,
            "digest": digest,
            "size": raw.len(),
            "platform": {"architecture": architecture, "os": "linux"},
        }));
        manifests.push(digest);
    }
    let bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    registry.put_manifest(name, "all", INDEX, &bytes)?;
    Ok(Multi { bytes, manifests })
}

fn raw(registry: &Registry<'_>, name: &str) -> Result<String> {
    registry.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.reference(name))])
}

fn setup() -> Result<Engine> {
    Engine::start()
}

/// The platforms of the image, each with whether it is here.
fn platforms(engine: &Engine, name: &str) -> Result<Vec<(String, bool)>> {
    let shown = engine.http().get(&format!("/v1.48/images/{name}/json?manifests=1"))?.json()?;
    let list = shown["Manifests"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(list.iter().map(|m| (text(&m["ImageData"]["Platform"]["architecture"]), m["Available"] == true)).collect())
}

fn is_here(amd64: bool, arm64: bool) -> Vec<(String, bool)> {
    vec![("amd64".to_owned(), amd64), ("arm64".to_owned(), arm64)]
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// All images but the built-in one.
fn names(cli: &Client) -> Result<Vec<String>> {
    let all = cli.ok(["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"])?;
    Ok(all.lines().filter(|line| *line != "host:latest").map(str::to_owned).collect())
}

/// Both pulls, whichever comes first.
fn pull_both(cli: &Client, reference: &str) -> Result<()> {
    cli.ok(["pull", "--platform", "linux/arm64", reference])?;
    cli.ok(["pull", "--platform", "linux/amd64", reference])?;
    Ok(())
}

#[test]
fn platforms_of_one_name_keep_each_other() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    let multi = fill(&registry, "app", "mine")?;
    let reference = registry.reference("app:all");
    for cli in [engine.docker(), engine.naru()] {
        cli.ok(["pull", "--platform", "linux/arm64", &reference])?;
        assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "arm64");
        assert_eq!(platforms(&engine, &reference)?, is_here(false, true));
        cli.ok(["pull", &reference])?;
        assert_eq!(platforms(&engine, &reference)?, is_here(true, true));
        // The name is the host's platform's; the other one is asked for.
        assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "amd64");
        let arm = ["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Architecture}} {{.RepoTags}}"];
        let arm = cli.ok(arm.into_iter().chain([reference.as_str()]))?;
        assert_eq!(arm.trim(), format!("arm64 [{reference}]"));
        assert_eq!(cli.run(["run", "--rm", "--pull", "never", &reference])?.stdout, "mine");
        let history = cli.ok(["history", "-q", "--platform", "linux/arm64", &reference])?;
        assert_eq!(history.lines().count(), 1, "{history}");
        cli.fails(1, ["image", "inspect", "--platform", "linux/s390x", &reference])?;
        // One name, one line; and nothing is dangling.
        assert_eq!(names(&cli)?, [reference.as_str()]);
        assert_eq!(cli.ok(["images", "-q", "--filter", "dangling=true"])?, "");
        cli.ok(["image", "prune", "-f"])?;
        assert_eq!(platforms(&engine, &reference)?, is_here(true, true));
        let whole = format!("{}@{}", registry.reference("app"), multi.digest());
        assert_eq!(cli.inspect(&reference, "{{index .RepoDigests 0}}")?, whole);
        // A further name has all platforms; the first one can go.
        cli.ok(["tag", &reference, "kit/other:1"])?;
        cli.ok(["rmi", &reference])?;
        assert_eq!(platforms(&engine, "kit/other:1")?, is_here(true, true));
        cli.ok(["rmi", "kit/other:1"])?;
        assert_eq!(names(&cli)?, [""; 0]);
    }
    Ok(())
}

#[test]
fn an_engine_started_again_knows_them() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    fill(&registry, "app", "kept")?;
    let reference = registry.reference("app:all");
    let cli = engine.cli();
    pull_both(&cli, &reference)?;
    engine.kill()?;
    engine.launch()?;
    assert_eq!(platforms(&engine, &reference)?, is_here(true, true));
    let check = engine.naru().ok(["system", "check"])?;
    assert!(!check.contains("missing"), "{check}");
    // With the index' own digest as its only name, too.
    let digest = cli.inspect(&reference, "{{index .RepoDigests 0}}")?;
    assert_eq!(platforms(&engine, &digest)?, is_here(true, true));
    // One platform goes, the name stays with the other; with the last one it goes, too.
    cli.ok(["rmi", "--platform", "linux/amd64", &reference])?;
    assert_eq!(platforms(&engine, &reference)?, is_here(false, true));
    assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "arm64");
    cli.fails(1, ["rmi", "--platform", "linux/amd64", &reference])?;
    cli.ok(["rmi", "--platform", "linux/arm64", &reference])?;
    cli.fails(1, ["image", "inspect", &reference])?;
    assert_eq!(names(&cli)?, [""; 0]);
    Ok(())
}

#[test]
fn a_tree_as_dockers() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    fill(&registry, "app", "tree")?;
    let reference = registry.reference("app:all");
    let cli = engine.naru();
    cli.ok(["pull", &reference])?;
    cli.ok(["tag", &reference, "kit/other:1"])?;
    engine.load_busybox()?;
    let compare = || -> Result<String> {
        let (own, theirs) = (cli.ok(["images", "--tree"])?, engine.docker().ok(["images", "--tree"])?);
        // docker colours the head, also where no terminal is.
        assert_eq!(own, plain(&theirs));
        Ok(own)
    };
    let shown = compare()?;
    let arm = shown.lines().find(|l| l.contains("─ linux/arm64")).context("the platform that isn't here")?;
    assert!(arm.contains("0B"), "{shown}");
    cli.ok(["pull", "--platform", "linux/arm64", &reference])?;
    let shown = compare()?;
    let arm = shown.lines().find(|l| l.contains("─ linux/arm64")).context("the other platform")?;
    assert!(!arm.contains("0B"), "{shown}");
    cli.ok(["create", "--name", "user", &reference])?;
    assert!(compare()?.contains(" U"), "in use");
    cli.ok(["rm", "user"])?;
    cli.fails(1, ["images", "--tree", "-q"])?;
    Ok(())
}

#[test]
fn an_index_keeps_its_bytes_through_save_load_and_push() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    let multi = fill(&registry, "app", "trip")?;
    let reference = registry.reference("app:all");
    let folder = engine.scratch("trip")?;
    let path = |name: &str| folder.join(name).display().to_string();
    for (cli, word) in [(engine.docker(), "docker"), (engine.naru(), "naru")] {
        pull_both(&cli, &reference)?;
        cli.ok(["save", "-o", &path(word), &reference])?;
        cli.ok(["save", "--platform", "linux/arm64", "-o", &path("arm"), &reference])?;
        cli.ok(["rmi", &reference])?;
        cli.ok(["load", "-i", &path(word)])?;
        assert_eq!(platforms(&engine, &reference)?, is_here(true, true));
        // As skopeo sees the archive: the same index.
        let seen = registry.skopeo(&["inspect", "--raw", &format!("oci-archive:{}", path(word))])?;
        assert_eq!(seen, multi.bytes);
        let target = registry.reference(&format!("back-{word}:1"));
        cli.ok(["tag", &reference, &target])?;
        cli.ok(["push", &target])?;
        assert_eq!(raw(&registry, &format!("back-{word}:1"))?, multi.bytes);
        for digest in &multi.manifests {
            let part = raw(&registry, &format!("back-{word}@{digest}"))?;
            assert_eq!(format!("sha256:{}", image::sha256(part.as_bytes())), *digest);
        }
        // One platform alone is no index.
        let one = registry.reference(&format!("one-{word}:1"));
        cli.ok(["tag", &reference, &one])?;
        cli.ok(["push", "--platform", "linux/arm64", &one])?;
        let part = raw(&registry, &format!("one-{word}:1"))?;
        assert_eq!(format!("sha256:{}", image::sha256(part.as_bytes())), multi.manifests[1]);
        cli.ok(["rmi", &reference, &target, &one])?;
        cli.ok(["load", "-i", &path("arm")])?;
        assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "arm64");
        cli.ok(["rmi", &reference])?;
        // And out of the archive only one.
        cli.ok(["load", "--platform", "linux/arm64", "-i", &path(word)])?;
        assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "arm64");
        cli.fails(1, ["load", "--platform", "linux/s390x", "-i", &path(word)])?;
        cli.ok(["rmi", &reference])?;
        for name in [word, "arm"] {
            fs::remove_file(path(name))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_not_all_here_is_pushed_as_one() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    let multi = fill(&registry, "app", "part")?;
    let mut notes = Vec::new();
    let reference = registry.reference("app:all");
    for (cli, word) in [(engine.docker(), "docker"), (engine.naru(), "naru")] {
        cli.ok(["pull", &reference])?;
        let target = registry.reference(&format!("part-{word}:1"));
        cli.ok(["tag", &reference, &target])?;
        let done = cli.run(["push", &target])?;
        assert_eq!(done.code, 0, "{}", done.stderr);
        let said = plain(&done.stdout);
        assert!(said.contains("only the available single-platform image was pushed"), "{said}");
        let part = raw(&registry, &format!("part-{word}:1"))?;
        assert_eq!(format!("sha256:{}", image::sha256(part.as_bytes())), multi.manifests[0]);
        notes.push(said.lines().filter(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n"));
        let said = plain(&cli.ok(["push", "--platform", "linux/amd64", &target])?);
        notes.push(said.lines().filter(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n"));
        cli.ok(["rmi", &reference, &target])?;
    }
    assert_eq!(notes[..2], notes[2..]);
    Ok(())
}

#[test]
fn a_container_keeps_its_platform() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    fill(&registry, "app", "held")?;
    let reference = registry.reference("app:all");
    let cli = engine.cli();
    pull_both(&cli, &reference)?;
    cli.ok(["create", "--platform", "linux/arm64", "--name", "arm", &reference])?;
    assert!(cli.fails(1, ["rmi", &reference])?.contains("container"));
    assert!(cli.fails(1, ["rmi", "--platform", "linux/arm64", &reference])?.contains("container"));
    cli.ok(["rmi", "--platform", "linux/amd64", &reference])?;
    assert_eq!(platforms(&engine, &reference)?, is_here(false, true));
    cli.ok(["rm", "arm"])?;
    cli.ok(["rmi", &reference])?;
    assert_eq!(names(&cli)?, [""; 0]);
    Ok(())
}

#[test]
fn a_damaged_list_of_platforms_is_found_and_pulled_again() -> Result<()> {
    if only_naru("it is about naru's store") {
        return Ok(());
    }
    let engine = setup()?;
    let registry = Registry::start(&engine, port())?;
    let multi = fill(&registry, "app", "worn")?;
    let reference = registry.reference("app:all");
    let cli = engine.naru();
    pull_both(&cli, &reference)?;
    assert_eq!(cli.run(["system", "check"])?.code, 0);
    let digest = multi.digest();
    let blob = engine.data_root().join("images/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    fs::write(&blob, multi.bytes.replace("arm64", "riscv"))?;
    let done = cli.run(["system", "check"])?;
    let said = done.stdout + &done.stderr;
    assert!(said.contains(&digest) && said.contains("platforms"), "{said}");
    // An engine that comes up without it has the images still; a pull brings it back.
    engine.kill()?;
    engine.launch()?;
    assert_eq!(cli.run(["run", "--rm", "--pull", "never", &reference])?.stdout, "worn");
    pull_both(&cli, &reference)?;
    assert_eq!(platforms(&engine, &reference)?, is_here(true, true));
    assert_eq!(fs::read_to_string(&blob)?, multi.bytes);
    Ok(())
}

/// A program for arm64: nothing but the head of its file, which is all that the kernel looks at before it refuses.
fn foreign_program() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    // ET_EXEC for EM_AARCH64 (elf(5)), with one program header behind this one.
    for half in [2u16, 183] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for long in [0x40_0078u64, 64, 0] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.resize(4096, 0);
    elf
}

#[test]
fn a_program_of_another_platform_without_a_handler() -> Result<()> {
    if fs::exists("/proc/sys/fs/binfmt_misc/qemu-aarch64")? {
        return Ok(());
    }
    let engine = Engine::start()?;
    let layer = Tar::new().file("hello", 0o755, &foreign_program()).finish();
    engine.load(&image::archive_for("arm64", "kit/foreign:1", &[layer], &json!({"Cmd": ["/hello"]})))?;
    for cli in [engine.docker(), engine.cli()] {
        let done = cli.run(["run", "--rm", "kit/foreign:1"])?;
        assert_ne!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("exec /hello: exec format error"), "{}", done.stderr);
        if engine.target() == Target::Naru {
            assert!(
                done.stderr.contains("the image is for linux/arm64, this machine is linux/amd64"),
                "{}",
                done.stderr
            );
        }
        let warning = "WARNING: The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64";
        assert!(done.stderr.contains(warning), "{}", done.stderr);
        assert!(done.stderr.contains(") and no specific platform was requested"), "{}", done.stderr);
        // Who asks for it is not warned.
        let done = cli.run(["run", "--rm", "--platform", "linux/arm64", "kit/foreign:1"])?;
        assert!(done.stderr.contains("exec format error") && !done.stderr.contains("WARNING"), "{}", done.stderr);
    }
    Ok(())
}
