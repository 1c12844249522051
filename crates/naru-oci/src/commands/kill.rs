//! `kill`: a signal for the first process, or for all.

use crate::args::{Flag, Parsed, switch};
use crate::container::load_in;
use crate::global::Global;
use crate::state::Status;
use naru_base::{Error, Result, signal};
use naru_sys::{pidfd, signals};
use rustix::fd::AsFd;
use rustix::io::Errno;

pub(super) const FLAGS: &[Flag] = &[switch("all", "send the signal to every process of the container").or("a")];
const KILL: i32 = 9;

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id()?;
    let number = match parsed.rest.get(1) {
        Some(text) => signal::parse(text).map_err(|_| Error::invalid(format!("unknown signal {text:?}")))?,
        None => 15,
    };
    let all = parsed.has("all");
    let wanted = [Status::Created, Status::Running, Status::Paused, Status::Stopped];
    let (state, _, status) = load_in(global, id, &wanted)?;
    let everyone = all || (number == KILL && state.shares_pids());
    if status == Status::Stopped && !(all && state.shares_pids()) {
        return Err(Error::conflict("container not running"));
    }
    let cgroup = state.cgroup()?;
    if everyone && number == KILL {
        cgroup.kill_all()?;
        return Ok(0);
    }
    if everyone {
        // The list is old as soon as it is read; for what isn't the end that is good enough, as for runc.
        for pid in cgroup.pids()? {
            ignore_gone(signals::send(pid, number))?;
        }
        return Ok(0);
    }
    let Some((_, pidfd)) = state.pidfd() else { return Err(Error::conflict("container not running")) };
    ignore_gone(pidfd::send_signal(pidfd.as_fd(), number))?;
    if number == KILL && status == Status::Paused {
        // A frozen process dies only when it is thawed.
        cgroup.thaw()?;
    }
    Ok(0)
}

fn ignore_gone(sent: rustix::io::Result<()>) -> Result<()> {
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::system(format!("send the signal: {errno}"))),
    }
}
