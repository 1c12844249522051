//! What a container's processes may do, read off the processes themselves.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Target, eventually, shared, unique};
use naru_tests::only_naru;
use serde_json::json;

/// docker's fourteen capabilities.
const DEFAULT: u64 = 0xa804_25fb;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

/// The fields of `/proc/self/status` in a container with `flags`.
fn status(flags: &[&str]) -> Result<BTreeMap<String, String>> {
    let said = cli()?.ok([&["run", "--rm"], flags, &["busybox", "cat", "/proc/self/status"]].concat())?;
    Ok(fields(&said))
}

fn fields(status: &str) -> BTreeMap<String, String> {
    let field = |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    status.lines().filter_map(field).collect()
}

fn mask(status: &BTreeMap<String, String>, field: &str) -> Result<u64> {
    let text = status.get(field).with_context(|| format!("no {field}"))?;
    Ok(u64::from_str_radix(text, 16)?)
}

/// What this machine can give at all.
fn available() -> Result<u64> {
    mask(&fields(&fs::read_to_string("/proc/self/status")?), "CapBnd")
}

#[test]
fn capabilities_are_added_and_dropped() -> Result<()> {
    let (net_admin, chown, kill) = (1 << 12, 1, 1 << 5);
    let all = available()?;
    for (flags, expected) in [
        (&[][..], DEFAULT),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop", "all", "--cap-add", "net_admin", "--cap-add", "CAP_CHOWN"], net_admin | chown),
        (&["--cap-drop", "CHOWN", "--cap-drop", "cap_kill"], DEFAULT & !chown & !kill),
        (&["--cap-add", "CAP_NET_ADMIN"], DEFAULT | net_admin),
        (&["--cap-add", "ALL"], all),
        (&["--cap-add", "ALL", "--cap-drop", "NET_ADMIN"], all & !net_admin),
        (&["--privileged"], all),
    ] {
        // A host that lacks a capability is refused by dockerd for ALL.
        if expected & !DEFAULT > net_admin && all != (1 << 41) - 1 && only_naru("runc gives all or nothing") {
            continue;
        }
        let status = status(flags)?;
        let expected = expected & all;
        for field in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(mask(&status, field)?, expected, "{field} with {flags:?}");
        }
        for field in ["CapAmb", "CapInh"] {
            // Debian's dockerd still has what CVE-2022-24769 is about.
            if field == "CapInh" && only_naru("dockerd 20.10 fills the inheritable set") {
                continue;
            }
            assert_eq!(mask(&status, field)?, 0, "{field} with {flags:?}");
        }
    }
    let said = cli()?.fails(125, ["run", "--rm", "--cap-add", "nonsense", "busybox", "true"])?;
    assert!(said.contains("unknown capability: \"CAP_NONSENSE\"") || said.contains("CAP_NONSENSE"), "{said}");
    Ok(())
}

#[test]
fn an_ordinary_user_has_none() -> Result<()> {
    for flags in [&["-u", "1000"][..], &["-u", "alice"], &["-u", "1000", "--privileged"]] {
        if flags.len() > 2 && only_naru("runc gives all or nothing where the host lacks a capability") {
            continue;
        }
        let status = status(flags)?;
        assert_eq!((mask(&status, "CapPrm")?, mask(&status, "CapEff")?), (0, 0), "{flags:?}");
        assert_eq!(status["Uid"].split_whitespace().collect::<Vec<_>>(), ["1000"; 4], "{flags:?}");
    }
    Ok(())
}

#[test]
fn an_exec_has_what_the_container_has() -> Result<()> {
    let (cli, name) = (cli()?, unique("caps"));
    let flags = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges"];
    cli.ok([&["run", "-d", "--name", &name], &flags[..], &["busybox", "sleep", "1000"]].concat())?;
    let of = |flags: &[&str]| -> Result<BTreeMap<String, String>> {
        Ok(fields(&cli.ok([&["exec"], flags, &[&name, "cat", "/proc/self/status"]].concat())?))
    };
    let plain = of(&[])?;
    assert_eq!((mask(&plain, "CapEff")?, mask(&plain, "CapBnd")?), (1, 1));
    assert_eq!((plain["NoNewPrivs"].as_str(), plain["Seccomp"].as_str()), ("1", "2"));
    let user = of(&["-u", "1000"])?;
    assert_eq!((mask(&user, "CapEff")?, mask(&user, "CapBnd")?), (0, 1));
    if !only_naru("runc gives all or nothing where the host lacks a capability") {
        assert_eq!(mask(&of(&["--privileged"])?, "CapEff")?, available()?);
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn privileged_is_what_there_is() -> Result<()> {
    if only_naru("runc refuses where the host lacks a capability") {
        return Ok(());
    }
    let cli = cli()?;
    let script = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ls /dev | wc -l; grep -cE ' /(proc|sys)/[^ ]+ .* ro,' /proc/mounts; \
                  touch /sys/fs/cgroup 2>/dev/null; mount -t tmpfs x /mnt 2>/dev/null || mkdir -p /mnt && mount -t tmpfs x /mnt && echo mounts";
    let done = cli.run(["run", "--rm", "--privileged", "busybox", "sh", "-c", script])?;
    let lines: Vec<&str> = done.stdout.lines().collect();
    ensure!(lines.len() == 6, "{done:?}");
    assert_eq!(lines[0], format!("CapEff:\t{:016x}", available()?));
    assert_eq!((lines[1], lines[2]), ("NoNewPrivs:\t0", "Seccomp:\t0"));
    let plain: usize = cli.ok(["run", "--rm", "busybox", "sh", "-c", "ls /dev | wc -l"])?.parse()?;
    assert!(lines[3].parse::<usize>()? > plain, "{lines:?}");
    assert_eq!((lines[4], lines[5]), ("0", "mounts"));
    let lacks = available()? != (1 << 41) - 1;
    assert_eq!(done.stderr.contains("does not have the capabilit"), lacks, "{}", done.stderr);
    Ok(())
}

#[test]
fn no_new_privileges_holds() -> Result<()> {
    for (flags, expected) in [
        (&[][..], "0"),
        (&["--security-opt", "no-new-privileges"], "1"),
        (&["--security-opt", "no-new-privileges:true"], "1"),
        (&["--security-opt", "no-new-privileges=false"], "0"),
    ] {
        assert_eq!(status(flags)?["NoNewPrivs"], expected, "{flags:?}");
    }
    // A program with the set-user-id bit gives nothing then: busybox's ping needs a raw socket.
    let script =
        "cp /bin/busybox /tmp/ping && chmod 4755 /tmp/ping && su alice -s /bin/sh -c '/tmp/ping -c1 -W5 127.0.0.1'";
    let run = |flags: &[&str]| cli()?.run([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat());
    assert_eq!(run(&[])?.code, 0);
    let held = run(&["--security-opt", "no-new-privileges"])?;
    ensure!(held.code != 0 && held.stderr.contains("are you root?"), "{held:?}");
    Ok(())
}

#[test]
fn seccomp_profiles() -> Result<()> {
    assert_eq!(status(&[])?["Seccomp"], "2");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"])?["Seccomp"], "0");
    let folder = shared()?.scratch("seccomp")?;
    let profile = folder.join("profile.json");
    let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]);
    fs::write(&profile, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}).to_string())?;
    let option = format!("seccomp={}", profile.display());
    let done = cli()?.run([
        "run",
        "--rm",
        "--security-opt",
        &option,
        "busybox",
        "sh",
        "-c",
        "mkdir /x; touch /y && echo touched",
    ])?;
    assert_eq!(done.stdout, "touched\n");
    assert!(
        done.stderr.contains("Operation not supported") || done.stderr.contains("Not supported"),
        "{}",
        done.stderr
    );
    fs::write(&profile, "{ nonsense")?;
    let said = cli()?.fails(125, ["run", "--rm", "--security-opt", &option, "busybox", "true"])?;
    assert!(said.to_lowercase().contains("seccomp"), "{said}");
    let missing = "seccomp=/no/such/profile";
    let said = cli()?.fails(125, ["run", "--rm", "--security-opt", missing, "busybox", "true"])?;
    assert!(said.contains("/no/such/profile"), "{said}");
    Ok(())
}

#[test]
fn labels_where_the_host_has_none() -> Result<()> {
    if only_naru("dockerd says nothing") {
        return Ok(());
    }
    let run = |option: &str| cli()?.run(["run", "--rm", "--security-opt", option, "busybox", "echo", "runs"]);
    let active = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.starts_with('Y'));
    if !active("/sys/module/apparmor/parameters/enabled") {
        let done = run("apparmor=some-profile")?;
        assert_eq!((done.code, done.stdout.as_str()), (0, "runs\n"), "{}", done.stderr);
        assert!(
            done.stderr.contains("AppArmor is not active on this host: the profile some-profile"),
            "{}",
            done.stderr
        );
        assert_eq!(run("apparmor=unconfined")?.stderr, "");
    }
    if !fs::exists("/sys/fs/selinux/enforce")? {
        let done = run("label=type:some_t")?;
        assert_eq!((done.code, done.stdout.as_str()), (0, "runs\n"), "{}", done.stderr);
        assert!(done.stderr.contains("SELinux is not active on this host: the label type:some_t"), "{}", done.stderr);
        assert_eq!(run("label=disable")?.stderr, "");
    }
    let said = cli()?.fails(125, ["run", "--rm", "--security-opt", "nonsense=x", "busybox", "true"])?;
    assert!(said.contains("invalid --security-opt 2: \"nonsense=x\""), "{said}");
    Ok(())
}

#[test]
fn system_paths() -> Result<()> {
    let covers = |flags: &[&str]| -> Result<usize> {
        let said =
            cli()?.ok([&["run", "--rm"], flags, &["busybox", "grep", "-cE", " /(proc|sys)/", "/proc/mounts"]].concat());
        // grep tells that there is none by its exit code.
        said.map_or(Ok(0), |n| Ok(n.parse()?))
    };
    let (masked, open) = (covers(&[])?, covers(&["--security-opt", "systempaths=unconfined"])?);
    // What is left is the cgroup view.
    assert!(open < masked, "{open} of {masked}");
    let script = "wc -c </proc/keys; echo 1 >/proc/sys/kernel/panic";
    let done = cli()?.run(["run", "--rm", "busybox", "sh", "-c", script])?;
    assert_eq!(done.stdout, "0\n");
    assert!(done.stderr.contains("Read-only file system"), "{}", done.stderr);
    Ok(())
}

#[test]
fn a_read_only_root_with_room_to_write() -> Result<()> {
    let script = "touch /x; touch /tmp/x && echo tmp; touch /v/x && echo volume; touch /dev/shm/x && echo shm; df /tmp | tail -1 | grep -c tmpfs";
    let flags = ["run", "--rm", "--read-only", "--tmpfs", "/tmp:size=1m,mode=1777", "-v", "/v", "busybox", "sh", "-c"];
    let done = cli()?.run([&flags[..], &[script]].concat())?;
    assert_eq!(done.stdout.lines().collect::<Vec<_>>(), ["tmp", "volume", "shm", "1"]);
    assert!(done.stderr.contains("/x: Read-only file system"), "{}", done.stderr);
    Ok(())
}

#[test]
fn namespaces_are_own_shared_or_the_hosts() -> Result<()> {
    let (cli, name) = (cli()?, unique("spaces"));
    cli.ok(["run", "-d", "--name", &name, "--ipc", "shareable", "busybox", "sleep", "1000"])?;
    let of = |flags: &[&str], kind: &str| -> Result<String> {
        let path = format!("/proc/self/ns/{kind}");
        cli.ok([&["run", "--rm"], flags, &["busybox", "readlink", &path]].concat())
    };
    let link = |kind: &str| -> Result<String> {
        let path = format!("/proc/{}/ns/{kind}", shared()?.pid()?);
        Ok(fs::read_link(path)?.display().to_string())
    };
    for kind in ["ipc", "pid", "uts", "net"] {
        let own = cli.ok(["exec", &name, "readlink", &format!("/proc/self/ns/{kind}")])?;
        let host = link(kind)?;
        assert!(own != host && of(&[], kind)? != own, "{kind}");
        let flag = if kind == "net" { "--network".to_owned() } else { format!("--{kind}") };
        assert_eq!(of(&[&flag, "host"], kind)?, host, "{kind}");
        if kind != "uts" {
            assert_eq!(of(&[&flag, &format!("container:{name}")], kind)?, own, "{kind}");
        }
    }
    // Another one's shared memory, and none at all.
    cli.ok(["exec", &name, "sh", "-c", "echo shared >/dev/shm/file"])?;
    let other = format!("container:{name}");
    assert_eq!(cli.ok(["run", "--rm", "--ipc", &other, "busybox", "cat", "/dev/shm/file"])?, "shared");
    let private = unique("private");
    cli.ok(["run", "-d", "--name", &private, "busybox", "sleep", "1000"])?;
    let donor = format!("container:{private}");
    let said = cli.fails(125, ["run", "--rm", "--ipc", &donor, "busybox", "true"])?;
    assert!(said.contains("non-shareable IPC"), "{said}");
    cli.ok(["kill", &private])?;
    let said = cli.fails(125, ["run", "--rm", "--network", &donor, "busybox", "true"])?;
    assert!(said.contains("cannot join network of a non running container"), "{said}");
    cli.ok(["rm", "-f", &private])?;
    let none =
        cli.ok(["run", "--rm", "--ipc", "none", "busybox", "sh", "-c", "grep -c /dev/shm /proc/mounts || true"])?;
    assert_eq!(none, "0");
    let host_name = cli.ok(["run", "--rm", "--uts", "host", "busybox", "hostname"])?;
    assert_eq!(host_name, fs::read_to_string("/proc/sys/kernel/hostname")?.trim());
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn further_groups() -> Result<()> {
    let said = cli()?.ok([
        "run",
        "--rm",
        "-u",
        "1000:1000",
        "--group-add",
        "staff",
        "--group-add",
        "4711",
        "busybox",
        "id",
        "-G",
    ])?;
    let mut groups: Vec<u32> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    groups.sort_unstable();
    assert_eq!(groups, [50, 1000, 4711]);
    let said = cli()?.run(["run", "--rm", "--group-add", "no-such-group", "busybox", "true"])?;
    assert!(said.code != 0 && said.stderr.contains("no-such-group"), "{said:?}");
    Ok(())
}

#[test]
fn an_init_of_its_own() -> Result<()> {
    let (cli, name) = (cli()?, unique("init"));
    cli.ok(["run", "-d", "--init", "--name", &name, "busybox", "sh", "-c", "echo $$; (sleep 0 &); exec sleep 1000"])?;
    eventually("the program to be a child of the init", || {
        let first = cli.ok(["exec", &name, "cat", "/proc/1/comm"])?;
        ensure!(first != "sleep" && first != "sh", "process 1 is {first}");
        let all = cli.ok(["exec", &name, "ps", "-o", "stat,args"])?;
        ensure!(all.contains("sleep 1000") && !all.lines().any(|line| line.starts_with('Z')), "{all}");
        Ok(())
    })?;
    // It hands on what it is told, and the program's own end.
    cli.ok(["kill", "-s", "TERM", &name])?;
    assert_eq!(cli.ok(["wait", &name])?, "143");
    cli.ok(["rm", &name])?;
    let done = cli.run(["run", "--rm", "--init", "busybox", "sh", "-c", "exit 7"])?;
    assert_eq!(done.code, 7);
    Ok(())
}

#[test]
fn settings_of_the_host_are_not_a_containers() -> Result<()> {
    let http = shared()?.http();
    let kept = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for (key, value, network) in [
        ("kernel.core_pattern", "|/bin/sh -c evil", "none"),
        ("kernel/core_pattern", "|/bin/sh -c evil", "none"),
        ("kernel.hostname", "evil", "none"),
        ("vm.overcommit_memory", "1", "none"),
        ("fs.file-max", "1", "none"),
        ("net.ipv4.ip_forward", "1", "host"),
    ] {
        let host = json!({"Sysctls": {key: value}, "NetworkMode": network});
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
        let created = http.post("/containers/create", &body)?;
        if created.status != 201 {
            assert!(matches!(created.status, 400 | 500), "{key}: {}", created.text());
            continue;
        }
        let id = created.json()?["Id"].as_str().context("an id")?.to_owned();
        let started = http.post(&format!("/containers/{id}/start"), &json!(null))?;
        assert!(matches!(started.status, 400 | 500), "{key}: {} {}", started.status, started.text());
        // runc names it with dots.
        let named = if shared()?.target() == Target::Dockerd { key.replace('/', ".") } else { key.to_owned() };
        assert!(started.text().contains(&named), "{key}: {}", started.text());
        http.request("DELETE", &format!("/containers/{id}?force=1"), &[], &[])?;
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, kept);
    Ok(())
}
