//! Images that were made to do harm: what they try to reach stays as it was, what is refused leaves nothing in the store, and the engine goes
//! on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Registry, Tar, Target, eventually, image, unique};
use serde_json::{Value, json};

/// Whether Naru takes a layer. dockerd may do as it likes, as long as nothing gets out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// That is the file system's to say.
    Either,
    Taken,
    Refused,
}

/// Every path below a folder.
fn listing(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
            all.insert(entry.path());
        }
    }
    Ok(all)
}

/// The folder of an engine's images, when its layout is known.
fn store(engine: &Engine) -> Option<PathBuf> {
    (engine.target() == Target::Naru).then(|| engine.data_root().join("images"))
}

/// The store must be as it was.
fn unchanged(engine: &Engine, before: &BTreeSet<PathBuf>, what: &str) -> Result<()> {
    let Some(store) = store(engine) else { return Ok(()) };
    eventually(&format!("{what} leaves nothing in the store"), || -> Result<()> {
        let now = listing(&store)?;
        let new: Vec<_> = now.difference(before).filter(|path| !path.ends_with("index.json")).collect();
        ensure!(new.is_empty(), "{new:?}");
        Ok(())
    })
}

fn refused(cli: &Client, archive: &[u8], what: &str) -> Result<String> {
    let done = cli.run_with_input(["load"], archive)?;
    // docker's client prints an error of the stream and exits with 1.
    ensure!(done.code != 0, "{what} was taken: {}{}", done.stdout, done.stderr);
    Ok(format!("{}{}", done.stdout, done.stderr))
}

/// A header's field changed, and its sum with it.
fn patched(mut archive: Vec<u8>, header: usize, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let block = &mut archive[header..header + 512];
    change(block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive
}

/// A file that is as long as its PAX header says (CVE-2025-62518): who believes the other header, which says nothing at all, takes what is in it
/// for entries.
fn two_sizes(outside: &str) -> Vec<u8> {
    let inner = Tar::new().file("smuggled", 0o4755, b"evil").symlink("l", outside).file("l/new", 0o644, b"x").finish();
    let archive = Tar::new().pax(&[("size", &inner.len().to_string())]).file("archive", 0o644, &inner).finish();
    patched(archive, 1024, |block| block[124..136].copy_from_slice(b"00000000000\0"))
}

/// An old GNU sparse file (CVE-2026-32288) whose map goes on in block after block.
fn map_of_holes() -> Vec<u8> {
    let first = Tar::new().file("holes", 0o644, b"").finish()[..512].to_vec();
    let mut archive = patched(first, 0, |block| {
        block[156] = b'S';
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..].fill(0);
        // One more block of the map follows; the file's real size is huge.
        block[482] = 1;
        block[483..495].copy_from_slice(b"77777777777\0");
    });
    let mut more = [0_u8; 512];
    for entry in more[..504].chunks_exact_mut(24) {
        entry.copy_from_slice(b"00000000000\x0000000000000\0");
    }
    more[504] = 1;
    for _ in 0..40_000 {
        archive.extend_from_slice(&more);
    }
    archive
}

/// Layers that try to reach `outside`, a folder with the file `kept`.
fn layers(outside: &Path) -> Vec<(&'static str, Vec<u8>, Want)> {
    let out = outside.display().to_string();
    let up = format!("{}{}", "../".repeat(20), out.trim_start_matches('/'));
    let kept = format!("{out}/kept");
    vec![
        ("a name with dot-dot", Tar::new().file(&format!("{up}/new"), 0o644, b"x").finish(), Want::Refused),
        ("dot-dot in the middle", Tar::new().dir("a", 0o755).file("a/../../../b", 0o644, b"x").finish(), Want::Refused),
        ("an absolute name", Tar::new().file(&format!("{out}/new"), 0o644, b"x").finish(), Want::Taken),
        ("a file through a link", Tar::new().symlink("l", &out).file("l/new", 0o644, b"x").finish(), Want::Refused),
        (
            "a file through a relative link",
            Tar::new().symlink("l", &up).file("l/new", 0o644, b"x").finish(),
            Want::Refused,
        ),
        ("a folder through a link", Tar::new().symlink("l", &out).dir("l/new", 0o777).finish(), Want::Refused),
        ("a file over a link", Tar::new().symlink("l", &kept).file("l", 0o644, b"x").finish(), Want::Taken),
        ("a folder over a link", Tar::new().symlink("l", &out).dir("l", 0o777).finish(), Want::Taken),
        ("a link through a link", Tar::new().symlink("l", &out).symlink("l/new", "x").finish(), Want::Refused),
        (
            "a hard link up",
            Tar::new().hardlink("h", &format!("{up}/kept")).file("h", 0o777, b"x").finish(),
            Want::Refused,
        ),
        (
            "a hard link through a link",
            Tar::new().symlink("l", &out).hardlink("h", "l/kept").file("h", 0o777, b"x").finish(),
            Want::Refused,
        ),
        ("a hard link to nothing", Tar::new().hardlink("h", &kept).finish(), Want::Refused),
        ("a whiteout of the folder above", Tar::new().file(".wh...", 0o644, b"").finish(), Want::Refused),
        (
            "a whiteout through a link",
            Tar::new().symlink("l", &out).file("l/.wh.kept", 0o644, b"").finish(),
            Want::Refused,
        ),
        (
            "an opaque mark through a link",
            Tar::new().symlink("l", &out).file("l/.wh..wh..opq", 0o644, b"").finish(),
            Want::Refused,
        ),
        ("an entry below a file", Tar::new().file("f", 0o644, b"x").file("f/new", 0o644, b"x").finish(), Want::Refused),
        (
            "overlay's own marks",
            Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", &out)]).dir("d", 0o755).finish(),
            Want::Taken,
        ),
        (
            "a PAX path with dot-dot",
            Tar::new().pax(&[("path", &format!("{up}/new"))]).file("harmless", 0o644, b"x").finish(),
            Want::Refused,
        ),
        (
            "a PAX link target that leads out",
            Tar::new().pax(&[("linkpath", &format!("{up}/kept"))]).hardlink("h", "harmless").finish(),
            Want::Refused,
        ),
        ("a PAX size that is none", Tar::new().pax(&[("size", "-1")]).file("f", 0o644, b"x").finish(), Want::Refused),
        (
            "an attribute larger than Linux allows",
            Tar::new().pax(&[("SCHILY.xattr.user.x", &"v".repeat(70_000))]).file("f", 0o644, b"x").finish(),
            Want::Refused,
        ),
        (
            "folders deeper than any program needs",
            Tar::new().pax(&[("path", &"d/".repeat(1000))]).dir("d", 0o755).finish(),
            Want::Refused,
        ),
        (
            "a name longer than a file system takes",
            Tar::new().pax(&[("path", &"n".repeat(300))]).file("f", 0o644, b"").finish(),
            Want::Refused,
        ),
        ("an archive in a file whose two sizes differ", two_sizes(&out), Want::Taken),
        ("a map of holes without an end", map_of_holes(), Want::Refused),
        (
            "an archive that ends in a file",
            {
                let mut bytes = Tar::new().file("f", 0o644, &[7; 5000]).finish();
                bytes.truncate(2048);
                bytes
            },
            Want::Refused,
        ),
        ("a device node", Tar::new().char_device("mem", 0o666, (1, 1)).finish(), Want::Taken),
        ("set-id bits", Tar::new().file("su", 0o6755, b"x").finish(), Want::Taken),
        (
            "file capabilities",
            Tar::new()
                .pax(&[("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0")])
                .file("ping", 0o755, b"x")
                .finish(),
            Want::Taken,
        ),
        (
            "an attribute larger than ext4 takes",
            Tar::new().pax(&[("SCHILY.xattr.user.x", &"v".repeat(20_000))]).file("f", 0o644, b"x").finish(),
            Want::Either,
        ),
        ("names of any bytes", patched(Tar::new().file("n-0", 0o644, b"x").finish(), 0, |b| b[1] = 0xff), Want::Taken),
        ("a name with a NUL", Tar::new().pax(&[("path", "a\0b")]).file("f", 0o644, b"x").finish(), Want::Refused),
        (
            "the same name as five things",
            Tar::new()
                .dir("n", 0o755)
                .file("n/f", 0o644, b"x")
                .symlink("n", &out)
                .file("n", 0o644, b"x")
                .char_device("n", 0o666, (1, 3))
                .dir("n", 0o755)
                .finish(),
            Want::Taken,
        ),
    ]
}

#[test]
fn cve_2025_62518_2026_28406_and_2026_33055_layers_stay_inside() -> Result<()> {
    let engine = Engine::start()?;
    let cli = engine.cli();
    let outside = engine.scratch("outside")?;
    let kept = outside.join("kept");
    fs::write(&kept, "kept")?;
    let before = store(&engine).map(|folder| listing(&folder)).transpose()?.unwrap_or_default();
    for (what, layer, want) in layers(&outside) {
        let tag = format!("{}:1", unique("hostile"));
        // The layer below has what a link into lower layers could find.
        let archive = image::archive(&tag, &[Tar::new().dir("base", 0o755).finish(), layer], &json!({}));
        let done = cli.run_with_input(["load"], &archive)?;
        let said = format!("{}{}", done.stdout, done.stderr);
        let files: Vec<_> = listing(&outside)?.into_iter().collect();
        ensure!(files == [kept.clone()], "{what} got out: {files:?}");
        let stat = fs::metadata(&kept)?;
        ensure!(
            fs::read(&kept)? == b"kept" && stat.nlink() == 1 && stat.mode() & 0o777 == 0o644,
            "{what} changed a file outside"
        );
        if engine.target() == Target::Naru {
            let right = want == Want::Either || (done.code == 0) == (want == Want::Taken);
            ensure!(right, "{what} should be {want:?}: {said}");
            ensure!(!said.contains("no space left"), "{what}: {said}");
        }
        if done.code == 0 {
            if let Some(store) = store(&engine) {
                let smuggled = listing(&store)?.into_iter().find(|path| path.ends_with("smuggled"));
                ensure!(smuggled.is_none(), "{what}: {smuggled:?}");
            }
            cli.ok(["rmi", &tag])?;
        }
        unchanged(&engine, &before, what)?;
    }
    // The engine still does its work.
    cli.ok(["info"])?;
    Ok(())
}

#[test]
fn cve_2026_32288_a_registrys_hostile_image_leaves_nothing() -> Result<()> {
    let engine = Engine::start()?;
    let cli = engine.cli();
    let registry = Registry::start(&engine, 5000)?;
    let outside = engine.scratch("outside")?;
    fs::write(outside.join("kept"), "kept")?;
    let before = store(&engine).map(|folder| listing(&folder)).transpose()?.unwrap_or_default();
    let good = Tar::new().file("good", 0o644, &[7; 300_000]).finish();
    for (at, (what, layer, want)) in layers(&outside).into_iter().enumerate() {
        if want != Want::Refused || at % 5 != 0 {
            continue;
        }
        let name = format!("hostile:{at}");
        registry.fill(&image::archive("kit/h:1", &[good.clone(), layer, good.clone()], &json!({})), &name, &[])?;
        let done = cli.run(["pull", &registry.reference(&name)])?;
        if engine.target() == Target::Naru {
            ensure!(done.code == 1, "{what} was pulled: {}", done.stdout);
        } else if done.code == 0 {
            cli.ok(["rmi", &registry.reference(&name)])?;
        }
        ensure!(listing(&outside)?.len() == 1, "{what} got out");
        unchanged(&engine, &before, what)?;
    }
    Ok(())
}

/// An archive with these files.
fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, 0o644, bytes)).finish()
}

/// An OCI layout whose index has these manifests.
fn layout(manifests: &Value, blobs: &[&[u8]]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    let mut tar = Tar::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).file(
        "index.json",
        0o644,
        index.as_bytes(),
    );
    for blob in blobs {
        tar = tar.file(&format!("blobs/sha256/{}", image::sha256(blob)), 0o644, blob);
    }
    tar.finish()
}

/// Archives whose documents are wrong.
fn documents() -> Vec<(&'static str, Vec<u8>)> {
    let layer = Tar::new().file("f", 0o644, b"x").finish();
    let (id, diff) = (image::sha256(&layer), format!("sha256:{}", image::sha256(&layer)));
    let path = format!("{id}/layer.tar");
    let config = |diffs: &[&str]| {
        json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}})
            .to_string()
    };
    let table = |layers: &[&str]| json!([{"Config": "c.json", "RepoTags": ["lie:1"], "Layers": layers}]).to_string();
    let other = format!("sha256:{}", "0".repeat(64));
    let (one, two, wrong) = (config(&[&diff]), config(&[&diff, &diff]), config(&[&other]));
    let huge = format!("{}{}", one, " ".repeat(9 << 20));
    let many: Vec<&str> = vec![path.as_str(); 1000];
    let (deep, deep_table) = (config(&vec![diff.as_str(); 1000]), table(&many));
    let this = table(&[&path]);
    vec![
        ("nothing", files(&[])),
        ("no table", files(&[("c.json", one.as_bytes()), (&path, &layer)])),
        ("a table that is null", files(&[("manifest.json", b"null")])),
        ("a table that is no JSON", files(&[("manifest.json", b"[{")])),
        ("a table of nested lists", files(&[("manifest.json", "[".repeat(100_000).as_bytes())])),
        ("no configuration", files(&[("manifest.json", this.as_bytes()), (&path, &layer)])),
        ("no layer", files(&[("manifest.json", this.as_bytes()), ("c.json", one.as_bytes())])),
        ("a layer less", files(&[("manifest.json", this.as_bytes()), ("c.json", two.as_bytes()), (&path, &layer)])),
        ("another layer", files(&[("manifest.json", this.as_bytes()), ("c.json", wrong.as_bytes()), (&path, &layer)])),
        (
            "a configuration of nine megabytes",
            files(&[("manifest.json", this.as_bytes()), ("c.json", huge.as_bytes()), (&path, &layer)]),
        ),
        (
            "a thousand layers",
            files(&[("manifest.json", deep_table.as_bytes()), ("c.json", deep.as_bytes()), (&path, &layer)]),
        ),
        (
            "a path out of the archive",
            files(&[("manifest.json", table(&["../../../etc/passwd"]).as_bytes()), ("c.json", one.as_bytes())]),
        ),
    ]
}

#[test]
fn documents_that_lie_are_refused() -> Result<()> {
    let engine = Engine::start()?;
    let cli = engine.cli();
    let before = store(&engine).map(|folder| listing(&folder)).transpose()?.unwrap_or_default();
    for (what, archive) in documents() {
        if engine.target() == Target::Dockerd {
            // It takes some of them for empty archives.
            cli.run_with_input(["load"], &archive)?;
            continue;
        }
        refused(&cli, &archive, what)?;
        unchanged(&engine, &before, what)?;
    }
    Ok(())
}

#[test]
fn go_2026_6597_graphs_of_indices_are_bounded() -> Result<()> {
    if naru_tests::only_naru("dockerd 20.10 reads no OCI layouts") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let cli = engine.cli();
    let before = store(&engine).map(|folder| listing(&folder)).transpose()?.unwrap_or_default();
    let kind = "application/vnd.oci.image.index.v1+json";
    let descriptor = |blob: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", image::sha256(blob)), "size": blob.len()});
    // Each index names the next one ten times: ten to the power of forty ways to the end.
    let mut blobs: Vec<Vec<u8>> =
        vec![json!({"schemaVersion": 2, "mediaType": kind, "manifests": []}).to_string().into_bytes()];
    for _ in 0..40 {
        let below = descriptor(blobs.last().context("a blob")?);
        blobs.push(
            json!({"schemaVersion": 2, "mediaType": kind, "manifests": vec![below; 10]}).to_string().into_bytes(),
        );
    }
    let top = json!([descriptor(blobs.last().context("a blob")?)]);
    let views: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    cli.run_with_input(["load"], &layout(&top, &views))?;
    unchanged(&engine, &before, "a graph of indices")?;
    // A blob with another digest than its name.
    let named = json!([{"mediaType": kind, "digest": format!("sha256:{}", image::sha256(b"other")), "size": 5}]);
    let mut tar = Tar::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar = tar.file("index.json", 0o644, json!({"schemaVersion": 2, "manifests": named}).to_string().as_bytes());
    tar = tar.file(&format!("blobs/sha256/{}", image::sha256(b"other")), 0o644, br#"{"schemaVersion":2}"#);
    let said = refused(&cli, &tar.finish(), "a blob with another digest")?;
    assert!(said.contains("digest"), "{said}");
    unchanged(&engine, &before, "a blob with another digest")?;
    Ok(())
}

/// Who takes what: prints the tables of docs/images.md. `cargo test -p naru-tests who_takes_what -- --ignored --nocapture`, with podman and
/// dockerd installed.
#[test]
#[ignore = "needs podman and dockerd, and says nothing about Naru that the others don't"]
fn who_takes_what() -> Result<()> {
    use std::fmt::Write as _;
    let reasons = std::cell::RefCell::new(String::new());
    let mut table = String::new();
    let (naru, docker) =
        (Engine::with(Target::Naru, Default::default())?, Engine::with(Target::Dockerd, Default::default())?);
    let outside = naru.scratch("outside")?;
    let (kept, file) = (outside.join("kept"), naru.scratch("archive")?.join("a.tar"));
    let podman = naru.scratch("podman")?;
    let of_layer = |layer| image::archive("hostile/x:1", &[Tar::new().dir("base", 0o755).finish(), layer], &json!({}));
    let layers: Vec<_> = layers(&outside).into_iter().map(|(what, layer, _)| (what, of_layer(layer))).collect();
    for (head, cases) in [("a layer with", layers), ("an archive with", documents())] {
        writeln!(table, "\n| {head} | docker | podman | Naru |\n|---|---|---|---|")?;
        for (what, archive) in cases {
            fs::write(&kept, "kept")?;
            fs::write(&file, archive)?;
            let verdict = |taken: bool| -> Result<&str> {
                let clean = listing(&outside)?.len() == 1
                    && fs::read(&kept)? == b"kept"
                    && fs::metadata(&kept)?.mode() & 0o777 == 0o644;
                Ok(match (clean, taken) {
                    (false, _) => "**gets out**",
                    (true, true) => "takes it",
                    (true, false) => "refuses",
                })
            };
            let run = |engine: &Engine| -> Result<bool> {
                let done = engine.cli().run_with_input(["load"], &fs::read(&file)?)?;
                let taken = done.code == 0;
                if !taken {
                    writeln!(reasons.borrow_mut(), "{what}: {:?}: {}", engine.target(), done.stderr.trim())?;
                }
                engine.cli().run(["rmi", "-f", "hostile/x:1", "lie:1"])?;
                Ok(taken)
            };
            let by_podman = |args: &[&str]| -> Result<bool> {
                let mut command = naru.world().command("podman");
                command.args(["--root", &podman.join("root").display().to_string()]);
                command.args(["--runroot", &podman.join("run").display().to_string(), "--storage-driver", "overlay"]);
                let done = command.args(args).output().context("start podman")?;
                if !done.status.success() {
                    writeln!(reasons.borrow_mut(), "{what}: podman: {}", String::from_utf8_lossy(&done.stderr).trim())?;
                }
                Ok(done.status.success())
            };
            write!(table, "| {what} | {} |", verdict(run(&docker)?)?)?;
            write!(table, " {} |", verdict(by_podman(&["load", "-q", "-i", &file.display().to_string()])?)?)?;
            by_podman(&["rmi", "-af"])?;
            writeln!(table, " {} |", verdict(run(&naru)?)?)?;
        }
    }
    std::io::Write::write_all(&mut std::io::stdout(), format!("{table}\n{}", reasons.borrow()).as_bytes())?;
    Ok(())
}
