//! Podman and containerd run containers on `naru oci`. Each has a world of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use naru_testkit::{Pty, World, eventually, image, naru_binary};
use naru_tests::bundle::{Said, is, said};

/// A world with a runtime of one name and busybox as an archive.
struct Caller {
    world: World,
    runtime: PathBuf,
}

impl Caller {
    fn new() -> Result<Caller> {
        let world = World::new()?;
        let folder = world.folder().to_owned();
        fs::write(folder.join("busybox.tar"), image::busybox()?)?;
        // Under this name the program is the runtime.
        let runtime = match std::env::var_os("NARU_TEST_RUNTIME") {
            Some(other) => PathBuf::from(other),
            None => {
                symlink(fs::canonicalize(naru_binary())?, folder.join("naru-oci"))?;
                folder.join("naru-oci")
            }
        };
        Ok(Caller { world, runtime })
    }

    fn run(&self, command: Command) -> Result<Said> {
        let mut command = command;
        command.stdin(Stdio::null()).env("HOME", self.world.folder());
        said(command, self.world.folder(), &naru_testkit::unique("said"))
    }

    fn podman_command(&self, args: &[&str]) -> Command {
        let folder = self.world.folder();
        let mut command = self.world.command("podman");
        command.arg("--root").arg(folder.join("podman")).args([
            "--runroot",
            "/run/podman",
            "--tmpdir",
            "/run/podman-tmp",
        ]);
        command.arg("--runtime").arg(&self.runtime);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]).args(args);
        command
    }

    fn podman(&self, args: &[&str]) -> Result<Said> {
        self.run(self.podman_command(args))
    }

    fn ctr(&self, args: &[&str]) -> Result<Said> {
        let mut command = self.world.command("ctr");
        command.args(["--address", "/run/containerd.sock"]).args(args);
        self.run(command)
    }
}

fn fine(said: &Said) -> Result<&str> {
    ensure!(said.code == 0, "{said:?}");
    Ok(&said.out)
}

#[test]
fn podman_runs_execs_pauses_and_stops() -> Result<()> {
    let caller = Caller::new()?;
    let archive = caller.world.folder().join("busybox.tar");
    fine(&caller.podman(&["load", "-q", "-i", archive.to_str().context("a path")?])?)?;
    let run = |args: &[&str]| caller.podman(&[&["run", "--network", "none"], args].concat());

    assert_eq!(fine(&run(&["--rm", "busybox", "echo", "hello"])?)?, "hello");
    assert_eq!(run(&["--rm", "busybox", "sh", "-c", "exit 3"])?.code, 3);
    assert_eq!(run(&["--rm", "busybox", "nope"])?.code, 127);
    let flags =
        ["--rm", "--read-only", "--tmpfs", "/home", "--memory", "32m", "--pids-limit", "20", "--user", "1000:1000"];
    let script = "id -u; touch /x || echo read-only; ls /home; grep NoNewPrivs /proc/self/status";
    let limited = run(&[&flags[..], &["--security-opt", "no-new-privileges", "busybox", "sh", "-c", script]].concat())?;
    let lines: Vec<&str> = fine(&limited)?.lines().collect();
    assert_eq!(lines[..3], ["1000", "read-only", "alice"]);
    assert!(lines[3].ends_with('1'), "{lines:?}");

    let script = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
    fine(&run(&["-d", "--name", "box", "busybox", "sh", "-c", script])?)?;
    assert_eq!(fine(&caller.podman(&["exec", "box", "hostname"])?)?.len(), 12);
    assert_eq!(caller.podman(&["exec", "box", "sh", "-c", "exit 9"])?.code, 9);
    assert_eq!(caller.podman(&["exec", "--user", "1000", "box", "id", "-u"])?.out, "1000");
    fine(&caller.podman(&["pause", "box"])?)?;
    let status = || caller.podman(&["inspect", "box", "--format", "{{.State.Status}}"]).map(|said| said.out);
    assert_eq!(status()?, "paused");
    fine(&caller.podman(&["unpause", "box"])?)?;
    assert_eq!(status()?, "running");
    // The shell is always there, its sleep comes and goes.
    assert!(fine(&caller.podman(&["top", "box"])?)?.contains("sh -c"));
    fine(&caller.podman(&["stop", "-t", "20", "box"])?)?;
    let code = caller.podman(&["inspect", "box", "--format", "{{.State.ExitCode}}"])?;
    assert_eq!(code.out, "5");
    fine(&caller.podman(&["start", "box"])?)?;
    fine(&caller.podman(&["rm", "-f", "-t", "0", "box"])?)?;
    assert_eq!(fine(&caller.podman(&["ps", "-aq"])?)?, "");

    let mut terminal =
        Pty::start(&caller.podman_command(&["run", "--rm", "-it", "--network", "none", "busybox", "tty"]))?;
    terminal.expect("/dev/pts/0")?;
    assert_eq!(terminal.finish()?.0, 0);
    // Podman keeps its storage mounted.
    caller.world.expect_clean(&[format!("mount {}", caller.world.folder().display()), "mount /run/".to_owned()])
}

#[test]
fn containerd_runs_execs_pauses_and_stops() -> Result<()> {
    let caller = Caller::new()?;
    let folder = caller.world.folder().to_owned();
    let rootfs = folder.join("rootfs");
    fs::create_dir(&rootfs)?;
    fs::write(folder.join("rootfs.tar"), image::busybox_rootfs()?)?;
    let mut tar = Command::new("tar");
    ensure!(
        tar.arg("-xpf").arg(folder.join("rootfs.tar")).arg("-C").arg(&rootfs).status()?.success(),
        "unpack busybox"
    );
    let settings = format!(
        "version = 2\nroot = \"{0}/containerd\"\nstate = \"/run/containerd-state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"/run/containerd.sock\"\n",
        folder.display()
    );
    fs::write(folder.join("containerd.toml"), settings)?;
    let log = fs::File::create(folder.join("containerd.log"))?;
    let mut daemon = caller.world.command("containerd");
    daemon.arg("-c").arg(folder.join("containerd.toml")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut daemon = daemon.spawn()?;
    let worked = on_containerd(&caller, rootfs.to_str().context("a path")?);
    // Its own process is a child of nsenter's.
    let stop = caller.world.command("pkill").args(["-TERM", "-x", "containerd"]).status()?;
    worked.with_context(|| fs::read_to_string(folder.join("containerd.log")).unwrap_or_default())?;
    ensure!(stop.success(), "stop containerd");
    daemon.wait()?;
    Ok(())
}

fn on_containerd(caller: &Caller, rootfs: &str) -> Result<()> {
    eventually("containerd to answer", || fine(&caller.ctr(&["version"])?).map(drop))?;
    let runtime = caller.runtime.to_str().context("a path")?;
    let flags = ["--runc-binary", runtime, "--env", "PATH=/bin", "--rootfs"];
    let run = |more: &[&str], id: &str, program: &[&str]| {
        caller.ctr(&[&["run"], more, &flags[..], &[rootfs, id], program].concat())
    };
    assert_eq!(fine(&run(&["--rm"], "one", &["echo", "hello"])?)?, "hello");
    assert_eq!(run(&["--rm"], "two", &["sh", "-c", "exit 4"])?.code, 4);
    let missing = run(&["--rm"], "three", &["nope"])?;
    assert!(missing.code != 0 && (is("crun") || missing.err.contains("executable file not found")), "{missing:?}");

    let script = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
    fine(&run(&["-d"], "box", &["sh", "-c", script])?)?;
    let status = || -> Result<String> {
        let list = caller.ctr(&["task", "ls"])?.out;
        let line = list.lines().find(|line| line.starts_with("box")).context("no such task")?.to_owned();
        Ok(line.split_whitespace().last().unwrap_or_default().to_owned())
    };
    assert_eq!(status()?, "RUNNING");
    assert_eq!(fine(&caller.ctr(&["task", "exec", "--exec-id", "a", "box", "id", "-u"])?)?, "0");
    assert_eq!(caller.ctr(&["task", "exec", "--exec-id", "b", "box", "sh", "-c", "exit 8"])?.code, 8);
    fine(&caller.ctr(&["task", "pause", "box"])?)?;
    assert_eq!(status()?, "PAUSED");
    fine(&caller.ctr(&["task", "resume", "box"])?)?;
    fine(&caller.ctr(&["task", "kill", "box"])?)?;
    eventually("the task to have stopped", || match status()?.as_str() {
        "STOPPED" => Ok(()),
        other => bail!("it is {other}"),
    })?;
    fine(&caller.ctr(&["container", "rm", "box"])?).or_else(|_| {
        caller.ctr(&["task", "rm", "box"])?;
        let removed = caller.ctr(&["container", "rm", "box"])?;
        fine(&removed).map(|_| "")
    })?;
    assert_eq!(fine(&caller.ctr(&["container", "ls", "-q"])?)?, "");
    Ok(())
}
