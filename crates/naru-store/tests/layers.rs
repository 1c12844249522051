//! Layers: one pass, resumed downloads, and what only the layers below can answer.

mod common;

use common::{Archive, Scratch, describe, descriptor, diff_dir, gzip, layer, unpack};
use naru_base::Class;
use naru_store::tar::{Header, Time};
use naru_store::{chain_id, digest_of};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

#[test]
fn what_gnu_tar_packs_comes_out_the_same() {
    let scratch = Scratch::new("gnu");
    let tree = scratch.join("tree");
    let script = r#"
        mkdir -p "$1/a/b/long-$(printf 'x%.0s' $(seq 120))" && cd "$1"
        echo hello > a/file; ln a/file a/hard; ln -s ../a a/b/soft
        printf 'ü' > 'a/ünï cödé'; mknod a/null c 1 3; mkfifo a/fifo
        truncate -s 5M a/sparse; printf end >> a/sparse; dd if=/dev/urandom of=a/random bs=100k count=7 status=none
        cp a/random "a/b/$(echo long*)" 2>/dev/null; chown 1000:2000 a/b; chmod 4711 a/random; chmod 1777 a/b
        setfattr -n user.test -v value a/file 2>/dev/null; setcap cap_net_raw+ep a/random 2>/dev/null
        touch -d '2001-02-03 04:05:06' a/file a/b a; ln -s "$(printf 'y%.0s' $(seq 150))" a/longlink
        :"#;
    let status = Command::new("sh").args(["-c", script, "sh", tree.to_str().unwrap()]).status().unwrap();
    assert!(status.success());
    let want = describe(&tree);
    for (format, extra) in
        [("gnu", "--sparse"), ("posix", "--sparse"), ("ustar", "--exclude=nothing"), ("posix", "--sparse-version=0.1")]
    {
        let scratch = Scratch::new("gnu-out");
        let tar = scratch.join("layer.tar");
        let mut args = vec!["-C", tree.to_str().unwrap(), "--format", format, extra, "-cf", tar.to_str().unwrap()];
        if format == "posix" {
            args.extend(["--xattrs", "--sparse"]);
        }
        if format == "ustar" {
            args.push("--exclude=long*");
        }
        args.push(".");
        let output = Command::new("tar").args(&args).output().unwrap();
        let blob = std::fs::read(&tar).unwrap();
        if format != "ustar" {
            assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let store = scratch.store();
        let chain = layer(&store, &gzip(&blob), None);
        assert_eq!(chain, digest_of(&blob), "{format}: the chain id of a first layer is its diff id");
        let got = describe(&diff_dir(&scratch, &chain));
        let without_long = |text: &str| text.lines().filter(|l| !l.contains("long")).collect::<Vec<_>>().join("\n");
        if format == "ustar" {
            assert_eq!(without_long(&got), without_long(&want), "{format}");
        } else {
            assert_eq!(got, want, "{format}");
        }
        let sparse = diff_dir(&scratch, &chain).join("a/sparse").metadata().unwrap();
        if format != "ustar" {
            assert!(sparse.blocks() < 1000, "{format}: {} blocks", sparse.blocks());
        }
    }
}

#[test]
fn a_cut_download_goes_on_where_it_ended() {
    let scratch = Scratch::new("resume");
    let random: String = (0..200_000u64).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
    let tar = Archive::new().dir("d").file("d/big", &random).file("small", "x").bytes();
    for blob in [gzip(&tar), tar.clone()] {
        let store = scratch.store();
        let cut = blob.len() * 2 / 3;
        let mut ingest = store.ingest(descriptor(&blob)).unwrap();
        assert_eq!(ingest.resume_offset(), 0);
        ingest.write(&blob[..cut]).unwrap();
        drop(ingest);
        // As after a crash: a new process, with what is on the disk.
        drop(store);
        let store = scratch.store();
        store.sweep().unwrap();
        let mut ingest = store.ingest(descriptor(&blob)).unwrap();
        assert_eq!(ingest.resume_offset(), cut as u64);
        ingest.write(&blob[cut..]).unwrap();
        let unpacked = ingest.finish(Some(&digest_of(&tar))).unwrap();
        assert_eq!(unpacked.blob().digest, digest_of(&blob));
        let chain = store.commit_layer(unpacked, None).unwrap().chain_id.clone();
        assert_eq!(std::fs::read_to_string(diff_dir(&scratch, &chain).join("d/big")).unwrap(), random);
        assert_eq!(std::fs::read_dir(scratch.join("store/ingest")).unwrap().count(), 0);
        store.collect().unwrap();
    }
}

#[test]
fn an_end_too_early_is_kept_and_a_wrong_blob_is_not() {
    let scratch = Scratch::new("wrong");
    let store = scratch.store();
    let blob = gzip(&Archive::new().file("a", "content").bytes());
    let mut short = store.ingest(descriptor(&blob)).unwrap();
    short.write(&blob[..20]).unwrap();
    assert_eq!(short.finish(None).err().unwrap().class(), Class::Unavailable);
    assert_eq!(store.ingest(descriptor(&blob)).unwrap().resume_offset(), 20);

    let mut claimed = descriptor(&blob);
    claimed.digest = digest_of(b"something else");
    let mut wrong = store.ingest(claimed.clone()).unwrap();
    wrong.write(&blob).unwrap();
    assert_eq!(
        wrong.finish(None).err().unwrap().message(),
        format!("filesystem layer verification failed for digest {}", claimed.digest)
    );
    assert_eq!(store.ingest(claimed.clone()).unwrap().resume_offset(), 0);
    assert!(!store.has_blob(&claimed.digest));

    let mut long = store.ingest(descriptor(&blob)).unwrap();
    assert!(long.write(&[&blob[20..], b"x"].concat()).unwrap_err().message().contains("longer than"));
    drop(long);
    let unpacked = {
        let mut ingest = store.ingest(descriptor(&blob)).unwrap();
        ingest.write(&blob).unwrap();
        ingest.finish(Some(&digest_of(b"x")))
    };
    assert!(unpacked.err().unwrap().message().contains("diff id"));
    assert_eq!(std::fs::read_dir(scratch.join("store/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_leaves_neither_a_blob_nor_a_half_layer() {
    let scratch = Scratch::new("full");
    let mount = scratch.join("small");
    std::fs::create_dir(&mount).unwrap();
    // The test itself runs again in a mount namespace of its own, on a file system of 3 MB.
    if std::env::var_os("NARU_STORE_SMALL").is_none() {
        let exe = std::env::current_exe().unwrap();
        let script = r#"mount -t tmpfs -o size=3m none "$1" && TMPDIR="$1" NARU_STORE_SMALL=1 "$2" --exact a_full_disk_leaves_neither_a_blob_nor_a_half_layer"#;
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", mount.to_str().unwrap(), exe.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        return;
    }
    let store = scratch.store();
    let big = "z".repeat(6 << 20);
    let blob = gzip(&Archive::new().file("a", &big).bytes());
    let mut ingest = store.ingest(descriptor(&blob)).unwrap();
    let error = blob.chunks(500).find_map(|piece| ingest.write(piece).err()).expect("the disk is full");
    assert_eq!(error.class(), Class::System);
    assert!(error.message().contains("no space left") && error.is_disk_full(), "{error}");
    drop(ingest);
    for folder in ["ingest", "unpack", "layers"] {
        assert_eq!(std::fs::read_dir(scratch.join("store").join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn missing_folders_and_links_are_answered_by_the_layers_below() {
    let scratch = Scratch::new("lower");
    let store = scratch.store();
    let xattrs = [(b"user.note".to_vec(), b"x".to_vec())];
    let base = Archive::new()
        .dir_with("etc", 0o711, 5, 1000)
        .with(&Header { xattrs: &xattrs, mtime: Time { seconds: 50, nanos: 0 }, ..Header::directory(b"etc/deep") }, b"")
        .with(
            &Header { uid: 7, mode: 0o640, mtime: Time { seconds: 77, nanos: 0 }, ..Header::file(b"etc/shadow", 6) },
            b"secret",
        )
        .bytes();
    let lower = layer(&store, &base, None);
    let top =
        Archive::new().file("etc/deep/new", "n").hard_link("etc/copy", "etc/shadow").hard_link("other", "etc/shadow");
    let chain = layer(&store, &top.bytes(), Some(&lower));
    let root = diff_dir(&scratch, &chain);
    let meta = root.join("etc").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o711, 5, 1000));
    assert_eq!(root.join("etc/deep").metadata().unwrap().mtime(), 50);
    let dir = std::fs::File::open(root.join("etc/deep")).unwrap();
    assert_eq!(naru_fs::xattr::get(&dir, "user.note").unwrap().as_deref(), Some(&b"x"[..]));
    let (copy, other) = (root.join("etc/copy").metadata().unwrap(), root.join("other").metadata().unwrap());
    assert_eq!((copy.uid(), copy.mode() & 0o7777, copy.mtime(), copy.nlink()), (7, 0o640, 77, 2));
    assert_eq!(copy.ino(), other.ino());
    assert_eq!(std::fs::read_to_string(root.join("other")).unwrap(), "secret");

    // A lower layer that deleted the target has none to give.
    let gone = layer(&store, &Archive::new().file("etc/.wh.shadow", "").bytes(), Some(&lower));
    let unpacked = unpack(&store, &Archive::new().hard_link("x", "etc/shadow").bytes()).unwrap();
    assert!(store.commit_layer(unpacked, Some(&gone)).is_err());
}

#[test]
fn layers_are_shared_and_may_arrive_in_any_order() {
    let scratch = Scratch::new("order");
    let store = scratch.store();
    let blobs: Vec<Vec<u8>> = (0..4).map(|n| gzip(&Archive::new().file(&format!("f{n}"), "x").bytes())).collect();
    let unpacked: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = blobs.iter().rev().map(|b| scope.spawn(|| unpack(&store, b).unwrap())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut parent = None;
    for layer in unpacked.into_iter().rev() {
        let diff = layer.diff_id().clone();
        let made = store.commit_layer(layer, parent.as_ref()).unwrap();
        assert_eq!(made.chain_id, chain_id(parent.as_ref(), &diff));
        parent = Some(made.chain_id.clone());
    }
    // The same blob again, twice at once: one layer.
    let first = digest_of(&Archive::new().file("f0", "x").bytes());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(layer(&store, &blobs[0], None), first));
        }
    });
    assert_eq!(std::fs::read_dir(scratch.join("store/layers")).unwrap().count(), 4);
}

#[test]
fn one_blob_is_two_layers_of_an_image() {
    let scratch = Scratch::new("twice");
    let store = scratch.store();
    let blob = gzip(&Archive::new().file("same", "both times").bytes());
    // The upper one came first, and waits for the lower one, which is of the same blob.
    let upper = unpack(&store, &blob).unwrap();
    let lower = unpack(&store, &blob).unwrap();
    let diff_id = lower.diff_id().clone();
    let first = store.commit_layer(lower, None).unwrap();
    assert_eq!(first.chain_id, diff_id);
    let second = store.commit_layer(upper, Some(&diff_id)).unwrap();
    assert_eq!(second.chain_id, chain_id(Some(&diff_id), &diff_id));
    assert_eq!(std::fs::read_dir(scratch.join("store/ingest")).map_or(0, Iterator::count), 0);
}
