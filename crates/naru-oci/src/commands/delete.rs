//! `delete`: what is left of a container goes.

use crate::args::{Flag, Parsed, switch};
use crate::container::destroy;
use crate::global::Global;
use crate::state::{State, Status, Store};
use naru_base::{Class, Error, Result};
use naru_sys::pidfd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;

pub(super) const FLAGS: &[Flag] = &[switch("force", "end a running container first").or("f")];
const KILL: i32 = 9;
/// How long a killed process may take to end: dying may mean to write much to a disk.
const LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id()?;
    let force = parsed.has("force");
    let store = Store::new(&global.root);
    let (state, folder) = match store.load(id) {
        Ok(found) => found,
        Err(error) if error.class() == Class::NotFound && force => {
            // What a call that was interrupted has left.
            store.remove(id).or_else(|e| if e.class() == Class::System { Ok(()) } else { Err(e) })?;
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    match folder.status(&state) {
        Status::Stopped => {}
        Status::Created => end(&state)?,
        _ if force => end(&state)?,
        status => {
            return Err(Error::conflict(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.name()
            )));
        }
    }
    destroy(global, &state)?;
    Ok(0)
}

/// Kills the first process and waits for its end; its parent reaps it.
fn end(state: &State) -> Result<()> {
    let Some((_, pidfd)) = state.pidfd() else { return Ok(()) };
    // It can only have ended already.
    let _ = pidfd::send_signal(pidfd.as_fd(), KILL);
    // One that is frozen dies only when it is thawed; without a freezer none is.
    let _ = state.cgroup()?.thaw();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&LIMIT))) {
        Ok(1..) => Ok(()),
        _ => Err(Error::system(format!("container {} did not end in time after SIGKILL", state.id))),
    }
}
