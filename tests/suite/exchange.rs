//! Images that go from one engine to another: docker's, skopeo and Podman on the other side of a registry or of an archive, and each sees the
//! same digests, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Registry, Tar, Target, image};
use naru_tests::only_naru;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(5800);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn digest_of(bytes: &str) -> String {
    format!("sha256:{}", image::sha256(bytes.as_bytes()))
}

/// The manifest or index that a registry has, byte for byte.
fn raw(registry: &Registry<'_>, name: &str) -> Result<String> {
    registry.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.reference(name))])
}

/// What makes an image the same one: its id, its layers, and all that its configuration says.
fn same(cli: &Client, name: &str) -> Result<(String, Value)> {
    let mut shown: Value = serde_json::from_str(&cli.ok(["image", "inspect", name])?)?;
    let mut config = shown[0]["Config"].take();
    // docker 20.10 shows what an image doesn't say as well, empty.
    if let Some(config) = config.as_object_mut() {
        config.retain(|key, value| match key.as_str() {
            "Hostname" | "Domainname" | "Image" => false,
            _ => !(value.is_null() || *value == false || *value == "" || *value == json!([]) || *value == json!({})),
        });
    }
    let kept = json!({
        "config": config,
        "rootfs": shown[0]["RootFS"],
        "architecture": shown[0]["Architecture"],
        "os": shown[0]["Os"],
        "created": shown[0]["Created"],
        "author": shown[0]["Author"],
    });
    Ok((cli.inspect(name, "{{.Id}}")?, kept))
}

fn digest_in(cli: &Client, name: &str, repository: &str) -> Result<String> {
    let all: Vec<String> = serde_json::from_str(&cli.inspect(name, "{{json .RepoDigests}}")?)?;
    let own = all.iter().find_map(|one| one.strip_prefix(&format!("{repository}@")));
    Ok(own.with_context(|| format!("no digest in {repository}: {all:?}"))?.to_owned())
}

/// An image with several layers (a whiteout, links, owners, an attribute, a long name) and all that a configuration can say.
fn rich(tag: &str) -> Result<Vec<u8>> {
    let below = Tar::new().dir("d/", 0o755).file("d/gone", 0o644, b"gone").file("d/stays", 0o600, b"stays").finish();
    let above = Tar::new()
        .file("d/.wh.gone", 0o644, b"")
        .file(&format!("d/{}", "n".repeat(200)), 0o644, b"long")
        .file("d/own", 0o640, b"own")
        .hardlink("d/same", "d/own")
        .symlink("d/link", "stays")
        .file("d/set", 0o4755, b"#!/bin/sh\n")
        .finish();
    let config = json!({
        "Cmd": ["cat", "/d/stays"], "Entrypoint": ["/bin/env"], "Env": ["PATH=/bin", "A=b c", "EMPTY="], "Labels": {"kit": "yes", "x.y": ""},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/d", "User": "alice:staff",
        "StopSignal": "SIGINT", "Shell": ["/bin/ash", "-c"], "OnBuild": ["RUN true"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_i64, "Retries": 2},
    });
    Ok(image::archive(tag, &[image::busybox_rootfs()?, below, above], &config))
}

#[test]
fn docker_and_naru_through_one_registry() -> Result<()> {
    if only_naru("both engines are needed") {
        return Ok(());
    }
    let naru = Engine::start()?;
    let dockerd = naru.beside_as(Target::Dockerd)?;
    let registry = Registry::start(&naru, port())?;
    for (from, to) in [(&dockerd, &naru), (&naru, &dockerd)] {
        let word = if from.target() == Target::Dockerd { "docker" } else { "naru" };
        let (there, back) = (format!("{word}/there"), format!("{word}/back"));
        let (one, two) = (registry.reference(&format!("{there}:1")), registry.reference(&format!("{back}:1")));
        let (giver, taker) = (from.cli(), to.cli());
        from.load(&rich(&one)?)?;
        giver.ok(["push", &one])?;
        let sent = raw(&registry, &format!("{there}:1"))?;
        // The other one gets the same image under the same digest.
        let said = taker.ok(["pull", &one])?;
        ensure!(said.contains(&format!("Digest: {}", digest_of(&sent))), "{word}: {said}");
        assert_eq!(same(&taker, &one)?, same(&giver, &one)?, "{word}");
        for cli in [&giver, &taker] {
            assert_eq!(digest_in(cli, &one, &registry.reference(&there))?, digest_of(&sent), "{word}");
        }
        taker.ok(["tag", &one, &two])?;
        taker.ok(["push", &two])?;
        let again = raw(&registry, &format!("{back}:1"))?;
        if to.target() == Target::Naru {
            // What it pushes in turn is the same manifest, byte for byte, with the same blobs. (docker compresses anew.)
            assert_eq!(again, sent);
        }
        giver.ok(["rmi", &one])?;
        let said = giver.ok(["pull", &two])?;
        ensure!(said.contains(&format!("Digest: {}", digest_of(&again))), "{word}: {said}");
        assert_eq!(same(&giver, &two)?, same(&taker, &two)?, "{word}");
        giver.ok(["rmi", &two])?;
        taker.ok(["rmi", &one, &two])?;
    }
    archives_between(&dockerd, &naru)
}

/// docker save → naru load → naru save → docker load, and the other way round.
fn archives_between(dockerd: &Engine, naru: &Engine) -> Result<()> {
    let folder = naru.scratch("between")?;
    for (first, second) in [(dockerd, naru), (naru, dockerd)] {
        let tag = "kit/between:1";
        first.load(&rich(tag)?)?;
        let before = same(&first.cli(), tag)?;
        let (there, back) = (folder.join("there.tar"), folder.join("back.tar"));
        for (engine, file, next) in [(first, &there, second), (second, &back, first)] {
            let path = file.display().to_string();
            engine.cli().ok(["save", "-o", &path, tag])?;
            // From nothing: neither has a layer of it any more.
            for engine in [first, second] {
                engine.cli().run(["rmi", tag])?;
            }
            next.cli().ok(["load", "-i", &path])?;
            assert_eq!(same(&next.cli(), tag)?, before, "{:?} to {:?}", engine.target(), next.target());
        }
        first.cli().ok(["rmi", tag])?;
    }
    Ok(())
}

/// skopeo in the engine's world.
fn skopeo(registry: &Registry<'_>, from: &str, to: &str, more: &[&str]) -> Result<()> {
    let mut args = vec!["--insecure-policy", "copy", "--quiet"];
    args.extend(more);
    if from.starts_with("docker://") {
        args.push("--src-tls-verify=false");
    }
    if to.starts_with("docker://") {
        args.push("--dest-tls-verify=false");
    }
    args.extend([from, to]);
    registry.skopeo(&args).map(drop)
}

fn transport(kind: &str, file: &Path) -> String {
    format!("{kind}:{}", file.display())
}

struct Trip<'a> {
    engine: &'a Engine,
    registry: &'a Registry<'a>,
    folder: PathBuf,
}

impl Trip<'_> {
    fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.registry.reference(name))
    }

    /// Registry → skopeo → archive → load → push: the manifest in the registry is the same.
    fn archive_in(&self, name: &str, kind: &str, keeps_manifest: bool) -> Result<()> {
        let cli = self.engine.cli();
        let file = self.folder.join(format!("in-{kind}.tar"));
        let (loaded, target) = (format!("kit/in-{kind}:1"), self.registry.reference(&format!("{name}-{kind}:1")));
        skopeo(
            self.registry,
            &self.docker(&format!("{name}:1")),
            &format!("{}:{loaded}", transport(kind, &file)),
            &["--all"],
        )?;
        let said = cli.ok(["load", "-i", &file.display().to_string()])?;
        ensure!(said.contains("Loaded image"), "{said}");
        cli.ok(["tag", &loaded, &target])?;
        cli.ok(["push", &target])?;
        let (before, after) =
            (raw(self.registry, &format!("{name}:1"))?, raw(self.registry, &format!("{name}-{kind}:1"))?);
        if keeps_manifest {
            assert_eq!(after, before, "{name} by {kind}");
        } else {
            let config =
                |text: &str| -> Result<Value> { Ok(serde_json::from_str::<Value>(text)?["config"]["digest"].take()) };
            assert_eq!(config(&after)?, config(&before)?, "{name} by {kind}");
        }
        cli.ok(["rmi", &loaded, &target])?;
        Ok(())
    }

    /// Pull → save → skopeo → registry: the manifest in the registry is the same.
    fn archive_out(&self, name: &str, kind: &str, keeps_manifest: bool) -> Result<()> {
        let cli = self.engine.cli();
        let file = self.folder.join(format!("out-{kind}.tar"));
        let reference = self.registry.reference(&format!("{name}:1"));
        for platform in ["linux/amd64", "linux/arm64"] {
            let done = cli.run(["pull", "--platform", platform, &reference])?;
            ensure!(done.code == 0 || platform == "linux/arm64", "{done:?}");
        }
        cli.ok(["save", "-o", &file.display().to_string(), &reference])?;
        let out = format!("{name}-out-{kind}:1");
        let more: &[&str] = if keeps_manifest { &["--all", "--preserve-digests"] } else { &[] };
        skopeo(self.registry, &transport(kind, &file), &self.docker(&out), more)?;
        let (before, after) = (raw(self.registry, &format!("{name}:1"))?, raw(self.registry, &out)?);
        if keeps_manifest {
            assert_eq!(after, before, "{name} by {kind}");
        } else {
            let id: Value = serde_json::from_str(&after)?;
            assert_eq!(id["config"]["digest"], json!(cli.inspect(&reference, "{{.Id}}")?), "{name} by {kind}");
        }
        cli.ok(["rmi", &reference])?;
        Ok(())
    }
}

#[test]
fn archives_of_skopeo_keep_digests_both_ways() -> Result<()> {
    if only_naru("docker 20.10 reads and writes no OCI archives") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, port())?;
    let trip = Trip { engine: &engine, registry: &registry, folder: engine.scratch("trip")? };
    registry.fill(&rich("kit/x:1")?, "oci:1", &["--format", "oci"])?;
    registry.fill(&rich("kit/x:1")?, "docker:1", &["--format", "v2s2"])?;
    registry.fill(&rich("kit/x:1")?, "zstd:1", &["--format", "oci", "--dest-compress-format", "zstd"])?;
    for name in ["oci", "zstd"] {
        trip.archive_in(name, "oci-archive", true)?;
        trip.archive_out(name, "oci-archive", true)?;
    }
    // An archive in docker's format has no manifest, and layers without compression: the image is the same, its manifest a new one.
    trip.archive_in("docker", "docker-archive", false)?;
    trip.archive_out("docker", "docker-archive", false)?;
    // Several platforms, as skopeo's `--all` takes them along.
    let manifests = ["amd64", "arm64"].map(|architecture| -> Result<Value> {
        let layers = [Tar::new().file("for", 0o644, architecture.as_bytes()).finish()];
        let (archive, tag) =
            (image::archive_for(architecture, "kit/p:1", &layers, &json!({})), format!("multi:{architecture}"));
        registry.fill(&archive, &tag, &["--format", "oci"])?;
        let bytes = raw(&registry, &tag)?;
        Ok(json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(&bytes), "size": bytes.len(),
            "platform": {"architecture": architecture, "os": "linux"}}))
    });
    let manifests = manifests.into_iter().collect::<Result<Vec<_>>>()?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    registry.put_manifest("multi", "1", INDEX, &index)?;
    trip.archive_in("multi", "oci-archive", true)?;
    trip.archive_out("multi", "oci-archive", true)?;
    Ok(())
}

#[test]
fn lists_that_podman_makes() -> Result<()> {
    if only_naru("docker keeps several platforms with containerd's store only") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, port())?;
    let folder = engine.scratch("podman")?;
    // The same library as buildah's `manifest`.
    let podman = |args: &[&str]| -> Result<()> {
        let mut command: Command = engine.world().command("podman");
        command.arg("--root").arg(folder.join("root")).arg("--runroot").arg(folder.join("run"));
        let done = command.args(["--storage-driver", "vfs"]).args(args).output().context("start podman")?;
        ensure!(done.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    podman(&["manifest", "create", "kit/list:1"])?;
    for architecture in ["amd64", "arm64"] {
        let layers = [Tar::new().file("for", 0o644, architecture.as_bytes()).finish()];
        let file = folder.join(format!("{architecture}.tar"));
        fs::write(&file, image::archive_for(architecture, "kit/part:1", &layers, &json!({})))?;
        podman(&["manifest", "add", "kit/list:1", &format!("docker-archive:{}", file.display())])?;
    }
    let cli = engine.cli();
    for format in ["oci", "v2s2"] {
        let (name, target) = (format!("list:{format}"), registry.reference(&format!("list:{format}")));
        podman(&[
            "manifest",
            "push",
            "--all",
            "--tls-verify=false",
            "--format",
            format,
            "kit/list:1",
            &format!("docker://{target}"),
        ])?;
        let pushed = raw(&registry, &name)?;
        for platform in ["linux/arm64", "linux/amd64"] {
            let said = cli.ok(["pull", "--platform", platform, &target])?;
            ensure!(said.contains(&format!("Digest: {}", digest_of(&pushed))), "{said}");
        }
        let again = registry.reference(&format!("again:{format}"));
        cli.ok(["tag", &target, &again])?;
        cli.ok(["push", &again])?;
        assert_eq!(raw(&registry, &format!("again:{format}"))?, pushed);
        // And Podman gets each of its platforms from what Naru pushed.
        for platform in ["linux/arm64", "linux/amd64"] {
            podman(&["pull", "-q", "--tls-verify=false", "--platform", platform, &again])?;
        }
        cli.ok(["rmi", &target, &again])?;
    }
    Ok(())
}
