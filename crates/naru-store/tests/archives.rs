//! save, load and import, against ourselves, skopeo and hand-made archives of docker's older forms.

mod common;

use common::{Archive, Scratch, config, descriptor, gzip, layer, run};
use naru_base::{Digest, Reference};
use naru_store::spec::{Descriptor, History, ImageConfig, Manifest, media_type};
use naru_store::{Image, LoadEvent, NewImage, Store, digest_of};
use std::collections::BTreeMap;
use std::sync::Arc;

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn load(store: &Store, archive: &[u8]) -> naru_base::Result<(Vec<Arc<Image>>, Vec<LoadEvent>)> {
    let mut events = Vec::new();
    let images = store.load(archive, None, &mut |e| events.push(e))?;
    Ok((images, events))
}

/// An image of two layers that came with a manifest, as after a pull.
fn pulled(store: &Store) -> Arc<Image> {
    let tars = [Archive::new().dir("a").file("a/1", "one").bytes(), Archive::new().file("a/2", "two").bytes()];
    let blobs = [gzip(&tars[0]), zstd::encode_all(&tars[1][..], 3).unwrap()];
    let diffs: Vec<Digest> = tars.iter().map(|t| digest_of(t)).collect();
    let config = config(&diffs);
    let mut layers = vec![descriptor(&blobs[0]), descriptor(&blobs[1])];
    layers[1].media_type = media_type::OCI_LAYER_ZSTD.into();
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.into(),
        config: Descriptor::new(media_type::OCI_CONFIG, digest_of(&config), config.len() as u64),
        layers,
        annotations: BTreeMap::from([("unusual".into(), "kept".into())]),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).unwrap();
    let _lease = store.lease();
    let first = layer(store, &blobs[0], None);
    layer(store, &blobs[1], Some(&first));
    store
        .put_image(&NewImage { config: &config, manifest: Some((media_type::OCI_MANIFEST, &manifest)), parent: None })
        .unwrap()
}

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut out = Vec::new();
    store.save(&store.save_targets(&names, None).unwrap(), &mut out).unwrap();
    out
}

#[test]
fn what_was_pulled_saved_and_loaded_keeps_every_digest() {
    let scratch = Scratch::new("save");
    let store = scratch.store();
    let image = pulled(&store);
    store.tag(&image.id, &name("app:1")).unwrap();
    store.tag(&image.id, &name("app:2")).unwrap();
    store.tag(&image.id, &name("localhost:5000/x/y:z")).unwrap();
    let archive = save(&store, &["app", "localhost:5000/x/y:z", image.id.as_str()]);
    let (_, manifest, _) = store.manifest(&image).unwrap();
    for compressed in [archive.clone(), gzip(&archive)] {
        let other = Scratch::new("load");
        let other_store = other.store();
        let (images, events) = load(&other_store, &compressed).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].id, image.id);
        assert_eq!(images[0].manifest.as_ref().map(|m| &m.digest), Some(&digest_of(&manifest)));
        assert_eq!(other_store.manifest(&images[0]).unwrap().1, manifest);
        let names: Vec<String> = other_store.references(&image.id).iter().map(Reference::familiar).collect();
        assert_eq!(names, ["app:1", "app:2", "localhost:5000/x/y:z"]);
        assert!(matches!(events.last(), Some(LoadEvent::Loaded { tags, .. }) if tags.len() == 3));
        assert_eq!(
            save(&other_store, &["app", "localhost:5000/x/y:z"]),
            save(&store, &["app", "localhost:5000/x/y:z"])
        );
        // Again: everything is there already, and the tags stay.
        let (again, events) = load(&other_store, &compressed).unwrap();
        assert_eq!(again[0].id, image.id);
        assert!(!events.iter().any(|e| matches!(e, LoadEvent::Layer { .. } | LoadEvent::Renamed { .. })));
    }
}

#[test]
fn skopeo_reads_what_we_save_and_we_read_what_it_writes() {
    if std::process::Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("skipped: skopeo is not installed");
        return;
    }
    let scratch = Scratch::new("skopeo");
    let store = scratch.store();
    let image = pulled(&store);
    store.tag(&image.id, &name("app:1")).unwrap();
    let tar = scratch.join("app.tar");
    std::fs::write(&tar, save(&store, &["app:1"])).unwrap();
    let from = format!("docker-archive:{}", tar.display());
    let policy = ["--insecure-policy", "--tmpdir", scratch.path().to_str().unwrap(), "copy"];
    let copy = |from: &str, to: &str| run("skopeo", &[&policy[..], &[from, to]].concat());
    let layout = scratch.join("oci");
    copy(&from, &format!("oci:{}:app:2", layout.display()));
    copy(&format!("oci-archive:{}", tar.display()), &format!("oci:{}:app:3", layout.display()));
    copy(&from, &format!("docker-archive:{}:app:4", scratch.join("old.tar").display()));
    copy(&from, &format!("oci-archive:{}:localhost/app:5", scratch.join("oci.tar").display()));
    run("tar", &["-C", layout.to_str().unwrap(), "-cf", scratch.join("layout.tar").to_str().unwrap(), "."]);
    for (file, tag) in [("layout.tar", "app:2"), ("old.tar", "app:4"), ("oci.tar", "localhost/app:5")] {
        let other = Scratch::new("from-skopeo");
        let other_store = other.store();
        let (images, _) =
            load(&other_store, &std::fs::read(scratch.join(file)).unwrap()).unwrap_or_else(|e| panic!("{file}: {e}"));
        let loaded = other_store.lookup(tag).unwrap();
        assert!(images.iter().any(|i| i.id == loaded.id), "{file}");
        let diffs = |i: &Image| i.layers.iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>();
        assert_eq!(diffs(&loaded), diffs(&image), "{file}");
        assert_eq!(loaded.size(), 6, "{file}");
    }
}

fn legacy(diff: &Digest, tar: &[u8], table: &str) -> Vec<u8> {
    let config = config(&[diff.clone(), diff.clone()]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let table = table.replace("CONFIG", digest_of(&config).hex());
    Archive::new()
        .file(&format!("{}.json", digest_of(&config).hex()), &text(&config))
        .dir("one")
        .file("one/VERSION", "1.0")
        .file("one/json", "{}")
        .file("one/layer.tar", &text(tar))
        .dir("two")
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("manifest.json", &table)
        .bytes()
}

#[test]
fn archives_of_old_docker_versions() {
    let scratch = Scratch::new("legacy");
    let store = scratch.store();
    let tar = Archive::new().file("f", "x").bytes();
    let diff = digest_of(&tar);
    let good = r#"[{"Config":"CONFIG.json","RepoTags":["old:1"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let (images, _) = load(&store, &legacy(&diff, &tar, good)).unwrap();
    assert_eq!(images[0].layers.len(), 2);
    assert_eq!(store.lookup("old:1").unwrap().id, images[0].id);
    assert_eq!(store.lower_dirs(&images[0]).unwrap().len(), 2);

    let says = |archive: &[u8]| load(&Scratch::new("bad").store(), archive).unwrap_err().message().to_owned();
    let table = |from: &str, to: &str| legacy(&diff, &tar, &good.replace(from, to));
    assert_eq!(says(&table(r#","two/layer.tar""#, "")), "invalid manifest, layers length mismatch: expected 1, got 2");
    assert_eq!(says(&table("old:1", "Old:1")), "invalid tag \"Old:1\"");
    assert_eq!(says(&table("old:1", "old")), "invalid tag \"old\"");
    assert!(says(&table("two/layer.tar", "three/layer.tar")).contains("does not contain the layer three/layer.tar"));
    assert_eq!(says(&legacy(&diff, &tar, "null")), "invalid manifest, manifest cannot be null (but can be [])");
    assert_eq!(says(&Archive::new().file("x", "y").bytes()), "invalid archive: does not contain a manifest.json");
    let wrong = says(&legacy(&digest_of(b"other"), &tar, good));
    assert_eq!(wrong, format!("invalid diffID for layer 0: expected \"{}\", got \"{diff}\"", digest_of(b"other")));
    assert!(
        says(b"no archive at all, only some text that is longer than a block of a tar archive")
            .contains("invalid archive")
    );
}

#[test]
fn a_tag_moves_and_that_is_told() {
    let scratch = Scratch::new("renamed");
    let store = scratch.store();
    let tar = Archive::new().file("f", "x").bytes();
    let good = r#"[{"Config":"CONFIG.json","RepoTags":["app:1"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let old = pulled(&store);
    store.tag(&old.id, &name("app:1")).unwrap();
    let (_, events) = load(&store, &legacy(&digest_of(&tar), &tar, good)).unwrap();
    assert!(events.iter().any(|e| matches!(e, LoadEvent::Renamed { old: o, .. } if *o == old.id)));
    assert_eq!(store.dangling().iter().map(|i| i.id.clone()).collect::<Vec<_>>(), [old.id.clone()]);
}

#[test]
fn a_damaged_blob_in_a_layout_is_refused() {
    let scratch = Scratch::new("damaged");
    let store = scratch.store();
    let image = pulled(&store);
    let archive = save(&store, &[image.id.as_str()]);
    let needle = b"\"architecture\":\"amd64\"";
    let at = archive.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut damaged = archive.clone();
    damaged[at + needle.len() - 2] = b'5';
    let other = Scratch::new("damaged-into");
    assert!(load(&other.store(), &damaged).unwrap_err().message().contains("another digest"));
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let scratch = Scratch::new("import");
    let store = scratch.store();
    let tar = Archive::new().dir("bin").file("bin/sh", "#").bytes();
    let base = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let step = History { comment: "Imported from -".into(), ..History::default() };
    let image = store.import(&gzip(&tar)[..], base, step).unwrap();
    assert_eq!(image.config.rootfs.diff_ids, [digest_of(&tar)]);
    assert_eq!(image.config.history[0].comment, "Imported from -");
    assert_eq!(image.size(), 1);
    let (manifest, _, _) = store.manifest(&image).unwrap();
    assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER_GZIP);
}

/// What no media type of layers names is taken off: the layer is the plain archive, in an import and in docker's archive.
#[test]
fn xz_and_bzip2_are_taken_off() {
    let scratch = Scratch::new("xz");
    let store = scratch.store();
    let tar = Archive::new().dir("bin").file("bin/sh", "#").bytes();
    for program in ["xz", "bzip2"] {
        let file = scratch.join(program);
        std::fs::write(&file, &tar).unwrap();
        run(program, &["--keep", "--force", &file.display().to_string()]);
        let ending = if program == "xz" { "xz" } else { "bz2" };
        let packed = std::fs::read(scratch.join(&format!("{program}.{ending}"))).unwrap();
        let base = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        let step = History { comment: program.into(), ..History::default() };
        let image = store.import(&packed[..], base.clone(), step.clone()).unwrap();
        assert_eq!(image.config.rootfs.diff_ids, [digest_of(&tar)]);
        let (manifest, _, _) = store.manifest(&image).unwrap();
        assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER);
        assert_eq!(manifest.layers[0].digest, digest_of(&tar));
        assert!(store.import(&packed[..packed.len() - 9], base, step).is_err(), "{program} cut short");
    }
}

#[test]
fn the_index_survives_and_what_nothing_needs_goes() {
    let scratch = Scratch::new("index");
    let image = {
        let store = scratch.store();
        let image = pulled(&store);
        store.tag(&image.id, &name("app:1")).unwrap();
        store.add_digest(&image.id, &name("app"), &digest_of(b"list")).unwrap();
        assert!(Store::open(scratch.join("store")).is_err(), "a second engine must be kept out");
        image
    };
    let store = scratch.store();
    store.sweep().unwrap();
    let found = store.lookup(&format!("app@{}", digest_of(b"list"))).unwrap();
    assert_eq!((&found.id, &found.config, &found.layers), (&image.id, &image.config, &image.layers));
    assert!(found.last_tagged.is_some());

    // A container keeps the layers of an image that is gone.
    let top = image.chain_id().unwrap();
    store.hold("container", top);
    let removed = store.delete(&image.id).unwrap();
    assert_eq!((removed.images.len(), removed.layers.len()), (1, 0));
    assert!(store.lookup("app:1").is_err());
    assert!(store.layer(top).is_some());
    store.release("container");
    let lease = store.lease();
    assert_eq!(store.collect().unwrap().layers.len(), 0);
    drop(lease);
    store.wait_for_removals().unwrap();
    for folder in ["layers", "blobs/sha256", "trash"] {
        assert_eq!(std::fs::read_dir(scratch.join("store").join(folder)).unwrap().count(), 0, "{folder}");
    }
}

/// An engine that ended before it had removed a layer's files: they count until the next one has removed them.
#[test]
fn what_was_not_yet_removed_goes_after_the_next_start() {
    let scratch = Scratch::new("trash");
    let (id, size) = {
        let store = scratch.store();
        let image = pulled(&store);
        (image.id.clone(), store.usage().unwrap().total)
    };
    let entries = |folder: &str| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(scratch.join("store").join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    // As when it dies between moving them aside and removing them.
    for (n, from) in entries("layers").into_iter().chain(entries("blobs/sha256")).enumerate() {
        std::fs::rename(from, scratch.join("store/trash").join(n.to_string())).unwrap();
    }
    std::fs::create_dir_all(scratch.join("store/unpack/half/diff/usr")).unwrap();
    let store = scratch.store();
    assert!(store.image(&id).is_err());
    let usage = store.usage().unwrap();
    assert_eq!((usage.total, usage.trash), (0, size));
    store.sweep().unwrap();
    store.wait_for_removals().unwrap();
    assert_eq!(store.usage().unwrap().trash, 0);
    assert_eq!((entries("trash").len(), entries("unpack").len()), (0, 0));
}

#[test]
fn the_image_of_the_host_is_shown_and_never_saved() {
    let scratch = Scratch::new("host");
    let store = scratch.store();
    let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    let image = store.register_host(&name("host"), std::path::Path::new("/"), config).unwrap();
    assert_eq!(store.lower_dirs(&store.lookup("host").unwrap()).unwrap(), [std::path::PathBuf::from("/")]);
    assert!(store.save_targets(&["host".into()], None).is_err());
    assert!(store.manifest(&image).is_err());
    assert!(store.delete(&image.id).is_err());
    pulled(&store);
    drop(store);
    assert!(scratch.store().lookup("host").is_err());
}
