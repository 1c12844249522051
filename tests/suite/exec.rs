//! `exec`: a second process in a running container.

use anyhow::Result;
use naru_testkit::{Client, eventually, shared, unique};

/// A container that only waits.
fn sleeper(flags: &[&str]) -> Result<(Client, String)> {
    let (cli, name) = (shared()?.cli(), unique("exec"));
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(flags);
    args.extend(["busybox", "sleep", "1000"]);
    cli.ok(args)?;
    Ok((cli, name))
}

#[test]
fn runs_beside_and_gives_the_exit_code() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let done = cli.run(["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 4"])?;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (4, "out\n", "err\n"));
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    // It shares the container's processes, name and files.
    assert!(cli.ok(["exec", &name, "ps"])?.contains("sleep 1000"));
    cli.ok(["exec", &name, "sh", "-c", "echo here >/f"])?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/f"])?, "here");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn standard_input() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let done = cli.run_with_input(["exec", "-i", &name, "sh", "-c", "cat; echo end"], b"in\n")?;
    assert_eq!((done.code, done.stdout.as_str()), (0, "in\nend\n"));
    let done = cli.run_with_input(["exec", "-i", &name, "wc", "-c"], &[b'y'; 300_000])?;
    assert_eq!(done.stdout.trim(), "300000");
    let done = cli.run_with_input(["exec", &name, "cat"], b"not for you")?;
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_terminal() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let mut pty = cli.pty(["exec", "-it", &name, "sh"])?;
    pty.send("tty; stty size\r")?;
    pty.expect("/dev/pts/")?;
    pty.send("echo term $TERM; exit 3\r")?;
    pty.expect("term xterm")?;
    let (code, screen) = pty.finish()?;
    assert_eq!(code, 3, "{screen}");
    assert_eq!(cli.inspect(&name, "{{.State.Running}}")?, "true");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_terminal_follows_the_clients_size() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let mut pty = cli.pty(["exec", "-it", &name, "sh"])?;
    pty.send("echo rea''dy\r")?;
    pty.expect("ready")?;
    pty.resize(40, 100)?;
    eventually("the new size", || {
        let shown = pty.screen().len();
        pty.send("stty size; echo do''ne\r")?;
        pty.expect("done")?;
        anyhow::ensure!(pty.screen()[shown..].contains("40 100"), "{:?}", pty.screen());
        Ok(())
    })?;
    pty.send("exit\r")?;
    pty.finish()?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn environment_user_and_folder() -> Result<()> {
    let (cli, name) = sleeper(&["-e", "BASE=1", "-w", "/tmp"])?;
    assert_eq!(cli.ok(["exec", &name, "sh", "-c", "echo $BASE; pwd"])?, "1\n/tmp");
    assert_eq!(cli.ok(["exec", "-e", "MORE=2", "-e", "BASE=3", &name, "sh", "-c", "echo $BASE $MORE"])?, "3 2");
    assert_eq!(cli.ok(["exec", "-w", "/etc", &name, "pwd"])?, "/etc");
    assert_eq!(cli.ok(["exec", "-u", "alice", &name, "sh", "-c", "id -un; echo $HOME"])?, "alice\n/home/alice");
    assert_eq!(cli.ok(["exec", "-u", "7:8", &name, "sh", "-c", "id -u; id -g"])?, "7\n8");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn it_is_confined_like_the_container() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let own = cli.ok(["exec", &name, "grep", "-E", "^(Cap|Seccomp:|NoNewPrivs)", "/proc/self/status"])?;
    let first = cli.ok(["exec", &name, "grep", "-E", "^(Cap|Seccomp:|NoNewPrivs)", "/proc/1/status"])?;
    assert_eq!(own, first);
    assert!(own.contains("Seccomp:\t2"), "{own}");
    let group = |pid: &str| cli.ok(["exec", &name, "cat", &format!("/proc/{pid}/cgroup")]);
    assert_eq!(group("self")?, group("1")?);
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn privileged_gives_more_capabilities() -> Result<()> {
    if naru_tests::only_naru("runc fails where the machine itself lacks a capability") {
        return Ok(());
    }
    let (cli, name) = sleeper(&[])?;
    let own = cli.ok(["exec", &name, "grep", "CapEff", "/proc/self/status"])?;
    let more = cli.ok(["exec", "--privileged", &name, "grep", "CapEff", "/proc/self/status"])?;
    assert!(more > own, "{more}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn exit_codes() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let missing = cli.run(["exec", &name, "no-such-program"])?;
    assert!(missing.code == 127 || missing.code == 126, "{missing:?}");
    assert!(
        format!("{}{}", missing.stdout, missing.stderr).contains("executable file not found in $PATH"),
        "{missing:?}"
    );
    let forbidden = cli.run(["exec", &name, "/etc/passwd"])?;
    assert_eq!(forbidden.code, 126, "{forbidden:?}");
    assert!(format!("{}{}", forbidden.stdout, forbidden.stderr).contains("permission denied"), "{forbidden:?}");
    let killed = cli.run(["exec", &name, "sh", "-c", "kill -9 $$"])?;
    assert_eq!(killed.code, 137, "{killed:?}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn detached() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    assert_eq!(cli.ok(["exec", "-d", &name, "sh", "-c", "echo done >/tmp/flag"])?, "");
    eventually("the detached exec's file", || cli.ok(["exec", &name, "cat", "/tmp/flag"]))?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn refused_when_it_is_not_running() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    cli.ok(["pause", &name])?;
    let said = cli.fails(1, ["exec", &name, "true"])?;
    assert!(said.contains("is paused, unpause the container before exec"), "{said}");
    cli.ok(["unpause", &name])?;
    cli.ok(["kill", &name])?;
    cli.wait_for(&name, "{{.State.Running}}", "false")?;
    let said = cli.fails(1, ["exec", &name, "true"])?;
    assert!(said.contains("is not running"), "{said}");
    assert!(cli.fails(1, ["exec", "no-such-container", "true"])?.contains("No such container: no-such-container"));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn ends_with_its_container() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let running = cli.start(["exec", &name, "sh", "-c", "echo up; exec sleep 1000"])?;
    running.expect("up")?;
    cli.ok(["kill", &name])?;
    assert_eq!(running.finish()?.code, 137);
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn detach_keys_leave_it_running() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let mut pty = cli.pty(["exec", "-it", &name, "sh", "-c", "echo up; sleep 500"])?;
    pty.expect("up")?;
    pty.send("\x10\x11")?;
    pty.finish()?;
    assert!(cli.ok(["exec", &name, "ps"])?.contains("sleep 500"));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn many_at_once() -> Result<()> {
    let (cli, name) = sleeper(&[])?;
    let mut all = Vec::new();
    for n in 0..8 {
        all.push(cli.start(["exec", &name, "sh", "-c", &format!("echo {n}; exit {n}")])?);
    }
    for (n, running) in (0..).zip(all) {
        let done = running.finish()?;
        assert_eq!((done.code, done.stdout), (n, format!("{n}\n")));
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}
