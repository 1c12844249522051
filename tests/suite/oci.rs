//! The OCI runtime's verbs on bundles: runtime.md of the specification, and runc's arguments. The same cases pass on runc and crun
//! (`NARU_TEST_RUNTIME=runc`).

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail, ensure};
use naru_testkit::{eventually, unique};
use naru_tests::bundle::{Bundle, is, other_runtime};
use rustix::fd::OwnedFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

#[test]
fn create_waits_and_start_executes() -> Result<()> {
    let bundle = Bundle::new("echo started; exec sleep 1000")?;
    bundle.create_with(&["--pid-file", "pid"])?;
    let state = bundle.state()?;
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(bundle.id)));
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(state["bundle"], json!(bundle.dir()));
    assert_eq!(fs::read_to_string(bundle.dir().join("pid"))?, state["pid"].to_string());
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    assert_eq!(bundle.output(), "");

    bundle.ok(&["start", &bundle.id])?;
    assert_eq!(bundle.status()?, "running");
    eventually("the program's output", || match bundle.output().as_str() {
        "started" => Ok(()),
        other => bail!("{other:?}"),
    })?;
    bundle.fails(&["start", &bundle.id])?;
    bundle.fails(&["create", &bundle.id])?;
    bundle.fails(&["delete", &bundle.id])?;

    bundle.ok(&["kill", &bundle.id, "KILL"])?;
    bundle.until("stopped")?;
    bundle.fails(&["kill", &bundle.id, "TERM"])?;
    bundle.fails(&["start", &bundle.id])?;
    bundle.ok(&["delete", &bundle.id])?;
    bundle.fails(&["state", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn a_created_container_can_be_deleted() -> Result<()> {
    let bundle = Bundle::new("echo never")?;
    bundle.create()?;
    bundle.ok(&["delete", "--force", &bundle.id])?;
    assert_eq!(bundle.output(), "");
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn run_passes_on_output_and_exit_code() -> Result<()> {
    let said = Bundle::new("echo out; echo err >&2; exit 7")?.run()?;
    assert_eq!((said.code, said.out.as_str()), (7, "out"));
    assert!(said.err.contains("err"), "{}", said.err);
    let bundle = Bundle::new("exit 0")?;
    assert_eq!(bundle.run()?.code, 0);
    bundle.expect_gone()
}

#[test]
fn a_program_that_is_not_there_is_an_error_of_create() -> Result<()> {
    let mut bundle = Bundle::new("")?;
    bundle.config["process"]["args"] = json!(["nope"]);
    let said = bundle.create().map_err(|e| e.to_string()).err().context("create succeeded")?;
    assert!(said.contains("nope"), "{said}");
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn exec_runs_a_further_process() -> Result<()> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.started()?;
    let id = bundle.id.as_str();
    assert_eq!(bundle.ok(&["exec", id, "hostname"])?, "bundle");
    assert_eq!(bundle.oci(&["exec", id, "sh", "-c", "exit 9"])?.code, 9);
    let groups = if is("crun") { &[] as &[&str] } else { &["--additional-gids", "77"] };
    let args = [&["exec", "--user", "1000:50"], groups, &[id, "sh", "-c", "id -u; id -g; id -G"]].concat();
    let user = bundle.ok(&args)?;
    assert_eq!(user.lines().take(2).collect::<Vec<_>>(), ["1000", "50"]);
    assert!(groups.is_empty() || user.split_whitespace().any(|gid| gid == "77"), "{user}");
    // crun takes the environment of its flags alone.
    let place = bundle.ok(&["exec", "--cwd", "/tmp", "--env", "A=b c", id, "/bin/sh", "-c", "pwd; echo $A"])?;
    assert_eq!(place, "/tmp\nb c");
    let caps = bundle.ok(&["exec", "--cap", "CAP_SYS_TIME", id, "grep", "CapBnd", "/proc/self/status"])?;
    let set = u64::from_str_radix(caps.split_whitespace().last().context("a set")?, 16)?;
    assert_eq!(set >> 25 & 1, 1, "{caps}");
    let failed = bundle.oci(&["exec", id, "nope"])?;
    assert!(failed.code != 0 && failed.err.contains("nope"), "{failed:?}");

    let process = json!({
        "args": ["sh", "-c", "echo $$ >/tmp/pid; id -u; exec sleep 1000"], "cwd": "/tmp", "env": ["PATH=/bin"],
        "user": {"uid": 1000, "gid": 1000},
    });
    fs::write(bundle.dir().join("process.json"), process.to_string())?;
    bundle.ok(&["exec", "--detach", "--pid-file", "exec-pid", "--process", "process.json", id])?;
    let pid = fs::read_to_string(bundle.dir().join("exec-pid"))?;
    let listed: Vec<Value> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", id])?)?;
    let pid: i64 = pid.parse()?;
    assert!(listed.iter().any(|listed| listed.as_i64() == Some(pid)), "{pid} is not in {listed:?}");
    eventually("the process to say who it is", || {
        fs::read_to_string(bundle.rootfs().join("tmp/pid"))
            .context("no file")?
            .trim()
            .parse::<i32>()
            .context("no number")
    })?;
    Ok(())
}

#[test]
fn pause_stops_and_resume_goes_on() -> Result<()> {
    let bundle = Bundle::new("while :; do echo x; sleep 0.05; done")?;
    bundle.started()?;
    eventually("output", || if bundle.output().is_empty() { bail!("none") } else { Ok(()) })?;
    bundle.ok(&["pause", &bundle.id])?;
    assert_eq!(bundle.status()?, "paused");
    let before = bundle.output().len();
    bundle.fails(&["exec", &bundle.id, "true"])?;
    assert_eq!(bundle.output().len(), before);
    bundle.ok(&["resume", &bundle.id])?;
    assert_eq!(bundle.status()?, "running");
    eventually("more output", || if bundle.output().len() > before { Ok(()) } else { bail!("none") })?;
    bundle.ok(&["pause", &bundle.id])?;
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn kill_takes_names_and_numbers() -> Result<()> {
    let script = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = Bundle::new(script)?;
    bundle.started()?;
    let until = |line: &str| {
        eventually(
            line,
            || if bundle.output().lines().any(|l| l == line) { Ok(()) } else { bail!("{}", bundle.output()) },
        )
    };
    until("ready")?;
    bundle.ok(&["kill", &bundle.id, "1"])?;
    until("hup")?;
    bundle.ok(&["kill", &bundle.id, "SIGUSR1"])?;
    until("usr1")?;
    if !is("crun") {
        bundle.fails(&["kill", &bundle.id, "NOPE"])?;
    }
    bundle.ok(&["kill", &bundle.id])?;
    until("term")?;
    bundle.until("stopped")
}

#[test]
fn unknown_containers_are_errors() -> Result<()> {
    let bundle = Bundle::new("true")?;
    for args in [&["state"] as &[&str], &["start"], &["kill"], &["delete"], &["exec"], &["pause"], &["resume"], &["ps"]]
    {
        let mut args = args.to_vec();
        args.push("never-made");
        if args[0] == "exec" {
            args.push("true");
        }
        let said = bundle.fails(&args)?;
        assert!(is("crun") || said.contains("does not exist"), "{args:?}: {said}");
    }
    let blank = if is("crun") { ".." } else { "a b" };
    for bad in ["", "..", "a/b", blank] {
        bundle.fails(&["create", bad])?;
    }
    Ok(())
}

#[test]
fn list_and_features_and_version_are_json_or_text() -> Result<()> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.started()?;
    assert_eq!(bundle.ok(&["list", "-q"])?, bundle.id);
    let listed: Value = serde_json::from_str(&bundle.ok(&["list", "--format", "json"])?)?;
    assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!(bundle.id), &json!("running")));
    assert!(bundle.ok(&["list"])?.lines().nth(1).is_some_and(|line| line.starts_with(&bundle.id)));
    if other_runtime().is_some() {
        return Ok(());
    }
    let features: Value = serde_json::from_str(&bundle.ok(&["features"])?)?;
    assert!(features["hooks"].as_array().is_some_and(|hooks| hooks.len() == 6), "{features}");
    assert_eq!(features["linux"]["seccomp"]["enabled"], json!(true));
    assert!(bundle.ok(&["--version"])?.contains("spec: 1."));
    let stats: Value = serde_json::from_str(&bundle.ok(&["events", "--stats", &bundle.id])?)?;
    assert!(stats["data"]["pids"]["current"].as_u64().is_some_and(|pids| pids >= 1), "{stats}");
    assert!(bundle.fails(&["checkpoint", &bundle.id])?.contains("not supported"));
    assert!(bundle.fails(&["--systemd-cgroup", "create", "x"])?.contains("systemd"));
    Ok(())
}

#[test]
fn spec_makes_a_bundle_that_runs() -> Result<()> {
    let mut bundle = Bundle::new("")?;
    fs::create_dir(bundle.dir().join("fresh"))?;
    let folder = bundle.dir().join("fresh");
    bundle.ok(&["spec", "--bundle", folder.to_str().context("a path")?])?;
    let mut config: Value = serde_json::from_slice(&fs::read(folder.join("config.json"))?)?;
    assert_eq!(config["process"]["args"], json!(["sh"]));
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["echo", "hello"]);
    bundle.config = config;
    assert_eq!(bundle.prints()?, "hello");
    bundle.fails(&["spec", "--bundle", folder.to_str().context("a path")?]).map(drop)
}

#[test]
fn errors_go_to_the_log_as_json() -> Result<()> {
    let bundle = Bundle::new("true")?;
    bundle.fails(&["--log", "log.json", "--log-format", "json", "start", "never-made"])?;
    let log = fs::read_to_string(bundle.dir().join("log.json"))?;
    let line: Value = serde_json::from_str(log.lines().last().context("a line")?)?;
    assert_eq!(line["level"], json!("error"));
    let text = line["msg"].as_str().context("a text")?;
    assert!(is("crun") || text.contains("does not exist"), "{line}");
    assert!(line["time"].as_str().is_some_and(|time| time.contains('T')), "{line}");
    Ok(())
}

/// The master of the terminal that comes over `listener`.
fn receive(listener: &UnixListener) -> Result<OwnedFd> {
    let (stream, _) = listener.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 128];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return fds.next().context("a descriptor");
        }
    }
    bail!("no descriptor came")
}

#[test]
fn a_terminal_is_sent_over_the_console_socket() -> Result<()> {
    let bundle = Bundle::new("tty; stty size; read line; echo \"got $line\"; exec sleep 1000")?;
    let bundle =
        bundle.with("/process/terminal", json!(true)).with("/process/consoleSize", json!({"height": 33, "width": 101}));
    ensure!(bundle.create().is_err(), "a terminal without a socket");
    bundle.ok(&["delete", "--force", &bundle.id])?;
    let listener = UnixListener::bind(bundle.dir().join("tty"))?;
    bundle.create_with(&["--console-socket", "tty"])?;
    let mut master = fs::File::from(receive(&listener)?);
    bundle.ok(&["start", &bundle.id])?;
    let mut shown = String::new();
    let mut until = |master: &mut fs::File, wanted: &str| -> Result<()> {
        while !shown.contains(wanted) {
            let mut buffer = [0; 256];
            let length = master.read(&mut buffer)?;
            shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(())
    };
    until(&mut master, "/dev/")?;
    until(&mut master, "33 101")?;
    master.write_all(b"hello\n")?;
    until(&mut master, "got hello")?;
    bundle.ok(&["exec", "--detach", "--tty", "--console-socket", "tty", &bundle.id, "sh", "-c", "tty; sleep 1000"])?;
    let mut other = fs::File::from(receive(&listener)?);
    let mut buffer = [0; 64];
    let length = other.read(&mut buffer)?;
    assert!(buffer[..length].starts_with(b"/dev/"), "{:?}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}

#[test]
fn descriptors_are_preserved_when_asked_for_and_only_then() -> Result<()> {
    let bundle = Bundle::new("cat <&3; ls /proc/self/fd | wc -l")?;
    fs::write(bundle.dir().join("passed"), "passed\n")?;
    let with = |flags: &[&str]| -> Result<String> {
        // The shell opens the descriptor that the runtime inherits.
        let id = unique("fd");
        let inner = bundle.command(&[&["run"], flags, &[id.as_str()]].concat())?;
        let mut outer = std::process::Command::new("sh");
        let passed = bundle.dir().join("passed");
        outer
            .arg("-c")
            .arg(format!("exec \"$@\" 3<{}", passed.display()))
            .arg("sh")
            .arg(inner.get_program())
            .args(inner.get_args());
        let output = outer.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(with(&["--preserve-fds", "1"])?.starts_with("passed\n"));
    assert!(!with(&[])?.contains("passed"));
    Ok(())
}

#[test]
fn update_changes_limits() -> Result<()> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.started()?;
    bundle.ok(&["update", "--memory", "67108864", "--pids-limit", "33", &bundle.id])?;
    let limit = |v1: &str, v2: &str| -> Result<String> {
        let groups = bundle.groups()?;
        let found = groups
            .iter()
            .find_map(|dir| fs::read_to_string(dir.join(v1)).or_else(|_| fs::read_to_string(dir.join(v2))).ok());
        Ok(found.context("no such file")?.trim().to_owned())
    };
    assert_eq!(limit("memory.limit_in_bytes", "memory.max")?, "67108864");
    assert_eq!(limit("pids.max", "pids.max")?, "33");
    fs::write(bundle.dir().join("resources.json"), json!({"pids": {"limit": 44}}).to_string())?;
    bundle.ok(&["update", "--resources", "resources.json", &bundle.id])?;
    assert_eq!(limit("pids.max", "pids.max")?, "44");
    Ok(())
}

#[test]
fn a_process_does_not_end_with_its_maker_but_with_its_container() -> Result<()> {
    let bundle = Bundle::new("sleep 1000 & sleep 1000 & wait")?;
    bundle.started()?;
    let pids = |bundle: &Bundle| -> Result<Vec<i64>> {
        Ok(serde_json::from_str(&bundle.ok(&["ps", "-f", "json", &bundle.id])?)?)
    };
    eventually("three processes", || if pids(&bundle)?.len() == 3 { Ok(()) } else { bail!("{:?}", pids(&bundle)?) })?;
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}
