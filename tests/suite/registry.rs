//! Pull and push, against a real registry on the engine's loopback.

use std::fs;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Fault, Faults, Registry, Tar, eventually, image, shared, unique};
use naru_tests::only_naru;
use serde_json::{Value, json};

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(5000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn setup() -> Result<(Client, Registry<'static>)> {
    let engine = shared()?;
    Ok((engine.cli(), Registry::start(engine, port())?))
}

/// A proxy in front of `registry` that meddles with blobs of 200 kB or more alone.
fn faults(engine: &Engine, registry: &Registry<'_>) -> Result<Faults> {
    let upstream = registry.address().rsplit(':').next().and_then(|p| p.parse().ok()).context("a port")?;
    Faults::start(engine, port(), upstream, 200_000)
}

/// An image of busybox and a file that says `word`.
fn saying(word: &str) -> Result<Vec<u8>> {
    let layer = Tar::new().file("word", 0o644, word.as_bytes()).finish();
    let config = json!({"Cmd": ["cat", "/word"], "Env": ["PATH=/bin"]});
    Ok(image::archive("kit/saying:1", &[image::busybox_rootfs()?, layer], &config))
}

/// A layer of random-looking bytes, which compress badly, with its own content each time.
fn large_layer(mib: usize) -> Vec<u8> {
    let mut state = u64::from(std::process::id()) ^ u64::from(port()) << 32 | 1;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(mib * 1024 * 1024 / 8)
    .flatten()
    .collect();
    Tar::new().file("large", 0o644, &bytes).finish()
}

#[test]
fn pull_and_run() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("pulled")?, "word:1", &[])?;
    let reference = registry.reference("word:1");
    let said = cli.ok(["pull", &reference])?;
    assert!(said.contains("Pulling from word"), "{said}");
    assert!(said.contains(&format!("Status: Downloaded newer image for {reference}")), "{said}");
    let digest = said.lines().find_map(|line| line.strip_prefix("Digest: ")).context("a digest")?;
    assert_eq!(
        cli.inspect(&reference, "{{index .RepoDigests 0}}")?,
        format!("{}@{digest}", registry.reference("word"))
    );
    assert_eq!(cli.ok(["run", "--rm", &reference])?, "pulled");
    let again = cli.ok(["pull", &reference])?;
    assert!(again.contains(&format!("Status: Image is up to date for {reference}")), "{again}");
    cli.ok(["rmi", &reference])?;
    // By digest, and run pulls by itself.
    let by_digest = format!("{}@{digest}", registry.reference("word"));
    let done = cli.run(["run", "--rm", &by_digest])?;
    assert_eq!((done.code, done.stdout.as_str()), (0, "pulled"), "{}", done.stderr);
    assert!(done.stderr.contains("Unable to find image"), "{}", done.stderr);
    cli.ok(["rmi", &by_digest])?;
    Ok(())
}

#[test]
fn run_pulls_when_told() -> Result<()> {
    let (cli, registry) = setup()?;
    let reference = registry.reference("word:1");
    registry.fill(&saying("old")?, "word:1", &[])?;
    let said = cli.fails(125, ["run", "--rm", "--pull", "never", &reference])?;
    assert!(said.contains("No such image"), "{said}");
    assert_eq!(cli.ok(["run", "--rm", &reference])?, "old");
    registry.fill(&saying("new")?, "word:1", &[])?;
    assert_eq!(cli.ok(["run", "--rm", &reference])?, "old");
    assert_eq!(cli.run(["run", "--rm", "--pull", "always", &reference])?.stdout, "new");
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn every_manifest_and_compression() -> Result<()> {
    let (cli, registry) = setup()?;
    for (number, args) in [
        &["--format", "v2s2"][..],
        &["--format", "oci"],
        &["--format", "oci", "--dest-compress-format", "gzip", "--dest-compress-level", "9"],
        &["--dest-decompress"],
    ]
    .into_iter()
    .enumerate()
    {
        let word = format!("form {number}");
        let name = format!("forms:{number}");
        if args == ["--dest-decompress"] {
            // Only to a folder can skopeo write layers as they are.
            let folder = shared()?.scratch("plain")?;
            fs::write(folder.join("a.tar"), saying(&word)?)?;
            let archive = format!("docker-archive:{}", folder.join("a.tar").display());
            let plain = format!("dir:{}", folder.join("d").display());
            registry.skopeo(&["--insecure-policy", "copy", "--quiet", "--dest-decompress", &archive, &plain])?;
            registry.fill_from(&plain, &name, &["--preserve-digests"])?;
        } else {
            registry.fill(&saying(&word)?, &name, args)?;
        }
        let reference = registry.reference(&name);
        let done = cli.run(["run", "--rm", &reference])?;
        assert_eq!(
            (done.code, done.stdout),
            (0, format!("{word}\n").trim_end().to_owned()),
            "{args:?}: {}",
            done.stderr
        );
        cli.ok(["rmi", &reference])?;
    }
    Ok(())
}

#[test]
fn zstd_layers() -> Result<()> {
    if only_naru("dockerd 20.10 does not know zstd") {
        return Ok(());
    }
    let (cli, registry) = setup()?;
    registry.fill(&saying("zstd")?, "word:zstd", &["--format", "oci", "--dest-compress-format", "zstd"])?;
    let manifest = registry.manifest("word:zstd")?;
    assert!(manifest["layers"][0]["mediaType"].as_str().is_some_and(|kind| kind.ends_with("zstd")), "{manifest}");
    assert_eq!(cli.run(["run", "--rm", &registry.reference("word:zstd")])?.stdout, "zstd");
    Ok(())
}

#[test]
fn an_index_is_read_by_platform() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("mine")?, "multi:amd64", &["--format", "oci"])?;
    let other = image::archive_for("arm64", "kit/arm:1", &[Tar::new().file("a", 0o644, b"arm").finish()], &json!({}));
    registry.fill(&other, "multi:arm64", &["--format", "oci"])?;
    let mut entries = Vec::new();
    for (architecture, tag) in [("arm64", "multi:arm64"), ("amd64", "multi:amd64")] {
        let raw = registry.skopeo(&[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{}", registry.reference(tag)),
        ])?;
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", image::sha256(raw.as_bytes())),
            "size": raw.len(),
            "platform": {"architecture": architecture, "os": "linux"},
        }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
    registry.put_manifest("multi", "all", kind, &index)?;
    let reference = registry.reference("multi:all");
    assert_eq!(cli.run(["run", "--rm", &reference])?.stdout, "mine");
    // The digest it goes by is the index's.
    let digest = cli.inspect(&reference, "{{index .RepoDigests 0}}")?;
    assert!(digest.ends_with(&image::sha256(index.as_bytes())), "{digest}");
    cli.ok(["rmi", &reference])?;

    cli.ok(["pull", "--platform", "linux/arm64", &reference])?;
    assert_eq!(cli.inspect(&reference, "{{.Architecture}}")?, "arm64");
    cli.ok(["rmi", &reference])?;
    let said = cli.fails(1, ["pull", "--platform", "linux/s390x", &reference])?;
    assert!(said.contains("no match") || said.contains("no matching manifest"), "{said}");
    Ok(())
}

#[test]
fn push_and_pull_again() -> Result<()> {
    let (cli, registry) = setup()?;
    let (name, reference) = (unique("pusher"), registry.reference("deep/er:v1"));
    cli.ok(["run", "--name", &name, "busybox", "sh", "-c", "echo pushed >/word"])?;
    cli.ok(["commit", "-c", "CMD [\"cat\",\"/word\"]", &name, &reference])?;
    cli.ok(["rm", &name])?;
    let said = cli.ok(["push", &reference])?;
    let at = format!("The push refers to repository [{}]", registry.reference("deep/er"));
    assert!(said.contains(&at), "{said}");
    let last = said.lines().find(|line| line.starts_with("v1: digest: sha256:")).context("the digest's line")?;
    let digest = last.split(' ').nth(2).unwrap_or_default();
    let id = cli.inspect(&reference, "{{.Id}}")?;
    let manifest = registry.manifest("deep/er:v1")?;
    assert_eq!(manifest["config"]["digest"].as_str(), Some(id.as_str()));
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2));
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    // A second push has nothing to send, and says so.
    let said = cli.ok(["push", &reference])?;
    assert!(said.contains("Layer already exists") && said.contains(digest), "{said}");
    cli.ok(["rmi", &reference])?;
    assert_eq!(cli.run(["run", "--rm", &reference])?.stdout, "pushed\n");
    assert_eq!(cli.inspect(&reference, "{{.Id}}")?, id);
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn push_gives_back_what_was_pulled() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("round")?, "trip:1", &["--format", "v2s2"])?;
    let (one, two) = (registry.reference("trip:1"), registry.reference("trip:2"));
    cli.ok(["pull", &one])?;
    cli.ok(["tag", &one, &two])?;
    cli.ok(["push", &two])?;
    assert_eq!(registry.manifest("trip:1")?["config"], registry.manifest("trip:2")?["config"]);
    cli.ok(["rmi", &one, &two])?;
    Ok(())
}

#[test]
fn pull_all_tags() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("a")?, "many:a", &[])?;
    registry.fill(&saying("b")?, "many:b", &[])?;
    cli.ok(["pull", "-a", &registry.reference("many")])?;
    let tags = cli.ok(["images", "--format", "{{.Tag}}", &registry.reference("many")])?;
    assert!(tags.contains('a') && tags.contains('b'), "{tags}");
    cli.ok(["rmi", &registry.reference("many:a"), &registry.reference("many:b")])?;
    Ok(())
}

#[test]
fn shared_layers_are_fetched_once() -> Result<()> {
    let (cli, registry) = setup()?;
    let proxy = faults(shared()?, &registry)?;
    let base = large_layer(1);
    for word in ["a", "b"] {
        let layer = Tar::new().file("word", 0o644, word.as_bytes()).finish();
        registry.fill(&image::archive("kit/x:1", &[base.clone(), layer], &json!({})), &format!("sh:{word}"), &[])?;
    }
    for word in ["a", "b"] {
        cli.ok(["pull", &format!("{}/sh:{word}", proxy.address())])?;
    }
    assert_eq!(proxy.served(), 1);
    cli.ok(["rmi", &format!("{}/sh:a", proxy.address()), &format!("{}/sh:b", proxy.address())])?;
    Ok(())
}

#[test]
fn layers_are_pushed_side_by_side() -> Result<()> {
    const LAYERS: usize = 5;
    let (cli, registry) = setup()?;
    let proxy = faults(shared()?, &registry)?;
    let reference = format!("{}/{}:1", proxy.address(), unique("beside"));
    let layer = |n: usize| Tar::new().file(&format!("file{n}"), 0o644, format!("{reference} {n}").as_bytes()).finish();
    let layers: Vec<_> = (0..LAYERS).map(layer).collect();
    shared()?.load(&image::archive(&reference, &layers, &json!({})))?;
    proxy.set(Fault::Together(LAYERS))?;
    let said = cli.ok(["push", &reference])?;
    assert_eq!(said.matches(": Pushed").count(), LAYERS, "{said}");
    assert!(said.contains("digest: sha256:"), "{said}");
    assert!(proxy.served() >= LAYERS, "one waited for another: {}", proxy.served());
    // All of it is there.
    cli.ok(["rmi", &reference])?;
    cli.ok(["pull", &reference])?;
    assert_eq!(cli.inspect(&reference, "{{len .RootFS.Layers}}")?, LAYERS.to_string());
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn an_interrupted_pull_resumes() -> Result<()> {
    let (cli, registry) = setup()?;
    let proxy = faults(shared()?, &registry)?;
    registry.fill(&image::archive("kit/cut:1", &[large_layer(4)], &json!({})), "cut:1", &[])?;
    proxy.set(Fault::Cut(1))?;
    let reference = format!("{}/cut:1", proxy.address());
    cli.ok(["pull", &reference])?;
    assert!(proxy.ranges() >= 1, "it was fetched again from its beginning");
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn a_blob_that_does_not_match_is_refused() -> Result<()> {
    let (cli, registry) = setup()?;
    let proxy = faults(shared()?, &registry)?;
    registry.fill(&image::archive("kit/bad:1", &[large_layer(1)], &json!({})), "bad:1", &[])?;
    let reference = format!("{}/bad:1", proxy.address());
    for fault in [Fault::WrongByte, Fault::Truncated] {
        proxy.set(fault)?;
        let done = cli.run(["pull", &reference])?;
        ensure!(done.code == 1, "{fault:?}: {} {}", done.stdout, done.stderr);
        ensure!(cli.run(["inspect", &reference])?.code != 0, "{fault:?} left an image");
    }
    // Nothing broken was kept: honest bytes are taken afterwards.
    proxy.set(Fault::None)?;
    cli.ok(["pull", &reference])?;
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn a_manifest_that_does_not_match_is_refused() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("m")?, "man:1", &["--format", "v2s2"])?;
    let raw = registry.skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{}", registry.reference("man:1")),
    ])?;
    let digest = format!("sha256:{}", image::sha256(raw.as_bytes()));
    // The registry's own copy changes under the same digest.
    let mut manifest: Value = serde_json::from_str(&raw)?;
    manifest["extra"] = json!("x");
    fs::write(registry.blob(&digest), manifest.to_string())?;
    let done = cli.run(["pull", &format!("{}@{digest}", registry.reference("man"))])?;
    assert_eq!(done.code, 1, "{}", done.stdout);
    Ok(())
}

#[test]
fn unknown_names_and_tags() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&saying("x")?, "known:1", &[])?;
    let said = cli.fails(1, ["pull", &registry.reference("known:2")])?;
    assert!(said.contains("manifest unknown") || said.contains("not found"), "{said}");
    let said = cli.fails(1, ["pull", &registry.reference("unknown:1")])?;
    assert!(said.contains("not found") || said.contains("unknown"), "{said}");
    let said = cli.fails(125, ["run", "--rm", &registry.reference("unknown:1"), "true"])?;
    assert!(said.contains("Unable to find image"), "{said}");
    Ok(())
}

#[test]
fn two_pulls_at_once() -> Result<()> {
    let (cli, registry) = setup()?;
    registry.fill(&image::archive("kit/t:1", &[large_layer(4)], &json!({})), "twice:1", &[])?;
    let reference = registry.reference("twice:1");
    let (one, two) = (cli.start(["pull", &reference])?, cli.start(["pull", &reference])?);
    let (one, two) = (one.finish()?, two.finish()?);
    assert_eq!((one.code, two.code), (0, 0), "{}{}", one.stderr, two.stderr);
    cli.ok(["rmi", &reference])?;
    Ok(())
}

/// Where a pull is posted to.
fn pull_path(reference: &str) -> Result<String> {
    let (name, tag) = reference.rsplit_once(':').context("a tag")?;
    Ok(format!("/images/create?fromImage={}&tag={tag}", name.replace('/', "%2F").replace(':', "%3A")))
}

#[test]
fn a_second_pull_shares_the_first_ones_download() -> Result<()> {
    let (cli, registry) = setup()?;
    let proxy = faults(shared()?, &registry)?;
    registry.fill(&image::archive("kit/shared:1", &[large_layer(8)], &json!({})), "shared:1", &[])?;
    proxy.set(Fault::Hold)?;
    let reference = format!("{}/shared:1", proxy.address());
    let (_, mut one) = shared()?.http().stream("POST", &pull_path(&reference)?)?;
    one.until("Downloading")?;
    // The second one sees how far the first one is, and goes on when that one goes away.
    let (_, mut two) = shared()?.http().stream("POST", &pull_path(&reference)?)?;
    two.until("Downloading")?;
    drop(one);
    proxy.set(Fault::None)?;
    two.until("Status: Downloaded newer image")?;
    assert_eq!(proxy.served(), 1);
    cli.ok(["rmi", &reference])?;
    Ok(())
}

#[test]
fn a_pull_that_nobody_waits_for_ends() -> Result<()> {
    if only_naru("where the store keeps what is half there") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, port())?;
    let proxy = faults(&engine, &registry)?;
    registry.fill(&image::archive("kit/left:1", &[large_layer(8), large_layer(1)], &json!({})), "left:1", &[])?;
    let reference = format!("{}/left:1", proxy.address());
    let folder = |name: &str| engine.data_root().join("images").join(name);
    let count = |name: &str| -> Result<usize> { Ok(fs::read_dir(folder(name))?.count()) };
    proxy.set(Fault::Hold)?;
    let (_, mut pull) = engine.http().stream("POST", &pull_path(&reference)?)?;
    pull.until("Downloading")?;
    assert!(count("unpack")? > 0);
    drop(pull);
    eventually("what was unpacked is gone", || match (count("unpack")?, count("layers")?, count("blobs/sha256")?) {
        (0, 0, 0) => Ok(()),
        other => Err(anyhow::anyhow!("{other:?}")),
    })?;
    // What came is kept for the next try.
    assert!(count("ingest")? > 0);
    proxy.set(Fault::None)?;
    engine.cli().ok(["pull", &reference])?;
    assert!(proxy.ranges() >= 1, "it was fetched again from its beginning");
    assert_eq!((count("unpack")?, count("ingest")?), (0, 0));
    Ok(())
}

#[test]
fn prune_takes_what_a_broken_off_pull_left() -> Result<()> {
    if only_naru("where the store keeps what is half there") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, port())?;
    let proxy = faults(&engine, &registry)?;
    registry.fill(&image::archive("kit/left:1", &[large_layer(8)], &json!({})), "left:1", &[])?;
    let reference = format!("{}/left:1", proxy.address());
    let kept = || -> Result<usize> { Ok(fs::read_dir(engine.data_root().join("images/ingest"))?.count()) };
    proxy.set(Fault::Hold)?;
    let (_, mut pull) = engine.http().stream("POST", &pull_path(&reference)?)?;
    pull.until("Downloading")?;
    drop(pull);
    eventually("the pull is over", || {
        let unpacking = fs::read_dir(engine.data_root().join("images/unpack"))?.count();
        ensure!(unpacking == 0 && kept()? == 1, "{unpacking} layers, {} blobs", kept()?);
        Ok(())
    })?;
    // By a label it is not to be had. (docker's client prints what was freed only with an image beside it.)
    let freed = |filters: &str| -> Result<u64> {
        let answer = engine.http().post(&format!("/images/prune?filters={filters}"), &Value::Null)?.json()?;
        answer["SpaceReclaimed"].as_u64().context("what was freed")
    };
    assert_eq!((freed("%7B%22label%22%3A%5B%22x%22%5D%7D")?, kept()?), (0, 1));
    let bytes = freed("%7B%22dangling%22%3A%5B%22true%22%5D%7D")?;
    assert!(bytes > 0, "nothing was freed");
    assert_eq!(kept()?, 0);
    Ok(())
}
