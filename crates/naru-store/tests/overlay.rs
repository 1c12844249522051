//! Whiteouts, opaque folders, diff and commit against a real overlay mount (in a mount namespace of its own).

mod common;

use common::{Archive, Scratch, config, describe, diff_dir, gzip, layer};
use naru_base::Digest;
use naru_fs::Root;
use naru_store::spec::{History, ImageConfig};
use naru_store::{ChangeKind, NewImage, Store, diff};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `script` in the directory of an overlay of these layers (topmost first) and `upper`.
fn in_overlay(scratch: &Scratch, lower: &[PathBuf], upper: &str, script: &str) -> String {
    for dir in [upper, "work", "merged"] {
        std::fs::create_dir_all(scratch.join(dir)).unwrap();
    }
    let lower: Vec<&str> = lower.iter().map(|p| p.to_str().unwrap()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        lower.join(":"),
        scratch.join(upper).display(),
        scratch.join("work").display()
    );
    // tmpfs gives a place for upper that is no overlay itself, wherever the test runs.
    let body =
        format!("mount -t overlay -o {options} none {0} && cd {0} && {script}", scratch.join("merged").display());
    let output = Command::new("unshare").args(["-m", "sh", "-ec", &body]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn base(store: &Store) -> Digest {
    let archive = Archive::new()
        .dir_with("etc", 0o755, 0, 100)
        .file("etc/passwd", "root")
        .file("etc/hosts", "h")
        .dir_with("opt", 0o755, 0, 100)
        .dir_with("opt/a", 0o755, 0, 100)
        .file("opt/a/1", "1")
        .file("opt/a/2", "2")
        .dir("gone")
        .file("gone/x", "x")
        .dir("anew")
        .file("anew/old", "o");
    layer(store, &gzip(&archive.bytes()), None)
}

#[test]
fn whiteouts_and_opaque_folders_mean_what_they_say() {
    let scratch = Scratch::new("whiteout");
    let store = scratch.store();
    let lower = base(&store);
    let archive = Archive::new()
        .file("etc/.wh.hosts", "")
        // An opaque mark after, and a whiteout before and after, entries of the same layer.
        .file("opt/a/3", "3")
        .file("opt/a/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .dir("gone")
        .file("gone/y", "y")
        .dir("anew")
        .file("anew/new", "n")
        .file(".wh.anew", "")
        .file(".wh.never-was", "");
    let top = layer(&store, &archive.bytes(), Some(&lower));
    let lower: Vec<PathBuf> = [&top, &lower].iter().map(|c| diff_dir(&scratch, c)).collect();
    let list = in_overlay(&scratch, &lower, "upper", "find . -mindepth 1 | sort | tr '\\n' ' '");
    assert_eq!(list.trim(), "./anew ./anew/new ./etc ./etc/passwd ./gone ./gone/y ./opt ./opt/a ./opt/a/3");
}

const CHANGES: &str = "
    echo more >> etc/passwd
    rm etc/hosts
    rm -r opt/a; mkdir opt/a; echo new > opt/a/9; touch -d @100 opt
    rm -r gone
    mkdir -p var/lib; echo x > var/lib/f; ln var/lib/f var/lib/g; ln -s f var/lib/s; mknod var/null c 1 3; mkfifo var/p
    setfattr -n user.k -v v var/lib/f || true
    chown 12:34 var/lib/f; chmod 4711 var/lib/f
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"var/socket\")' || true
    touch var/.wh.trap
";

#[test]
fn diff_tells_what_changed() {
    let scratch = Scratch::new("diff");
    let store = scratch.store();
    let lower = vec![diff_dir(&scratch, &base(&store))];
    in_overlay(&scratch, &lower, "upper", CHANGES);
    let changes = diff(&lower, &Root::open_host(scratch.join("upper")).unwrap()).unwrap();
    let lines: Vec<String> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{kind} {}", change.path.display())
        })
        .filter(|line| !line.contains("socket"))
        .collect();
    let want = "C /etc|D /etc/hosts|C /etc/passwd|D /gone|C /opt/a|D /opt/a/1|D /opt/a/2|A /opt/a/9|A /var|A /var/.wh.trap|\
                A /var/lib|A /var/lib/f|A /var/lib/g|A /var/lib/s|A /var/null|A /var/p";
    // `opt` is not among them: it was only passed through, and its time was put back.
    assert_eq!(lines.join("|"), want);
}

fn image_of(store: &Store, chain: &Digest) -> std::sync::Arc<naru_store::Image> {
    store.put_image(&NewImage { config: &config(std::slice::from_ref(chain)), manifest: None, parent: None }).unwrap()
}

#[test]
fn a_commit_shows_the_tree_that_the_container_had() {
    let scratch = Scratch::new("commit");
    let store = scratch.store();
    let base = base(&store);
    let parent = image_of(&store, &base);
    let lower = vec![diff_dir(&scratch, &base)];
    in_overlay(&scratch, &lower, "upper", &format!("{CHANGES} rm var/.wh.trap; rm -f var/socket"));
    let view = "find . -mindepth 1 -printf '%p %y %m %U:%G %s %l\\n' | grep -v ' d ' | sort; cat etc/passwd; ls -i var/lib | wc -l";
    let before = in_overlay(&scratch, &lower, "upper", view);
    let upper = Root::open_host(scratch.join("upper")).unwrap();
    let run = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let step = History { created_by: "sh".into(), ..History::default() };
    let image = store.commit(Some(&parent), &upper, run.clone(), step.clone(), 6).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.parent.as_ref(), Some(&parent.id));
    assert_eq!(store.children(&parent.id), [image.id.clone()]);
    assert_eq!(store.parents().into_iter().collect::<Vec<_>>(), std::slice::from_ref(&parent.id));
    let after = in_overlay(&scratch, &store.lower_dirs(&image).unwrap(), "upper2", view);
    assert_eq!(before, after);
    // The same tree makes the same layer, and nothing changed makes none.
    let again = store.commit(Some(&parent), &upper, run.clone(), step.clone(), 6).unwrap();
    assert_eq!(again.id, image.id);
    std::fs::create_dir(scratch.join("empty")).unwrap();
    let empty = Root::open_host(scratch.join("empty")).unwrap();
    let same = store.commit(Some(&parent), &empty, run, step, 6).unwrap();
    assert_eq!(same.layers, parent.layers);
    assert!(same.config.history[0].empty_layer);
    // The blob is a layer that any tool reads, with the digest that it is stored under.
    let blob = scratch.join("store/blobs/sha256").join(image.layers[1].blob.digest.hex());
    let list = common::run("tar", &["-tvzf", blob.to_str().unwrap()]);
    for line in ["etc/.wh.hosts", ".wh.gone", "opt/a/.wh..wh..opq", "var/lib/g link to var/lib/f"] {
        assert!(list.contains(line), "{line}: {list}");
    }
}

#[test]
fn a_tree_is_exported_as_it_is() {
    let scratch = Scratch::new("export");
    let tree = scratch.join("tree");
    let script = "mkdir -p \"$1/d/e\"; cd \"$1\"; echo x > d/f; ln d/f d/e/g; ln -s nowhere s; chmod 2750 d; touch .wh.kept; \
                  mkdir $(printf 'n%.0s' $(seq 130)); touch $(printf 'n%.0s' $(seq 130))/$(printf 'm%.0s' $(seq 130))";
    assert!(Command::new("sh").args(["-ec", script, "sh", tree.to_str().unwrap()]).status().unwrap().success());
    let mut archive = Vec::new();
    naru_store::pack_tree(Root::open_host(&tree).unwrap(), None, &mut archive).unwrap();
    std::fs::write(scratch.join("a.tar"), &archive).unwrap();
    let out = scratch.join("out");
    std::fs::create_dir(&out).unwrap();
    common::run("tar", &["-xpf", scratch.join("a.tar").to_str().unwrap(), "-C", out.to_str().unwrap()]);
    assert_eq!(describe(&out), describe(&tree));

    let mut one = Vec::new();
    let root = Root::open_host(tree.join("d")).unwrap();
    naru_store::pack_path(&root, "e".as_ref(), "renamed".as_ref(), &mut one).unwrap();
    std::fs::write(scratch.join("b.tar"), &one).unwrap();
    let list = common::run("tar", &["-tf", scratch.join("b.tar").to_str().unwrap()]);
    assert_eq!(list, "renamed/\nrenamed/g\n");
    assert!(Path::new(&tree).exists());
}
