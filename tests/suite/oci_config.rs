//! The clauses of config.md and config-linux.md, observed from inside a container of the bundle. The same cases pass on runc and crun.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use naru_tests::bundle::{Bundle, is, other_runtime, world};
use naru_tests::note;
use serde_json::{Value, json};

/// What `script` prints in a container of a configuration that `change` has changed.
fn prints(script: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let mut bundle = Bundle::new(script)?;
    change(&mut bundle.config);
    bundle.prints()
}

fn push(config: &mut Value, path: &str, value: Value) {
    if let Some(list) = config.pointer_mut(path).and_then(Value::as_array_mut) {
        list.push(value);
    }
}

/// Mount options of `target`, out of /proc/self/mountinfo: the mount's own, the optional fields, the file system's.
fn mount_line(info: &str, target: &str) -> Result<(Vec<String>, Vec<String>, Vec<String>)> {
    let line = info.lines().rfind(|line| line.split(' ').nth(4) == Some(target));
    let line = line.with_context(|| format!("{target} is no mount:\n{info}"))?;
    let (own, system) = line.split_once(" - ").context("a separator")?;
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let fields: Vec<&str> = own.split(' ').collect();
    let optional = fields.iter().skip(6).map(|field| (*field).to_owned()).collect();
    Ok((words(fields[5]), optional, words(system.split(' ').nth(2).unwrap_or_default())))
}

#[test]
fn the_process_is_as_described() -> Result<()> {
    let script = "pwd; echo $A; id -u; id -g; id -G; umask; grep -E 'NoNewPrivs|CapBnd|CapAmb|CapInh|CapEff' /proc/self/status; \
        ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; cat /etc/passwd | wc -l";
    let said = prints(script, |config| {
        let process = &mut config["process"];
        process["cwd"] = json!("/tmp");
        process["env"] = json!(["PATH=/bin", "A=with blanks and = signs"]);
        process["user"] = json!({"uid": 1000, "gid": 50, "additionalGids": [1234, 4321], "umask": 63});
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        process["oomScoreAdj"] = json!(500);
        process["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
        });
    })?;
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines[..4], ["/tmp", "with blanks and = signs", "1000", "50"]);
    for group in ["50", "1234", "4321"] {
        assert!(lines[4].split(' ').any(|have| have == group), "{}", lines[4]);
    }
    assert_eq!(lines[5], "0077");
    let set = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let kill = Some("0000000000000020");
    assert_eq!(
        (set("CapInh:"), set("CapEff:"), set("CapBnd:"), set("CapAmb:")),
        (kill, kill, Some("0000000000000021"), kill)
    );
    assert_eq!(set("NoNewPrivs:"), Some("1"));
    assert_eq!(lines[11..14], ["100", "200", "500"]);
    Ok(())
}

#[test]
fn an_unknown_capability_is_a_warning() -> Result<()> {
    let mut bundle = Bundle::new("echo fine")?;
    push(&mut bundle.config, "/process/capabilities/bounding", json!("CAP_NO_SUCH"));
    let said = bundle.run()?;
    assert_eq!((said.code, said.out.as_str()), (0, "fine"));
    assert!(is("crun") || said.err.contains("CAP_NO_SUCH"), "{}", said.err);
    Ok(())
}

#[test]
fn names_sysctl_and_personality() -> Result<()> {
    let script = "hostname; cat /proc/sys/kernel/domainname; cat /proc/sys/kernel/shmmax; cat /proc/sys/net/ipv4/ip_forward; uname -m";
    let said = prints(script, |config| {
        config["hostname"] = json!("other");
        if other_runtime().is_none() {
            config["domainname"] = json!("example.org");
            config["linux"]["personality"] = json!({"domain": "LINUX32"});
        }
        config["linux"]["sysctl"] = json!({"kernel.shmmax": "1048576", "net.ipv4.ip_forward": "1"});
    })?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("other", "1048576", "1"));
    if other_runtime().is_none() {
        assert_eq!((lines[1], lines[4]), ("example.org", "i686"));
    }
    Ok(())
}

#[test]
fn scheduler_and_io_priority() -> Result<()> {
    if other_runtime().is_some() {
        return Ok(());
    }
    let said = prints("awk '{print $19, $41}' /proc/self/stat; ionice -p $$", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    })?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "5 3");
    assert!(lines[1].contains("best-effort") && lines[1].contains('6'), "{}", lines[1]);
    Ok(())
}

#[test]
fn mounts_have_their_options_and_order() -> Result<()> {
    let mut bundle = Bundle::new("cat /proc/self/mountinfo; cat /data/inner/file; touch /data/x; touch /ro/x; ls /up")?;
    let host = bundle.dir().join("host");
    fs::create_dir_all(host.join("inner"))?;
    fs::create_dir_all(bundle.rootfs().join("up/below"))?;
    fs::write(bundle.rootfs().join("up/file"), "")?;
    let mount = |destination: &str, kind: &str, source: &Value, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let host = json!(host);
    let mut mounts = vec![
        mount("/t", "tmpfs", &json!("tmpfs"), &["nosuid", "nodev", "noexec", "size=1m", "mode=700", "noatime"]),
        mount("/data", "bind", &host, &["rbind", "rw", "nosuid"]),
        mount("/data/inner", "tmpfs", &json!("tmpfs"), &["size=1m"]),
        mount("/ro", "bind", &json!("host"), &["bind", "ro", "noexec"]),
        mount("/shared", "bind", &host, &["bind", "rshared"]),
    ];
    let ours = other_runtime().is_none();
    if ours || other_runtime().as_deref() == Some("crun") {
        mounts.push(mount("/up", "tmpfs", &json!("tmpfs"), &["tmpcopyup"]));
    }
    mounts.into_iter().for_each(|mount| push(&mut bundle.config, "/mounts", mount));
    let said = bundle.run()?;
    let (own, _, system) = mount_line(&said.out, "/t")?;
    for option in ["rw", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(own.iter().any(|have| have == option), "{option} is not in {own:?}");
    }
    assert!(
        system.iter().any(|have| have == "size=1024k") && system.iter().any(|have| have == "mode=700"),
        "{system:?}"
    );
    assert!(mount_line(&said.out, "/data")?.0.contains(&"nosuid".to_owned()));
    let read_only = mount_line(&said.out, "/ro")?.0;
    assert!(read_only.contains(&"ro".to_owned()) && read_only.contains(&"noexec".to_owned()), "{read_only:?}");
    let propagation = mount_line(&said.out, "/shared")?.1;
    assert!(is("crun") || propagation.iter().any(|field| field.starts_with("shared:")), "{propagation:?}");
    mount_line(&said.out, "/data/inner")?;
    assert!(said.err.contains("/ro/x") && !said.err.contains("/data/x"), "{}", said.err);
    assert!(fs::exists(bundle.dir().join("host/x"))?);
    assert!(
        said.out.lines().any(|line| line == "below") && said.out.lines().any(|line| line == "file"),
        "{}",
        said.out
    );
    Ok(())
}

#[test]
fn recursive_attributes_reach_what_is_below() -> Result<()> {
    if other_runtime().is_some() {
        return Ok(());
    }
    let mut bundle = Bundle::new("cat /proc/self/mountinfo")?;
    let host = bundle.dir().join("tree");
    fs::create_dir_all(host.join("sub"))?;
    let mounted = world()?.command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(host.join("sub")).status()?;
    ensure!(mounted.success(), "mount a tmpfs");
    push(
        &mut bundle.config,
        "/mounts",
        json!({"destination": "/tree", "type": "bind", "source": host, "options": ["rbind", "rro", "rnosuid"]}),
    );
    let said = bundle.run();
    let unmounted = world()?.command("umount").arg(host.join("sub")).status()?;
    ensure!(unmounted.success(), "unmount the tmpfs");
    let said = said?;
    for target in ["/tree", "/tree/sub"] {
        let own = mount_line(&said.out, target)?.0;
        assert!(own.contains(&"ro".to_owned()) && own.contains(&"nosuid".to_owned()), "{target}: {own:?}");
    }
    Ok(())
}

#[test]
fn paths_are_masked_and_read_only() -> Result<()> {
    let mut bundle = Bundle::new(
        "wc -c </etc/secret; ls /hidden | wc -l; touch /fixed/x || echo fixed; echo 1 >/proc/sys/kernel/shmmax || echo sys",
    )?;
    fs::write(bundle.rootfs().join("etc/secret"), "a secret")?;
    for folder in ["hidden", "fixed"] {
        fs::create_dir(bundle.rootfs().join(folder))?;
    }
    fs::write(bundle.rootfs().join("hidden/file"), "")?;
    for path in ["/etc/secret", "/hidden"] {
        push(&mut bundle.config, "/linux/maskedPaths", json!(path));
    }
    push(&mut bundle.config, "/linux/readonlyPaths", json!("/fixed"));
    assert_eq!(bundle.prints()?, "0\n0\nfixed\nsys");
    Ok(())
}

#[test]
fn the_root_can_be_read_only_and_has_its_propagation() -> Result<()> {
    let said = prints("touch /x || echo no; cat /proc/self/mountinfo", |config| {
        config["root"]["readonly"] = json!(true);
        config["linux"]["rootfsPropagation"] = json!("shared");
    })?;
    assert!(said.starts_with("no\n"), "{said}");
    let optional = mount_line(&said, "/")?.1;
    assert!(is("runc") || optional.iter().any(|field| field.starts_with("shared:")), "{optional:?}");
    Ok(())
}

#[test]
fn devices_are_made_and_others_denied() -> Result<()> {
    let script = "stat -c '%n %t:%T %a %u:%g' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/own; ls -l /dev/fd; \
        mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg >/dev/null || echo denied; head -c2 /dev/zero | wc -c";
    let said = prints(script, |config| {
        config["linux"]["devices"] =
            json!([{"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 416, "uid": 7, "gid": 8}]);
    })?;
    for line in ["/dev/null 1:3 666 0:0", "/dev/tty 5:0 666 0:0", "/dev/own 1:5 640 7:8", "denied", "2"] {
        assert!(said.lines().any(|have| have == line), "{line} is not in {said}");
    }
    assert!(said.contains("-> /proc/self/fd"), "{said}");
    Ok(())
}

#[test]
fn namespaces_are_new_joined_or_the_hosts() -> Result<()> {
    let world = world()?;
    let kinds = ["net", "ipc", "uts", "pid", "mnt", "cgroup"];
    let script = format!("for n in {}; do readlink /proc/self/ns/$n; done", kinds.join(" "));
    let own: Vec<String> = {
        let output = world.command("sh").args(["-c", &script]).output()?;
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    };
    let new = prints(&script, |config| push(config, "/linux/namespaces", json!({"type": "cgroup"})))?;
    for ((kind, own), new) in kinds.iter().zip(&own).zip(new.lines()) {
        assert_ne!(own, new, "{kind}");
    }
    let host = prints(&script, |config| {
        config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}]);
        config["hostname"] = json!("");
    })?;
    let host: Vec<&str> = host.lines().collect();
    assert_eq!(host[..3], own[..3]);

    // Held by a process of the world, which joining containers find by its number there.
    let mut holder = world.command("unshare");
    holder.args(["--net", "--ipc", "--uts", "--pid", "--fork", "sh", "-c", "echo up; read x"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = [0; 3];
    std::io::Read::read_exact(holder.stdout.as_mut().context("a pipe")?, &mut line)?;
    let find = world.command("sh").args(["-c", "pgrep -f '[e]cho up; read x' | tail -1"]).output()?;
    let pid = String::from_utf8_lossy(&find.stdout).trim().to_owned();
    let theirs = world.command("sh").args(["-c", &script.replace("self", &pid)]).output()?;
    let theirs: Vec<String> = String::from_utf8_lossy(&theirs.stdout).lines().map(str::to_owned).collect();
    let joined = prints(&script, |config| {
        let join = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
        config["linux"]["namespaces"] = json!([join("network", "net"), join("ipc", "ipc"), join("uts", "uts"), join("pid", "pid"), {"type": "mount"}]);
        config["hostname"] = json!("");
    });
    drop(holder.stdin.take());
    holder.wait()?;
    let joined = joined?;
    assert_eq!(joined.lines().take(4).collect::<Vec<_>>(), theirs[..4]);
    assert_ne!(joined.lines().nth(4), Some(theirs[4].as_str()));
    Ok(())
}

#[test]
fn a_mount_namespace_is_joined_by_its_path() -> Result<()> {
    let world = world()?;
    let mut bundle = Bundle::new("readlink /proc/self/ns/mnt; cat /data/file; ls /; grep -c . /proc/self/mountinfo")?;
    let theirs = bundle.dir().join("theirs");
    fs::create_dir(&theirs)?;
    fs::write(bundle.rootfs().join("marker"), "")?;
    // What it mounts is seen in its namespace alone.
    let held = format!("mount -t tmpfs none {0} && echo theirs >{0}/file && echo up && read w", theirs.display());
    let mut holder = world.command("unshare");
    holder.args(["--mount", "--propagation", "private", "sh", "-c", &held]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = [0; 3];
    std::io::Read::read_exact(holder.stdout.as_mut().context("a pipe")?, &mut line)?;
    let find = world.command("sh").args(["-c", "pgrep -f '[e]cho up && read w' | tail -1"]).output()?;
    let pid = String::from_utf8_lossy(&find.stdout).trim().to_owned();
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = world.command("readlink").arg(&path).output()?;
    let set = |config: &mut Value, path: &str| {
        let others: Vec<Value> = config["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<Value> = others.into_iter().filter(|one| one["type"] != "mount").collect();
        all.push(json!({"type": "mount", "path": path}));
        config["linux"]["namespaces"] = json!(all);
    };
    set(&mut bundle.config, &path);
    let bind = json!({"destination": "/data", "type": "bind", "source": theirs, "options": ["bind"]});
    push(&mut bundle.config, "/mounts", bind);
    let said = bundle.run();
    // The root is that of all who are in the namespace.
    let moved = world.command("test").args(["-e", &format!("/proc/{pid}/root/marker")]).status();
    let mut refused = None;
    if other_runtime().is_none() {
        let mut other = Bundle::new("echo never")?;
        set(&mut other.config, "/proc/self/ns/mnt");
        refused = Some(other.run());
    }
    drop(holder.stdin.take());
    holder.wait()?;
    let said = said?;
    ensure!(said.code == 0, "{said:?}");
    let mut lines = said.out.lines();
    assert_eq!(lines.next(), Some(String::from_utf8_lossy(&namespace.stdout).trim()));
    assert_eq!(lines.next(), Some("theirs"));
    assert!(lines.clone().any(|name| name == "marker"), "{}", said.out);
    // Nothing of what was mounted there before is left.
    let mounts = lines.next_back().context("a number of mounts")?.parse::<usize>()?;
    assert!(mounts < 40, "{mounts} mounts");
    assert!(moved?.success());
    assert!(!theirs.join("file").exists());
    if let Some(refused) = refused.transpose()? {
        ensure!(refused.code != 0 && refused.err.contains("the mount namespace of the host"), "{refused:?}");
    }
    Ok(())
}

#[test]
fn a_user_namespace_has_its_mappings() -> Result<()> {
    let said =
        prints("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/x && stat -c %u /tmp/x", |config| {
            push(config, "/linux/namespaces", json!({"type": "user"}));
            config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 200_000, "size": 65_536}]);
        })?;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "200000", "65536", "0", "0"]);
    Ok(())
}

#[test]
fn a_user_namespace_is_joined_by_its_path() -> Result<()> {
    let world = world()?;
    let mut holder = world.command("unshare");
    holder.args(["--user", "--fork", "sh", "-c", "echo up; read y"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = [0; 3];
    std::io::Read::read_exact(holder.stdout.as_mut().context("a pipe")?, &mut line)?;
    let find = "pid=$(pgrep -f '[e]cho up; read y' | tail -1); for f in uid_map gid_map; do echo 0 300000 65536 >/proc/$pid/$f; done; echo $pid";
    let found = world.command("sh").args(["-ec", find]).output()?;
    let pid = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let theirs = world.command("readlink").arg(format!("/proc/{pid}/ns/user")).output()?;
    let path = format!("/proc/{pid}/ns/user");
    let script = "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u; touch /tmp/x && stat -c %u /tmp/x";
    let join = |config: &mut Value| push(config, "/linux/namespaces", json!({"type": "user", "path": path}));
    let said = prints(script, |config| {
        join(config);
        if other_runtime().is_some() {
            // runc wants to be told what it could see.
            config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 300_000, "size": 65_536}]);
            config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
        }
    });
    // A map that it doesn't have is refused.
    let mut other = Bundle::new("echo never")?;
    join(&mut other.config);
    other.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    other.config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    let refused = other.run();
    drop(holder.stdin.take());
    holder.wait()?;
    let (said, refused) = (said?, refused?);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[0], String::from_utf8_lossy(&theirs.stdout).trim());
    assert_eq!(words[1..], ["0", "300000", "65536", "0", "0"]);
    if other_runtime().is_none() {
        ensure!(refused.code != 0 && refused.err.contains("user namespace mappings"), "{refused:?}");
    }
    Ok(())
}

#[test]
fn binds_can_have_id_maps() -> Result<()> {
    // runc has it since 1.2, crun under other terms.
    if other_runtime().is_some() {
        return Ok(());
    }
    let script = "stat -c %u /root /plain /mapped /own; touch /mapped/new";
    let mut bundle = Bundle::new(script)?;
    for name in ["plain", "mapped", "own"] {
        fs::create_dir(bundle.dir().join(name))?;
    }
    let config = &mut bundle.config;
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    push(config, "/linux/namespaces", json!({"type": "user"}));
    config["linux"]["uidMappings"] = ids.clone();
    config["linux"]["gidMappings"] = ids;
    let other = json!([{"containerID": 0, "hostID": 100_007, "size": 1}]);
    push(config, "/mounts", json!({"destination": "/plain", "type": "bind", "source": "plain", "options": ["bind"]}));
    push(
        config,
        "/mounts",
        json!({"destination": "/mapped", "type": "bind", "source": "mapped", "options": ["bind", "idmap"]}),
    );
    push(
        config,
        "/mounts",
        json!({"destination": "/own", "type": "bind", "source": "own", "options": ["rbind"], "uidMappings": other, "gidMappings": other}),
    );
    // The places of the mounts: the root belongs to nobody inside.
    for name in ["plain", "mapped", "own"] {
        fs::create_dir(bundle.rootfs().join(name))?;
    }
    assert_eq!(bundle.prints()?, "65534\n65534\n0\n7");
    assert_eq!(fs::metadata(bundle.dir().join("mapped/new"))?.uid(), 0);
    Ok(())
}

#[test]
fn a_time_namespace_has_its_offsets() -> Result<()> {
    if other_runtime().is_some() {
        return Ok(());
    }
    let script = "cut -d. -f1 /proc/uptime; awk '$1 == \"boottime\" {print $2}' /proc/self/timens_offsets";
    let said = prints(script, |config| {
        push(config, "/linux/namespaces", json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    })?;
    let mut lines = said.lines();
    let uptime: u64 = lines.next().context("an uptime")?.parse()?;
    assert!(uptime >= 1_000_000, "{said}");
    assert_eq!(lines.next(), Some("1000000"));
    Ok(())
}

#[test]
fn seccomp_denies_what_the_profile_says() -> Result<()> {
    let said = prints("grep ^Seccomp: /proc/self/status; mkdir /tmp/x; chmod 600 /etc/passwd; echo $?", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
                {"names": ["fchmodat", "chmod", "fchmod", "fchmodat2"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 384, "op": "SCMP_CMP_EQ"}]},
                {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"},
            ],
        });
        config["process"]["args"][2] = json!(
            "grep ^Seccomp: /proc/self/status; mkdir /tmp/x 2>&1; chmod 600 /etc/passwd 2>&1; chmod 644 /etc/passwd; echo $?"
        );
    })?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0].split_whitespace().last(), Some("2"));
    assert!(lines[1].contains("I/O error") || lines[1].contains("Input/output error"), "{said}");
    assert_eq!(lines.last(), Some(&"0"));
    Ok(())
}

#[test]
fn limits_are_in_the_cgroup() -> Result<()> {
    let mut bundle = Bundle::new("exec sleep 1000")?;
    bundle.config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 67_108_864}, "pids": {"limit": 50}, "cpu": {"quota": 50_000, "period": 100_000},
    });
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/above/{}", bundle.id));
    bundle.started()?;
    let groups = bundle.groups()?;
    ensure!(
        !groups.is_empty() && groups.iter().all(|dir| dir.parent().is_some_and(|above| above.ends_with("above"))),
        "{groups:?}"
    );
    let file = |v1: &str, v2: &str| {
        let read = |name: &str| groups.iter().find_map(|dir| fs::read_to_string(dir.join(name)).ok());
        read(v1).or_else(|| read(v2)).map(|text| text.trim().to_owned())
    };
    assert_eq!(file("memory.limit_in_bytes", "memory.max").as_deref(), Some("67108864"));
    assert_eq!(file("pids.max", "pids.max").as_deref(), Some("50"));
    let quota = file("cpu.cfs_quota_us", "cpu.max");
    assert!(matches!(quota.as_deref(), Some("50000" | "50000 100000")), "{quota:?}");
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

/// A hook that appends its name, status, pid and namespaces to `log`.
fn hook(name: &str, log: &str) -> Value {
    let script = format!(
        "s=$(cat); echo \"{name} $(echo $s | sed 's/.*\"status\": *\"\\([a-z]*\\)\".*/\\1/') $(readlink /proc/self/ns/mnt) $H\" >>{log}"
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["H=set", "PATH=/bin:/usr/bin"]})
}

#[test]
fn hooks_run_in_their_order_and_places() -> Result<()> {
    let mut bundle = Bundle::new("echo program; readlink /proc/self/ns/mnt")?;
    let log = bundle.dir().join("log");
    let log = log.to_str().context("a path")?.to_owned();
    let own = json!({"destination": bundle.dir(), "type": "bind", "source": bundle.dir(), "options": ["bind", "rw"]});
    push(&mut bundle.config, "/mounts", own);
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        bundle.config["hooks"][name] = json!([hook(name, &log)]);
    }
    if is("runc") || is("crun") {
        // runc 1.1 runs poststart hooks at the end of create, crun's start doesn't wait for those of the container.
        return Ok(());
    }
    bundle.create()?;
    let so_far = fs::read_to_string(&log)?;
    let names =
        |text: &str| text.lines().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&so_far), ["prestart", "createRuntime", "createContainer"]);
    bundle.ok(&["start", &bundle.id])?;
    bundle.until("stopped")?;
    bundle.ok(&["delete", &bundle.id])?;
    let all = fs::read_to_string(&log)?;
    assert_eq!(names(&all)[3..], ["startContainer", "poststart", "poststop"], "{all}");
    let own = world()?.command("readlink").arg("/proc/self/ns/mnt").output()?;
    let own = String::from_utf8_lossy(&own.stdout).trim().to_owned();
    let container = bundle.output().lines().last().unwrap_or_default().to_owned();
    for (line, inside) in all.lines().zip([false, false, true, true, false, false]) {
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!(fields[2], if inside { &container } else { &own }, "{line}");
        assert_eq!(fields[3], "set", "{line}");
    }
    let status = |at: usize| all.lines().nth(at).and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    if other_runtime().is_none() {
        let statuses: Vec<String> = (0..6).map(status).collect();
        assert_eq!(statuses, ["creating", "creating", "creating", "created", "running", "stopped"]);
    }
    Ok(())
}

#[test]
fn a_hook_that_fails_ends_the_creation() -> Result<()> {
    for name in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("echo never")?;
        bundle.config["hooks"][name] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]);
        ensure!(bundle.create().is_err(), "{name}: create succeeded");
        bundle.ok(&["delete", "--force", &bundle.id])?;
        bundle.expect_gone()?;
        assert_eq!(bundle.output(), "");
    }
    // `run` in the foreground keeps signals to itself; its hooks die of theirs (crun's don't).
    let mut bundle = Bundle::new("echo never")?;
    bundle.config["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill $$; exit 0"]}]);
    let said = bundle.run()?;
    assert!(is("crun") || (said.code != 0 && !said.out.contains("never")), "{said:?}");
    let mut bundle = Bundle::new("echo never")?;
    bundle.config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]);
    bundle.create()?;
    if other_runtime().is_none() {
        assert!(bundle.fails(&["start", &bundle.id])?.contains("startContainer"));
    } else {
        bundle.oci(&["start", &bundle.id])?;
    }
    bundle.until("stopped")?;
    assert!(!bundle.output().contains("never"), "{}", bundle.output());
    let mut bundle = Bundle::new("echo never")?;
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    ensure!(bundle.create().is_err(), "a hook without end");
    Ok(())
}

/// A bad configuration is refused, and nothing is left.
#[test]
fn bad_configurations_are_named() -> Result<()> {
    type Change = fn(&mut Value);
    let cases: &[(&str, &str, Change)] = &[
        ("version", "ociVersion", |c| c["ociVersion"] = json!("3.0.0")),
        ("args", "args", |c| c["process"]["args"] = json!([])),
        ("cwd", "cwd", |c| c["process"]["cwd"] = json!("relative")),
        ("rootfs", "no-such-root", |c| c["root"]["path"] = json!("no-such-root")),
        ("mount source", "/no/such/source", |c| {
            push(
                c,
                "/mounts",
                json!({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
            );
        }),
        ("file system", "nosuchfs", |c| {
            push(c, "/mounts", json!({"destination": "/x", "type": "nosuchfs", "source": "none"}));
        }),
        ("namespace", "nonsense", |c| push(c, "/linux/namespaces", json!({"type": "nonsense"}))),
        ("two of a kind", "pid", |c| push(c, "/linux/namespaces", json!({"type": "pid"}))),
        ("no namespace there", "/etc/passwd", |c| {
            c["linux"]["namespaces"][1] = json!({"type": "network", "path": "/etc/passwd"});
        }),
        ("name without namespace", "UTS", |c| c["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}])),
        ("the host's sysctl", "kernel.panic", |c| c["linux"]["sysctl"] = json!({"kernel.panic": "5"})),
        ("rlimit", "RLIMIT_NOPE", |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}])),
        ("mappings", "user namespace", |c| {
            c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        }),
        ("seccomp action", "SCMP_ACT_NOPE", |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOPE"})),
        ("propagation", "sideways", |c| c["linux"]["rootfsPropagation"] = json!("sideways")),
    ];
    let ours: &[(&str, &str, Change)] = &[
        ("cgroup path", "..", |c| c["linux"]["cgroupsPath"] = json!("/a/../../b")),
        ("device", "/dev/odd", |c| {
            c["linux"]["devices"] = json!([{"path": "/dev/odd", "type": "z", "major": 1, "minor": 1}])
        }),
        ("hook path", "relative", |c| c["hooks"]["poststop"] = json!([{"path": "relative"}])),
        ("rdt", "intelRdt", |c| c["linux"]["intelRdt"] = json!({"closID": "x"})),
        ("unified", "no.such_file", |c| c["linux"]["resources"] = json!({"unified": {"no.such_file": "1"}})),
        ("scheduler", "SCHED_NOPE", |c| c["process"]["scheduler"] = json!({"policy": "SCHED_NOPE"})),
        ("malformed", "config.json: invalid type", |c| c["mounts"] = json!(7)),
    ];
    let ours = if other_runtime().is_none() { ours } else { &[] };
    for (what, named, change) in cases.iter().chain(ours) {
        let mut bundle = Bundle::new("echo never")?;
        change(&mut bundle.config);
        let said = bundle.run()?;
        let refused = said.code != 0 && !said.out.contains("never");
        if let Some(other) = other_runtime() {
            if !refused {
                note(&format!("{other} takes this: {what}"));
            }
            continue;
        }
        assert!(refused, "{what} is taken: {said:?}");
        assert!(said.err.contains(named), "{what}: {} doesn't name {named}", said.err);
        bundle.expect_gone()?;
    }
    let bundle = Bundle::new("true")?;
    assert_ne!(bundle.oci(&["run", "--bundle", "/no/such/bundle", &bundle.id])?.code, 0);
    Ok(())
}

/// CVE-2019-5736: a container whose program is the runtime itself can't write to the runtime's file.
#[test]
fn the_runtimes_own_file_is_out_of_reach() -> Result<()> {
    if other_runtime().is_some() {
        return Ok(());
    }
    let bundle = Bundle::new("exec sleep 1000")?;
    let program = naru_testkit::naru_binary();
    let before = fs::metadata(&program)?;
    // The interpreter of a script is looked up by the runtime's own process: it is the runtime that is executed.
    let script = bundle.rootfs().join("bin/evil");
    fs::write(&script, "#!/proc/self/exe daemon --help\n")?;
    let chmod = std::process::Command::new("chmod").arg("755").arg(&script).status()?;
    ensure!(chmod.success(), "chmod");
    let attack = "evil & for i in 1 2 3 4 5 6 7 8 9 10; do for p in /proc/[0-9]*; do \
        case $(readlink $p/exe) in */naru) dd if=/dev/zero of=$p/exe bs=1 count=1 conv=notrunc 2>/dev/null && echo written;; esac; done; done; true";
    let mut bundle = bundle;
    bundle.config["process"]["args"] = json!(["sh", "-c", attack]);
    bundle.config["process"]["capabilities"]["effective"] = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    let said = bundle.run()?;
    assert!(!said.out.contains("written"), "{said:?}");
    let after = fs::metadata(&program)?;
    assert_eq!((before.len(), before.mtime(), before.ino()), (after.len(), after.mtime(), after.ino()));
    Ok(())
}
