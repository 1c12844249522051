//! The process that a scope begins with.

use naru_base::{Error, Result};
use naru_sys::clone::{Child, CloneFlags, clone3};
use naru_sys::process::exit_now;
use rustix::fd::AsFd;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_send_signal, set_parent_process_death_signal, waitid,
};

/// A child of ours that does nothing; it ends with this value, and with us.
#[derive(Debug)]
pub(in super::super) struct Placeholder {
    child: Child,
}

impl Placeholder {
    /// # Errors
    /// There can't be another process.
    pub(in super::super) fn new() -> Result<Self> {
        let parent = getpid();
        let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
            // A parent that ended before this call sends no signal.
            if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || getppid() != Some(parent) {
                exit_now(1);
            }
            loop {
                // Returns only for signals that don't end it.
                let _ = rustix::event::poll(&mut [], None);
            }
        })
        .map_err(|e| Error::system(format!("make a process for the scope: {e}")))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(in super::super) fn pid(&self) -> u32 {
        self.child.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends it; it is reaped later.
    pub(in super::super) fn end(&self) {
        // It can only have ended already.
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        self.end();
        let pidfd = WaitId::PidFd(self.child.pidfd.as_fd());
        let _ = rustix::io::retry_on_intr(|| waitid(pidfd.clone(), WaitIdOptions::EXITED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_until_it_is_dropped() {
        let placeholder = Placeholder::new().unwrap();
        let path = format!("/proc/{}", placeholder.pid());
        assert!(std::path::Path::new(&path).exists());
        drop(placeholder);
        assert!(!std::path::Path::new(&path).exists());
    }
}
