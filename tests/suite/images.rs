//! Images without a registry: load and save, import and export, tag, history, commit, remove.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Tar, image, shared, unique};
use serde_json::{Value, json};

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

/// A small image of its own, made of busybox and one file.
fn own_image(stem: &str) -> Result<String> {
    let tag = format!("{}:latest", unique(stem));
    let layer = Tar::new().file("own", 0o644, tag.as_bytes()).finish();
    let config = json!({"Cmd": ["cat", "/own"], "Env": ["PATH=/bin", "FROM=image"], "Labels": {"kit": "yes"}});
    shared()?.load(&image::archive(&tag, &[image::busybox_rootfs()?, layer], &config))?;
    Ok(tag)
}

fn tar_list(archive: &Path) -> Result<Vec<String>> {
    let output = Command::new("tar").arg("-tf").arg(archive).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn load_run_and_list() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("load")?);
    assert_eq!(cli.ok(["run", "--rm", &tag])?, tag);
    let repository = tag.trim_end_matches(":latest");
    let listed = cli.ok(["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}", repository])?;
    let id = cli.inspect(&tag, "{{.Id}}")?;
    assert_eq!(listed, format!("{repository} latest {}", &id["sha256:".len()..][..12]));
    let all = cli.ok(["images"])?;
    let header: Vec<&str> = all.lines().next().unwrap_or_default().split_whitespace().collect();
    assert!(header.contains(&"IMAGE") || header.starts_with(&["REPOSITORY", "TAG", "IMAGE", "ID"]), "{all}");
    assert!(all.contains(repository), "{all}");
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn the_image_gives_the_defaults() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("defaults")?);
    assert!(cli.ok(["run", "--rm", &tag, "env"])?.lines().any(|line| line == "FROM=image"));
    assert!(cli.ok(["run", "--rm", "-e", "FROM=flag", &tag, "env"])?.lines().any(|line| line == "FROM=flag"));
    assert_eq!(cli.inspect(&tag, "{{json .Config.Cmd}} {{.Architecture}} {{.Os}}")?, r#"["cat","/own"] amd64 linux"#);
    assert_eq!(cli.inspect(&tag, "{{len .RootFS.Layers}} {{index .Config.Labels \"kit\"}}")?, "2 yes");
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn load_says_what_came() -> Result<()> {
    let (cli, tag) = (cli()?, format!("{}:v1", unique("said")));
    let archive = image::archive(&tag, &[Tar::new().file("x", 0o644, tag.as_bytes()).finish()], &json!({}));
    let done = cli.run_with_input(["load"], &archive)?;
    assert!(done.code == 0 && done.stdout.contains(&format!("Loaded image: {tag}")), "{done:?}");
    let file = shared()?.scratch("load")?.join("a.tar");
    fs::write(&file, &archive)?;
    let said = cli.ok(["load", "-q", "-i", &file.display().to_string()])?;
    assert!(said.contains(&format!("Loaded image: {tag}")), "{said}");
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn load_takes_compressed_archives() -> Result<()> {
    let cli = cli()?;
    for (program, ending) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz")] {
        let tag = format!("{}:v1", unique(ending));
        let archive = image::archive(&tag, &[Tar::new().file("x", 0o644, tag.as_bytes()).finish()], &json!({}));
        let file = shared()?.scratch(ending)?.join("a.tar");
        fs::write(&file, &archive)?;
        ensure!(Command::new(program).arg(&file).status()?.success());
        let packed = file.with_extension(format!("tar.{ending}")).display().to_string();
        cli.ok(["load", "-i", &packed])?;
        cli.ok(["rmi", &tag])?;
        // The same file as a root file system.
        cli.ok(["import", &packed, &tag])?;
        let id = cli.ok(["create", &tag, "nothing"])?;
        assert!(!cli.ok(["cp", &format!("{id}:/manifest.json"), "-"])?.is_empty());
        cli.ok(["rm", &id])?;
        cli.ok(["rmi", &tag])?;
    }
    Ok(())
}

#[test]
fn tag_and_untag() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("tag")?);
    let id = cli.inspect(&tag, "{{.Id}}")?;
    let other = format!("{}:other", unique("tagged"));
    cli.ok(["tag", &tag, &other])?;
    assert_eq!(cli.inspect(&other, "{{.Id}}")?, id);
    // By a short id too, and under a registry's name.
    let third = format!("localhost:5000/{}:3", unique("deep/path"));
    cli.ok(["tag", &id["sha256:".len()..][..12], &third])?;
    assert_eq!(cli.inspect(&third, "{{len .RepoTags}}")?, "3");
    // By id it can only go with force while it has several names.
    let said = cli.fails(1, ["rmi", &id])?;
    assert!(said.contains("image is referenced in multiple repositories"), "{said}");
    assert_eq!(cli.ok(["rmi", &other])?, format!("Untagged: {other}"));
    cli.fails(1, ["inspect", &other])?;
    cli.ok(["rmi", &third])?;
    let said = cli.ok(["rmi", &tag])?;
    assert!(said.contains(&format!("Untagged: {tag}")) && said.contains(&format!("Deleted: {id}")), "{said}");
    assert!(cli.fails(1, ["tag", "no-such-image", "x:y"])?.contains("No such image: no-such-image"));
    assert!(!cli.fails(1, ["tag", "busybox", "UPPER:case"])?.is_empty());
    Ok(())
}

#[test]
fn rmi_refuses_what_is_in_use() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("used")?);
    let name = unique("user");
    cli.ok(["create", "--name", &name, &tag])?;
    let said = cli.fails(1, ["rmi", &tag])?;
    assert!(
        said.contains("unable to remove repository reference") && said.contains("is using its referenced image"),
        "{said}"
    );
    // With force the name goes; the container can still be started.
    cli.ok(["rmi", "-f", &tag])?;
    assert_eq!(cli.ok(["start", "-a", &name])?, tag);
    cli.ok(["rm", &name])?;
    let said = cli.fails(1, ["rmi", "no-such-image"])?;
    assert!(said.contains("No such image: no-such-image"), "{said}");
    Ok(())
}

#[test]
fn rmi_refuses_a_running_containers_image_by_id() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("running")?);
    let (name, id) = (unique("runner"), cli.inspect(&tag, "{{.Id}}")?);
    cli.ok(["run", "-d", "--name", &name, &tag, "sleep", "1000"])?;
    let said = cli.fails(1, ["rmi", "-f", &id])?;
    assert!(said.contains("image is being used by running container"), "{said}");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn history() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("history")?);
    let said = cli.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", &tag])?;
    assert_eq!(said, "kit\nkit");
    let said = cli.ok(["history", &tag])?;
    assert!(said.starts_with("IMAGE") && said.lines().count() == 3, "{said}");
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn save_and_load_again() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("save")?);
    let file = shared()?.scratch("save")?.join("saved.tar");
    let id = cli.inspect(&tag, "{{.Id}}")?;
    cli.ok(["save", "-o", &file.display().to_string(), &tag])?;
    let names = tar_list(&file)?;
    assert!(names.iter().any(|name| name == "manifest.json"), "{names:?}");
    let manifest = Command::new("tar").arg("-xOf").arg(&file).arg("manifest.json").output()?.stdout;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    assert_eq!(manifest[0]["RepoTags"], json!([tag]));
    assert_eq!(manifest[0]["Layers"].as_array().map(Vec::len), Some(2));
    for layer in manifest[0]["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(names.iter().any(|name| name == layer), "{layer} is not in the archive");
    }
    cli.ok(["rmi", &tag])?;
    cli.ok(["load", "-i", &file.display().to_string()])?;
    assert_eq!(cli.inspect(&tag, "{{.Id}}")?, id);
    assert_eq!(cli.ok(["run", "--rm", &tag])?, tag);
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn save_takes_several() -> Result<()> {
    let (cli, one, two) = (cli()?, own_image("s1")?, own_image("s2")?);
    let file = shared()?.scratch("several")?.join("saved.tar");
    cli.ok(["save", "-o", &file.display().to_string(), &one, &two])?;
    cli.ok(["rmi", &one, &two])?;
    cli.ok(["load", "-i", &file.display().to_string()])?;
    assert_eq!((cli.ok(["run", "--rm", &one])?, cli.ok(["run", "--rm", &two])?), (one.clone(), two.clone()));
    cli.ok(["rmi", &one, &two])?;
    Ok(())
}

#[test]
fn skopeo_reads_what_was_saved() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("skopeo")?);
    let file = shared()?.scratch("skopeo")?.join("saved.tar");
    cli.ok(["save", "-o", &file.display().to_string(), &tag])?;
    let output =
        Command::new("skopeo").args(["inspect", "--config", &format!("docker-archive:{}", file.display())]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(config["config"]["Cmd"], json!(["cat", "/own"]));
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn import_and_export() -> Result<()> {
    let (cli, tag, name) = (cli()?, format!("{}:1", unique("imported")), unique("exported"));
    let rootfs = image::busybox_rootfs()?;
    let done = cli.run_with_input(
        ["import", "-c", "CMD [\"echo\",\"imported\"]", "-c", "ENV A=b", "-m", "by hand", "-", &tag],
        &rootfs,
    )?;
    assert!(done.code == 0 && done.stdout.contains("sha256:"), "{done:?}");
    assert_eq!(cli.ok(["run", "--name", &name, &tag])?, "imported");
    assert_eq!(cli.inspect(&tag, "{{json .Config.Env}} {{.Comment}}")?, r#"["A=b"] by hand"#);
    let file = shared()?.scratch("export")?.join("flat.tar");
    cli.ok(["export", "-o", &file.display().to_string(), &name])?;
    let names = tar_list(&file)?;
    for wanted in ["bin/busybox", "bin/sh", "etc/passwd", "home/alice/"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not in the export");
    }
    assert!(names.iter().all(|name| !name.starts_with("proc/") || name == "proc/"), "nothing of the kernel's");
    cli.ok(["rm", &name])?;
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn commit_keeps_files_and_settings() -> Result<()> {
    let (cli, name, tag) = (cli()?, unique("from"), format!("{}:v2", unique("committed")));
    cli.ok(["run", "--name", &name, "-e", "KEPT=yes", "busybox", "sh", "-c", "echo new >/new; rm /etc/group"])?;
    let changes = ["-c", "CMD [\"cat\",\"/new\"]", "-c", "LABEL x=y", "-a", "someone", "-m", "why"];
    let id = cli.ok([&["commit"], &changes[..], &[&name, &tag]].concat())?;
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(cli.ok(["run", "--rm", &tag])?, "new");
    assert_eq!(cli.ok(["run", "--rm", &tag, "sh", "-c", "ls /etc/group 2>/dev/null; echo $KEPT"])?, "yes");
    assert_eq!(cli.inspect(&tag, "{{.Author}}|{{.Comment}}|{{index .Config.Labels \"x\"}}")?, "someone|why|y");
    assert_eq!(cli.inspect(&tag, "{{len .RootFS.Layers}}")?, "2");
    let history = cli.ok(["history", "--format", "{{.Comment}}", &tag])?;
    assert!(history.lines().any(|line| line == "why"), "{history}");
    cli.ok(["rm", &name])?;
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn what_is_only_a_parent_is_listed_with_all() -> Result<()> {
    let (cli, base, name, child) = (cli()?, own_image("parent")?, unique("parent"), format!("{}:1", unique("child")));
    let parent = cli.inspect(&base, "{{.Id}}")?;
    cli.ok(["create", "--name", &name, &base])?;
    cli.ok(["commit", &name, &child])?;
    cli.ok(["rm", &name])?;
    cli.ok(["rmi", &base])?;
    assert!(!cli.ok(["images", "-q", "--no-trunc"])?.contains(&parent));
    assert!(cli.ok(["images", "-q", "--no-trunc", "-a"])?.contains(&parent));
    cli.ok(["rmi", &child])?;
    assert!(!cli.ok(["images", "-q", "--no-trunc", "-a"])?.contains(&parent));
    Ok(())
}

#[test]
fn commit_keeps_what_is_hard_to_keep() -> Result<()> {
    let (cli, base, tag) = (cli()?, format!("{}:1", unique("hardbase")), format!("{}:1", unique("hard")));
    // A lower layer with a folder that gets replaced, and one that only gets changed.
    let layer = Tar::new()
        .dir("replaced/", 0o755)
        .file("replaced/old", 0o644, b"old")
        .dir("changed/", 0o755)
        .file("changed/stays", 0o644, b"stays")
        .file("changed/goes", 0o644, b"goes")
        .finish();
    shared()?.load(&image::archive(&base, &[image::busybox_rootfs()?, layer], &json!({"Env": ["PATH=/bin"]})))?;
    let name = unique("hard");
    let script = "rm -r /replaced && mkdir /replaced && echo new >/replaced/new
        rm /changed/goes
        echo x >/one && ln /one /two && chown 1234:5678 /one && chmod 4751 /one
        mkdir -m 1777 /sticky && mkfifo /pipe && mknod /null c 1 3 && ln -s /nowhere /dangling
        touch -d '2001-02-03 04:05:06' /old-time";
    // No device node can be made in another user namespace.
    let done = cli.run(["run", "--name", &name, "--userns", "host", &base, "sh", "-ec", script])?;
    ensure!(done.code == 0, "{}", done.stderr);
    cli.ok(["commit", &name, &tag])?;
    let look = "ls /replaced /changed; stat -c '%a %u %g %h' /one; test /one -ef /two && echo same; stat -c %a /sticky
        test -p /pipe && echo pipe; stat -c %t:%T /null; readlink /dangling; date -r /old-time +%Y-%m-%d";
    let said = cli.ok(["run", "--rm", &tag, "sh", "-c", look])?;
    let wanted = "/changed:\nstays\n\n/replaced:\nnew\n4751 1234 5678 2\nsame\n1777\npipe\n1:3\n/nowhere\n2001-02-03";
    assert_eq!(said.replace("/replaced:\nnew\n\n/changed:\nstays", "/changed:\nstays\n\n/replaced:\nnew"), wanted);

    // The archive says it with whiteouts, for whoever loads it next.
    let file = shared()?.scratch("hard")?.join("saved.tar");
    cli.ok(["save", "-o", &file.display().to_string(), &tag])?;
    let folder = shared()?.scratch("hard-unpacked")?;
    ensure!(Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(&file).status()?.success());
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
    let top =
        manifest[0]["Layers"].as_array().and_then(|layers| layers.last()).and_then(Value::as_str).context("layers")?;
    let names = tar_list(&folder.join(top))?;
    assert!(names.iter().any(|name| name == "changed/.wh.goes"), "{names:?}");
    assert!(!names.iter().any(|name| name == "changed/stays"), "{names:?}");
    let hides_old = names.iter().any(|name| name == "replaced/.wh..wh..opq" || name == "replaced/.wh.old");
    assert!(hides_old && names.iter().any(|name| name == "replaced/new"), "{names:?}");
    cli.ok(["rm", &name])?;
    cli.ok(["rmi", &tag, &base])?;
    Ok(())
}

#[test]
fn xattrs_come_and_go_with_images() -> Result<()> {
    let (cli, tag) = (cli()?, format!("{}:1", unique("xattr")));
    let capability = "\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer =
        Tar::new().pax(&[("SCHILY.xattr.security.capability", capability)]).file("capped", 0o755, b"x").finish();
    shared()?.load(&image::archive(&tag, &[image::busybox_rootfs()?, layer], &json!({"Env": ["PATH=/bin"]})))?;
    let file = shared()?.scratch("xattr")?.join("saved.tar");
    cli.ok(["save", "-o", &file.display().to_string(), &tag])?;
    let folder = shared()?.scratch("xattr-unpacked")?;
    ensure!(Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(&file).status()?.success());
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
    let top =
        manifest[0]["Layers"].as_array().and_then(|layers| layers.last()).and_then(Value::as_str).context("layers")?;
    let bytes = fs::read(folder.join(top))?;
    let record = b"SCHILY.xattr.security.capability=\x01\0\0\x02";
    assert!(
        bytes.windows(record.len()).any(|window| window == record),
        "the saved layer has lost the file's capability"
    );
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn layers_hide_and_replace() -> Result<()> {
    let (cli, tag) = (cli()?, format!("{}:1", unique("layers")));
    let first = Tar::new()
        .dir("a/", 0o755)
        .file("a/gone", 0o644, b"1")
        .file("a/kept", 0o644, b"1")
        .dir("b/", 0o755)
        .file("b/old", 0o644, b"1")
        .file("file-then-folder", 0o644, b"1")
        .dir("folder-then-file/", 0o755)
        .file("folder-then-file/x", 0o644, b"1")
        .finish();
    let second = Tar::new()
        .file("a/.wh.gone", 0o644, b"")
        .dir("b/", 0o755)
        .file("b/.wh..wh..opq", 0o644, b"")
        .file("b/new", 0o644, b"2")
        .dir("file-then-folder/", 0o755)
        .file("file-then-folder/y", 0o644, b"2")
        .file("folder-then-file", 0o644, b"2")
        .finish();
    let layers = [image::busybox_rootfs()?, first, second];
    shared()?.load(&image::archive(&tag, &layers, &json!({"Env": ["PATH=/bin"]})))?;
    let said = cli.ok(["run", "--rm", &tag, "sh", "-c", "ls /a /b /file-then-folder; cat /folder-then-file"])?;
    assert_eq!(said, "/a:\nkept\n\n/b:\nnew\n\n/file-then-folder:\ny\n2");
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn a_hostile_layer_stays_inside() -> Result<()> {
    let engine = shared()?;
    let outside = engine.scratch("outside")?;
    let victim = outside.join("victim");
    fs::write(&victim, "untouched")?;
    let up = format!("../../../../../../../../../../../..{}", victim.display());
    let hostile = [
        Tar::new().file(&up, 0o644, b"broken out"),
        Tar::new().file(&victim.display().to_string(), 0o644, b"broken out"),
        Tar::new().symlink("link", &outside.display().to_string()).file("link/victim", 0o644, b"broken out"),
        Tar::new().symlink("l1", "/").symlink("l2", "l1").file(
            &format!("l2{}", victim.display()),
            0o644,
            b"broken out",
        ),
        Tar::new().symlink("h", &outside.display().to_string()).hardlink("stolen", "h/victim"),
        Tar::new().hardlink("stolen", &up),
    ];
    for (number, tar) in hostile.into_iter().enumerate() {
        let tag = format!("{}:{number}", unique("hostile"));
        // Refused or tamed, both are right.
        let archive = image::archive(&tag, &[image::busybox_rootfs()?, tar.finish()], &json!({"Env": ["PATH=/bin"]}));
        let loaded = engine.load(&archive).is_ok();
        assert_eq!(fs::read_to_string(&victim)?, "untouched", "layer {number}");
        if loaded {
            let said = engine.cli().run(["run", "--rm", &tag, "sh", "-c", "cat /stolen 2>/dev/null"])?;
            assert!(!said.stdout.contains("untouched"), "layer {number} shows a file of the host's");
            engine.cli().ok(["rmi", &tag])?;
        }
    }
    Ok(())
}

#[test]
fn an_archive_that_lies_is_refused() -> Result<()> {
    let (engine, tag) = (shared()?, format!("{}:1", unique("liar")));
    let honest = image::archive(&tag, &[Tar::new().file("x", 0o644, b"1").finish()], &json!({}));
    // The layer's content is not what the configuration's diff id says.
    let mut lie = honest.clone();
    let at = lie.windows(2).position(|pair| pair == b"x\0").context("the layer's entry")?;
    lie[at] = b'y';
    assert!(engine.load(&lie).is_err(), "a layer that does not match its digest was taken");
    assert!(engine.load(&honest[..honest.len() / 2]).is_err(), "half an archive was taken");
    assert!(engine.load(b"this is no archive at all").is_err());
    assert!(engine.cli().run(["inspect", &tag])?.code != 0);
    Ok(())
}

#[test]
fn inspect_of_the_unknown() -> Result<()> {
    let cli = cli()?;
    let done = cli.run(["inspect", "no-such-thing"])?;
    assert_eq!((done.code, done.stdout.as_str()), (1, "[]\n"));
    assert!(
        done.stderr.contains("No such object: no-such-thing") || done.stderr.contains("no such object: no-such-thing"),
        "{}",
        done.stderr
    );
    Ok(())
}

#[test]
fn dangling_ones_are_filtered_and_pruned() -> Result<()> {
    let (cli, tag) = (cli()?, own_image("dangle")?);
    let first = cli.inspect(&tag, "{{.Id}}")?;
    // Another image takes the name.
    let archive =
        image::archive(&tag, &[Tar::new().file("z", 0o644, b"z").finish()], &json!({"Labels": {"kit": "yes"}}));
    shared()?.load(&archive)?;
    let dangling = cli.ok(["images", "-q", "--no-trunc", "--filter", "dangling=true"])?;
    assert!(dangling.contains(&first), "{dangling}");
    let said = cli.ok(["image", "prune", "-f", "--filter", "label=kit=yes"])?;
    assert!(said.contains(&format!("deleted: {first}").replace("deleted", "eleted")), "{said}");
    assert!(!cli.ok(["images", "-q", "--no-trunc", "-a"])?.contains(&first));
    cli.ok(["rmi", &tag])?;
    Ok(())
}
