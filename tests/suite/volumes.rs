//! Volumes: their life, what fills them, what they can be made of, who keeps them.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, Tar, eventually, shared, unique};
use naru_tests::only_naru;
use serde_json::{Value, json};

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

/// Loads an image that has `/data` with files of several kinds and owners, `/file`, and the volume `/vol`.
fn image(engine: &Engine) -> Result<String> {
    let tag = format!("{}:1", unique("volimg"));
    let layer = Tar::new()
        .dir_of("data", 0o2751, (7, 8))
        .file_of("data/a", 0o640, (1001, 1002), b"from the image")
        .pax(&[("SCHILY.xattr.user.mark", "kept")])
        .file("data/x", 0o644, b"x")
        .dir("data/sub", 0o700)
        .file("data/sub/b", 0o4755, b"b")
        .symlink("data/l", "sub/b")
        .hardlink("data/h", "data/x")
        .file("file", 0o644, b"no folder")
        .dir("vol", 0o755)
        .file("vol/v", 0o644, b"v");
    let layers = [naru_testkit::image::busybox_rootfs()?, layer.finish()];
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": {"/vol": {}}});
    engine.load(&naru_testkit::image::archive(&tag, &layers, &config))?;
    Ok(tag)
}

#[test]
fn a_life_with_filters() -> Result<()> {
    let (cli, stem) = (cli()?, unique("life"));
    let [one, two] = ["one", "two"].map(|n| format!("{stem}-{n}"));
    assert_eq!(cli.ok(["volume", "create", "--label", "color=red", "--label", &stem, &one])?, one);
    cli.ok(["volume", "create", "--label", &stem, &two])?;
    // Again: the one that is there.
    assert_eq!(cli.ok(["volume", "create", &one])?, one);
    let anonymous = cli.ok(["volume", "create"])?;
    assert_eq!(anonymous.len(), 64);
    let shown: Value = serde_json::from_str(&cli.ok(["volume", "inspect", &one])?)?;
    assert_eq!(shown[0]["Labels"]["color"], "red");
    assert_eq!((&shown[0]["Driver"], &shown[0]["Scope"]), (&json!("local"), &json!("local")));
    assert!(shown[0]["Mountpoint"].as_str().is_some_and(|m| m.ends_with(&format!("{one}/_data"))), "{shown}");
    let list = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["volume", "ls", "-q", "--filter", ""];
        let own = format!("label={stem}");
        args[4] = &own;
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        Ok(cli.ok(args)?.lines().map(ToOwned::to_owned).collect())
    };
    assert_eq!(list(&[])?, [one.clone(), two.clone()]);
    assert_eq!(list(&["label=color=red"])?, [one.clone()]);
    assert_eq!(list(&[&format!("name={two}")])?, [two.clone()]);
    assert_eq!(list(&["dangling=true"])?.len(), 2);
    // A name is an expression; several of one kind of filter are alternatives, several kinds all count.
    assert_eq!(list(&[&format!("name=^{stem}-[nt][wx]o$")])?, [two.clone()]);
    assert_eq!(list(&[&format!("name={one}"), &format!("name={two}")])?.len(), 2);
    assert_eq!(list(&["driver=local", &format!("name={one}")])?, [one.clone()]);
    assert!(list(&["driver=loc"])?.is_empty() && list(&["label=color=blue"])?.is_empty());
    for (bad, why) in [("dangling=nope", "'dangling=[nope]'"), ("nope=1", "'nope'"), ("label!=color", "'label!'")] {
        let said = cli.fails(1, ["volume", "ls", "--filter", bad])?;
        assert!(said.to_lowercase().contains(&format!("invalid filter {why}")), "{bad}: {said}");
    }
    let user = unique("user");
    cli.ok(["create", "--name", &user, "-v", &format!("{one}:/v"), "busybox", "true"])?;
    assert_eq!(list(&["dangling=true"])?, [two.clone()]);
    assert_eq!(list(&["dangling=false"])?, [one.clone()]);
    let said = cli.fails(1, ["volume", "rm", &one])?;
    let id = cli.inspect(&user, "{{.Id}}")?;
    assert!(said.contains(&format!("remove {one}: volume is in use - [{id}]")), "{said}");
    assert!(cli.fails(1, ["volume", "rm", "-f", &one])?.contains("volume is in use"));
    cli.ok(["rm", "-v", &user])?;
    // A named one outlives its container.
    cli.ok(["volume", "rm", &one, &two, &anonymous])?;
    assert!(list(&[])?.is_empty());
    assert!(cli.fails(1, ["volume", "rm", &one])?.contains(&format!("get {one}: no such volume")));
    cli.ok(["volume", "rm", "-f", &one])?;
    for (bad, why) in
        [("a/b", "includes invalid characters"), ("x", "too short"), ("-x", "includes invalid characters")]
    {
        let said = cli.fails(1, ["volume", "create", "--", bad])?;
        assert!(said.contains(why), "{bad}: {said}");
    }
    let said = cli.fails(1, ["volume", "create", "-d", "nope", &one])?;
    assert!(
        said.contains(&format!("create {one}: error looking up volume plugin nope: plugin \"nope\" not found")),
        "{said}"
    );
    assert!(cli.fails(1, ["volume", "inspect", &one])?.contains("no such volume"));
    Ok(())
}

#[test]
fn what_only_a_swarm_has() -> Result<()> {
    if only_naru("dockerd 20.10 knows no volumes of clusters") {
        return Ok(());
    }
    let (engine, name) = (shared()?, unique("cluster"));
    for cli in [engine.docker(), engine.naru()] {
        if cli.is_naru() || cli.ok(["version", "--format", "{{.Client.APIVersion}}"])?.as_str() >= "1.42" {
            let said = cli.fails(1, ["volume", "create", "--scope", "multi", &name])?;
            assert!(said.contains("This node is not a swarm manager."), "{said}");
            assert!(cli.fails(1, ["volume", "inspect", &name])?.contains("no such volume"));
            cli.ok(["volume", "create", &name])?;
            let said = cli.fails(1, ["volume", "update", "--availability", "drain", &name])?;
            assert!(said.contains("can only update cluster volumes"), "{said}");
            cli.ok(["volume", "rm", &name])?;
        }
    }
    let answer = engine.http().request("PUT", "/v1.44/volumes/any?version=1", &[], b"{}")?;
    assert_eq!(answer.status, 503);
    Ok(())
}

#[test]
fn prune_takes_what_nobody_has() -> Result<()> {
    // Of its own: it would take other tests' volumes.
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let script =
        "dd if=/dev/zero of=/v/f bs=1000 count=7 2>/dev/null; dd if=/dev/zero of=/n/f bs=1000 count=5 2>/dev/null";
    cli.ok(["run", "--name", "keeps", "-v", "/v", "-v", "named:/n", "busybox", "sh", "-c", script])?;
    cli.ok(["run", "--name", "leaves", "-v", "/v", "-v", "left:/n", "busybox", "sh", "-c", script])?;
    cli.ok(["rm", "leaves"])?;
    cli.ok(["volume", "create", "--label", "keep=me", "labelled"])?;
    let reclaimed = |said: &str| said.lines().last().unwrap_or_default().to_owned();
    if !only_naru("before 1.42 named ones were pruned, too") {
        let said = cli.ok(["volume", "prune", "-f"])?;
        assert_eq!(reclaimed(&said), "Total reclaimed space: 7kB", "{said}");
        let said = cli.ok(["volume", "prune", "-f", "--all", "--filter", "label!=keep=me"])?;
        assert!(said.contains("left") && !said.contains("labelled"), "{said}");
        assert_eq!(reclaimed(&said), "Total reclaimed space: 5kB", "{said}");
        let said = cli.ok(["volume", "prune", "-f", "--all", "--filter", "label=keep=me"])?;
        assert!(said.contains("labelled"), "{said}");
        assert!(cli.fails(1, ["volume", "prune", "-f", "--filter", "until=1h"])?.contains("until"));
    }
    assert_eq!(cli.ok(["volume", "ls", "-q", "--filter", "name=named"])?, "named");
    assert_eq!(cli.ok(["run", "--rm", "--volumes-from", "keeps", "busybox", "wc", "-c", "/v/f"])?, "7000 /v/f");
    engine.finish()
}

#[test]
fn the_images_files_fill_an_empty_one() -> Result<()> {
    let engine = shared()?;
    let (cli, tag) = (engine.cli(), image(engine)?);
    let volume = unique("fill");
    let run = |mount: &str, script: &str| cli.ok(["run", "--rm", "-v", mount, &tag, "sh", "-c", script]);
    let script = "cat /data/a /data/l; stat -c '%n %u %g %a %h' /data /data/a /data/h /data/sub /data/sub/b; readlink /data/l; \
                  stat -c %Y /data/a";
    let said = run(&format!("{volume}:/data"), script)?;
    let want = "from the imageb/data 7 8 2751 3\n/data/a 1001 1002 640 1\n/data/h 0 0 644 2\n/data/sub 0 0 700 2\n/data/sub/b 0 0 4755 1\nsub/b\n1700000000";
    assert_eq!(said, want);
    let data = cli.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", &volume])?;
    let mut command = engine.world().command("getfattr");
    let shown = command.args(["--only-values", "-n", "user.mark", &format!("{data}/x")]).output();
    if let Ok(shown) = shown.as_ref().map_err(ToString::to_string)
        && shown.status.success()
    {
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "kept");
    }
    // A volume that has something is left as it is; so is one that says so.
    run(&format!("{volume}:/data"), "rm -r /data/*; echo mine >/data/own")?;
    assert_eq!(run(&format!("{volume}:/data"), "ls /data")?, "own");
    let bare = unique("nocopy");
    assert_eq!(run(&format!("{bare}:/data:nocopy"), "ls /data")?, "");
    let other = unique("nocopy");
    let mount = format!("type=volume,source={other},target=/data,volume-nocopy");
    assert_eq!(cli.ok(["run", "--rm", "--mount", &mount, &tag, "ls", "/data"])?, "");
    // A bind shows what it has.
    let folder = engine.scratch("fill")?;
    assert_eq!(run(&format!("{}:/data", folder.display()), "ls /data")?, "");
    let said = cli.fails(125, ["run", "--rm", "-v", "/file", &tag, "true"])?;
    assert!(said.contains("cannot mount volume over existing file"), "{said}");
    cli.ok(["volume", "rm", &volume, &bare, &other])?;
    Ok(())
}

#[test]
fn an_anonymous_one_dies_with_its_container() -> Result<()> {
    let engine = shared()?;
    let (cli, tag) = (engine.cli(), image(engine)?);
    let gone = |volume: &str| {
        eventually("the volume to be removed", || {
            let left = cli.ok(["volume", "ls", "-q"])?;
            ensure!(!left.contains(volume), "it is there");
            Ok(())
        })
    };
    let of = |name: &str| cli.inspect(name, "{{range .Mounts}}{{if eq .Destination \"/vol\"}}{{.Name}}{{end}}{{end}}");
    // The image's own volume path: filled, and its own for each container.
    let (one, two) = (unique("anon"), unique("anon"));
    cli.ok(["run", "-d", "--rm", "--name", &one, &tag, "sleep", "1000"])?;
    assert_eq!(cli.ok(["exec", &one, "cat", "/vol/v"])?, "v");
    cli.ok(["create", "--name", &two, &tag, "true"])?;
    let (first, second) = (of(&one)?, of(&two)?);
    assert!(first.len() == 64 && first != second, "{first} {second}");
    cli.ok(["kill", &one])?;
    gone(&first)?;
    cli.ok(["rm", &two])?;
    assert!(cli.ok(["volume", "ls", "-q"])?.contains(&second));
    cli.ok(["volume", "rm", &second])?;
    cli.ok(["create", "--name", &two, &tag, "true"])?;
    let third = of(&two)?;
    // It has gone when the removal is answered.
    assert_eq!(engine.http().request("DELETE", &format!("/containers/{two}?v=1"), &[], b"")?.status, 204);
    assert!(!engine.http().get("/volumes")?.text().contains(&third));
    Ok(())
}

#[test]
fn mounts_with_their_options() -> Result<()> {
    let engine = shared()?;
    let (cli, tag) = (engine.cli(), image(engine)?);
    let folder = engine.scratch("options")?;
    fs::create_dir_all(folder.join("in/deep"))?;
    fs::write(folder.join("in/f"), "host")?;
    let host = folder.display().to_string();
    let run =
        |flags: &[&str], script: &str| cli.run([&["run", "--rm"][..], flags, &[&tag, "sh", "-c", script]].concat());
    let ok = |flags: &[&str], script: &str| -> Result<String> {
        let done = run(flags, script)?;
        ensure!(done.code == 0, "{flags:?} {script}: {}", done.stderr);
        Ok(done.stdout.trim_end().to_owned())
    };
    let source = format!("type=bind,source={host}/in,target=/b");
    assert_eq!(ok(&["--mount", &source], "cat /b/f; touch /b/new")?, "host");
    assert!(folder.join("in/new").exists());
    assert!(run(&["--mount", &format!("{source},readonly")], "touch /b/x")?.stderr.contains("Read-only file system"));
    assert!(run(&["-v", &format!("{host}/in:/b:ro")], "touch /b/x")?.stderr.contains("Read-only file system"));
    for mode in ["z", "Z", "rw", "rprivate", "ro,z"] {
        assert_eq!(ok(&["-v", &format!("{host}/in:/b:{mode}")], "cat /b/f")?, "host", "{mode}");
    }
    // `-v` makes what is missing, `--mount` does not.
    ok(&["-v", &format!("{host}/made/deep:/b")], "touch /b/f")?;
    assert!(folder.join("made/deep/f").exists());
    let done = run(&["--mount", &format!("type=bind,source={host}/nope,target=/b")], "true")?;
    ensure!(done.code == 125 && done.stderr.contains("bind source path does not exist"), "{}", done.stderr);
    assert!(!folder.join("nope").exists());
    // Memory.
    let shown = ok(
        &["--mount", "type=tmpfs,target=/m,tmpfs-size=1m,tmpfs-mode=1770"],
        "stat -c %a /m; grep ' /m ' /proc/mounts",
    )?;
    assert!(shown.starts_with("1770\n") && shown.contains("size=1024k"), "{shown}");
    let shown = ok(&["--tmpfs", "/m:size=2m,exec"], "grep ' /m ' /proc/mounts")?;
    assert!(shown.contains("size=2048k") && !shown.contains("noexec"), "{shown}");
    for (flags, why) in [
        (["-v", "/only-one-colon:"], "empty section between colons"),
        (["-v", "v1:/x:nope"], "invalid mode: nope"),
        (["--mount", "type=volume,source=v1"], "target is required"),
        (["--mount", "type=nope,target=/x"], "mount type unknown"),
    ] {
        let done = run(&flags, "true")?;
        ensure!(done.code == 125 && done.stderr.contains(why), "{flags:?}: {} {}", done.code, done.stderr);
    }
    let done = run(&["-v", "v1:/x", "--mount", "type=tmpfs,target=/x"], "true")?;
    ensure!(done.code == 125 && done.stderr.contains("Duplicate mount point"), "{}", done.stderr);
    Ok(())
}

#[test]
fn read_only_reaches_what_is_mounted_below() -> Result<()> {
    if only_naru("dockerd 20.10 has no recursive read-only") {
        return Ok(());
    }
    let engine = shared()?;
    let cli = engine.cli();
    let folder = engine.scratch("recursive")?;
    fs::create_dir_all(folder.join("sub"))?;
    let below = folder.join("sub");
    let status = engine.world().command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below).status()?;
    ensure!(status.success(), "mount a tmpfs in the world");
    let writes = |options: &str| -> Result<bool> {
        let mount = format!("type=bind,source={},target=/b,readonly{options}", folder.display());
        let done = cli.run(["run", "--rm", "--mount", &mount, "busybox", "touch", "/b/sub/x"])?;
        ensure!(done.code == 0 || done.stderr.contains("Read-only"), "{options}: {} {}", done.code, done.stderr);
        Ok(done.code == 0)
    };
    let found = (|| -> Result<[bool; 4]> {
        Ok([
            writes("")?,
            writes(",bind-recursive=writable")?,
            writes(",bind-recursive=readonly,bind-propagation=rprivate")?,
            // Not recursive: what is below is not there, and the folder beneath it is read-only.
            writes(",bind-recursive=disabled")?,
        ])
    })();
    let status = engine.world().command("umount").arg(&below).status()?;
    ensure!(status.success(), "unmount it");
    assert_eq!(found?, [false, true, false, false]);
    Ok(())
}

#[test]
fn cve_2024_1753_9407_and_9675_folders_of_volumes_and_images() -> Result<()> {
    if only_naru("dockerd 20.10 has neither") {
        return Ok(());
    }
    let engine = shared()?;
    let (cli, tag) = (engine.cli(), image(engine)?);
    let volume = unique("sub");
    let script =
        "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s b /v/a/in; ln -s /etc /v/out; ln -s ../../../../etc /v/a/up";
    cli.ok(["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "sh", "-c", script])?;
    let mount = |subpath: &str| format!("type=volume,source={volume},target=/s,volume-subpath={subpath}");
    for subpath in ["a/b", "a/in"] {
        assert_eq!(cli.ok(["run", "--rm", "--mount", &mount(subpath), "busybox", "cat", "/s/f"])?, "deep");
    }
    for subpath in ["none", "out", "a/up", "../x", "/a"] {
        let done = cli.run(["run", "--rm", "--mount", &mount(subpath), "busybox", "ls", "/s"])?;
        // docker's client takes some words of the engine's for a program that is missing.
        ensure!(done.code >= 125, "{subpath}: {} {}", done.code, done.stdout);
    }
    // A link that comes after the check leads nowhere, either.
    let name = unique("sub");
    cli.ok(["create", "--name", &name, "--mount", &mount("a/b"), "busybox", "ls", "/s"])?;
    let swap = "rm -r /v/a/b; ln -s ../../../../../../../etc /v/a/b";
    cli.ok(["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "sh", "-c", swap])?;
    ensure!(cli.run(["start", "-a", &name])?.code != 0, "a link led out of the volume");
    cli.ok(["rm", &name])?;
    cli.ok(["volume", "rm", &volume])?;
    // Images, whole and in part; nobody writes to them.
    let part = |options: &str| format!("type=image,source={tag},target=/i{options}");
    assert_eq!(cli.ok(["run", "--rm", "--mount", &part(""), "busybox", "cat", "/i/data/a"])?, "from the image");
    assert_eq!(cli.ok(["run", "--rm", "--mount", &part(",image-subpath=data/sub"), "busybox", "cat", "/i/b"])?, "b");
    let done = cli.run(["run", "--rm", "--mount", &part(""), "busybox", "touch", "/i/x"])?;
    ensure!(done.stderr.contains("Read-only"), "{}", done.stderr);
    for subpath in ["none", "file", "data/l"] {
        let options = format!(",image-subpath={subpath}");
        ensure!(cli.run(["run", "--rm", "--mount", &part(&options), "busybox", "true"])?.code == 125, "{subpath}");
    }
    Ok(())
}

#[test]
fn mounts_propagate_as_asked_for() -> Result<()> {
    let engine = shared()?;
    let (cli, folder) = (engine.cli(), engine.scratch("propagation")?);
    let host = |script: &str| -> Result<()> {
        let at = folder.display();
        let status = engine.world().command("sh").args(["-ec", &format!("cd {at}; {script}")]).status()?;
        ensure!(status.success(), "{script}: {status}");
        Ok(())
    };
    host(
        "mkdir shared private; mount -t tmpfs none shared; mount --make-rshared shared; mkdir shared/sub; \
          mount -t tmpfs none private; mount --make-rprivate private",
    )?;
    let names = ["rslave", "rshared", "rprivate"].map(|mode| (mode, unique(mode)));
    let found = (|| -> Result<Vec<bool>> {
        for (mode, name) in &names {
            let bind = format!("{}/shared:/b:{mode}", folder.display());
            cli.ok(["run", "-d", "--name", name, "-v", &bind, "busybox", "sleep", "1000"])?;
        }
        host("mount -t tmpfs none shared/sub; touch shared/sub/later")?;
        for (mode, wanted) in [("rslave", "shared or slave"), ("slave", "shared or slave"), ("rshared", "shared")] {
            let bind = format!("{}/private:/b:{mode}", folder.display());
            let done = cli.run(["run", "--rm", "-v", &bind, "busybox", "true"])?;
            let path = folder.join("private");
            let why = format!("path {0} is mounted on {0} but it is not a {wanted} mount", path.display());
            ensure!(done.code >= 125 && done.stderr.contains(&why), "{mode}: {} {}", done.code, done.stderr);
        }
        names.iter().map(|(_, name)| Ok(cli.run(["exec", name, "test", "-e", "/b/sub/later"])?.code == 0)).collect()
    })();
    for (_, name) in &names {
        cli.run(["rm", "-f", name])?;
    }
    host("umount -l shared/sub || true; umount -l shared private")?;
    assert_eq!(found?, [true, true, false]);
    Ok(())
}

#[test]
fn inspect_tells_of_every_mount() -> Result<()> {
    let engine = shared()?;
    let (cli, volume, name) = (engine.cli(), unique("told"), unique("told"));
    let host = engine.scratch("told")?.display().to_string();
    let (plain, with) = (format!("{host}:/plain"), format!("{host}:/with:ro,z,private"));
    let (named, read) = (format!("{volume}:/named"), format!("{volume}:/read:ro"));
    let long = format!("type=bind,source={host},target=/long,readonly,bind-propagation=private");
    let short = ["create", "--name", &name, "-v", &plain, "-v", &with, "-v", &named, "-v", &read, "-v", "/anon"];
    let more = ["--mount", &long, "--mount", "type=volume,target=/anon-long", "--mount", "type=tmpfs,target=/memory"];
    cli.ok(short.iter().chain(&more).chain(&["--tmpfs", "/unlisted:size=1m", "busybox", "true"]))?;
    let format =
        "{{range .Mounts}}{{.Destination}} {{.Type}} {{.Mode}}|{{.RW}}|{{.Propagation}}|{{.Driver}}{{println}}{{end}}";
    let mut shown: Vec<String> =
        cli.inspect(&name, format)?.lines().filter(|l| !l.is_empty()).map(ToOwned::to_owned).collect();
    shown.sort();
    let want = [
        "/anon volume |true||local",
        "/anon-long volume z|true||local",
        "/long bind |false|private|",
        "/memory tmpfs |true||",
        "/named volume z|true||local",
        "/plain bind |true|rprivate|",
        "/read volume ro|false||local",
        "/with bind ro,z,private|false|private|",
    ];
    assert_eq!(shown, want);
    assert_eq!(cli.inspect(&name, "{{json .HostConfig.Tmpfs}}")?, "{\"/unlisted\":\"size=1m\"}");
    cli.ok(["rm", "-v", &name])?;
    cli.ok(["volume", "rm", &volume])?;
    Ok(())
}

#[test]
fn another_containers_volumes() -> Result<()> {
    let cli = cli()?;
    let folder = shared()?.scratch("from")?;
    let (donor, volume) = (unique("donor"), unique("from"));
    let (named, bind) = (format!("{volume}:/n"), format!("{}:/b", folder.display()));
    let args = ["run", "-d", "--name", &donor, "-v", &named, "-v", &bind, "-v", "/anon", "busybox", "sleep", "1000"];
    cli.ok(args)?;
    cli.ok(["exec", &donor, "sh", "-c", "echo n >/n/f; echo b >/b/f; echo a >/anon/f"])?;
    let taken = ["run", "--rm", "--volumes-from", &donor, "busybox", "sh", "-c", "cat /n/f /b/f /anon/f; touch /n/new"];
    assert_eq!(cli.ok(taken)?, "n\nb\na");
    // The donor's anonymous volume outlives a borrower that is removed with its own.
    assert_eq!(cli.ok(["exec", &donor, "cat", "/anon/f"])?, "a");
    let done = cli.run(["run", "--rm", "--volumes-from", &format!("{donor}:ro"), "busybox", "touch", "/anon/x"])?;
    ensure!(done.stderr.contains("Read-only"), "{}", done.stderr);
    // The borrower's own mounts come first.
    let own = unique("own");
    let shown = cli.ok(["run", "--rm", "--volumes-from", &donor, "-v", &format!("{own}:/n"), "busybox", "ls", "/n"])?;
    assert_eq!(shown, "");
    for (given, why) in [(format!("{donor}:nope"), "invalid mode"), ("no-such".into(), "No such container")] {
        let done = cli.run(["run", "--rm", "--volumes-from", &given, "busybox", "true"])?;
        ensure!(done.code == 125 && done.stderr.contains(why), "{given}: {}", done.stderr);
    }
    cli.ok(["rm", "-f", "-v", &donor])?;
    cli.ok(["volume", "rm", &volume, &own])?;
    Ok(())
}

#[test]
fn volumes_made_of_mounts() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let folder = engine.scratch("elsewhere")?;
    fs::write(folder.join("f"), "elsewhere")?;
    let device = format!("device={}", folder.display());
    cli.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"])?;
    cli.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=1000", "memory"])?;
    let mounted = |name: &str| -> Result<bool> {
        let ends = format!("/volumes/{name}/_data tmpfs");
        let bound = format!("/volumes/{name}/_data ");
        Ok(engine.world().new_mounts()?.iter().any(|m| m.contains(&ends) || m.contains(&bound)))
    };
    assert_eq!(cli.ok(["run", "--rm", "-v", "bound:/v", "busybox", "cat", "/v/f"])?, "elsewhere");
    eventually("it to be unmounted", || {
        ensure!(!mounted("bound")?, "it is mounted");
        Ok(())
    })?;
    // Two containers share one memory file system, which is gone with the last.
    cli.ok(["run", "-d", "--name", "m1", "-v", "memory:/m", "busybox", "sleep", "1000"])?;
    cli.ok(["exec", "m1", "sh", "-c", "echo shared >/m/f"])?;
    let shown = cli.ok(["run", "--rm", "-v", "memory:/m", "busybox", "sh", "-c", "cat /m/f; stat -c %u /m"])?;
    assert_eq!(shown, "shared\n1000");
    assert!(mounted("memory")?);
    assert!(cli.fails(1, ["volume", "rm", "memory"])?.contains("volume is in use"));
    if engine.target() == naru_testkit::Target::Naru {
        // An engine that was killed finds what is in use, and what no longer is.
        cli.ok(["run", "-d", "--name", "b1", "-v", "bound:/v", "busybox", "sleep", "1000"])?;
        let pid = cli.inspect("b1", "{{.State.Pid}}")?;
        engine.kill()?;
        engine.world().command("kill").args(["-9", &pid]).status()?;
        engine.launch()?;
        eventually("the unused one to be unmounted", || {
            ensure!(!mounted("bound")?, "it is mounted");
            Ok(())
        })?;
        assert_eq!(cli.ok(["run", "--rm", "-v", "memory:/m", "busybox", "cat", "/m/f"])?, "shared");
    }
    // Files go in and out of it, also while nobody runs.
    cli.ok(["create", "--name", "stopped", "-v", "bound:/v", "busybox", "true"])?;
    cli.ok(["cp", "stopped:/v/f", &folder.join("copied").display().to_string()])?;
    assert_eq!(fs::read_to_string(folder.join("copied"))?, "elsewhere");
    cli.ok(["rm", "-f", "m1", "stopped"])?;
    eventually("all to be unmounted", || {
        ensure!(!mounted("memory")? && !mounted("bound")?, "there is a mount");
        Ok(())
    })?;
    for (options, why) in [
        (&["-o", "nope=1"][..], "invalid option: \"nope\""),
        (&["-o", "type=tmpfs"], "missing required option: \"device\""),
        (&["-o", "device=/x"], "missing required option: \"type\""),
        (&["-o", "size=1m"], "quota size requested but no quota support"),
        (&["-o", "size=much"], "invalid size: 'much'"),
    ] {
        let said = cli.fails(1, [&["volume", "create"][..], options].concat())?;
        assert!(said.contains(why), "{options:?}: {said}");
    }
    let bad = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such", "bad"];
    cli.ok(bad)?;
    let done = cli.run(["run", "--rm", "-v", "bad:/v", "busybox", "true"])?;
    ensure!(done.code >= 125 && done.stderr.contains("failed to mount local volume"), "{}", done.stderr);
    // A server's name is looked up; what the kernel then says is another matter, with an option that no file system has.
    let server =
        ["volume", "create", "-o", "type=nfs", "-o", "device=:/x", "-o", "o=addr=localhost,none=such", "served"];
    cli.ok(server)?;
    let done = cli.run(["run", "--rm", "-v", "served:/v", "busybox", "true"])?;
    ensure!(done.code >= 125 && done.stderr.contains("addr=127.0.0.1,none=such: "), "{}", done.stderr);
    for left in cli.ok(["ps", "-aq"])?.lines() {
        cli.ok(["rm", "-f", left])?;
    }
    cli.ok(["volume", "rm", "bad", "bound", "memory", "served"])?;
    // A container that can't be made leaves no volume.
    let before = cli.ok(["volume", "ls", "-q"])?;
    let said = cli.fails(125, ["run", "--rm", "-v", "/anon", "-v", "/bin/busybox", "busybox", "true"])?;
    assert!(said.contains("cannot mount volume over existing file"), "{said}");
    assert_eq!(cli.ok(["volume", "ls", "-q"])?, before);
    // What was mounted is not what was removed.
    assert_eq!(fs::read_to_string(folder.join("f"))?, "elsewhere");
    engine.finish()
}

#[test]
fn removal_stays_inside() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    let folder = engine.scratch("rm")?;
    fs::write(folder.join("kept"), "kept")?;
    let volume = unique("rm");
    cli.ok(["volume", "create", &volume])?;
    let data = cli.ok(["volume", "inspect", "--format", "{{.Mountpoint}}", &volume])?;
    symlink(&folder, std::path::Path::new(&data).join("link"))?;
    cli.ok(["volume", "rm", &volume])?;
    assert_eq!(fs::read_to_string(folder.join("kept"))?, "kept");
    assert!(fs::metadata(&data).is_err());
    assert_eq!(fs::metadata(&folder)?.uid(), 0);
    Ok(())
}

#[test]
fn events_tell_who_has_a_volume() -> Result<()> {
    let cli = cli()?;
    let (volume, name) = (unique("events"), unique("events"));
    cli.ok(["volume", "create", &volume])?;
    let mount = format!("{volume}:/v:ro");
    let id = cli.ok(["create", "--name", &name, "-v", &mount, "busybox", "true"])?;
    cli.ok(["start", "-a", &name])?;
    cli.ok(["rm", &name])?;
    cli.ok(["volume", "rm", &volume])?;
    let filter = format!("volume={volume}");
    let format = "{{.Action}} {{index .Actor.Attributes \"container\"}} {{index .Actor.Attributes \"destination\"}}";
    eventually("the volume's events", || {
        // `until` a moment ago: what has happened, and no waiting for more.
        let said = cli.ok([
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--filter",
            "type=volume",
            "--filter",
            &filter,
            "--format",
            format,
        ])?;
        let mut said: Vec<&str> = said.lines().map(str::trim_end).collect();
        // dockerd tells of it again when a container takes it.
        said.dedup();
        let want = ["create", &format!("mount {id} /v"), &format!("unmount {id}"), "destroy"].map(ToOwned::to_owned);
        ensure!(said == want, "{said:?}");
        Ok(())
    })
}
