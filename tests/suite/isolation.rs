//! What a default container looks like from inside, and what the host sees of it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, shared, unique};
use naru_tests::only_naru;

/// What `script` prints in a default container.
fn inside(script: &str) -> Result<String> {
    shared()?.cli().ok(["run", "--rm", "busybox", "sh", "-c", script])
}

/// `(target, type, options)` of each mount, from a container's `/proc/mounts`.
fn mounts(flags: &[&str]) -> Result<Vec<(String, String, Vec<String>)>> {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend(["busybox", "cat", "/proc/mounts"]);
    let said = shared()?.cli().ok(args)?;
    Ok(said
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[1].to_owned(), fields[2].to_owned(), fields[3].split(',').map(str::to_owned).collect())
        })
        .collect())
}

#[test]
fn mounts_are_the_default_ones() -> Result<()> {
    let all = mounts(&[])?;
    let have: BTreeSet<(&str, &str)> = all.iter().map(|(target, kind, _)| (target.as_str(), kind.as_str())).collect();
    for wanted in [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/sys", "sysfs"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
    ] {
        assert!(have.contains(&wanted), "{wanted:?} is not in {have:?}");
    }
    for target in ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"] {
        assert!(have.iter().any(|(have, _)| *have == target), "{target} is not in {have:?}");
    }
    let options = |target: &str| -> Result<&Vec<String>> {
        all.iter()
            .find(|(have, ..)| have == target)
            .map(|(.., options)| options)
            .with_context(|| format!("{target} is no mount"))
    };
    for (target, wanted) in [
        ("/proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", &["rw", "nosuid", "size=65536k", "mode=755"]),
        ("/dev/pts", &["rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", &["rw", "nosuid", "nodev", "noexec"]),
    ] {
        let have = options(target)?;
        let mapped = have.iter().any(|option| option.starts_with("uid="));
        for option in wanted {
            // In a user namespace the kernel shows the host's id of that group.
            if mapped && option.starts_with("gid=") {
                continue;
            }
            assert!(have.iter().any(|have| have == option), "{target} has {have:?}, not {option}");
        }
    }
    for target in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        if !fs::exists(target)? {
            continue;
        }
        assert!(options(target)?.contains(&"ro".to_owned()), "{target} can be written");
    }
    // Nothing else of the host's is mounted.
    let known = ["/", "/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    for (target, ..) in &all {
        let below = ["/proc/", "/dev/", "/sys/"].iter().any(|top| target.starts_with(top));
        assert!(below || known.contains(&target.as_str()), "{target} is mounted");
    }
    Ok(())
}

#[test]
fn masked_paths_show_nothing() -> Result<()> {
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug"] {
        assert_eq!(inside(&format!("cat {path} 2>/dev/null | head -c 10 | wc -c"))?, "0", "{path}");
    }
    for path in ["/sys/firmware", "/proc/acpi", "/proc/scsi"] {
        assert_eq!(inside(&format!("ls -A {path} 2>/dev/null | wc -l"))?, "0", "{path}");
    }
    let said =
        inside("echo 0 >/proc/sys/kernel/panic; echo h >/proc/sysrq-trigger; mkdir /sys/fs/cgroup/x; true 2>&1")?;
    assert_eq!(said, "");
    let done = shared()?.cli().run(["run", "--rm", "busybox", "sh", "-c", "echo 0 >/proc/sys/kernel/panic"])?;
    assert!(done.code != 0 && done.stderr.contains("Read-only file system"), "{done:?}");
    Ok(())
}

#[test]
fn capabilities_and_seccomp() -> Result<()> {
    let status = inside("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    // The fourteen that docker gives.
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(name), "00000000a80425fb", "{name}");
    }
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2", "0"));
    if !only_naru("dockerd 20.10 still sets the inheritable ones") {
        assert_eq!(field("CapInh:"), "0000000000000000");
    }
    let other = shared()?.cli().ok(["run", "--rm", "-u", "1000", "busybox", "grep", "CapEff", "/proc/self/status"])?;
    assert_eq!(other, "CapEff:\t0000000000000000");
    Ok(())
}

#[test]
fn what_seccomp_and_capabilities_forbid() -> Result<()> {
    for script in ["mount -t tmpfs tmpfs /tmp", "unshare -m true", "hostname other", "unshare -n true"] {
        let done = shared()?.cli().run(["run", "--rm", "busybox", "sh", "-c", script])?;
        assert_ne!(done.code, 0, "{script} went through: {}", done.stdout);
    }
    // An unconfined one may do what needs no capability that it lacks.
    let flags =
        ["run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "grep", "Seccomp:", "/proc/self/status"];
    assert_eq!(shared()?.cli().ok(flags)?, "Seccomp:\t0");
    Ok(())
}

#[test]
fn devices() -> Result<()> {
    let said = inside("cd /dev; for d in null zero full tty random urandom; do stat -c '%n %t:%T %a' $d; done; ls")?;
    for line in ["null 1:3 666", "zero 1:5 666", "full 1:7 666", "tty 5:0 666", "random 1:8 666", "urandom 1:9 666"] {
        assert!(said.lines().any(|have| have == line), "{line} is not in\n{said}");
    }
    let listed: BTreeSet<&str> = said.lines().filter(|line| !line.contains(' ')).collect();
    let known = [
        "null", "zero", "full", "tty", "random", "urandom", "core", "fd", "stdin", "stdout", "stderr", "pts", "ptmx",
        "shm", "mqueue", "console",
    ];
    for name in listed {
        assert!(known.contains(&name), "/dev/{name} is there");
    }
    assert_eq!(
        inside("for n in fd stdin stdout stderr ptmx; do readlink /dev/$n; done")?,
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"
    );
    inside("echo x >/dev/null; head -c 5 /dev/zero | wc -c; head -c 1 /dev/urandom >/dev/null")?;
    // A node can be made and not be used: the device group forbids it.
    let done = shared()?.cli().run(["run", "--rm", "busybox", "sh", "-c", "mknod /disk b 254 0 && head -c 1 /disk"])?;
    assert!(done.code != 0 && done.stderr.contains("Operation not permitted"), "{done:?}");
    Ok(())
}

#[test]
fn namespaces_are_its_own() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("ns"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let daemon = engine.pid()?;
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        let own = cli.ok(["exec", &name, "readlink", &format!("/proc/self/ns/{kind}")])?;
        let engines = fs::read_link(format!("/proc/{daemon}/ns/{kind}"))?;
        assert_ne!(own, engines.to_string_lossy(), "{kind}");
        // exec joins it.
        assert_eq!(own, cli.ok(["exec", &name, "readlink", &format!("/proc/1/ns/{kind}")])?, "{kind}");
    }
    assert_eq!(
        cli.ok(["exec", &name, "sh", "-c", "echo $PPID; ps -o pid,args | head -2 | tail -1"])?,
        "0\n    1 sleep 1000"
    );
    cli.ok(["rm", "-f", &name])?;
    let host = cli.ok([
        "run",
        "--rm",
        "--pid",
        "host",
        "--uts",
        "host",
        "--ipc",
        "host",
        "busybox",
        "sh",
        "-c",
        "for n in pid uts ipc; do readlink /proc/self/ns/$n; done",
    ])?;
    let engines: Vec<String> = ["pid", "uts", "ipc"]
        .iter()
        .map(|kind| Ok(fs::read_link(format!("/proc/{daemon}/ns/{kind}"))?.to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    assert_eq!(host, engines.join("\n"));
    Ok(())
}

#[test]
fn no_descriptor_of_the_engines_is_open() -> Result<()> {
    // Standard input, output and error, and the folder that ls reads.
    assert_eq!(shared()?.cli().ok(["run", "--rm", "busybox", "ls", "/proc/self/fd"])?, "0\n1\n2\n3");
    let status = shared()?.cli().ok(["run", "--rm", "busybox", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])?;
    for line in status.lines() {
        let mask = line.split('\t').nth(1).and_then(|mask| u64::from_str_radix(mask, 16).ok()).context("a mask")?;
        // The real-time ones above may come ignored from whatever started the suite.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
    Ok(())
}

#[test]
fn privileged_gives_all() -> Result<()> {
    if only_naru("runc fails where the machine itself lacks a capability") {
        return Ok(());
    }
    let cli = shared()?.cli();
    let said = cli.ok(["run", "--rm", "--privileged", "busybox", "sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs tmpfs /tmp && echo mounted; grep ' /sys ' /proc/mounts"])?;
    assert!(said.contains("Seccomp:\t0") && said.contains("mounted") && said.contains("sysfs rw"), "{said}");
    let own = fs::read_to_string("/proc/self/status")?;
    let own =
        own.lines().find(|line| line.starts_with("CapBnd")).and_then(|line| line.split('\t').nth(1)).unwrap_or("?");
    assert!(said.contains(own), "{said} has not {own}");
    Ok(())
}

#[test]
fn it_can_not_see_or_reach_the_host() -> Result<()> {
    let engine = shared()?;
    let secret = engine.scratch("secret")?.join("file");
    fs::write(&secret, "secret")?;
    assert_eq!(inside(&format!("cat {} /proc/1/root{} 2>/dev/null; true", secret.display(), secret.display()))?, "");
    assert_eq!(inside("ls /proc | grep -c '^[0-9]' | head -1")?.parse::<u32>().map(|n| n <= 6), Ok(true));
    Ok(())
}

#[test]
fn the_host_has_no_trace_of_a_mount() -> Result<()> {
    if only_naru("dockerd mounts containers' file systems in its own namespace") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let before = engine.world().new_mounts()?;
    let links = engine.world().links()?;
    let cli = engine.cli();
    cli.ok(["run", "-d", "--name", "one", "-v", "/data", "busybox", "sleep", "1000"])?;
    assert_eq!(engine.world().new_mounts()?, before);
    cli.ok(["cp", "one:/etc/passwd", "-"])?;
    cli.ok(["diff", "one"])?;
    assert_eq!(engine.world().new_mounts()?, before);
    cli.ok(["rm", "-f", "-v", "one"])?;
    naru_testkit::eventually("the links to be as before", || {
        let now: Vec<String> = engine.world().links()?.into_iter().filter(|link| link.starts_with("veth")).collect();
        let then: Vec<&String> = links.iter().filter(|link| link.starts_with("veth")).collect();
        ensure!(now.len() <= then.len().max(16), "{now:?}");
        Ok(())
    })?;
    engine.finish()
}

#[test]
fn the_host_image_needs_no_registry() -> Result<()> {
    if only_naru("the image `host` is Naru's own") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let cli = engine.cli();
    let said = cli.ok([
        "run",
        "--rm",
        "host",
        "sh",
        "-c",
        "cat /etc/os-release; echo x >/naru-test-was-here && cat /naru-test-was-here",
    ])?;
    assert!(said.contains("NAME=") && said.ends_with('x'), "{said}");
    assert!(!fs::exists("/naru-test-was-here")?, "it wrote to the machine");
    // Secrets are masked.
    let shadow = cli.run(["run", "--rm", "host", "cat", "/etc/shadow"])?;
    assert!(!shadow.stdout.contains("root:"), "{shadow:?}");
    Ok(())
}
