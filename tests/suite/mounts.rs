//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`, word by word: what each option does, and what is said of those that are none.

use std::fs;

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, Tar, image, shared, unique};
use naru_tests::only_naru;
use serde_json::json;

/// Docker's client and ours: both have to know the same words.
fn clients(engine: &Engine) -> [Client; 2] {
    [engine.docker(), engine.naru()]
}

/// That `run FLAGS busybox true` is refused with each of `why`, and makes no volume.
fn refused(cli: &Client, flags: &[&str], why: &[&str]) -> Result<()> {
    let done = cli.run([&["run", "--rm"][..], flags, &["busybox", "true"]].concat())?;
    ensure!(done.code == 125, "{flags:?}: {} {}", done.code, done.stderr);
    for text in why {
        ensure!(done.stderr.contains(text), "{flags:?}: {text} is not in {}", done.stderr);
    }
    Ok(())
}

#[test]
fn short_forms_that_are_none() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("short")?.display().to_string();
    let volume = unique("short");
    for cli in clients(engine) {
        let bind = |mode: &str| format!("{folder}:/b:{mode}");
        let named = |mode: &str| format!("{volume}:/b:{mode}");
        for mode in ["ro,rw", "z,Z", "shared,slave", "delegated,cached", "unbindable", "nope", "ro,nope"] {
            refused(&cli, &["-v", &bind(mode)], &[&format!("invalid mode: {mode}")])?;
        }
        let spec = bind("nocopy");
        refused(
            &cli,
            &["-v", &spec],
            &[
                &format!("invalid volume specification: '{spec}': "),
                "\"bind\": field VolumeOptions must not be specified",
            ],
        )?;
        let spec = named("shared");
        refused(
            &cli,
            &["-v", &spec],
            &[
                &format!("invalid volume specification: '{spec}': "),
                "\"volume\": field BindOptions must not be specified",
            ],
        )?;
        refused(&cli, &["-v", &format!("{folder}:/b:ro:z")], &["too many colons"])?;
        refused(&cli, &["-v", &format!("{folder}:b")], &["mount path must be absolute"])?;
        refused(&cli, &["-v", "a/b:/x"], &["create a/b: \"a/b\" includes invalid characters for a local volume name"])?;
        refused(&cli, &["--mount", "type=volume,source=/abs,target=/x"], &["create /abs: \"/abs\" includes invalid"])?;
        refused(&cli, &["--tmpfs", "/t:nope"], &["invalid tmpfs option"])?;
        refused(&cli, &["--tmpfs", "t"], &["invalid mount path: 't' mount path must be absolute"])?;
        refused(&cli, &["--tmpfs", "/"], &["destination can't be '/'"])?;
        // A client may take the plugin that is missing for the image.
        let done = cli.run(["run", "--rm", "--volume-driver", "nope", "-v", &named("ro"), "busybox", "true"])?;
        ensure!(done.code == 125, "{done:?}");
    }
    assert!(engine.cli().fails(1, ["volume", "inspect", &volume])?.contains("no such volume"));
    Ok(())
}

#[test]
fn long_forms_that_are_none() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("long")?.display().to_string();
    for cli in clients(engine) {
        let bind = |options: &str| format!("type=bind,source={folder},target=/b,{options}");
        for (mount, why) in [
            (bind("bind-propagation=nope"), "invalid mount config for type \"bind\": invalid propagation mode: nope"),
            (bind("bind-recursive=nope"), "invalid value for bind-recursive: nope"),
            (bind("bind-recursive=readonly"), "requires 'readonly' to be specified"),
            (bind("bind-recursive=readonly,readonly"), "requires 'bind-propagation=rprivate' to be specified"),
            (bind("bind-recursive=writable"), "requires 'readonly' to be specified"),
            (bind("volume-nocopy"), "cannot mix 'volume-*' options with mount type 'bind'"),
            (bind("tmpfs-size=1m"), "cannot mix 'tmpfs-*' options with mount type 'bind'"),
            (bind("nope=1"), "unexpected key 'nope' in 'nope=1'"),
            (bind("nope"), "invalid field 'nope' must be a key=value pair"),
            ("type=bind,target=/b".into(), "invalid mount config for type \"bind\": field Source must not be empty"),
            ("type=bind,source=x,target=/b".into(), "invalid mount path: 'x' mount path must be absolute"),
            (format!("type=bind,source={folder},target=b"), "invalid mount path: 'b' mount path must be absolute"),
            (format!("type=bind,source={folder}"), "target is required"),
            (format!("type=bind,source={folder},target=/"), "destination can't be '/'"),
            ("type=tmpfs,source=x,target=/t".into(), "field Source must not be specified"),
            ("type=tmpfs,target=/t,tmpfs-size=nope".into(), "invalid value for tmpfs-size: nope"),
            ("type=tmpfs,target=/t,tmpfs-mode=9".into(), "invalid value for tmpfs-mode: 9"),
            ("type=tmpfs,target=/t,bind-propagation=shared".into(), "cannot mix 'bind-*' options"),
            ("type=volume,target=/v,readonly".into(), "must not set ReadOnly mode when using anonymous volumes"),
            ("type=volume,source=vv,target=/v,volume-opt=nope=1".into(), "create vv: invalid option: \"nope\""),
            ("type=npipe,source=x,target=/v".into(), "mount type unknown"),
        ] {
            refused(&cli, &["--mount", &mount], &[why])?;
        }
    }
    assert!(engine.cli().fails(1, ["volume", "inspect", "vv"])?.contains("no such volume"));
    Ok(())
}

#[test]
fn words_that_change_nothing_and_words_that_do() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("words")?;
    fs::write(folder.join("f"), "there")?;
    let host = folder.display().to_string();
    for cli in clients(engine) {
        let cat = |flag: &str, value: &str| cli.ok(["run", "--rm", flag, value, "busybox", "cat", "/b/f"]);
        for mode in ["consistent", "cached", "delegated", "private", "rprivate", "rw,z,cached"] {
            assert_eq!(cat("-v", &format!("{host}:/b:{mode}"))?, "there", "{mode}");
        }
        for options in [
            "consistency=cached",
            "readonly=false",
            "ro=0,bind-propagation=private",
            "bind-recursive=enabled",
            "bind-nonrecursive",
            "bind-recursive=disabled",
        ] {
            let mount = format!("type=bind,src={host},dst=/b,{options}");
            assert_eq!(cat("--mount", &mount)?, "there", "{options}");
        }
        for options in ["readonly", "ro=true", "readonly=1,consistency=delegated"] {
            let mount = format!("type=bind,src={host},dst=/b,{options}");
            let done = cli.run(["run", "--rm", "--mount", &mount, "busybox", "touch", "/b/x"])?;
            ensure!(done.stderr.contains("Read-only file system"), "{options}: {done:?}");
        }
        // A relative source is one of the client's folder.
        let here = cli.in_folder(&folder);
        assert_eq!(here.ok(["run", "--rm", "-v", ".:/b", "busybox", "cat", "/b/f"])?, "there");
        assert_eq!(
            here.ok(["run", "--rm", "--mount", "type=bind,src=./f,dst=/b/f", "busybox", "cat", "/b/f"])?,
            "there"
        );
    }
    if !only_naru("docker 20.10 has no such option") {
        let made = folder.join("made/deep");
        let mount = format!("type=bind,src={},dst=/b,bind-create-src", made.display());
        engine.naru().ok(["run", "--rm", "--mount", &mount, "busybox", "touch", "/b/f"])?;
        assert!(made.join("f").exists());
    }
    Ok(())
}

#[test]
fn a_volume_is_made_as_its_mount_says() -> Result<()> {
    let engine = shared()?;
    for cli in clients(engine) {
        let name = unique("made");
        let mount = format!(
            "type=volume,source={name},target=/v,volume-driver=local,volume-label=color=blue,volume-opt=type=tmpfs,\
             volume-opt=device=tmpfs,volume-opt=o=size=1m"
        );
        let shown = cli.ok(["run", "--rm", "--mount", &mount, "busybox", "grep", " /v ", "/proc/mounts"])?;
        assert!(shown.contains("size=1024k"), "{shown}");
        let format = "{{.Labels.color}} {{.Options.type}} {{.Options.o}} {{.Driver}}";
        assert_eq!(cli.ok(["volume", "inspect", "-f", format, &name])?, "blue tmpfs size=1m local");
        cli.ok(["volume", "rm", &name])?;
    }
    Ok(())
}

#[test]
fn memory_takes_after_what_it_covers() -> Result<()> {
    let engine = shared()?;
    let tag = format!("{}:1", unique("covered"));
    let layer = Tar::new().dir("closed", 0o700).dir("sticky", 0o1777).finish();
    let layers = [image::busybox_rootfs()?, layer];
    engine.load(&image::archive(&tag, &layers, &json!({"Env": ["PATH=/bin"]})))?;
    for cli in clients(engine) {
        let mode = |flags: &[&str], path: &str| {
            cli.ok([&["run", "--rm"][..], flags, &[&tag, "stat", "-c", "%a %u %g", path]].concat())
        };
        assert_eq!(mode(&["--tmpfs", "/closed"], "/closed")?, "700 0 0");
        assert_eq!(mode(&["--tmpfs", "/sticky"], "/sticky")?, "1777 0 0");
        assert_eq!(mode(&["--tmpfs", "/new/deep"], "/new/deep")?, "1777 0 0");
        assert_eq!(mode(&["--mount", "type=tmpfs,dst=/closed"], "/closed")?, "700 0 0");
        assert_eq!(mode(&["--tmpfs", "/new:mode=750,uid=7,gid=8"], "/new")?, "750 7 8");
        if !only_naru("runc 1.1 prefers the folder's mode to the one that was asked for") {
            assert_eq!(mode(&["--tmpfs", "/closed:mode=750,uid=7,gid=8"], "/closed")?, "750 7 8");
            assert_eq!(mode(&["--mount", "type=tmpfs,dst=/closed,tmpfs-mode=0711"], "/closed")?, "711 0 0");
        }
    }
    let cli = engine.cli();
    let done = cli.run(["run", "--rm", "--tmpfs", "/closed:ro", &tag, "touch", "/closed/x"])?;
    ensure!(done.stderr.contains("Read-only file system"), "{done:?}");
    let shown =
        cli.ok(["run", "--rm", "--tmpfs", "/t:exec,suid,dev,size=64k", &tag, "grep", " /t ", "/proc/mounts"])?;
    assert!(shown.contains("size=64k"), "{shown}");
    for word in ["noexec", "nosuid", "nodev"] {
        assert!(!shown.contains(word), "{shown}");
    }
    let shown = cli.ok(["run", "--rm", "--tmpfs", "/t", &tag, "grep", " /t ", "/proc/mounts"])?;
    for word in ["noexec", "nosuid", "nodev"] {
        assert!(shown.contains(word), "{shown}");
    }
    Ok(())
}

#[test]
fn several_donors() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    let (one, two) = (unique("donor"), unique("donor"));
    let (of_one, of_two) = (format!("{one}-v:/v"), format!("{two}-v:/v"));
    cli.ok(["run", "--name", &one, "-v", &of_one, "-v", "/w", "busybox", "sh", "-c", "echo one >/v/f; echo w >/w/f"])?;
    cli.ok(["run", "--name", &two, "-v", &of_two, "--tmpfs", "/m", "busybox", "sh", "-c", "echo two >/v/f"])?;
    // Of two for one place, the later one's; of one twice, as it is named last.
    let script = "cat /v/f /w/f; test ! -e /m; grep -c ' /m ' /proc/mounts";
    let both = ["run", "--rm", "--volumes-from", &one, "--volumes-from", &two, "busybox", "sh", "-c", script];
    assert_eq!(cli.run(both)?.stdout, "two\nw\n0\n");
    let done = cli.run([
        "run",
        "--rm",
        "--volumes-from",
        &one,
        "--volumes-from",
        &format!("{one}:ro"),
        "busybox",
        "touch",
        "/v/x",
    ])?;
    ensure!(done.stderr.contains("Read-only file system"), "{done:?}");
    for mode in ["rw", "z", "rw,Z", "cached"] {
        cli.ok(["run", "--rm", "--volumes-from", &format!("{one}:{mode}"), "busybox", "touch", "/v/x"])?;
    }
    for mode in ["ro", "ro,z", "z,ro"] {
        let done = cli.run(["run", "--rm", "--volumes-from", &format!("{one}:{mode}"), "busybox", "touch", "/v/x"])?;
        ensure!(done.stderr.contains("Read-only file system"), "{mode}: {done:?}");
    }
    for mode in ["nocopy", "shared", "ro,rw", "ro:z", "nope"] {
        let given = format!("{one}:{mode}");
        refused(&cli, &["--volumes-from", &given], &[&format!("invalid mode: {mode}")])?;
    }
    refused(&cli, &["--volumes-from", ""], &["volumes-from specification cannot be an empty string"])?;
    // The donor's anonymous volume is no less the donor's.
    let borrower = unique("borrower");
    cli.ok(["create", "--name", &borrower, "--volumes-from", &one, "busybox", "true"])?;
    let anonymous = "{{range .Mounts}}{{if eq .Destination \"/w\"}}{{.Name}} {{.RW}} {{.Mode}}{{end}}{{end}}";
    assert_eq!(cli.inspect(&borrower, anonymous)?, cli.inspect(&one, anonymous)?);
    cli.ok(["rm", "-v", &borrower])?;
    assert_eq!(cli.ok(["run", "--rm", "--volumes-from", &one, "busybox", "cat", "/w/f"])?, "w");
    cli.ok(["rm", "-v", &one, &two])?;
    cli.ok(["volume", "rm", &format!("{one}-v"), &format!("{two}-v")])?;
    Ok(())
}

#[test]
fn an_images_volume_without_its_first_slash() -> Result<()> {
    let engine = shared()?;
    let tag = format!("{}:1", unique("relative"));
    let config = json!({"Env": ["PATH=/bin"], "Volumes": {"data/": {}}});
    let layers = [image::busybox_rootfs()?, Tar::new().dir("data", 0o755).file("data/f", 0o644, b"filled").finish()];
    engine.load(&image::archive(&tag, &layers, &config))?;
    let cli = engine.cli();
    assert_eq!(cli.ok(["run", "--rm", &tag, "sh", "-c", "cat /data/f; grep -c ' /data ' /proc/mounts"])?, "filled1");
    Ok(())
}
