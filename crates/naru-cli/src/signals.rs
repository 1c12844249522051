//! Signals that reach this process while it is attached to a container.

use signal_hook::consts as sig;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// What `--sig-proxy` passes on. Left out: what is not an order (SIGCHLD, SIGPIPE, SIGURG), what cannot be caught (SIGKILL,
/// SIGSTOP) and the marks of this program's own faults (SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGABRT).
const FORWARDED: &[i32] = &[
    sig::SIGHUP,
    sig::SIGINT,
    sig::SIGQUIT,
    sig::SIGTERM,
    sig::SIGUSR1,
    sig::SIGUSR2,
    sig::SIGALRM,
    sig::SIGCONT,
    sig::SIGTSTP,
    sig::SIGTTIN,
    sig::SIGTTOU,
    sig::SIGVTALRM,
    sig::SIGPROF,
    sig::SIGIO,
    sig::SIGSYS,
    sig::SIGXCPU,
    sig::SIGXFSZ,
    sig::SIGTRAP,
];

/// What would end this process.
const ENDING: &[i32] = &[sig::SIGHUP, sig::SIGINT, sig::SIGTERM, sig::SIGQUIT];

/// Caught signals.
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Catches what is to be forwarded when `forward`, else what would end the process (so that the terminal can be set right
    /// before); and SIGWINCH when `resize`.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn catch(forward: bool, resize: bool) -> std::io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let winch = resize.then_some(&sig::SIGWINCH);
        let wanted = if forward { FORWARDED } else { ENDING }.iter().chain(winch);
        SignalDelivery::with_pipe(read, write, SignalOnly, wanted).map(Self)
    }

    /// The signals that came since the last call.
    pub fn pending(&mut self) -> Vec<i32> {
        self.0.pending().collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Docker's name of a signal in the kill request.
pub fn name(signal: i32) -> String {
    naru_base::signal::name(signal).map_or_else(|| signal.to_string(), |n| n.trim_start_matches("SIG").to_owned())
}
