//! Devices: which are there, which can be used, and how they are given.

use std::fs;

use anyhow::{Context, Result};
use naru_testkit::{shared, unique};
use naru_tests::{note, only_naru};

/// What `script` prints in a container with `flags`; it ends well.
fn inside(flags: &[&str], script: &str) -> Result<String> {
    shared()?.cli().ok([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// That `script` in a container with `flags` is not permitted.
fn forbidden(flags: &[&str], script: &str) -> Result<()> {
    let done = shared()?.cli().run([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())?;
    assert!(done.code != 0 && done.stderr.contains("Operation not permitted"), "{flags:?} {script}: {done:?}");
    Ok(())
}

/// The numbers of a loop device of this machine, if it has one.
fn loop_device() -> Option<(String, String)> {
    let dev = fs::read_to_string("/sys/block/loop0/dev").ok()?;
    let (major, minor) = dev.trim().split_once(':')?;
    fs::exists("/dev/loop0").ok()?.then(|| (major.to_owned(), minor.to_owned()))
}

#[test]
fn what_is_not_given_is_not_there() -> Result<()> {
    // Making a node is allowed, using it is not.
    forbidden(&[], "mknod /mem c 1 1 && head -c 1 /mem")?;
    forbidden(&[], "mknod /disk b 7 0 && head -c 1 /disk")?;
    assert_eq!(inside(&[], "ls /dev | grep -c -E 'loop|mem|vda'; true")?, "0");
    Ok(())
}

#[test]
fn a_given_one_has_its_access() -> Result<()> {
    assert_eq!(inside(&["--device", "/dev/full:/dev/mine:r"], "head -c 3 /dev/mine | wc -c")?, "3");
    if loop_device().is_some() {
        inside(&["--device", "/dev/loop0:/dev/mine:r"], ": </dev/mine")?;
        forbidden(&["--device", "/dev/loop0:/dev/mine:r"], ": >>/dev/mine")?;
        forbidden(&["--device", "/dev/loop0:/dev/mine:w"], ": </dev/mine")?;
    }
    assert_eq!(inside(&["--device", "/dev/null:/dev/a/b/c"], "echo x >/dev/a/b/c; stat -c %t:%T /dev/a/b/c")?, "1:3");
    // exec has it as well, and inspect shows it.
    let (cli, name) = (shared()?.cli(), unique("device"));
    cli.ok(["run", "-d", "--name", &name, "--device", "/dev/null:/dev/mine:rw", "busybox", "sleep", "1000"])?;
    cli.ok(["exec", &name, "sh", "-c", "echo x >/dev/mine"])?;
    let shown = "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}";
    assert_eq!(cli.inspect(&name, shown)?, "/dev/null /dev/mine rw");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_folder_gives_all_in_it() -> Result<()> {
    if !fs::exists("/dev/net/tun")? {
        note("this machine has no /dev/net");
        return Ok(());
    }
    assert_eq!(inside(&["--device", "/dev/net"], "stat -c %t:%T /dev/net/tun")?, "a:c8");
    Ok(())
}

#[test]
fn a_block_device_is_one() -> Result<()> {
    let Some((major, minor)) = loop_device() else {
        note("this machine has no loop device");
        return Ok(());
    };
    let said = inside(&["--device", "/dev/loop0:/dev/disk"], "stat -c '%F %t:%T' /dev/disk; cat /dev/disk | wc -c")?;
    let (major, minor) = (major.parse::<u32>()?, minor.parse::<u32>()?);
    assert!(said.starts_with(&format!("block special file {major:x}:{minor:x}\n")), "{said}");
    Ok(())
}

#[test]
fn rules_open_what_a_container_makes() -> Result<()> {
    if let Some((major, minor)) = loop_device() {
        let node = format!("mknod /node b {major} {minor}");
        forbidden(&[], &format!("{node}; : </node"))?;
        let rule = format!("b {major}:{minor} r");
        inside(&["--device-cgroup-rule", &rule], &format!("{node}; : </node"))?;
        forbidden(&["--device-cgroup-rule", &rule], &format!("{node}; : >>/node"))?;
        inside(&["--device-cgroup-rule", &format!("b {major}:* rwm")], &format!("{node}; : >>/node"))?;
    } else {
        note("this machine has no loop device");
    }
    for rule in ["c 1:3", "x 1:3 rwm", "c a:3 r", "c 1:3 x"] {
        let done = shared()?.cli().run(["run", "--rm", "--device-cgroup-rule", rule, "busybox", "true"])?;
        assert!(done.code == 125 && done.stderr.contains(rule), "{rule}: {done:?}");
    }
    Ok(())
}

#[test]
fn mistakes_are_named() -> Result<()> {
    let cli = shared()?.cli();
    let done = cli.run(["run", "--rm", "--device", "/dev/no-such-device", "busybox", "true"])?;
    let text = "error gathering device information while adding custom device \"/dev/no-such-device\": no such file or directory";
    assert!(done.code != 0 && done.stderr.contains(text), "{done:?}");
    let done = cli.run(["run", "--rm", "--device", "/etc/passwd", "busybox", "true"])?;
    assert!(done.code != 0 && done.stderr.contains("not a device node"), "{done:?}");
    let said = cli.fails(125, ["run", "--rm", "--device", "/dev/null:/dev/x:q", "busybox", "true"])?;
    assert!(said.contains("bad") || said.contains("invalid"), "{said}");
    Ok(())
}

#[test]
fn a_privileged_one_has_the_hosts() -> Result<()> {
    if only_naru("runc fails where the machine itself lacks a capability") {
        return Ok(());
    }
    let hosts = fs::read_dir("/dev")?.count();
    let own: usize = inside(&["--privileged"], "ls /dev | wc -l")?.parse().context("a number")?;
    assert!(own * 2 > hosts, "{own} of {hosts}");
    inside(&["--privileged"], "mknod /node c 1 7; head -c 3 /node | wc -c")?;
    Ok(())
}
