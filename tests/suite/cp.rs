//! `cp`, `export` and `diff`: docker's rules for sources and targets, every state of a container, and containers that fight back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Tar, Target, eventually, shared, unique};
use naru_tests::only_naru;

/// Docker's client and ours: both have to know the same rules.
fn clients(engine: &Engine) -> [Client; 2] {
    [engine.docker(), engine.naru()]
}

/// A running container with `/t` (a folder), `/t/f` (a file), `/t/d/x`, `/link` to `/t`, `/dangling` to `/t/not-yet`.
fn container(cli: &Client) -> Result<String> {
    let name = unique("cp");
    let script = "mkdir -p /t/d; echo old >/t/f; echo x >/t/d/x; ln -s /t /link; ln -s /t/not-yet /dangling; \
                  ln -s x /t/d/up; touch /ready; exec sleep 1000";
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    eventually("the container's files", || cli.ok(["exec", &name, "test", "-e", "/ready"]).map(drop))?;
    Ok(name)
}

/// `f` with "new", `d/` with `a` and `s/b`, links to both.
fn sources(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("d/s"))?;
    fs::write(folder.join("f"), "new\n")?;
    fs::write(folder.join("d/a"), "a\n")?;
    fs::write(folder.join("d/s/b"), "b\n")?;
    symlink("f", folder.join("lf"))?;
    symlink("d", folder.join("ld"))?;
    Ok(())
}

#[test]
fn into_a_container_by_dockers_table() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-in")?;
    sources(&folder)?;
    for cli in clients(engine) {
        let cli = cli.in_folder(&folder);
        let name = container(&cli)?;
        let cat = |path: &str| cli.ok(["exec", &name, "cat", path]);
        let to = |path: &str| format!("{name}:{path}");
        for (from, target, shows, content) in [
            ("f", "/t", "/t/f", "new"),
            ("f", "/t/renamed", "/t/renamed", "new"),
            ("./f", "/t/d/x", "/t/d/x", "new"),
            ("f", "/link", "/t/f", "new"),
            ("f", "/link/in-link", "/t/in-link", "new"),
            ("f", "/dangling", "/t/not-yet", "new"),
            ("f", "t/relative", "/t/relative", "new"),
            ("d", "/t/d", "/t/d/d/s/b", "b"),
            ("d", "/t/copy", "/t/copy/s/b", "b"),
            ("d/", "/t/slash", "/t/slash/a", "a"),
            ("d/.", "/t/contents", "/t/contents/a", "a"),
            ("d/.", "/t/d", "/t/d/s/b", "b"),
            ("ld/", "/t", "/t/ld/a", "a"),
        ] {
            cli.ok(["cp", from, &to(target)]).with_context(|| format!("{from} to {target}"))?;
            assert_eq!(cat(shows).with_context(|| format!("{from} to {target}"))?, content);
        }
        // A link is copied as a link, unless it is to be followed.
        cli.ok(["cp", "lf", &to("/t/as-link")])?;
        assert_eq!(cli.ok(["exec", &name, "readlink", "/t/as-link"])?, "f");
        cli.ok(["cp", "-L", "lf", &to("/t/followed")])?;
        assert_eq!(cli.ok(["exec", &name, "sh", "-c", "test ! -L /t/followed && cat /t/followed"])?, "new");
        cli.ok(["cp", "-L", "ld", &to("/t")])?;
        assert_eq!(cat("/t/ld/s/b")?, "b");
        for (from, target, why) in [
            ("f", "/t/none/", "no such directory"),
            ("f", "/none/x", "/none"),
            ("d", "/t/f", "cannot copy directory"),
            ("none", "/t", "no such file or directory"),
            ("f/", "/t", "not a directory"),
        ] {
            let done = cli.run(["cp", from, &to(target)])?;
            ensure!(done.code == 1 && done.stderr.contains(why), "{from} to {target}: {} {}", done.code, done.stderr);
        }
        assert!(cli.fails(1, ["cp", &to("/t"), &to("/x")])?.contains("copying between containers is not supported"));
        assert!(cli.fails(1, ["cp", "f", "d"])?.contains("must specify at least one container source"));
        // A folder's contents that would replace a file by a folder.
        fs::create_dir_all(folder.join("bad/f"))?;
        let said = cli.fails(1, ["cp", "bad/.", &to("/t")])?;
        assert!(said.contains("cannot overwrite non-directory"), "{said}");
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}

#[test]
fn out_of_a_container_by_dockers_table() -> Result<()> {
    let engine = shared()?;
    for cli in clients(engine) {
        let folder = engine.scratch("cp-out")?;
        let cli = cli.in_folder(&folder);
        let name = container(&cli)?;
        let from = |path: &str| format!("{name}:{path}");
        fs::create_dir_all(folder.join("there/d"))?;
        fs::write(folder.join("there/f"), "mine")?;
        symlink("there", folder.join("to-there"))?;
        for (source, target, shows, content) in [
            ("/t/f", "there", "there/f", "old\n"),
            ("/t/f", "renamed", "renamed", "old\n"),
            ("t/f", "./relative", "relative", "old\n"),
            ("/t/d", "there", "there/d/x", "x\n"),
            ("/t/d", "copy", "copy/x", "x\n"),
            ("/t/d/", "slash", "slash/x", "x\n"),
            ("/t/d/.", "contents", "contents/x", "x\n"),
            ("/t/d/.", "there", "there/x", "x\n"),
            ("/link/f", "through-link", "through-link", "old\n"),
            ("/link/", "link-folder", "link-folder/f", "old\n"),
            ("/t/f", "to-there", "there/f", "old\n"),
            ("/t/d/../f", "dots", "dots", "old\n"),
        ] {
            cli.ok(["cp", &from(source), target]).with_context(|| format!("{source} to {target}"))?;
            let read = fs::read_to_string(folder.join(shows)).with_context(|| format!("{source} to {target}"))?;
            assert_eq!(read, content, "{source} to {target}");
        }
        cli.ok(["cp", &from("/t/d/up"), "as-link"])?;
        assert_eq!(fs::read_link(folder.join("as-link"))?, Path::new("x"));
        cli.ok(["cp", "-L", &from("/t/d/up"), "followed"])?;
        assert_eq!(fs::read_to_string(folder.join("followed"))?, "x\n");
        cli.ok(["cp", "-L", &from("/link"), "followed-folder"])?;
        assert_eq!(fs::read_to_string(folder.join("followed-folder/d/x"))?, "x\n");
        for (source, target, why) in [
            ("/t/f", "none/x", "does not exist"),
            ("/t/f", "none/", "no such directory"),
            ("/t/d", "renamed", "cannot copy directory"),
            ("/none", "x", "Could not find the file /none in container"),
            ("/t/f/", "x", "not a directory"),
        ] {
            let said = cli.fails(1, ["cp", &from(source), target]).with_context(|| format!("{source} to {target}"))?;
            assert!(said.contains(why), "{source} to {target}: {said}");
        }
        // As a stream: the names are the source's.
        fs::write(folder.join("stream.tar"), {
            let mut command = cli.command(["cp", &from("/t/d"), "-"]);
            command.current_dir(&folder).output()?.stdout
        })?;
        let list = std::process::Command::new("tar").arg("-tf").arg(folder.join("stream.tar")).output()?;
        let list = String::from_utf8(list.stdout)?;
        for entry in ["d/", "d/x", "d/up"] {
            assert!(list.lines().any(|line| line == entry), "{entry} is not in\n{list}");
        }
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}

#[test]
fn a_tar_goes_in_as_a_stream() -> Result<()> {
    let engine = shared()?;
    let tar = Tar::new().dir("s", 0o750).file("s/f", 0o640, b"streamed").symlink("s/l", "f").hardlink("s/h", "s/f");
    let tar = tar.finish();
    for cli in clients(engine) {
        let name = container(&cli)?;
        let done = cli.run_with_input(["cp", "-", &format!("{name}:/t")], &tar)?;
        ensure!(done.code == 0, "{}", done.stderr);
        let shown = cli.ok(["exec", &name, "sh", "-c", "cat /t/s/l; stat -c ' %a %h' /t/s/f; stat -c %a /t/s"])?;
        assert_eq!(shown, "streamed 640 2\n750");
        let done = cli.run_with_input(["cp", "-", &format!("{name}:/t/f")], &tar)?;
        ensure!(done.code == 1 && done.stderr.contains("must be a directory"), "{}", done.stderr);
        let done =
            cli.run_with_input(["cp", "-", &format!("{name}:/t")], b"no archive at all".repeat(100).as_slice())?;
        ensure!(done.code == 1, "it was taken");
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}

#[test]
fn in_every_state() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    let folder = engine.scratch("cp-states")?;
    fs::write(folder.join("f"), "content")?;
    let cli = cli.in_folder(&folder);
    let name = unique("states");
    let both = |state: &str| -> Result<()> {
        cli.ok(["cp", "f", &format!("{name}:/etc/{state}")]).with_context(|| state.to_owned())?;
        cli.ok(["cp", &format!("{name}:/etc/{state}"), &format!("{state}-back")]).with_context(|| state.to_owned())?;
        assert_eq!(fs::read_to_string(folder.join(format!("{state}-back")))?, "content");
        Ok(())
    };
    let volume = unique("states-volume");
    cli.ok(["create", "--name", &name, "-v", &format!("{volume}:/data/deep"), "busybox", "sleep", "1000"])?;
    both("created")?;
    // Into a volume whose place the container does not have yet.
    cli.ok(["cp", "f", &format!("{name}:/data/deep/before")])?;
    cli.ok(["start", &name])?;
    both("running")?;
    assert_eq!(
        cli.ok(["exec", &name, "cat", "/etc/created", "/etc/running", "/data/deep/before"])?,
        "content".repeat(3)
    );
    cli.ok(["cp", "f", &format!("{name}:/data/deep/during")])?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/data/deep/during"])?, "content");
    cli.ok(["pause", &name])?;
    both("paused")?;
    cli.ok(["unpause", &name])?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/etc/paused"])?, "content");
    cli.ok(["stop", "-t", "0", &name])?;
    both("exited")?;
    cli.ok(["cp", &format!("{name}:/data/deep/during"), "volume-back"])?;
    assert_eq!(fs::read_to_string(folder.join("volume-back"))?, "content");
    cli.ok(["start", &name])?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/etc/exited"])?, "content");
    cli.ok(["rm", "-f", "-v", &name])?;
    cli.ok(["volume", "rm", &volume])?;
    Ok(())
}

#[test]
fn volumes_binds_and_what_is_read_only() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-mounts")?;
    for sub in ["rw", "ro"] {
        fs::create_dir_all(folder.join(sub))?;
    }
    fs::write(folder.join("f"), "content")?;
    fs::write(folder.join("ro/there"), "kept")?;
    let cli = engine.cli().in_folder(&folder);
    let name = unique("mounts");
    let (rw, ro) = (format!("{}/rw:/rw", folder.display()), format!("{}/ro:/ro:ro", folder.display()));
    let args = ["run", "-d", "--read-only", "--name", &name, "-v", &rw, "-v", &ro, "busybox", "sleep", "1000"];
    cli.ok(args)?;
    for state in ["running", "stopped"] {
        if state == "stopped" {
            cli.ok(["stop", "-t", "0", &name])?;
        }
        cli.ok(["cp", "f", &format!("{name}:/rw/{state}")])?;
        assert_eq!(fs::read_to_string(folder.join("rw").join(state))?, "content");
        let said = cli.fails(1, ["cp", "f", &format!("{name}:/ro/x")])?;
        assert!(said.contains("mounted volume is marked read-only"), "{said}");
        let said = cli.fails(1, ["cp", "f", &format!("{name}:/etc/x")])?;
        assert!(said.contains("container rootfs is marked read-only"), "{said}");
        cli.ok(["cp", &format!("{name}:/ro/there"), &format!("{state}-out")])?;
        assert_eq!(fs::read_to_string(folder.join(format!("{state}-out")))?, "kept");
    }
    assert_eq!(fs::read_dir(folder.join("ro"))?.count(), 1);
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn owners_and_modes() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-owners")?;
    fs::write(folder.join("f"), "x")?;
    std::os::unix::fs::chown(folder.join("f"), Some(1234), Some(2345))?;
    fs::set_permissions(folder.join("f"), fs::Permissions::from_mode(0o4755))?;
    let cli = engine.cli().in_folder(&folder);
    let name = unique("owners");
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    cli.ok(["cp", "f", &format!("{name}:/tmp/plain")])?;
    cli.ok(["cp", "-a", "f", &format!("{name}:/tmp/archive")])?;
    let shown = cli.ok(["exec", &name, "stat", "-c", "%u %g %a", "/tmp/plain", "/tmp/archive"])?;
    assert_eq!(shown, "1234 2345 4755\n1234 2345 4755");
    cli.ok(["cp", &format!("{name}:/tmp/plain"), "back"])?;
    let back = fs::metadata(folder.join("back"))?;
    // The invoking user's.
    assert_eq!((back.uid(), back.gid(), back.mode() & 0o777), (0, 0, 0o755));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2018_15664_2019_10152_and_2026_41568_a_container_that_swaps_links_gets_nothing() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-attack")?;
    fs::create_dir_all(folder.join("victim/sub"))?;
    fs::write(folder.join("victim/secret"), "of the host")?;
    fs::write(folder.join("victim/sub/secret"), "of the host")?;
    fs::write(folder.join("evil"), "from the client")?;
    fs::create_dir_all(folder.join("evil-tree/sub"))?;
    fs::write(folder.join("evil-tree/sub/secret"), "from the client")?;
    fs::write(folder.join("evil-tree/secret"), "from the client")?;
    let cli = engine.cli().in_folder(&folder);
    let name = unique("attack");
    let victim = folder.join("victim").display().to_string();
    // What the container has at the same path is its own.
    let script = format!(
        "mkdir -p /w/x/sub /w/l; echo mine >/w/x/secret; echo mine >/w/x/sub/secret; ln -s ../../../../../../..{victim} /w/up;
         ln -s {victim} /w/abs; ln -s /proc/1/root{victim} /w/proc; ln -s /proc/self/root /w/self; touch /ready;
         while :; do mv /w/x /w/y; ln -s ../../../../../..{victim} /w/x; rm /w/x; mv /w/y /w/x; done"
    );
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", &script])?;
    eventually("the attack to be under way", || cli.ok(["exec", &name, "test", "-e", "/ready"]).map(drop))?;
    let check = |what: &str| -> Result<()> {
        for file in ["victim/secret", "victim/sub/secret"] {
            ensure!(fs::read_to_string(folder.join(file))? == "of the host", "{what} wrote to the host's {file}");
        }
        Ok(())
    };
    for path in ["/w/up/secret", "/w/abs/secret", "/w/proc/secret", "/w/self", "/w/self/w/x/secret"] {
        let out = folder.join("out");
        let _ = fs::remove_file(&out);
        // It may fail, or copy what the container has; the host's it must not be.
        cli.run(["cp", "-L", &format!("{name}:{path}"), "out"])?;
        ensure!(fs::read_to_string(&out).unwrap_or_default() != "of the host", "{path} is the host's");
        cli.run(["cp", "evil", &format!("{name}:{path}")])?;
        check(path)?;
    }
    for _ in 0..15 {
        let out = folder.join("raced");
        let _ = fs::remove_file(&out);
        let _ = fs::remove_dir_all(&out);
        cli.run(["cp", &format!("{name}:/w/x/secret"), "raced"])?;
        ensure!(
            fs::read_to_string(&out).unwrap_or_default() != "of the host",
            "a race is lost: the host's file came out"
        );
        cli.run(["cp", "evil", &format!("{name}:/w/x/secret")])?;
        cli.run(["cp", "evil-tree/.", &format!("{name}:/w/x")])?;
        check("a race")?;
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_first_process_that_has_gone_elsewhere() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-chroot")?;
    fs::write(folder.join("f"), "content")?;
    let cli = engine.cli().in_folder(&folder);
    let name = unique("chroot");
    let script = "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/sleep; touch /ready; exec chroot /jail /bin/sleep 1000";
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])?;
    eventually("the container's files", || cli.ok(["cp", &format!("{name}:/ready"), "ready"]).map(drop))?;
    // What it calls its root is a folder of the container's: `cp` goes by the container's own.
    cli.ok(["cp", "f", &format!("{name}:/etc/into")])?;
    cli.ok(["cp", &format!("{name}:/etc/into"), "back"])?;
    assert_eq!(fs::read_to_string(folder.join("back"))?, "content");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn hostile_archives_stay_inside() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("cp-hostile")?;
    fs::write(folder.join("victim"), "of the host")?;
    let cli = engine.cli();
    let name = container(&cli)?;
    let victim = folder.join("victim").display().to_string();
    let up = format!("../../../../../../../..{victim}");
    let archives = [
        Tar::new().file(&up, 0o644, b"evil").finish(),
        Tar::new().file(&victim, 0o644, b"evil").finish(),
        Tar::new().symlink("l", &up).file("l", 0o644, b"evil").finish(),
        Tar::new().symlink("dir", &folder.display().to_string()).file("dir/victim", 0o644, b"evil").finish(),
        Tar::new().hardlink("h", &up).finish(),
        Tar::new().hardlink("h", &victim).file("h", 0o644, b"evil").finish(),
        Tar::new().symlink("p", "/proc/1/root").file(&format!("p{victim}"), 0o644, b"evil").finish(),
    ];
    for (at, archive) in archives.iter().enumerate() {
        // Refused or unpacked inside: both are right.
        cli.run_with_input(["cp", "-", &format!("{name}:/t")], archive)?;
        ensure!(fs::read_to_string(folder.join("victim"))? == "of the host", "archive {at} wrote to the host");
    }
    assert_eq!(cli.ok(["exec", &name, "echo", "well"])?, "well");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn large_files_need_no_memory() -> Result<()> {
    if only_naru("it looks at Naru's own memory") {
        return Ok(());
    }
    const MIB: u64 = 256;
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let script = format!("dd if=/dev/zero of=/big bs=1M seek={MIB} count=0 && touch /ready; exec sleep 1000");
    cli.ok(["run", "-d", "--name", "big", "busybox", "sh", "-c", &script])?;
    eventually("the large file", || cli.ok(["exec", "big", "test", "-e", "/ready"]).map(drop))?;
    let folder = engine.scratch("cp-big")?;
    let cli = cli.in_folder(&folder);
    cli.ok(["cp", "big:/big", "big"])?;
    assert_eq!(fs::metadata(folder.join("big"))?.len(), MIB << 20);
    cli.ok(["cp", "big", "big:/again"])?;
    assert_eq!(cli.ok(["exec", "big", "stat", "-c", "%s", "/again"])?, (MIB << 20).to_string());
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid()?))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(peak < 128 << 10, "the engine took {peak} kB");
    engine.finish()
}

#[test]
fn export_and_diff_of_a_running_one() -> Result<()> {
    let engine = shared()?;
    let folder = engine.scratch("export")?;
    let cli = engine.cli().in_folder(&folder);
    let name = unique("export");
    let script = "echo in >/v/in-volume; echo new >/new; rm /etc/group; touch /ready; exec sleep 1000";
    cli.ok(["run", "-d", "--name", &name, "-v", "/v", "busybox", "sh", "-c", script])?;
    eventually("the container's files", || cli.ok(["exec", &name, "test", "-e", "/ready"]).map(drop))?;
    cli.ok(["export", "-o", "out.tar", &name])?;
    let list = std::process::Command::new("tar").arg("-tf").arg(folder.join("out.tar")).output()?;
    let list = String::from_utf8(list.stdout)?;
    for entry in ["new", "bin/busybox", "v/"] {
        assert!(list.lines().any(|line| line == entry), "{entry} is not in\n{list}");
    }
    for entry in ["v/in-volume", "etc/group", "proc/1/"] {
        assert!(!list.lines().any(|line| line == entry), "{entry} is in\n{list}");
    }
    let diff = cli.ok(["diff", &name])?;
    for line in ["A /new", "D /etc/group", "C /etc"] {
        assert!(diff.lines().any(|have| have == line), "{line} is not in\n{diff}");
    }
    assert!(!diff.contains("in-volume"), "{diff}");
    cli.ok(["rm", "-f", "-v", &name])?;
    Ok(())
}

#[test]
fn ids_are_the_containers_own_in_a_user_namespace() -> Result<()> {
    if only_naru("docker has one range for all, and other ids on disk") {
        return Ok(());
    }
    let args = vec!["--default-userns-mode".into(), "auto".into()];
    let mut engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let folder = engine.scratch("cp-userns")?;
    let cli = engine.cli().in_folder(&folder);
    let script = "mkdir -p /made; echo own >/made/f; chown 77:88 /made/f; mkdir /m/sub; echo m >/m/sub/f; echo v >/v/f; \
                  chown 9:9 /v/f; touch /ready; exec sleep 1000";
    let flags = ["run", "-d", "--name", "mapped", "-v", "vol:/v", "--tmpfs", "/m", "busybox", "sh", "-c", script];
    cli.ok(flags)?;
    eventually("the container's files", || cli.ok(["exec", "mapped", "test", "-e", "/ready"]).map(drop))?;
    let map = cli.ok(["exec", "mapped", "cat", "/proc/self/uid_map"])?;
    ensure!(map.split_whitespace().nth(1) != Some("0"), "there is no user namespace: {map}");
    let tar =
        Tar::new().dir_of("d", 0o750, (1001, 1002)).file_of("d/f", 0o4755, (1001, 1002), b"x").symlink("d/l", "f");
    let tar = tar.file_of("implied/deep/f", 0o600, (0, 0), b"y").finish();
    for target in ["/tmp", "/v", "/m"] {
        let done = cli.run_with_input(["cp", "-", &format!("mapped:{target}")], &tar)?;
        ensure!(done.code == 0, "{target}: {}", done.stderr);
        let script = format!("cd {target}; stat -c '%u %g %a' d d/f implied/deep implied/deep/f");
        let want = "1001 1002 750\n1001 1002 4755\n0 0 755\n0 0 600";
        assert_eq!(cli.ok(["exec", "mapped", "sh", "-c", &script])?, want, "{target}");
    }
    for state in ["running", "stopped"] {
        if state == "stopped" {
            cli.ok(["stop", "-t", "0", "mapped"])?;
        }
        for (path, owner) in [("/made/f", "77/88"), ("/v/f", "9/9"), ("/tmp/d/f", "1001/1002"), ("/m/d/f", "1001/1002")]
        {
            if state == "stopped" && path.starts_with("/m/") {
                continue;
            }
            let output = cli.command(["cp", &format!("mapped:{path}"), "-"]).output()?;
            fs::write(folder.join("out.tar"), output.stdout)?;
            let list = std::process::Command::new("tar")
                .args(["--numeric-owner", "-tvf"])
                .arg(folder.join("out.tar"))
                .output()?;
            let list = String::from_utf8(list.stdout)?;
            ensure!(list.contains(&format!(" {owner} ")), "{state} {path}: {list}");
        }
    }
    let done = cli.run_with_input(["cp", "-", "mapped:/home"], &tar)?;
    ensure!(done.code == 0, "stopped: {}", done.stderr);
    cli.ok(["start", "mapped"])?;
    assert_eq!(cli.ok(["exec", "mapped", "stat", "-c", "%u %g %a", "/home/d/f"])?, "1001 1002 4755");
    cli.ok(["export", "-o", "export.tar", "mapped"])?;
    let list =
        std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(folder.join("export.tar")).output()?;
    let list = String::from_utf8(list.stdout)?;
    ensure!(list.lines().any(|line| line.contains(" 77/88 ") && line.ends_with("made/f")), "the export has other ids");
    engine.finish()
}
