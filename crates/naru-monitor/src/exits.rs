//! How processes end: reaping them, and the record of a container's end.

use crate::protocol::{EXIT_RECORD, ExitRecord};
use naru_fs::{Durability, durable};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// The version of [`ExitRecord`] that is written.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Reaps a child that has ended: its exit code, or 128 and the signal; and the signal.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Option<(i32, Option<i32>)> {
    match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)) {
        Ok(None) => None,
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some((code, None)),
            (None, signal) => signal.map(|signal| (128 + signal, Some(signal))),
        },
        // Someone else has reaped our child: nobody can tell any more how it ended.
        Err(_) => Some((255, None)),
    }
}

/// How much a record must survive.
pub(crate) fn durability(volatile: bool) -> Durability {
    if volatile { Durability::Volatile } else { Durability::Synced }
}

/// Writes the record into the folder.
///
/// # Errors
/// As [`durable::write`].
pub(crate) fn write_record(folder: impl AsFd, record: &ExitRecord, volatile: bool) -> naru_fs::Result<()> {
    durable::write_json(folder, EXIT_RECORD, record, durability(volatile))
}

/// Removes the record of an earlier run.
///
/// # Errors
/// unlinkat(2)'s.
pub(crate) fn remove_record(folder: impl AsFd) -> naru_fs::Result<()> {
    // A record that comes back after a power cut is of no harm: it is of another boot.
    durable::remove(folder, EXIT_RECORD, Durability::Volatile)
}
