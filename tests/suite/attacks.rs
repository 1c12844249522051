//! Ways out of containers that other engines had, tried on this one: each test is named after what it was called there.
//!
//! Attacks by archives are in `hostile_images`, those on `docker cp` in `cp`, those on the engine in `engine_attacks`; docs/attacks.md lists all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Tar, eventually, image, shared, unique};
use naru_tests::only_naru;
use serde_json::{Value, json};

/// A folder of the host with a secret in it, which no container may see or change.
struct Bait {
    folder: PathBuf,
}

impl Bait {
    fn new(engine: &Engine) -> Result<Bait> {
        let folder = engine.scratch("bait")?;
        fs::write(folder.join("secret"), "the host's secret\n")?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        Ok(Bait { folder })
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// The same with so many `..` in front that it is the host's from wherever it is resolved outside of a root.
    fn climbing(&self) -> String {
        format!("{}{}", "../".repeat(24), self.path().trim_start_matches('/'))
    }

    fn expect_untouched(&self) -> Result<()> {
        let names: Vec<_> = fs::read_dir(&self.folder)?.map(|e| Ok(e?.file_name())).collect::<Result<_>>()?;
        ensure!(names == ["secret"], "the host's folder holds {names:?}");
        ensure!(fs::read_to_string(self.folder.join("secret"))? == "the host's secret\n", "the secret was changed");
        let mode = fs::metadata(&self.folder)?.mode() & 0o7777;
        ensure!(mode == 0o755, "the folder's mode is {mode:o}");
        Ok(())
    }
}

/// Loads an image of busybox and `layer`, and gives its name.
fn load(engine: &Engine, layer: Tar, config: &Value) -> Result<String> {
    let tag = format!("{}:1", unique("attack"));
    let mut whole = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    if let (Some(whole), Some(more)) = (whole.as_object_mut(), config.as_object()) {
        whole.extend(more.clone());
    }
    engine.load(&image::archive(&tag, &[image::busybox_rootfs()?, layer.finish()], &whole))?;
    Ok(tag)
}

fn world() -> Result<(&'static Engine, Client, Bait)> {
    let engine = shared()?;
    Ok((engine, engine.cli(), Bait::new(engine)?))
}

/// Runs, and tells what was said; an attack may fail as it likes.
fn attempt(cli: &Client, args: &[&str]) -> Result<String> {
    let done = cli.run(args)?;
    Ok(format!("{}{}", done.stdout, done.stderr))
}

fn binary() -> Result<PathBuf> {
    Ok(fs::read_link(format!("/proc/{}/exe", shared()?.pid()?))?)
}

#[test]
fn cve_2015_3629_links_made_before_a_restart() -> Result<()> {
    let (_, cli, bait) = world()?;
    let name = unique("respawn");
    // What the engine mounts over at the next start has become links by then.
    let script = format!(
        "if test -e /second; then sleep 1000; fi; touch /second; mv /etc /was; ln -s {0} /etc; ln -s {0}/made /vol; exit 0",
        bait.climbing()
    );
    cli.ok(["run", "--name", &name, "-v", "/vol/deep", "busybox", "sh", "-c", &script])?;
    cli.ok(["start", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    bait.expect_untouched()?;
    cli.ok(["rm", "-f", "-v", &name])?;
    Ok(())
}

#[test]
fn cve_2018_15664_and_2021_30465_mounts_on_links_that_change() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let (racer, volume) = (unique("racer"), engine.scratch("race")?);
    fs::create_dir_all(volume.join("real"))?;
    symlink(bait.climbing(), volume.join("out"))?;
    let share = format!("{}:/share", volume.display());
    // One container exchanges a folder for a link as fast as it can; others are started with mounts below it.
    let swap = "mkdir -p /share/place; while :; do mv /share/place /share/x; mv /share/out /share/place; mv /share/place /share/out; mv /share/x /share/place; done 2>/dev/null";
    cli.ok(["run", "-d", "--name", &racer, "-v", &share, "busybox", "sh", "-c", swap])?;
    let source = engine.scratch("source")?;
    let inner = format!("{}:/share/place/made", source.display());
    for _ in 0..8 {
        attempt(&cli, &["run", "--rm", "-v", &share, "-v", &inner, "-w", "/share/place/work", "busybox", "true"])?;
        attempt(&cli, &["run", "--rm", "-v", &share, "--tmpfs", "/share/place/memory", "busybox", "true"])?;
    }
    bait.expect_untouched()?;
    cli.ok(["rm", "-f", &racer])?;
    Ok(())
}

#[test]
fn cve_2019_5736_the_runtime_is_not_overwritten() -> Result<()> {
    let (engine, cli, _) = world()?;
    let (before, name) = (fs::read(binary()?)?, unique("overwrite"));
    let layer = Tar::new().file("evil", 0o755, b"#!/proc/self/exe\n").symlink("entry", "/proc/self/exe");
    let tag = load(engine, layer, &json!({}))?;
    let script = "while :; do for p in /proc/[0-9]*; do case $p in /proc/$$|/proc/1) continue;; esac; e=$(readlink $p/exe) || continue; \
                  case $e in /bin/*) continue;; esac; echo \"$e\" >>/seen; (echo overwritten >>$p/exe) && echo written >>/seen; done; done 2>/dev/null";
    cli.ok(["run", "-d", "--name", &name, &tag, "sh", "-c", script])?;
    for _ in 0..6 {
        attempt(&cli, &["exec", &name, "/evil"])?;
        attempt(&cli, &["exec", &name, "/entry"])?;
        attempt(&cli, &["exec", &name, "/proc/self/exe"])?;
    }
    attempt(&cli, &["run", "--rm", &tag, "/entry"])?;
    attempt(&cli, &["run", "--rm", "--entrypoint", "/proc/self/exe", &tag])?;
    let seen = cli.ok(["exec", &name, "sh", "-c", "cat /seen 2>/dev/null; true"])?;
    ensure!(!seen.contains("written"), "a process's program was written: {seen}");
    ensure!(fs::read(binary()?)? == before, "the engine's program was changed");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2019_16884_a_volume_over_proc() -> Result<()> {
    let (engine, cli, bait) = world()?;
    // An image's volume over /proc would take masks and labels away.
    for volume in ["/proc", "/proc/self", "/sys", "/proc/sys/kernel"] {
        let tag = load(engine, Tar::new(), &json!({"Volumes": {volume: {}}}))?;
        let script = "echo x >/proc/sys/kernel/core_pattern && echo written; ls /proc/1/root/proc/kcore -l 2>/dev/null | cut -c1";
        let said = attempt(&cli, &["run", "--rm", &tag, "sh", "-c", script])?;
        ensure!(!said.contains("written"), "{volume}: {said}");
    }
    let said =
        attempt(&cli, &["run", "--rm", "-v", &format!("{}:/proc/self", bait.path()), "busybox", "ls", "/proc/self"])?;
    ensure!(!said.contains("Segmentation"), "{said}");
    bait.expect_untouched()
}

#[test]
fn cve_2020_15257_no_abstract_sockets() -> Result<()> {
    let (_, cli, _) = world()?;
    let (name, said) = (unique("host-net"), |out: &str| {
        out.lines().filter(|l| l.contains(" @")).map(str::to_owned).collect::<Vec<_>>()
    });
    cli.ok(["run", "-d", "--name", &name, "--network", "host", "busybox", "sleep", "1000"])?;
    let sockets = cli.ok(["exec", &name, "cat", "/proc/net/unix"])?;
    if !only_naru("containerd's shim of Debian has some") {
        ensure!(said(&sockets).is_empty(), "{:?}", said(&sockets));
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2022_0811_one_setting_smuggled_into_another() -> Result<()> {
    let (engine, _, _) = world()?;
    let kept = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for (key, value) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced=1 kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4/../../kernel/core_pattern", "|/evil"),
        ("fs.mqueue.../../kernel/core_pattern", "|/evil"),
        ("kernel.core_pattern", "|/evil"),
    ] {
        let body =
            json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Sysctls": {key: value}, "AutoRemove": true}});
        let created = engine.http().post("/containers/create", &body)?;
        if created.status == 201 {
            let id = created.json()?["Id"].as_str().context("an id")?.to_owned();
            let started = engine.http().post(&format!("/containers/{id}/start"), &json!(null))?;
            ensure!(started.status != 204, "{key}={value} was accepted");
        }
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, kept);
    Ok(())
}

#[test]
fn cve_2022_23648_an_image_volume_that_is_a_link() -> Result<()> {
    let (engine, cli, bait) = world()?;
    for target in [bait.path(), bait.climbing()] {
        let layer = Tar::new().symlink("vol", &target).dir("up", 0o755).symlink("up/vol", &format!("../{target}"));
        let tag = load(engine, layer, &json!({"Volumes": {"/vol": {}, "/up/vol": {}}}))?;
        let said = attempt(
            &cli,
            &["run", "--rm", &tag, "sh", "-c", "cat /vol/secret /up/vol/secret; echo x >/vol/new; echo x >/up/vol/new"],
        )?;
        ensure!(!said.contains("the host's secret"), "{said}");
        bait.expect_untouched()?;
    }
    Ok(())
}

#[test]
fn cve_2022_24769_and_29162_nothing_is_inheritable() -> Result<()> {
    if only_naru("Debian's dockerd has it") {
        return Ok(());
    }
    let (_, cli, _) = world()?;
    let name = unique("inherit");
    let sets = "grep -E 'Cap(Inh|Amb)' /proc/self/status | cut -f2 | sort -u";
    for flags in [&[][..], &["--privileged"], &["--cap-add", "NET_ADMIN"], &["-u", "1000"]] {
        let said = cli.ok([&["run", "--rm"], flags, &["busybox", "sh", "-c", sets]].concat())?;
        assert_eq!(said, "0000000000000000", "{flags:?}");
    }
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    for flags in [&[][..], &["--privileged"], &["-u", "1000"]] {
        let said = cli.ok([&["exec"], flags, &[&name, "sh", "-c", sets]].concat())?;
        assert_eq!(said, "0000000000000000", "exec {flags:?}");
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2023_25809_the_hosts_cgroups_are_not_written() -> Result<()> {
    let (_, cli, _) = world()?;
    let script = "find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | while read f; do (echo $$ >$f) 2>/dev/null && echo $f; done; \
                  mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; find /sys/fs/cgroup -name release_agent | wc -l";
    assert_eq!(cli.ok(["run", "--rm", "busybox", "sh", "-c", script])?, "0");
    Ok(())
}

#[test]
fn cve_2023_27561_2023_28642_and_2025_54867_proc_and_sys_as_links() -> Result<()> {
    let (engine, cli, bait) = world()?;
    for name in ["proc", "sys"] {
        for target in ["/tmp", "/tmp/../proc2", &bait.climbing()] {
            // busybox's own folder is replaced by the link.
            let layer = Tar::new().file(&format!(".wh.{name}"), 0o644, b"").symlink(name, target);
            let tag = load(engine, layer, &json!({}))?;
            let done =
                cli.run(["run", "--rm", &tag, "sh", "-c", "echo x >/proc/sys/kernel/core_pattern && echo written"])?;
            ensure!(!done.stdout.contains("written"), "{name} to {target}: {done:?}");
            bait.expect_untouched()?;
        }
    }
    Ok(())
}

#[test]
fn cve_2024_21626_a_working_folder_through_a_descriptor() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let look = format!("cat {0}/secret; cat ./{0}/secret; echo x >{0}/new; pwd", bait.climbing());
    let name = unique("cwd");
    let layer = (3..24)
        .fold(Tar::new().dir("way", 0o755), |tar, n| tar.symlink(&format!("way/{n}"), &format!("/proc/self/fd/{n}")));
    let tag = load(engine, layer, &json!({}))?;
    cli.ok(["run", "-d", "--name", &name, &tag, "sleep", "1000"])?;
    for n in [3, 4, 5, 6, 7, 8, 9, 10, 12, 16] {
        for folder in [
            format!("/proc/self/fd/{n}"),
            format!("/proc/self/fd/{n}/"),
            format!("/way/{n}/../.."),
            format!("/proc/thread-self/fd/{n}/."),
        ] {
            let said = attempt(&cli, &["exec", "-w", &folder, &name, "sh", "-c", &look])?;
            ensure!(!said.contains("the host's secret"), "exec -w {folder}: {said}");
        }
    }
    for n in [3, 7, 8, 9] {
        let folder = format!("/proc/self/fd/{n}");
        let said = attempt(&cli, &["run", "--rm", "-w", &folder, &tag, "sh", "-c", &look])?;
        ensure!(!said.contains("the host's secret"), "run -w {folder}: {said}");
        let said = attempt(&cli, &["run", "--rm", "-w", &format!("/way/{n}"), &tag, "sh", "-c", &look])?;
        ensure!(!said.contains("the host's secret"), "run -w /way/{n}: {said}");
    }
    bait.expect_untouched()?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2024_25621_folders_that_anybody_may_read() -> Result<()> {
    if only_naru("dockerd's folders are its own matter") {
        return Ok(());
    }
    let (engine, cli, _) = world()?;
    let name = unique("private");
    let id = cli.ok(["run", "-d", "--name", &name, "-e", "SECRET=hidden", "busybox", "sleep", "1000"])?;
    // As the last user of the host, on every path that a container's things are at.
    for path in [
        engine.data_root(),
        engine.exec_root(),
        engine.data_root().join("containers"),
        engine.data_root().join("containers").join(&id),
        engine.data_root().join("containers").join(&id).join("config.json"),
        engine.exec_root().join("containers").join(&id),
        engine.data_root().join("volumes"),
        engine.socket(),
    ] {
        let mut open = true;
        for part in path.ancestors().filter(|p| p.starts_with(engine.data_root().parent().unwrap_or(Path::new("/")))) {
            let mode = fs::metadata(part)?.mode();
            open &= mode & if part == path { 0o006 } else { 0o001 } != 0;
        }
        ensure!(!open, "anybody may read {}", path.display());
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2024_45310_files_made_for_mounts() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let volume = engine.scratch("empties")?;
    for (link, target) in
        [("abs", bait.path()), ("rel", bait.climbing()), ("deep", format!("{}/new/er", bait.climbing()))]
    {
        symlink(target, volume.join(link))?;
    }
    let (file, share) = (engine.scratch("file")?.join("f"), format!("{}:/v", volume.display()));
    fs::write(&file, "a file\n")?;
    for place in ["/v/abs/made", "/v/rel/made", "/v/deep/made", "/v/abs/a/b/c"] {
        let mount = format!("{}:{place}", file.display());
        attempt(&cli, &["run", "--rm", "-v", &share, "-v", &mount, "busybox", "cat", place])?;
        attempt(&cli, &["run", "--rm", "-v", &share, "-v", place, "busybox", "true"])?;
        attempt(&cli, &["run", "--rm", "-v", &share, "--device", &format!("/dev/null:{place}"), "busybox", "true"])?;
        bait.expect_untouched().with_context(|| place.to_owned())?;
    }
    Ok(())
}

#[test]
fn cve_2025_31133_and_62161_masks_are_what_they_say() -> Result<()> {
    let (engine, cli, _) = world()?;
    // An image whose null device leads to a setting of the kernel's.
    let layer = Tar::new()
        .symlink("dev/null", "/proc/sys/kernel/core_pattern")
        .symlink("dev/zero", "/proc/sysrq-trigger")
        .symlink("dev/full", "/proc/sys/kernel/core_pattern");
    let tag = load(engine, layer, &json!({}))?;
    let kept = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let script = "stat -c '%n %t:%T' /proc/keys /proc/timer_list /proc/kcore /dev/null 2>/dev/null; wc -c </proc/keys; (echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo written; true";
    let said = cli.ok(["run", "--rm", &tag, "sh", "-c", script])?;
    for line in said.lines().filter(|line| line.starts_with('/')) {
        ensure!(line.ends_with(" 1:3"), "{line}");
    }
    ensure!(said.lines().any(|line| line == "0") && !said.contains("written"), "{said}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, kept);
    Ok(())
}

#[test]
fn cve_2025_52565_the_console_is_the_terminal() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let layer = Tar::new()
        .symlink("dev/console", "/proc/sysrq-trigger")
        .symlink("dev/ptmx", &bait.climbing())
        .symlink("dev/pts", &bait.climbing());
    let tag = load(engine, layer, &json!({}))?;
    let mut pty = cli.pty([
        "run",
        "--rm",
        "-it",
        &tag,
        "sh",
        "-c",
        "stat -c 'console %F' /dev/console; stat -c 'pts %F' /dev/pts/0; tty",
    ])?;
    pty.expect("console character special file")?;
    pty.expect("/dev/pts/0")?;
    bait.expect_untouched()
}

#[test]
fn cve_2025_52881_and_62596_writes_to_proc_go_where_they_are_meant() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let (racer, volume) = (unique("proc-racer"), engine.scratch("proc-race")?);
    let share = format!("{}:/share", volume.display());
    let swap = "cd /share; while :; do rm -rf p; mkdir -p p/self/attr p/sys/net/ipv4; rm -rf p; ln -s /proc p; done 2>/dev/null";
    cli.ok(["run", "-d", "--name", &racer, "-v", &share, "busybox", "sh", "-c", swap])?;
    let fake = format!("{}/p:/proc/self/attr", volume.display());
    for _ in 0..4 {
        let flags = ["run", "--rm", "--sysctl", "net.ipv4.ip_forward=1", "-v", &share];
        let said = cli.ok([&flags[..], &["busybox", "cat", "/proc/sys/net/ipv4/ip_forward"]].concat())?;
        assert_eq!(said, "1");
        attempt(&cli, &["run", "--rm", "-v", &share, "-v", &fake, "busybox", "true"])?;
    }
    cli.ok(["rm", "-f", &racer])?;
    bait.expect_untouched()
}

#[test]
fn cve_2025_27612_an_exec_has_no_more_than_its_container() -> Result<()> {
    let (_, cli, _) = world()?;
    let name = unique("least");
    cli.ok(["run", "-d", "--name", &name, "--cap-drop", "ALL", "busybox", "sleep", "1000"])?;
    let said = cli.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status | cut -f2 | sort -u",
    ])?;
    assert_eq!(said, "0000000000000000");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2026_41579_an_image_whose_dev_is_a_link() -> Result<()> {
    let (engine, cli, bait) = world()?;
    for target in [bait.path(), bait.climbing(), "/proc/self/fd".to_owned(), "/sys".to_owned()] {
        let layer = Tar::new().file(".wh.dev", 0o644, b"").symlink("dev", &target);
        let tag = load(engine, layer, &json!({}))?;
        attempt(&cli, &["run", "--rm", &tag, "sh", "-c", "echo x >/dev/new"])?;
        attempt(&cli, &["run", "--rm", "--device", "/dev/zero:/dev/deep/zero", "--tmpfs", "/dev/t", &tag, "true"])?;
        bait.expect_untouched().with_context(|| target.clone())?;
    }
    Ok(())
}

#[test]
fn cve_2026_53488_labels_are_data() -> Result<()> {
    let (engine, cli, bait) = world()?;
    let marker = bait.folder.join("run-by-a-label");
    let command = format!("binary:///bin/sh?-c=touch%20{}", marker.display());
    let labels = json!({
        "containerd.io/restart.loguri": command,
        "containerd.io/restart.status": "running",
        "io.containerd.image.config.stop-signal": "evil",
        "com.docker.volume.anonymous": "",
    });
    let tag = load(engine, Tar::new(), &json!({"Labels": labels}))?;
    let name = unique("labelled");
    cli.ok(["run", "--name", &name, &tag, "true"])?;
    cli.ok(["rm", &name])?;
    bait.expect_untouched()
}

#[test]
fn descriptors_of_an_exec_are_not_seen() -> Result<()> {
    let (engine, cli, _) = world()?;
    let name = unique("watch");
    let root = engine.world().folder().display().to_string();
    // Whatever appears in the container is looked at at once: its descriptors, its folder, its program, its memory map.
    let script = "while :; do for p in /proc/[0-9]*; do for l in $p/fd/* $p/cwd $p/root $p/exe; do readlink $l; done; cat $p/maps; done; done >/seen 2>/dev/null";
    let trace = ["--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"];
    cli.ok([&["run", "-d", "--name", &name], &trace[..], &["busybox", "sh", "-c", script]].concat())?;
    for _ in 0..12 {
        cli.ok(["exec", &name, "true"])?;
    }
    let said = cli.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "test -s /seen || exit 9; sort -u /seen | grep -v ' /bin/busybox' | grep / | head -300",
    ])?;
    let program = binary()?.display().to_string();
    for line in said.lines() {
        ensure!(
            !line.contains(&root) && !line.contains(&program) && !line.contains("/naru"),
            "a process of the container saw {line}"
        );
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn cve_2024_9676_hostile_user_files() -> Result<()> {
    let (engine, cli, bait) = world()?;
    fs::write(bait.folder.join("secret"), "the host's secret\n")?;
    let long = format!("root:x:0:0:{}:/:/bin/sh\n", "x".repeat(3 << 20));
    for (what, layer) in [
        ("a link out", Tar::new().symlink("etc/passwd", &format!("../{}/secret", bait.climbing()))),
        ("a device", Tar::new().char_device("etc/passwd", 0o644, (1, 5))),
        ("a folder", Tar::new().file("etc/.wh.passwd", 0o644, b"").dir("etc/passwd", 0o755)),
        ("a link to itself", Tar::new().symlink("etc/passwd", "passwd")),
        ("one line of megabytes", Tar::new().file("etc/passwd", 0o644, long.as_bytes())),
        (
            "ids out of range",
            Tar::new().file("etc/passwd", 0o644, b"evil:x:-1:4294967296::/:/bin/sh\nevil:x:0x0:0::/:/bin/sh\n"),
        ),
    ] {
        let tag = load(engine, layer, &json!({}))?;
        let done = cli.run(["run", "--rm", "-u", "evil", &tag, "id", "-u"])?;
        ensure!(done.code != 0 && done.stdout.is_empty(), "{what}: {done:?}");
        ensure!(!done.stderr.contains("the host's secret"), "{what}: {}", done.stderr);
    }
    // The engine is none the worse.
    assert_eq!(cli.ok(["run", "--rm", "busybox", "echo", "alive"])?, "alive");
    bait.expect_untouched()
}

#[test]
fn nothing_of_a_container_shows_on_the_host() -> Result<()> {
    let (engine, cli, _) = world()?;
    let before = engine.world().mounts()?;
    let name = unique("trace");
    cli.ok([
        "run",
        "-d",
        "--name",
        &name,
        "-v",
        "/v",
        "--tmpfs",
        "/t",
        "--device",
        "/dev/zero:/x/zero",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let during: BTreeSet<String> = engine.world().mounts()?;
    let new: Vec<_> = during.difference(&before).collect();
    if !only_naru("dockerd mounts the root on the host") {
        ensure!(new.is_empty(), "{new:?}");
    }
    cli.ok(["rm", "-f", "-v", &name])?;
    eventually("the container to be gone", || {
        ensure!(cli.run(["inspect", &name])?.code != 0, "it is there");
        Ok(())
    })
}

/// Takes its own root away as far as it can, and looks at what was below it.
const BELOW_THE_ROOT: &str = "cd /proc && umount -l / && exec nsenter --mount=self/ns/mnt --wd=/ ./bin/busybox sh -c 'echo looks; for x in /* /.[!.]*; do echo $x; done'";

#[test]
fn nothing_is_below_the_root_of_a_container() -> Result<()> {
    if only_naru("dockerd's containers are in the host's user namespace") {
        return Ok(());
    }
    let naru = shared()?.naru();
    let may = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"];
    for flags in [&["--userns", "auto"][..], &["--userns", "host"], &["--privileged"]] {
        let args = [&["run", "--rm"], flags, &may, &["busybox", "sh", "-c", BELOW_THE_ROOT]].concat();
        let said = naru.run(args)?;
        let lines: Vec<&str> = said.stdout.lines().collect();
        assert_eq!(lines, ["looks", "/*", "/.[!.]*"], "{flags:?}: {}", said.stderr);
    }
    Ok(())
}
