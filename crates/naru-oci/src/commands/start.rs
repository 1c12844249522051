//! `start`: somebody comes to the gate.

use crate::args::Parsed;
use crate::container::load_in;
use crate::global::Global;
use crate::listener;
use crate::log;
use crate::state::{State, Status};
use naru_base::{Error, Result};
use naru_runtime::{open_gate, run_hooks};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id()?;
    let all = [Status::Created, Status::Running, Status::Paused, Status::Stopped];
    let (state, folder, status) = load_in(global, id, &all)?;
    match status {
        Status::Created => {}
        Status::Stopped => return Err(Error::conflict("cannot start a container that has stopped")),
        Status::Running | Status::Paused => return Err(Error::conflict("cannot start an already running container")),
    }
    let fail = |e: Errno| match e {
        // Whoever came before us, or the end of the container.
        Errno::CONNREFUSED | Errno::NOENT => Error::conflict("cannot start a container that is started or has stopped"),
        errno => Error::system(format!("come to the container's gate: {errno}")),
    };
    // It may end at once when it is let go on.
    let (_, pidfd) = state.pidfd().ok_or_else(|| fail(Errno::NOENT))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(fail)?;
    let address = SocketAddrUnix::new(folder.gate_path()).map_err(fail)?;
    connect(&socket, &address).map_err(fail)?;
    let agent = listener::receiver(&state, Status::Created);
    let started = open_gate(&socket, &state.planned, (state.pid, &pidfd), agent.as_ref());
    folder.remove_gate()?;
    started?.iter().for_each(|text| log::warn(global, text));
    poststart(global, &state);
    Ok(0)
}

/// A failure is a warning, and the lifecycle goes on (runtime.md, "Lifecycle").
pub(super) fn poststart(global: &Global, state: &State) {
    if state.poststart.is_empty() {
        return;
    }
    let text = state.document(state.pid, Status::Running.name()).to_string();
    if let Err(error) = run_hooks("poststart", &state.poststart, &text) {
        log::warn(global, &error.message);
    }
}
