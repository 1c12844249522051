//! Starting a container: [`prepare`] in the monitor, [`Prepared::start`] makes the child and waits until it has executed.

use crate::StartError;
use crate::plan::{Descriptors, Plan};
use rustix::process::Pid;
use std::os::fd::OwnedFd;

/// What the process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// The child's ends of three pipes (or whatever else the caller opened).
    Pipes {
        /// Read end for standard input.
        stdin: OwnedFd,
        /// Write end for standard output.
        stdout: OwnedFd,
        /// Write end for standard error.
        stderr: OwnedFd,
    },
    /// The slave of a pseudo-terminal out of the container's devpts; its master is [`Started::console`].
    Terminal,
    /// `/dev/null`, three times.
    Null,
}

/// A container that is ready to be started; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Prepared {}

/// A process that runs: its program has been executed.
#[derive(Debug)]
pub struct Started {
    /// Its process id as this process sees it.
    pub pid: Pid,
    /// A descriptor of it; it is a child of the caller, who reaps it.
    pub pidfd: OwnedFd,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_time: u64,
    /// The master of its pseudo-terminal, for [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// What could not be had as asked for, one sentence each.
    pub warnings: Vec<String>,
}

/// Makes everything of a container that can be made before its first process exists.
///
/// # Errors
/// The plan can't be had on this host, or names something (a user, a source) that is not there.
pub fn prepare(plan: &Plan, fds: Descriptors, stdio: Stdio) -> Result<Prepared, StartError> {
    let _ = (plan, fds, stdio);
    Err(StartError::system("this build can't start containers"))
}

impl Prepared {
    /// Makes the process and waits until its program has been executed.
    ///
    /// # Errors
    /// A step of the set-up failed, or the program could not be executed; nothing is left behind.
    pub fn start(self) -> Result<Started, StartError> {
        Err(StartError::system("this build can't start containers"))
    }
}
