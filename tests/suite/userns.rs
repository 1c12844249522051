//! A user namespace for each container: whose ids are whose, inside, outside and on disk.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, unique};
use naru_tests::only_naru;

fn start(args: &[&str]) -> Result<Engine> {
    let args = args.iter().map(Into::into).collect();
    let engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    Ok(engine)
}

/// An engine whose containers have user namespaces unless told otherwise.
fn auto() -> Result<&'static Engine> {
    static AUTO: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made = AUTO.get_or_init(|| start(&["--default-userns-mode", "auto"]).map_err(|e| format!("{e:#}")));
    made.as_ref().map_err(|e| anyhow!("{e}"))
}

/// The host's id of root in a container made with `flags`; 0 in the host's namespace.
fn first_id(cli: &Client, flags: &[&str]) -> Result<u32> {
    let map = cli.ok([&["run", "--rm"], flags, &["busybox", "cat", "/proc/self/uid_map"]].concat())?;
    map.split_whitespace().nth(1).context("a map")?.parse().with_context(|| format!("the map {map:?}"))
}

#[test]
fn each_container_has_its_own_ids() -> Result<()> {
    if only_naru("dockerd has one range for all") {
        return Ok(());
    }
    let cli = auto()?.docker();
    let names: Vec<String> = (0..3).map(|_| unique("ids")).collect();
    let mut seen = BTreeSet::new();
    for name in &names {
        cli.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
        let map = cli.ok(["exec", name, "cat", "/proc/self/uid_map", "/proc/1/gid_map"])?;
        let fields: Vec<u32> = map.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        assert_eq!((fields[0], fields[2]), (0, 65_536), "{map}");
        assert_eq!(fields[..3], fields[3..], "{map}");
        assert!(fields[1] >= 65_536 && seen.insert(fields[1]), "{map}: {seen:?}");
        assert_eq!(cli.ok(["exec", name, "id", "-u"])?, "0");
        // As it is inside, not as the host counts.
        assert!(cli.ok(["top", name])?.lines().nth(1).is_some_and(|line| line.starts_with("root ")));
        assert_eq!(cli.inspect(name, "{{.HostConfig.UsernsMode}}")?, "");
    }
    assert!(cli.ok(["info", "--format", "{{.SecurityOptions}}"])?.contains("name=userns"));
    for name in &names {
        cli.ok(["rm", "-f", name])?;
    }
    Ok(())
}

#[test]
fn files_belong_inside_to_whom_they_belong_outside() -> Result<()> {
    if only_naru("dockerd shifts what is on disk") {
        return Ok(());
    }
    let (engine, cli) = (auto()?, auto()?.docker());
    let folder = engine.scratch("owners")?;
    std::fs::write(folder.join("of-root"), "root's\n")?;
    std::fs::write(folder.join("of-app"), "app's\n")?;
    chown(folder.join("of-app"), Some(1000), Some(1001))?;
    let bind = format!("{}:/b", folder.display());
    let script = "stat -c %u:%g /b /b/of-root /b/of-app; echo more >>/b/of-root; echo new >/b/made; chown 7:8 /b/made";
    let said = cli.ok(["run", "--rm", "-v", &bind, "busybox", "sh", "-ec", script])?;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0:0", "0:0", "1000:1001"]);
    assert_eq!(std::fs::read_to_string(folder.join("of-root"))?, "root's\nmore\n");
    let made = std::fs::metadata(folder.join("made"))?;
    assert_eq!((made.uid(), made.gid()), (7, 8));
    // A user of the container's writes its own files, and no others.
    let script = "echo x >>/b/of-app && ! echo x >>/b/of-root";
    cli.ok(["run", "--rm", "-u", "1000", "-v", &bind, "busybox", "sh", "-c", script])?;
    assert_eq!(std::fs::read_to_string(folder.join("of-app"))?, "app's\nx\n");
    Ok(())
}

#[test]
fn containers_with_different_ids_share_a_volume() -> Result<()> {
    if only_naru("dockerd has one range for all") {
        return Ok(());
    }
    let (cli, volume, keeper) = (auto()?.docker(), unique("vol"), unique("keeper"));
    let mount = format!("{volume}:/v");
    let write = "echo one >/v/file; chown 1000:1001 /v/file; mkdir -m 700 /v/own; chown 5 /v/own";
    cli.ok(["run", "-d", "--name", &keeper, "-v", &mount, "busybox", "sh", "-ec", &format!("{write}; sleep 1000")])?;
    eventually("the first container to have written", || cli.ok(["exec", &keeper, "stat", "/v/own"]).map(drop))?;
    let look = "stat -c '%u:%g' /v/file /v/own; echo two >>/v/file; cat /proc/self/uid_map";
    let said = cli.ok(["run", "--rm", "-v", &mount, "busybox", "sh", "-ec", look])?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["1000:1001", "5:0"]);
    assert_ne!(lines[2], cli.ok(["exec", &keeper, "cat", "/proc/self/uid_map"])?.trim_end());
    assert_eq!(cli.ok(["exec", &keeper, "cat", "/v/file"])?, "one\ntwo");
    cli.ok(["rm", "-f", &keeper])?;
    cli.ok(["volume", "rm", &volume])?;
    Ok(())
}

#[test]
fn archives_and_images_have_true_ids() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let (engine, cli, name, tag) = (auto()?, auto()?.docker(), unique("true"), format!("{}:1", unique("img")));
    let folder = engine.scratch("cp")?;
    std::fs::write(folder.join("in"), "in\n")?;
    chown(folder.join("in"), Some(12), Some(34))?;
    let script = "echo own >/own; chown 1000:1001 /own; touch /done; sleep 1000";
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-ec", script])?;
    eventually("the container to have written", || cli.ok(["exec", &name, "stat", "/done"]).map(drop))?;
    let into = format!("{name}:/in");
    cli.ok(["cp", "-a", folder.join("in").to_str().context("a path")?, &into])?;
    assert_eq!(cli.ok(["exec", &name, "stat", "-c", "%u:%g", "/in"])?, "12:34");
    let plain = format!("{name}:/plain");
    cli.ok(["cp", folder.join("in").to_str().context("a path")?, &plain])?;
    assert_eq!(cli.ok(["exec", &name, "stat", "-c", "%u:%g", "/plain"])?, "12:34");
    let owners = |archive: &[u8]| -> Result<Vec<(String, u64, u64)>> {
        let path = engine.scratch("tar")?.join("a.tar");
        std::fs::write(&path, archive)?;
        let said = std::process::Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&path).output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (user, group) = fields.get(1)?.split_once('/')?;
            Some((fields.last()?.trim_matches('/').to_owned(), user.parse().ok()?, group.parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    };
    let get = engine.http().get(&format!("/containers/{name}/archive?path=/own"))?;
    assert_eq!(owners(&get.body)?, [("own".to_owned(), 1000, 1001)]);
    let all = owners(&engine.http().get(&format!("/containers/{name}/export"))?.body)?;
    assert!(all.contains(&("own".to_owned(), 1000, 1001)) && all.contains(&("in".to_owned(), 12, 34)), "{all:?}");
    assert!(all.iter().all(|(_, user, group)| *user < 65_536 && *group < 65_536), "{all:?}");
    assert!(cli.ok(["diff", &name])?.lines().any(|line| line == "A /own"));
    cli.ok(["commit", &name, &tag])?;
    assert_eq!(cli.ok(["run", "--rm", &tag, "stat", "-c", "%u:%g", "/own"])?, "1000:1001");
    assert_eq!(cli.ok(["run", "--rm", "--userns", "host", &tag, "stat", "-c", "%u:%g", "/own"])?, "1000:1001");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn who_asks_for_the_host_has_it() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let cli = auto()?.docker();
    for flags in [
        &["--userns", "host"][..],
        &["--privileged"],
        &["--network", "host"],
        &["--pid", "host"],
        &["--ipc", "host"],
        &["--cap-add", "SYS_ADMIN"],
        &["--cap-add", "ALL"],
    ] {
        assert_eq!(first_id(&cli, flags)?, 0, "{flags:?}");
    }
    for flags in [&["--uts", "host"][..], &["--network", "none"], &["--cap-add", "NET_ADMIN"], &["--read-only"]] {
        assert_ne!(first_id(&cli, flags)?, 0, "{flags:?}");
    }
    Ok(())
}

#[test]
fn auto_is_had_on_request_and_refused_in_dockers_words() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let engine = start(&["--default-userns-mode", "host", "--userns-ids", "300000-496607"])?;
    let (cli, name) = (engine.naru(), unique("asked"));
    assert_eq!(first_id(&cli, &[])?, 0);
    let first = first_id(&cli, &["--userns", "auto"])?;
    assert!((300_000..=431_072).contains(&first), "{first}");
    assert!(!cli.ok(["info", "--format", "{{.SecurityOptions}}"])?.contains("name=userns"));
    cli.ok(["create", "--name", &name, "--userns", "auto", "busybox", "true"])?;
    assert_eq!(cli.inspect(&name, "{{.HostConfig.UsernsMode}}")?, "auto");
    for (flags, text) in [
        (&["--privileged"][..], "privileged mode is incompatible with user namespaces"),
        (&["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (&["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        let said = cli.run([&["run", "--rm", "--userns", "auto"], flags, &["busybox", "true"]].concat())?;
        assert!(said.code == 125 && said.stderr.contains(text), "{flags:?}: {}", said.stderr);
    }
    let said = cli.run(["run", "--rm", "--userns", "nonsense", "busybox", "true"])?;
    assert!(said.code == 125 && said.stderr.contains("invalid USER mode"), "{}", said.stderr);
    Ok(())
}

#[test]
fn a_range_is_used_again_and_runs_out_clearly() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    // Room for two, of which one serves to try file systems with.
    let engine = start(&["--default-userns-mode", "host", "--userns-ids", "300000-431071"])?;
    let (cli, name) = (engine.naru(), unique("only"));
    cli.ok(["run", "-d", "--name", &name, "--userns", "auto", "busybox", "sleep", "1000"])?;
    let said = cli.run(["run", "--rm", "--userns", "auto", "busybox", "true"])?;
    assert!(said.code == 125 && said.stderr.contains("no range of ids is free"), "{}", said.stderr);
    cli.ok(["rm", "-f", &name])?;
    eventually("the range to be free again", || first_id(&cli, &["--userns", "auto"]).map(drop))
}

#[test]
fn a_container_that_joins_another_is_in_its_namespace() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let (cli, name) = (auto()?.docker(), unique("first"));
    cli.ok(["run", "-d", "--name", &name, "--ipc", "shareable", "busybox", "sleep", "1000"])?;
    let own = cli.ok(["exec", &name, "readlink", "/proc/self/ns/user"])?;
    let other = format!("container:{name}");
    for (flag, script) in [
        ("--network", "ip addr show eth0 >/dev/null && ping -c1 -W5 127.0.0.1 >/dev/null"),
        ("--pid", "ps | grep -q 'sleep 1000'"),
        ("--ipc", "echo x >/dev/shm/left && test $(stat -c %u /dev/shm/left) = 0"),
    ] {
        let script = format!("{script} && readlink /proc/self/ns/user");
        assert_eq!(cli.ok(["run", "--rm", flag, &other, "busybox", "sh", "-c", &script])?, own, "{flag}");
    }
    assert_eq!(cli.ok(["exec", &name, "cat", "/dev/shm/left"])?, "x");
    // The host's root may look into every container.
    let said =
        cli.ok(["run", "--rm", "--userns", "host", "--network", &other, "busybox", "cat", "/proc/self/uid_map"])?;
    assert_eq!(said.split_whitespace().nth(1), Some("0"));
    let second = unique("second");
    cli.ok(["run", "-d", "--name", &second, "busybox", "sleep", "1000"])?;
    let both = format!("container:{second}");
    let said = cli.run(["run", "--rm", "--network", &other, "--pid", &both, "busybox", "true"])?;
    assert!(said.code == 125 && said.stderr.contains("different user namespaces"), "{}", said.stderr);
    cli.ok(["rm", "-f", &name, &second])?;
    Ok(())
}

#[test]
fn the_network_is_the_containers_own() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let cli = auto()?.docker();
    // A port below 1024 for an ordinary user.
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname
        nc -l -p 80 & for i in $(seq 300); do
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ':0050 .* 0A ' && echo listens && exit; sleep 0.1; done; exit 1";
    let sysctls = ["--sysctl", "net.ipv4.ip_forward=1", "--domainname", "example"];
    let said = cli.ok([&["run", "--rm", "-u", "1000"], &sysctls[..], &["busybox", "sh", "-c", script]].concat())?;
    assert_eq!(said, "1\nexample\nlistens");
    cli.ok(["run", "--rm", "busybox", "ping", "-c1", "-W5", "127.0.0.1"])?;
    // Its own groups may, and it sees that.
    let groups = cli.ok(["run", "--rm", "busybox", "cat", "/proc/sys/net/ipv4/ping_group_range"])?;
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["0", "65535"]);
    let script = "ip addr add 10.9.8.7/24 dev lo && ip -o addr show lo | grep -c 10.9.8.7";
    assert_eq!(cli.ok(["run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script])?, "1");
    Ok(())
}

#[test]
fn devices_limits_and_memory() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let cli = auto()?.docker();
    let script = "stat -c '%t:%T %u %a' /dev/null /dev/deep/zero; head -c3 /dev/deep/zero | wc -c; ls -ld /t | cut -c1-10; touch /t/x
        stat -c %u /t/x /dev/shm; mknod /tmp/n c 1 3 2>/dev/null || echo none; ulimit -c; tty >/dev/null || echo no terminal";
    let flags = [
        "--device",
        "/dev/zero:/dev/deep/zero",
        "--tmpfs",
        "/t:mode=700",
        "--ulimit",
        "core=0",
        "--oom-score-adj",
        "77",
    ];
    let said = cli.ok([&["run", "--rm"], &flags[..], &["busybox", "sh", "-c", script]].concat())?;
    let expected = ["1:3 0 666", "1:5 0 666", "3", "drwx------", "0", "0", "none", "0", "no terminal"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn a_file_system_without_id_maps_decides() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let engine = auto()?;
    let folder = engine.scratch("overlay")?;
    for name in ["l", "u", "w", "m"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let [lower, upper, work, merged] = ["l", "u", "w", "m"].map(|name| folder.join(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mounted =
        engine.world().command("mount").args(["-t", "overlay", "-o", &options, "overlay", &merged]).status()?;
    ensure!(mounted.success(), "mount an overlay");
    let bind = format!("{merged}:/b");
    let said = engine.docker().run([
        "run",
        "--rm",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "touch /b/x && cat /proc/self/uid_map",
    ])?;
    let refused = engine.naru().run(["run", "--rm", "--userns", "auto", "-v", &bind, "busybox", "true"])?;
    let unmounted = engine.world().command("umount").arg(&merged).status()?;
    ensure!(unmounted.success(), "unmount the overlay");
    assert_eq!(said.stdout.split_whitespace().nth(1), Some("0"), "{said:?}");
    assert!(said.stderr.contains("can't map ids: this container runs in the host's user namespace"), "{}", said.stderr);
    assert!(refused.code == 125 && refused.stderr.contains("use --userns=host"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn ids_outlive_the_engine() -> Result<()> {
    if only_naru("it is about user namespaces") {
        return Ok(());
    }
    let engine = start(&["--default-userns-mode", "auto"])?;
    let (cli, name) = (engine.docker(), unique("kept"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let map = cli.ok(["exec", &name, "cat", "/proc/self/uid_map"])?;
    engine.kill()?;
    engine.launch()?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/proc/self/uid_map"])?, map);
    let held: u32 = map.split_whitespace().nth(1).context("a map")?.parse()?;
    for _ in 0..6 {
        let other = first_id(&cli, &[])?;
        assert!(other != 0 && other != held, "{other}");
    }
    cli.ok(["restart", "-t", "0", &name])?;
    assert_eq!(cli.ok(["exec", &name, "id", "-u"])?, "0");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn the_built_in_image_works_as_well() -> Result<()> {
    if only_naru("dockerd has no such image") {
        return Ok(());
    }
    let said =
        auto()?.docker().ok(["run", "--rm", "host", "sh", "-c", "id -u; touch /mine; stat -c %u /mine /etc/passwd"])?;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "0", "0"]);
    Ok(())
}
