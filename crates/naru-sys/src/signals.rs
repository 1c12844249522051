//! Signal masks and dispositions of a child between clone and execve, and of a small init.

use crate::call::check;
use rustix::io::{Errno, Result};

/// The kernel's signal set: 64 bits, one per signal, from 1 on.
const SET_SIZE: usize = 8;
/// The highest signal number.
pub const LAST_SIGNAL: i32 = 64;

/// `struct kernel_sigaction` without flags, restorer and mask: enough for what installs no handler.
#[repr(C)]
struct Disposition {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

impl Disposition {
    const fn new(handler: usize) -> Self {
        Self { handler, flags: 0, restorer: 0, mask: 0 }
    }
}

/// Ignores a signal; for SIGCHLD that also means that children are reaped by the kernel (sigaction(2)). After clone.
///
/// # Errors
/// `EINVAL` for a number that is none, or can't be ignored.
pub fn ignore(signal: i32) -> Result<()> {
    let ignored = Disposition::new(libc::SIG_IGN);
    // SAFETY: as in `reset_dispositions`: the kernel's structure and the right set size, and no handler is installed.
    check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const ignored, 0, SET_SIZE) }).map(drop)
}

/// Gives every signal its default disposition. After clone.
pub fn reset_dispositions() {
    let default = Disposition::new(libc::SIG_DFL);
    for signal in (1..=LAST_SIGNAL).filter(|s| *s != libc::SIGKILL && *s != libc::SIGSTOP) {
        // SAFETY: libc's `sigaction` may lock (SIGABRT) and refuses its own real-time signals. The structure is the kernel's, the set's size
        // is right, and no handler is installed. It can't fail for these numbers.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0, SET_SIZE) };
    }
}

/// Blocks exactly the signals of `mask` (bit n-1 for signal n) for the calling thread. After clone.
///
/// # Errors
/// None that is known.
pub fn set_mask(mask: u64) -> Result<()> {
    // SAFETY: the set is 64 bits wide, as the size says, and is only read.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, SET_SIZE) }).map(drop)
}

/// A signal that has been taken off the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel itself sent it (`si_code` > 0), such as SIGCHLD for an ended child or SIGINT from a terminal.
    pub from_kernel: bool,
}

/// Waits until one of the blocked signals of `mask` is pending and takes it. After clone.
///
/// # Errors
/// As sigwaitinfo(2), except `EINTR`, which is retried.
pub fn wait(mask: u64) -> Result<Taken> {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: set and info are valid for the call, the size is the set's, and no time limit is passed.
        let taken =
            check(unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const mask, &raw mut info, 0, SET_SIZE) });
        match taken {
            Ok(signal) => return Ok(Taken { signal: signal as i32, from_kernel: info.si_code > 0 }),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// kill(2) with a raw target: a process, or everything in the PID namespace for -1. After clone.
///
/// # Errors
/// As kill(2).
pub fn send(target: i32, signal: i32) -> Result<()> {
    // SAFETY: kill has no preconditions on memory.
    check(libc::c_long::from(unsafe { libc::kill(target, signal) })).map(drop)
}
