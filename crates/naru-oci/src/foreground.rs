//! A process in the foreground: signals are passed on to it, a terminal is copied to ours, and its exit code is ours.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_runtime::Started;
use naru_sys::{pidfd, signals};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::thread::JoinHandle;

/// Every signal that can be blocked.
const ALL: u64 = !0;
const CHLD: i32 = 17;
const PIPE: i32 = 13;
const URG: i32 = 23;
const WINCH: i32 = 28;

/// Signals are kept until [`wait`]: before the process exists, so that none is lost.
///
/// # Errors
/// None that is known.
pub(crate) fn hold_signals() -> Result<()> {
    signals::set_mask(ALL).system("block signals")
}

/// Waits for the end of `started` and tells its exit code, 128 and the signal's number for one that a signal has ended.
///
/// # Errors
/// It isn't this process's child.
pub(crate) fn wait(started: &mut Started) -> Result<i32> {
    let relay = started.console.take().map(Relay::start).transpose()?;
    started.spent.clear();
    let code = loop {
        if let Some(code) = ended(&started.pidfd)? {
            break code;
        }
        let taken = signals::wait(ALL).system("wait for signals")?;
        match taken.signal {
            CHLD | PIPE | URG => {}
            WINCH if relay.is_some() => {
                if let Some(relay) = &relay {
                    relay.resize();
                }
            }
            signal => match pidfd::send_signal(started.pidfd.as_fd(), signal) {
                // It has ended: SIGCHLD is next.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::system(format!("pass on signal {signal}: {errno}"))),
            },
        }
    };
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(code)
}

fn ended(pidfd: &OwnedFd) -> Result<Option<i32>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), options)).system("wait")?;
    Ok(status.map(|status| {
        let signal = || 128 + status.terminating_signal().unwrap_or(0);
        status.exit_status().unwrap_or_else(signal)
    }))
}

/// Copies between our terminal and the process's.
struct Relay {
    master: OwnedFd,
    output: JoinHandle<()>,
    /// How our terminal was.
    before: Option<Termios>,
}

impl Relay {
    fn start(master: OwnedFd) -> Result<Self> {
        let copy = || master.try_clone().system("duplicate the terminal");
        let (input, output) = (copy()?, copy()?);
        let before = raw_mode();
        // It ends with the program, wherever it is in a read.
        std::thread::spawn(move || copy_all(std::io::stdin().as_fd(), input.as_fd()));
        let output = std::thread::spawn(move || copy_all(output.as_fd(), std::io::stdout().as_fd()));
        let relay = Self { master, output, before };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            // Without a terminal of ours there is no size.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Whatever the process has written is shown; then our terminal is as before.
    fn finish(self) {
        // It ends with the last descriptor of the slave.
        let _ = self.output.join();
        if let Some(before) = self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
        }
    }
}

fn raw_mode() -> Option<Termios> {
    let stdin = std::io::stdin();
    if !isatty(&stdin) {
        return None;
    }
    let before = tcgetattr(&stdin).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(&stdin, OptionalActions::Now, &raw).ok().map(|()| before)
}

/// Until the end of the file, or until one side is gone (`EIO` for a terminal without processes).
fn copy_all(from: rustix::fd::BorrowedFd<'_>, to: rustix::fd::BorrowedFd<'_>) {
    let mut buffer = vec![0_u8; 32 << 10];
    loop {
        let Ok(length @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut buffer[..])) else { return };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(to, rest)) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(_) => return,
            }
        }
    }
}
