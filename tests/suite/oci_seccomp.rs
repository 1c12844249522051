//! Filters of `naru oci` that ask somebody else: the listener comes to the agent that the bundle names, with the process's state.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use naru_testkit::eventually;
use naru_tests::bundle::{Bundle, other_runtime};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// A bundle whose `mkdir` is decided on by whoever listens at the socket.
fn notified(script: &str) -> Result<(Bundle, UnixListener)> {
    let mut bundle = Bundle::new(script)?;
    let path = bundle.dir().join("agent.sock");
    let agent = UnixListener::bind(&path)?;
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "listenerPath": path,
        "listenerMetadata": "what the agent knows",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    Ok((bundle, agent))
}

/// What the agent gets: the listener and the state of the process.
fn receive(agent: &UnixListener) -> Result<(OwnedFd, Value)> {
    agent.set_nonblocking(true)?;
    let stream = eventually("the runtime to come to the agent", || agent.accept())?.0;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    message(&stream)
}

fn message(stream: &UnixStream) -> Result<(OwnedFd, Value)> {
    let (mut text, mut listener) = (Vec::new(), None);
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                listener = listener.or_else(|| fds.into_iter().next());
            }
        }
        ensure!(read > 0, "no whole document: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..read]);
        // Whoever sends it may keep the connection.
        if let Ok(told) = serde_json::from_slice(&text) {
            return Ok((listener.context("a descriptor")?, told));
        }
    }
}

/// Waits until a call waits for the agent's word.
fn expect_question(listener: &OwnedFd) -> Result<()> {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let asked = poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 }))?;
    ensure!(asked == 1 && fds[0].revents().contains(PollFlags::IN), "nobody asked: {:?}", fds[0].revents());
    Ok(())
}

#[test]
fn the_agent_decides_for_a_container_that_is_started() -> Result<()> {
    let (bundle, agent) = notified("echo begins; mkdir /tmp/x 2>&1; echo ends")?;
    bundle.create()?;
    // Where the filter comes before the start, so does the listener.
    let early = other_runtime().is_some().then(|| receive(&agent)).transpose()?;
    bundle.ok(&["start", &bundle.id])?;
    let (listener, told) = early.map_or_else(|| receive(&agent), Ok)?;
    let state = bundle.state()?;
    assert_eq!(told["fds"], json!(["seccompFd"]));
    assert_eq!((&told["pid"], &told["state"]["pid"]), (&state["pid"], &state["pid"]));
    assert_eq!(told["metadata"], "what the agent knows");
    assert_eq!(told["state"]["id"], bundle.id.as_str());
    expect_question(&listener)?;
    assert!(!bundle.output().contains("ends"), "the call did not wait: {}", bundle.output());
    // An agent that is gone: there is no such call.
    drop(listener);
    eventually("the container to go on", || {
        ensure!(bundle.output().contains("ends"), "{}", bundle.output());
        Ok(())
    })?;
    let said = bundle.output();
    ensure!(said.starts_with("begins") && said.contains("not implemented"), "{said}");
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn the_agent_decides_for_further_processes() -> Result<()> {
    let (bundle, agent) = notified("sleep 1000")?;
    bundle.create()?;
    let early = other_runtime().is_some().then(|| receive(&agent)).transpose()?;
    bundle.ok(&["start", &bundle.id])?;
    let first = early.map_or_else(|| receive(&agent), Ok)?;
    let served = std::thread::spawn(move || -> Result<Value> {
        let (listener, told) = receive(&agent)?;
        expect_question(&listener)?;
        Ok(told)
    });
    let said = bundle.oci(&["exec", &bundle.id, "mkdir", "/tmp/y"])?;
    let told = served.join().map_err(|_| anyhow::anyhow!("the agent panicked"))??;
    ensure!(said.code == 1 && said.err.contains("not implemented"), "{said:?}");
    assert_eq!(told["state"]["pid"], first.1["pid"]);
    assert_ne!(told["pid"], first.1["pid"]);
    bundle.ok(&["delete", "--force", &bundle.id])?;
    bundle.expect_gone()
}

#[test]
fn what_can_not_be_asked_is_refused() -> Result<()> {
    if other_runtime().is_some() {
        return Ok(());
    }
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 4] = [
        ("default action", |s| s["defaultAction"] = json!("SCMP_ACT_NOTIFY")),
        ("write", |s| s["syscalls"][0]["names"] = json!(["write"])),
        ("listenerPath", |s| s["listenerPath"] = json!("")),
        // Nobody listens there: told at the start, and nothing is left.
        ("/no/such/agent", |s| s["listenerPath"] = json!("/no/such/agent")),
    ];
    for (named, change) in cases {
        let (mut bundle, _agent) = notified("echo never")?;
        change(&mut bundle.config["linux"]["seccomp"]);
        let said = bundle.run()?;
        ensure!(said.code != 0 && said.err.contains(named) && !said.out.contains("never"), "{named}: {said:?}");
        bundle.expect_gone()?;
    }
    Ok(())
}
