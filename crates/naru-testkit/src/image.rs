//! Images made without a network, in the format of `docker save`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tar::Tar;

/// An archive for `docker load`: one image with the given layers (uncompressed tars) and configuration.
///
/// `config` is what an image's `config` field holds (`Cmd`, `Env`, …).
pub fn archive(tag: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    archive_for("amd64", tag, layers, config)
}

/// The same for another architecture.
pub fn archive_for(architecture: &str, tag: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-02T03:04:05.678901234Z",
        "config": config,
        "history": layers.iter().map(|_| json!({"created": "2024-01-02T03:04:05Z", "created_by": "kit"})).collect::<Vec<_>>(),
        "rootfs": {"type": "layers", "diff_ids": digests.iter().map(|d| format!("sha256:{d}")).collect::<Vec<_>>()},
    })
    .to_string();
    let config_name = format!("{}.json", sha256(config.as_bytes()));
    let names: Vec<String> = digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).to_string();
    let mut tar = Tar::new().file(&config_name, 0o644, config.as_bytes());
    for (index, layer) in layers.iter().enumerate() {
        if names[..index].contains(&names[index]) {
            continue;
        }
        tar = tar.dir(&digests[index], 0o755).file(&names[index], 0o644, layer);
    }
    tar.file("manifest.json", 0o644, manifest.as_bytes()).finish()
}

/// Lower-case hex of the SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A root file system with the machine's static busybox and a link for each of its applets.
///
/// # Errors
/// When there is no static busybox.
pub fn busybox_rootfs() -> Result<Vec<u8>> {
    let program = PathBuf::from("/usr/bin/busybox");
    let program = if program.exists() { program } else { PathBuf::from("/bin/busybox") };
    let binary = fs::read(&program).context("read busybox (tools/setup-tests installs busybox-static)")?;
    let applets = Command::new(&program).arg("--list").output().context("list busybox's applets")?;
    let applets = String::from_utf8(applets.stdout)?;
    ensure!(applets.contains("sh"), "busybox has no shell");

    let mut tar = Tar::new();
    for (folder, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("proc/", 0o755),
        ("root/", 0o700),
        ("sys/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("usr/bin/", 0o755),
        ("var/", 0o755),
    ] {
        tar = tar.dir(folder, mode);
    }
    tar = tar.file("bin/busybox", 0o755, &binary);
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(tar
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n")
        .dir_of("home/alice/", 0o755, (1000, 1000))
        .finish())
}

/// `busybox:latest` as an archive.
///
/// # Errors
/// When there is no static busybox.
pub fn busybox() -> Result<Vec<u8>> {
    let config = json!({
        "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    Ok(archive("busybox:latest", &[busybox_rootfs()?], &config))
}

/// The real Debian that `tools/setup-tests` made, as a tar of its root file system.
///
/// # Errors
/// When it isn't there.
pub fn debian_rootfs() -> Result<PathBuf> {
    made_image("debian-bookworm")
}

/// What `tools/setup-tests` made.
fn made_image(name: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("NARU_TEST_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        base.map(|base| base.join("naru-tests"))
    });
    let path = cache.context("no HOME to look for the Debian image in")?.join(format!("{name}.tar"));
    ensure!(path.exists(), "{} is missing: run tools/setup-tests", path.display());
    Ok(path)
}

/// `debian:bookworm` as an archive.
///
/// # Errors
/// When `tools/setup-tests` has not been run.
pub fn debian() -> Result<Vec<u8>> {
    let layer = fs::read(debian_rootfs()?).context("read the Debian image")?;
    let config = json!({
        "Cmd": ["bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    Ok(archive("debian:bookworm", &[layer], &config))
}

/// `services:latest` as an archive: Debian with nginx, PostgreSQL and redis, as packaged.
///
/// # Errors
/// When `tools/setup-tests` has not been run.
pub fn services() -> Result<Vec<u8>> {
    let layer = fs::read(made_image("debian-services")?).context("read the image of services")?;
    let config = json!({
        "Cmd": ["bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin"],
    });
    Ok(archive("services:latest", &[layer], &config))
}
