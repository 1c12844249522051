//! clone3(2): a child that goes on in a closure which never returns.

use crate::call::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Result;
use rustix::process::Pid;
use std::convert::Infallible;

/// New namespaces of the child (`CLONE_NEW*`) and how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// New mount namespace.
    pub const NEWNS: Self = Self(libc::CLONE_NEWNS as u64);
    /// New PID namespace.
    pub const NEWPID: Self = Self(libc::CLONE_NEWPID as u64);
    /// New IPC namespace.
    pub const NEWIPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// New UTS namespace.
    pub const NEWUTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// New network namespace.
    pub const NEWNET: Self = Self(libc::CLONE_NEWNET as u64);
    /// New user namespace.
    pub const NEWUSER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// New cgroup namespace.
    pub const NEWCGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// The new process is the caller's sibling: a child of its parent (`CLONE_PARENT`).
    pub const PARENT: Self = Self(libc::CLONE_PARENT as u64);
    /// Handled signals go back to their defaults in the child (`CLONE_CLEAR_SIGHAND`).
    pub const CLEAR_SIGHAND: Self = Self(0x1_0000_0000);

    /// These but `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for CloneFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for CloneFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What the parent knows of its new child.
#[derive(Debug)]
pub struct Child {
    /// The child's process id in the caller's PID namespace.
    pub pid: Pid,
    /// A descriptor of the child.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` (linux/sched.h), version 2: the one with `cgroup`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child that runs `child` on a copy of this process's memory, born in `cgroup` (a v2 folder) if one is given.
///
/// If the caller has other threads, they don't exist in the child, and any lock that they held stays locked: `child` must not
/// allocate, lock or touch thread-local state of libraries. The child's handled signals are reset, so no handler of ours runs in it.
///
/// # Errors
/// As clone3(2): `EAGAIN`, `ENOMEM`, `ENOSPC` (namespace limits), `EPERM`, `EBUSY` (the cgroup isn't a leaf).
pub fn clone3<F>(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>, child: F) -> Result<Child>
where
    F: FnOnce() -> Infallible,
{
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags.0 | CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        // A sibling ends with its creator's signal, and none may be given.
        exit_signal: if flags.contains(CloneFlags::PARENT) { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: rustix and libc have no clone3. `args` is a valid `struct clone_args` of the size that is passed; without CLONE_VM the
    // child gets a copy of the address space and goes on on a copy of this stack, so every reference stays valid in both processes;
    // `pidfd` outlives the call.
    let returned = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if returned == 0 {
        run(child);
    }
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(returned as i32).ok_or(rustix::io::Errno::SRCH)?;
    Ok(Child { pid, pidfd })
}

/// fork(2) by the clone system call, which filters allow more often than clone3; without libc's handlers. The child runs `child`, on the
/// terms of [`clone3`]; its handlers are not reset. Tells the child's process id.
///
/// # Errors
/// As clone(2).
pub fn fork<F>(child: F) -> Result<i32>
where
    F: FnOnce() -> Infallible,
{
    // SAFETY: without CLONE_VM and with no new stack the child goes on on a copy of everything, as after fork.
    let returned = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    if returned == 0 {
        run(child);
    }
    Ok(returned as i32)
}

fn run<F: FnOnce() -> Infallible>(child: F) -> ! {
    let _never_unwind = ExitOnDrop;
    match child() {}
}

/// Ends the child if its closure unwinds: two processes must never go on in one caller's code.
struct ExitOnDrop;

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        crate::process::exit_now(70);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn child_runs_its_closure_and_is_waited_for_by_pidfd() {
        let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || crate::process::exit_now(42)).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(42));
    }

    #[test]
    fn an_unwinding_child_ends() {
        let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || std::panic::resume_unwind(Box::new(()))).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(70));
    }
}
