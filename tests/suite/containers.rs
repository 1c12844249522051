//! `run` and `create`: what the flags do, and the exit codes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use naru_testkit::{Client, eventually, shared, unique};

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

/// `run --rm busybox` with flags before and a command after.
fn run(flags: &[&str], command: &[&str]) -> Result<String> {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    cli()?.ok(args)
}

#[test]
fn output_goes_where_the_process_wrote_it() -> Result<()> {
    let done = cli()?.run(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"])?;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", "err\n"));
    Ok(())
}

#[test]
fn large_output_comes_whole_and_in_order() -> Result<()> {
    let said = run(&[], &["sh", "-c", "seq 1 200000"])?;
    assert_eq!(said.len(), (1..=200_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>() - 1);
    assert!(said.starts_with("1\n2\n") && said.ends_with("\n199999\n200000"));
    Ok(())
}

#[test]
fn standard_input_reaches_the_process_and_its_end_too() -> Result<()> {
    let done = cli()?.run_with_input(["run", "--rm", "-i", "busybox", "wc", "-c"], &[b'x'; 100_000])?;
    assert_eq!((done.code, done.stdout.trim()), (0, "100000"));
    Ok(())
}

#[test]
fn output_goes_on_after_standard_input_ended() -> Result<()> {
    let script = "cat >/dev/null; echo after";
    let done = cli()?.run_with_input(["run", "--rm", "-i", "busybox", "sh", "-c", script], b"x\n")?;
    assert_eq!((done.code, done.stdout.as_str()), (0, "after\n"));
    Ok(())
}

#[test]
fn without_i_the_process_reads_nothing() -> Result<()> {
    let done = cli()?.run_with_input(["run", "--rm", "busybox", "cat"], b"not for you")?;
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    Ok(())
}

#[test]
fn binary_bytes_come_through_unchanged() -> Result<()> {
    let engine = shared()?;
    let input: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let folder = engine.scratch("binary")?;
    fs::write(folder.join("in"), &input)?;
    let mount = format!("{}:/b", folder.display());
    let done =
        cli()?.run_with_input(["run", "--rm", "-i", "-v", &mount, "busybox", "sh", "-c", "cat >/b/out"], &input)?;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(fs::read(folder.join("out"))?, input);
    Ok(())
}

#[test]
fn t_gives_a_terminal() -> Result<()> {
    // The size comes right after the start.
    let script = "tty; until stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.05; done; echo e >&2; exit 5";
    let mut pty = cli()?.pty(["run", "--rm", "-it", "busybox", "sh", "-c", script])?;
    pty.expect("/dev/pts/0\r\n")?;
    let (code, screen) = pty.finish()?;
    assert_eq!(code, 5, "{screen}");
    assert!(screen.contains("24 80\r\n") && screen.contains("e\r\n"), "{screen:?}");
    Ok(())
}

#[test]
fn t_without_i_shows_output_as_a_terminal_does() -> Result<()> {
    let done = cli()?.run(["run", "--rm", "-t", "busybox", "sh", "-c", "echo a; echo b >&2"])?;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "a\r\nb\r\n", ""));
    Ok(())
}

#[test]
fn it_refuses_an_input_that_is_no_terminal() -> Result<()> {
    let done = cli()?.run(["run", "--rm", "-it", "busybox", "true"])?;
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("the input device is not a TTY"), "{}", done.stderr);
    Ok(())
}

#[test]
fn the_terminal_follows_the_clients_size() -> Result<()> {
    let mut pty = cli()?.pty(["run", "--rm", "-it", "busybox", "sh"])?;
    pty.send("echo rea''dy\r")?;
    pty.expect("ready")?;
    eventually("the new size", || {
        // Again and again: the client may not have looked out for it yet.
        pty.resize(49, 132)?;
        pty.resize(50, 132)?;
        let shown = pty.screen().len();
        pty.send("stty size; echo do''ne\r")?;
        pty.expect("done")?;
        let screen = pty.screen();
        anyhow::ensure!(screen[shown..].contains("50 132"), "{screen:?}");
        Ok(())
    })?;
    pty.send("exit 7\r")?;
    assert_eq!(pty.finish()?.0, 7);
    Ok(())
}

#[test]
fn ctrl_c_reaches_the_terminals_program() -> Result<()> {
    let mut pty = cli()?.pty([
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 1; done",
    ])?;
    pty.expect("up")?;
    pty.send("\x03")?;
    pty.expect("caught")?;
    assert_eq!(pty.finish()?.0, 9);
    Ok(())
}

#[test]
fn d_prints_the_id_and_returns() -> Result<()> {
    let (cli, name) = (cli()?, unique("d"));
    let id = cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    assert_eq!(id.len(), 64, "{id}");
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(cli.inspect(&name, "{{.Id}} {{.State.Running}}")?, format!("{id} true"));
    assert_eq!(cli.inspect(&id[..12], "{{.Name}}")?, format!("/{name}"));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn name_is_given_and_taken() -> Result<()> {
    let (cli, name) = (cli()?, unique("taken"));
    cli.ok(["create", "--name", &name, "busybox"])?;
    let said = cli.fails(125, ["run", "--name", &name, "busybox", "true"])?;
    assert!(
        said.contains(&format!("Conflict. The container name \"/{name}\" is already in use by container")),
        "{said}"
    );
    cli.ok(["rm", &name])?;
    // The name is free again.
    cli.ok(["run", "--rm", "--name", &name, "busybox", "true"])?;
    cli.fails(1, ["inspect", &name])?;
    Ok(())
}

#[test]
fn without_name_one_is_made_up() -> Result<()> {
    let cli = cli()?;
    let id = cli.ok(["create", "busybox"])?;
    let name = cli.inspect(&id, "{{.Name}}")?;
    assert!(name.len() > 3 && name.starts_with('/') && name.contains('_'), "{name}");
    cli.ok(["rm", &name[1..]])?;
    Ok(())
}

#[test]
fn rm_removes_it_at_its_end_and_its_anonymous_volume() -> Result<()> {
    let (cli, name) = (cli()?, unique("rm"));
    let volumes = || cli.ok(["volume", "ls", "-q"]);
    cli.ok(["run", "--rm", "--name", &name, "busybox", "true"])?;
    assert!(cli.fails(1, ["inspect", &name])?.contains("No such object"));
    let id = cli.ok(["run", "-d", "--rm", "-v", "/data", "--name", &name, "busybox", "sleep", "1000"])?;
    let volume = cli.inspect(&name, "{{(index .Mounts 0).Name}}")?;
    assert!(volumes()?.contains(&volume));
    cli.run(["kill", &id])?;
    eventually("the container to be removed", || {
        let left = cli.ok(["ps", "-aq", "--no-trunc"])?;
        anyhow::ensure!(!left.contains(&id) && !volumes()?.contains(&volume), "it is still there");
        Ok(())
    })
}

#[test]
fn environment() -> Result<()> {
    let engine = shared()?;
    let said = run(&["-e", "A=1", "--env", "B=two words", "-e", "A=last"], &["env"])?;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&"A=last") && lines.contains(&"B=two words") && !lines.contains(&"A=1"), "{said}");
    assert!(lines.contains(&"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), "{said}");
    assert!(lines.contains(&"HOME=/root"), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=") && line.len() == "HOSTNAME=".len() + 12), "{said}");
    assert!(!said.contains("TERM="), "{said}");

    let file = engine.scratch("env")?.join("file");
    fs::write(&file, "# comment\nC=from file\n\nD=overridden\nE=with=sign\n")?;
    let file = file.to_str().context("a path")?;
    let said = run(&["--env-file", file, "-e", "D=flag"], &["sh", "-c", "echo \"$C|$D|$E\""])?;
    assert_eq!(said, "from file|flag|with=sign");
    Ok(())
}

#[test]
fn e_without_a_value_takes_the_clients() -> Result<()> {
    let mut command = cli()?.command(["run", "--rm", "-e", "MINE", "-e", "NARU_TEST_UNSET", "busybox", "env"]);
    let output = command.env("MINE", "yours").output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.lines().any(|line| line == "MINE=yours") && !said.contains("NARU_TEST_UNSET"), "{said}");
    Ok(())
}

#[test]
fn a_terminal_sets_term() -> Result<()> {
    assert!(cli()?.ok(["run", "--rm", "-t", "busybox", "env"])?.contains("TERM=xterm\r\n"));
    Ok(())
}

#[test]
fn working_folder_is_made_and_entered() -> Result<()> {
    assert_eq!(run(&["-w", "/some/new/place"], &["pwd"])?, "/some/new/place");
    assert_eq!(run(&[], &["pwd"])?, "/");
    let said = cli()?.fails(125, ["run", "--rm", "-w", "relative", "busybox", "pwd"])?;
    assert!(said.contains("the working directory 'relative' is invalid, it needs to be an absolute path"), "{said}");
    Ok(())
}

#[test]
fn user() -> Result<()> {
    assert_eq!(run(&[], &["id"])?, "uid=0(root) gid=0(root) groups=0(root)");
    assert_eq!(run(&["-u", "alice"], &["id"])?, "uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)");
    assert_eq!(run(&["-u", "1000:50"], &["sh", "-c", "id -u; id -g"])?, "1000\n50");
    assert_eq!(run(&["-u", "4242"], &["sh", "-c", "id -u; id -g; echo $HOME"])?, "4242\n0\n/");
    assert_eq!(run(&["-u", "alice"], &["sh", "-c", "echo $HOME"])?, "/home/alice");
    let groups = run(&["-u", "alice", "--group-add", "777"], &["id", "-G"])?;
    assert!(groups.split(' ').any(|group| group == "777"), "{groups}");
    let done = cli()?.run(["run", "--rm", "-u", "nobody-here", "busybox", "id"])?;
    assert!((125..=126).contains(&done.code), "{}", done.code);
    assert!(
        done.stderr.contains("unable to find user nobody-here: no matching entries in passwd file"),
        "{}",
        done.stderr
    );
    Ok(())
}

#[test]
fn entrypoint() -> Result<()> {
    assert_eq!(run(&["--entrypoint", "echo"], &["a", "b"])?, "a b");
    // The image's own command is not passed on to another entrypoint.
    assert_eq!(run(&["--entrypoint", "echo"], &[])?, "");
    Ok(())
}

#[test]
fn hostname() -> Result<()> {
    assert_eq!(run(&["--hostname", "harbour"], &["hostname"])?, "harbour");
    assert_eq!(run(&["-h", "harbour"], &["cat", "/etc/hostname"])?, "harbour");
    let hosts = run(&["-h", "harbour"], &["cat", "/etc/hosts"])?;
    assert!(hosts.lines().any(|line| line.ends_with("\tharbour")), "{hosts}");
    let (cli, name) = (cli()?, unique("host"));
    let id = cli.ok(["run", "--name", &name, "-d", "busybox", "hostname"])?;
    cli.ok(["wait", &name])?;
    assert_eq!(cli.ok(["logs", &name])?, id[..12]);
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn bind_by_v() -> Result<()> {
    let folder = shared()?.scratch("bind")?;
    fs::write(folder.join("in"), "from the host")?;
    let source = folder.display();
    assert_eq!(run(&["-v", &format!("{source}:/b")], &["cat", "/b/in"])?, "from the host");
    run(&["-v", &format!("{source}:/b")], &["sh", "-c", "echo back >/b/out; chown 1000:50 /b/out"])?;
    assert_eq!(fs::read_to_string(folder.join("out"))?, "back\n");
    let meta = fs::metadata(folder.join("out"))?;
    assert_eq!((meta.uid(), meta.gid()), (1000, 50));
    let done = cli()?.run(["run", "--rm", "-v", &format!("{source}:/b:ro"), "busybox", "touch", "/b/no"])?;
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("Read-only file system"), "{}", done.stderr);
    // One file alone.
    assert_eq!(run(&["-v", &format!("{source}/in:/etc/one:ro")], &["cat", "/etc/one"])?, "from the host");
    Ok(())
}

#[test]
fn bind_by_v_makes_a_missing_source() -> Result<()> {
    let folder = shared()?.scratch("missing")?;
    run(&["-v", &format!("{}/made/here:/b", folder.display())], &["touch", "/b/f"])?;
    assert!(folder.join("made/here/f").is_file());
    Ok(())
}

#[test]
fn bind_by_mount() -> Result<()> {
    let folder = shared()?.scratch("mount")?;
    fs::write(folder.join("in"), "x")?;
    let bind = format!("type=bind,source={},target=/b", folder.display());
    assert_eq!(run(&["--mount", &bind], &["sh", "-c", "cat /b/in; touch /b/made"])?, "x");
    assert!(folder.join("made").exists());
    let done = cli()?.run(["run", "--rm", "--mount", &format!("{bind},readonly"), "busybox", "touch", "/b/no"])?;
    assert!(done.code == 1 && done.stderr.contains("Read-only file system"), "{done:?}");
    Ok(())
}

#[test]
fn a_binds_own_mounts_are_seen_below_it() -> Result<()> {
    // A bind is recursive: /proc of the host's view is a mount below `/`.
    assert_eq!(run(&["-v", "/:/host:ro"], &["sh", "-c", "test -e /host/proc/1/status && echo yes"])?, "yes");
    Ok(())
}

#[test]
fn volumes_keep_their_content() -> Result<()> {
    let (cli, volume) = (cli()?, unique("vol"));
    let mount = format!("{volume}:/v");
    run(&["-v", &mount], &["sh", "-c", "echo kept >/v/f"])?;
    assert_eq!(run(&["-v", &mount], &["cat", "/v/f"])?, "kept");
    assert_eq!(run(&["--mount", &format!("source={volume},target=/w,readonly")], &["cat", "/w/f"])?, "kept");
    assert!(cli.ok(["volume", "ls", "-q"])?.lines().any(|line| line == volume));
    cli.ok(["volume", "rm", &volume])?;
    Ok(())
}

#[test]
fn tmpfs() -> Result<()> {
    let (cli, name) = (shared()?.cli(), unique("tmpfs"));
    cli.ok(["create", "--name", &name, "--tmpfs", "/t", "--mount", "type=tmpfs,target=/m", "busybox"])?;
    assert_eq!(cli.inspect(&name, "{{range .Mounts}}{{.Destination}} {{end}}{{.HostConfig.Tmpfs}}")?, "/m map[/t:]");
    cli.ok(["rm", &name])?;
    let said = run(&["--tmpfs", "/t:size=1m,mode=1770"], &["sh", "-c", "grep ' /t ' /proc/mounts; stat -c %a /t"])?;
    assert!(said.contains("tmpfs /t tmpfs rw,nosuid,nodev,noexec") && said.contains("size=1024k"), "{said}");
    assert!(said.ends_with("1770"), "{said}");
    Ok(())
}

#[test]
fn read_only_root() -> Result<()> {
    let done = cli()?.run(["run", "--rm", "--read-only", "busybox", "touch", "/x"])?;
    assert!(done.code == 1 && done.stderr.contains("Read-only file system"), "{done:?}");
    run(&["--read-only", "--tmpfs", "/t"], &["touch", "/t/x", "/dev/shm/x"])?;
    Ok(())
}

#[test]
fn labels() -> Result<()> {
    let (cli, name) = (cli()?, unique("label"));
    cli.ok(["create", "--name", &name, "-l", "a=1", "--label", "empty", "-l", "b=x=y", "busybox"])?;
    assert_eq!(cli.inspect(&name, "{{json .Config.Labels}}")?, r#"{"a":"1","b":"x=y","empty":""}"#);
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn init_reaps_and_passes_signals() -> Result<()> {
    let (cli, name) = (cli()?, unique("init"));
    let script = "trap 'exit 42' TERM; (sleep 0.01 &); echo up; while :; do sleep 0.1; done";
    cli.ok(["run", "-d", "--init", "--name", &name, "busybox", "sh", "-c", script])?;
    cli.wait_for_log(&name, "up")?;
    assert_eq!(cli.ok(["exec", &name, "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline | grep -c init"])?, "1");
    cli.ok(["stop", &name])?;
    assert_eq!(cli.inspect(&name, "{{.State.ExitCode}}")?, "42");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn stop_signal() -> Result<()> {
    let (cli, name) = (cli()?, unique("stopsig"));
    let script = "trap 'echo got usr1; exit 6' USR1; echo up; while :; do sleep 0.1; done";
    cli.ok(["run", "-d", "--stop-signal", "SIGUSR1", "--name", &name, "busybox", "sh", "-c", script])?;
    cli.wait_for_log(&name, "up")?;
    cli.ok(["stop", &name])?;
    assert!(cli.ok(["logs", &name])?.contains("got usr1"));
    assert_eq!(cli.inspect(&name, "{{.State.ExitCode}}")?, "6");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn cidfile() -> Result<()> {
    let (cli, file) = (cli()?, shared()?.scratch("cid")?.join("id"));
    let path = file.to_str().context("a path")?;
    let id = cli.ok(["run", "-d", "--cidfile", path, "busybox", "true"])?;
    assert_eq!(fs::read_to_string(&file)?, id);
    let done = cli.run(["run", "--cidfile", path, "busybox", "true"])?;
    assert_eq!(done.code, 125);
    assert!(done.stderr.to_lowercase().contains("container id file found"), "{}", done.stderr);
    cli.ok(["rm", "-f", &id])?;
    Ok(())
}

#[test]
fn exit_codes() -> Result<()> {
    let cli = cli()?;
    for (command, code) in
        [("exit 0", 0), ("exit 1", 1), ("exit 77", 77), ("exit 255", 255), ("kill -9 $$; sleep 1000", 0)]
    {
        if !command.starts_with("kill") {
            assert_eq!(cli.run(["run", "--rm", "busybox", "sh", "-c", command])?.code, code, "{command}");
        }
    }
    // The process itself is not to be had, or not to be run.
    let missing = cli.run(["run", "--rm", "busybox", "no-such-program"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    let missing = cli.run(["run", "--rm", "busybox", "/no/such/program"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("no such file or directory"), "{}", missing.stderr);
    let forbidden = cli.run(["run", "--rm", "busybox", "/etc/passwd"])?;
    assert_eq!(forbidden.code, 126, "{}", forbidden.stderr);
    assert!(forbidden.stderr.contains("permission denied"), "{}", forbidden.stderr);
    let folder = cli.run(["run", "--rm", "busybox", "/etc"])?;
    assert_eq!(folder.code, 126, "{}", folder.stderr);
    // Nothing was run at all.
    assert_eq!(cli.run(["run", "--rm", "--no-such-flag", "busybox", "true"])?.code, 125);
    assert_eq!(cli.run(["run", "--rm", "--memory", "1b", "busybox", "true"])?.code, 125);
    Ok(())
}

#[test]
fn a_signals_exit_code_is_128_more() -> Result<()> {
    let (cli, name) = (cli()?, unique("sig"));
    let running = cli.start(["run", "--name", &name, "busybox", "sh", "-c", "echo up; exec tail -f /dev/null"])?;
    running.expect("up")?;
    cli.ok(["kill", &name])?;
    assert_eq!(running.finish()?.code, 137);
    assert_eq!(cli.inspect(&name, "{{.State.ExitCode}}")?, "137");
    cli.ok(["rm", &name])?;
    // The first process of a pid namespace does not die of a SIGTERM that it has no handler for, one that has been sent
    // by itself included. Docker's init passes on what its child died of.
    let done = cli.run(["run", "--rm", "--init", "busybox", "sh", "-c", "kill -TERM $$; sleep 1000"])?;
    assert_eq!(done.code, 143);
    Ok(())
}

#[test]
fn the_clients_signal_reaches_the_process() -> Result<()> {
    let (cli, name) = (cli()?, unique("proxy"));
    let script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let running = cli.start(["run", "--name", &name, "busybox", "sh", "-c", script])?;
    running.expect("up")?;
    running.signal(rustix::process::Signal::TERM)?;
    let done = running.finish()?;
    assert_eq!((done.code, done.stdout.as_str()), (3, "up\nterm\n"));
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn resources_reach_the_cgroup() -> Result<()> {
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(run(&["-m", "64m"], &["sh", "-c", limit])?, "67108864");
    let limit = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    assert_eq!(run(&["--pids-limit", "50"], &["sh", "-c", limit])?, "50");
    let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
    assert_eq!(run(&["--cpus", "0.5"], &["sh", "-c", quota])?, "50000");
    let shm = run(&["--shm-size", "16m"], &["sh", "-c", "df -k /dev/shm | tail -1"])?;
    assert!(shm.contains(" 16384 "), "{shm}");
    Ok(())
}

#[test]
fn too_much_memory_ends_it_and_says_so() -> Result<()> {
    let (cli, name) = (cli()?, unique("oom"));
    // The shell doubles a variable until the group's limit ends it.
    let script = "x=0123456789; while :; do x=$x$x$x$x; done";
    let done = cli.run(["run", "--name", &name, "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", script])?;
    assert_eq!(done.code, 137, "{}", done.stderr);
    assert_eq!(cli.inspect(&name, "{{.State.OOMKilled}}")?, "true");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn ulimits() -> Result<()> {
    assert_eq!(run(&["--ulimit", "nofile=123:456"], &["sh", "-c", "ulimit -n; ulimit -Hn"])?, "123\n456");
    Ok(())
}

#[test]
fn extra_hosts_and_dns() -> Result<()> {
    let hosts = run(&["--add-host", "lighthouse:10.9.8.7"], &["cat", "/etc/hosts"])?;
    assert!(hosts.lines().any(|line| line == "10.9.8.7\tlighthouse"), "{hosts}");
    let resolv = run(&["--dns", "10.1.1.1", "--dns-search", "example.test"], &["cat", "/etc/resolv.conf"])?;
    assert!(resolv.lines().any(|line| line == "nameserver 10.1.1.1"), "{resolv}");
    assert!(resolv.lines().any(|line| line == "search example.test"), "{resolv}");
    Ok(())
}

#[test]
fn capabilities_and_privileges() -> Result<()> {
    let done = cli()?.run(["run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1", "/tmp"])?;
    assert!(done.code != 0 && done.stderr.contains("Operation not permitted"), "{done:?}");
    run(&["--cap-add", "SYS_ADMIN"], &["mount", "-t", "tmpfs", "tmpfs", "/tmp"])?;
    let said = cli()?.fails(125, ["run", "--rm", "--cap-add", "FLY", "busybox", "true"])?;
    assert!(said.contains("FLY"), "{said}");
    assert_eq!(
        run(&["--security-opt", "no-new-privileges"], &["grep", "NoNewPrivs", "/proc/self/status"])?,
        "NoNewPrivs:\t1"
    );
    Ok(())
}

#[test]
fn devices() -> Result<()> {
    assert_eq!(
        run(&["--device", "/dev/null:/dev/mine"], &["sh", "-c", "echo x >/dev/mine && stat -c %t:%T /dev/mine"])?,
        "1:3"
    );
    Ok(())
}
