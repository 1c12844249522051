//! How the kernel schedules the calling thread: personality(2), ioprio_set(2), sched_setattr(2), sched_setaffinity(2).

use crate::call::check;
use rustix::io::Result;

/// `struct sched_attr` (linux/sched/types.h), as of its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerAttributes {
    /// Its own size; set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the policies OTHER and BATCH.
    pub nice: i32,
    /// For the policies FIFO and RR.
    pub priority: u32,
    /// For the policy DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For the policy DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For the policy DEADLINE, nanoseconds.
    pub period: u64,
}

/// Changes the execution domain. After clone.
///
/// # Errors
/// As personality(2).
pub fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// Sets the I/O priority: the class (1 real-time, 2 best effort, 3 idle) in the upper bits from 13 on, the level below. After clone.
///
/// # Errors
/// As ioprio_set(2): `EPERM`, `EINVAL`.
pub fn set_io_priority(priority: i32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: all arguments are numbers; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}

/// Sets policy and parameters of the calling thread. After clone.
///
/// # Errors
/// As sched_setattr(2): `EPERM`, `EINVAL`, `EBUSY`.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> Result<()> {
    let raw = SchedulerAttributes { size: size_of::<SchedulerAttributes>() as u32, ..*attributes };
    // SAFETY: the structure is the kernel's, of the size that it tells; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) }).map(drop)
}
