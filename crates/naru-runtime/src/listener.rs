//! Filters whose notified calls somebody else decides on (seccomp_unotify(2)).
//!
//! ```text
//! child                                            parent, or whoever starts it
//!   | installs the filter: a listener               |
//!   | -- reached, with the listener's number ------> | fetches it (pidfd_getfd), hands it on
//!   | <------------------------------ one byte ----- |
//! ```
//! From the filter on any call may be one that waits for the listener's reader; so it is with him before the child goes on. The child's
//! write alone can't be notified, which a profile may not ask for.

use crate::StartError;
use crate::child::State;
use crate::credentials;
use crate::process::ProcessSetup;
use crate::report::{self, At, Failure, Op, errno_text};
use crate::steps::Step;
use naru_sys::process::exit_now;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::sync::Arc;

/// Takes the listener of the filter of a process, whose id is given as well, to whoever serves it.
#[derive(Clone)]
pub struct ListenerReceiver(pub Arc<dyn Fn(OwnedFd, i32) -> naru_base::Result<()> + Send + Sync>);

impl std::fmt::Debug for ListenerReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListenerReceiver")
    }
}

/// The channel of the child's reports where an answer is needed: two ends of one socket, of which the second is the child's.
pub(crate) fn report_socket() -> Result<(OwnedFd, OwnedFd), StartError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| StartError::system(format!("make a pair of sockets: {}", errno_text(e))))
}

/// Installs the filter, and sees to it that a listener is served. After clone.
pub(crate) fn set_filter(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let Some(listener) = credentials::set_filter(&setup.credentials)? else { return Ok(()) };
    let number = usize::try_from(listener.as_raw_fd()).unwrap_or(usize::MAX);
    report::send_reached_at(state.report, Step::Filter, number);
    match rustix::io::retry_on_intr(|| rustix::io::read(state.report, &mut [0_u8; 1])).at(Op::OpenFile, 0)? {
        1 => Ok(()),
        // Nobody will ever serve it.
        _ => exit_now(137),
    }
}

/// Hands on the listener that `child` has as `number`, and lets the child go on, behind the other end of `channel`.
pub(crate) fn hand_on(
    receiver: Option<&ListenerReceiver>,
    (pid, pidfd): (i32, BorrowedFd<'_>),
    number: u32,
    channel: &OwnedFd,
) -> Result<(), StartError> {
    let fail = |what: &str, e| StartError::system(format!("{what} of the seccomp filter: {}", errno_text(e)));
    let receiver = receiver.ok_or_else(|| StartError::invalid("nobody serves the listener of the seccomp filter"))?;
    let number = i32::try_from(number).map_err(|_| fail("fetch the listener", rustix::io::Errno::BADF))?;
    let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).map_err(|e| fail("fetch the listener", e))?;
    (receiver.0)(listener, pid)?;
    rustix::io::write(channel.as_fd(), b"1").map(drop).map_err(|e| fail("go on behind the listener", e))
}
