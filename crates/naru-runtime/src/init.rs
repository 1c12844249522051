//! A small init (`--init`): process 1 is this program itself, with the user, capabilities and filter of the container's process, which is
//! its child. It forwards signals, reaps whatever ends, and ends with its child's exit code.
//!
//! No program is executed for it, so nothing of the host need be visible in the container; it holds no descriptor at all.

use crate::child::State;
use crate::program::{self, Program};
use crate::report::Failure;
use crate::steps::Step;
use naru_sys::process::{Reaped, exit_now, reap_any};
use naru_sys::{clone, fds, signals};
use rustix::process::{getpid, setpgid};
use rustix::termios::tcsetpgrp;

/// Every signal that can be blocked.
const ALL: u64 = !0;
const SIGCHLD: i32 = libc::SIGCHLD;

/// Starts the program as a child and becomes its init; returns only if there can be no child.
pub(crate) fn run(program: &Program, state: &State<'_>) -> Result<(), Failure> {
    // Pending ones wait until they can be forwarded; blocked ones are not dropped although process 1 has no handlers.
    signals::set_mask(ALL)?;
    let child = clone::fork(|| {
        lead_foreground_group();
        let _ = signals::set_mask(0);
        state.fail(Step::Program, program::execute(program))
    })?;
    let _ = rustix::thread::set_name(c"naru-init");
    let _ = naru_sys::process::set_title(c"naru-init");
    fds::close_from_then(0, serve, child)
}

/// The program's group gets what is typed, if there is a terminal. SIGTTOU is blocked here.
fn lead_foreground_group() {
    let own = getpid();
    if setpgid(None, None).is_ok() {
        // No terminal, no foreground.
        let _ = tcsetpgrp(rustix::stdio::stdin(), own);
    }
}

/// Forwards and reaps until the child has ended.
fn serve(child: i32) -> ! {
    loop {
        match signals::wait(ALL) {
            Ok(taken) if taken.signal == SIGCHLD => {
                if let Some(code) = reap(child) {
                    exit_now(code);
                }
            }
            Ok(taken) => {
                // It may have ended meanwhile; then SIGCHLD is next.
                let _ = signals::send(child, taken.signal);
            }
            Err(_) => exit_now(1),
        }
    }
}

/// Reaps all that have ended; the child's code if it is among them.
fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Reaped::Ended { pid, code: ended }) = reap_any(false) {
        if pid == child {
            code = Some(ended);
        }
    }
    code
}
