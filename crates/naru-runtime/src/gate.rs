//! The gate: a container that has been made waits for somebody who connects, and executes its program then.
//!
//! ```text
//! init                                     whoever starts it
//!   | accept, on a listening socket  <------- connect |
//!   | -- warning, failure (as `report`) ------------> |
//!   | -- end of file (execve) ----------------------> |
//! ```
//! The one who made the container may be gone by then: failures of the last steps reach the one who starts it.

use crate::listener::{self, ListenerReceiver};
use crate::plan::Process;
use crate::process::{self, ProcessSetup};
use crate::report::{self, At, Failure, Op, errno_text};
use crate::steps::Step;
use crate::{StartError, child::State, child::run_steps, describe};
use naru_sys::fds::keep_then;
use naru_sys::process::exit_now;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{SocketFlags, accept_with};

/// Lets everything go but the gate itself, and goes on behind it once somebody has connected. After clone.
pub(crate) fn wait(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    let Some(gate) = &setup.gate else { return Ok(()) };
    let keep = [Some(gate.as_fd()), setup.start_hooks.state_fd()];
    let errno = keep_then(3 + setup.options.preserved_fds, keep, |[gate, hook_state]| {
        let Some(gate) = gate else { exit_now(1) };
        let Ok(connection) = rustix::io::retry_on_intr(|| accept_with(&gate, SocketFlags::CLOEXEC)) else {
            exit_now(1)
        };
        // Whoever comes later finds nobody.
        drop(gate);
        behind(setup, connection.as_fd(), hook_state)
    });
    Err(errno).at(Op::Call, 0)
}

fn behind(setup: &ProcessSetup, report: BorrowedFd<'_>, hook_state: Option<OwnedFd>) -> ! {
    let mut state = State::new(report);
    state.hook_state = hook_state;
    run_steps(process::LAST_STEPS, setup, &mut state);
    exit_now(1)
}

/// Starts the container that waits behind `connection`, a socket that has been connected to its gate, and returns when the program has
/// been executed: what could not be had, one sentence each. Its first process is `pid`; `receiver` gets the listener of its filter.
///
/// # Errors
/// A last step failed, or the program of `process` could not be executed; the container has ended then.
pub fn open_gate(
    connection: &OwnedFd,
    process: &Process,
    (pid, pidfd): (i32, &OwnedFd),
    receiver: Option<&ListenerReceiver>,
) -> Result<Vec<String>, StartError> {
    let fail = |e| StartError::system(format!("read the container's report: {}", errno_text(e)));
    let mut warnings = Vec::new();
    while let Some(record) = report::next(connection).map_err(fail)? {
        if record.reached {
            listener::hand_on(receiver, (pid, pidfd.as_fd()), record.failure.index, connection)?;
            continue;
        }
        let told = match record.step {
            Step::StartHooks => crate::hooks::describe("startContainer", record.failure),
            _ => describe::process(process, &record),
        };
        if !record.warning {
            return Err(told);
        }
        warnings.push(told.message);
    }
    Ok(warnings)
}
