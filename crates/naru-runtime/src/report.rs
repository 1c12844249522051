//! What the child tells its parent: numbers, never text.
//!
//! ```text
//! child                                   parent
//!   | -- warning (step, op, index, errno) -> |   any number
//!   | -- reached (step) -------------------> |   then the child waits until it is let go on
//!   | -- failure (step, op, index, errno) -> |   then the child exits
//!   | -- end of file -----------------------> |   by execve (close-on-exec): the program runs
//! ```
//! A record is shorter than PIPE_BUF, so one write is one record.

use crate::steps::Step;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, Result};

/// Bytes of one record.
const RECORD: usize = 12;
/// The kind of a record that tells of no failure; 0 is a failure, 1 a warning.
const REACHED: u8 = 2;

/// Which call of a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// The step's only call.
    Call,
    /// Finding or making the place inside the root.
    Target,
    /// The place is a link where an ordinary folder is needed.
    Ordinary,
    /// Asking for a new file system instance.
    Open,
    /// One of its options.
    Configure,
    /// Making it.
    Create,
    /// Setting a mount's attributes.
    Attributes,
    /// Putting a mount in its place.
    Attach,
    /// Opening a file.
    OpenFile,
    /// Writing to it.
    Write,
    /// Every candidate of a lookup was missing.
    NotInPath,
    /// The program itself is not there.
    NoProgram,
    /// The program is a folder.
    IsDirectory,
    /// The program may not be executed.
    NotExecutable,
    /// The kernel refused to execute it.
    Execute,
    /// A path leads out of the root.
    Unreachable,
    /// User ids.
    User,
    /// Group ids.
    Group,
    /// A hook failed; its exit code is in the place of the error number.
    HookStatus,
    /// A hook took too long.
    HookTimeout,
}

const OPS: [Op; 20] = [
    Op::Call,
    Op::Target,
    Op::Ordinary,
    Op::Open,
    Op::Configure,
    Op::Create,
    Op::Attributes,
    Op::Attach,
    Op::OpenFile,
    Op::Write,
    Op::NotInPath,
    Op::NoProgram,
    Op::IsDirectory,
    Op::NotExecutable,
    Op::Execute,
    Op::Unreachable,
    Op::User,
    Op::Group,
    Op::HookStatus,
    Op::HookTimeout,
];

/// What went wrong in a step: which call, on which element of the step's list, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub op: Op,
    pub index: u32,
    pub errno: Errno,
}

impl Failure {
    pub(crate) fn new(op: Op, index: usize, errno: Errno) -> Self {
        Self { op, index: u32::try_from(index).unwrap_or(u32::MAX), errno }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::new(Op::Call, 0, errno)
    }
}

/// Names the call that may fail, and the element that it works on.
pub(crate) trait At<T> {
    fn at(self, op: Op, index: usize) -> std::result::Result<T, Failure>;
}

impl<T> At<T> for Result<T> {
    fn at(self, op: Op, index: usize) -> std::result::Result<T, Failure> {
        self.map_err(|errno| Failure::new(op, index, errno))
    }
}

/// A record as read by the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// The child went on.
    pub warning: bool,
    /// Nothing failed: the child has got to this step, and waits.
    pub reached: bool,
    pub step: Step,
    pub failure: Failure,
}

/// Writes one record; a parent that is gone is no reason for anything here.
pub(crate) fn send(pipe: BorrowedFd<'_>, warning: bool, step: Step, failure: Failure) {
    write(pipe, u8::from(warning), step, failure);
}

/// Tells the parent that `step` has been reached; there is no failure to tell, but a record has one.
pub(crate) fn send_reached(pipe: BorrowedFd<'_>, step: Step) {
    write(pipe, REACHED, step, Failure::new(Op::Call, 0, Errno::AGAIN));
}

/// The same, with a number that the parent needs.
pub(crate) fn send_reached_at(pipe: BorrowedFd<'_>, step: Step, number: usize) {
    write(pipe, REACHED, step, Failure::new(Op::Call, number, Errno::AGAIN));
}

fn write(pipe: BorrowedFd<'_>, kind: u8, step: Step, failure: Failure) {
    let mut bytes = [0_u8; RECORD];
    bytes[0] = kind;
    bytes[1] = step as u8;
    bytes[2] = failure.op as u8;
    bytes[4..8].copy_from_slice(&failure.index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&failure.errno.raw_os_error().to_ne_bytes());
    let _ = rustix::io::write(pipe, &bytes);
}

/// Reads one record; `None` at the end of the file. `EPROTO` for bytes that no child of ours writes.
pub(crate) fn next(pipe: impl AsFd) -> Result<Option<Record>> {
    let mut bytes = [0_u8; RECORD];
    match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut bytes)) {
        // A socket whose other end was closed by force.
        Ok(0) | Err(Errno::CONNRESET) => Ok(None),
        Ok(RECORD) => decode(&bytes).ok_or(Errno::PROTO).map(Some),
        Ok(_) => Err(Errno::PROTO),
        Err(errno) => Err(errno),
    }
}

fn decode(bytes: &[u8; RECORD]) -> Option<Record> {
    let [kind, step, op, _, i0, i1, i2, i3, e0, e1, e2, e3] = *bytes;
    let errno = i32::from_ne_bytes([e0, e1, e2, e3]);
    // rustix's own constructor panics outside of the kernel's range of error numbers.
    if !(1..4096).contains(&errno) {
        return None;
    }
    let failure = Failure {
        op: *OPS.iter().find(|known| **known as u8 == op)?,
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        errno: Errno::from_raw_os_error(errno),
    };
    Some(Record { warning: kind == 1, reached: kind == REACHED, step: Step::from_number(step)?, failure })
}

/// An error number's text as Go prints it, which docker's users know: `no such file or directory`.
pub(crate) fn errno_text(errno: Errno) -> String {
    naru_base::error::as_go_says(&std::io::Error::from(errno).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_arrive_as_they_were_sent() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let first = Failure::new(Op::Attach, 7, Errno::NOTDIR);
        let second = Failure::new(Op::NotInPath, 0, Errno::NOENT);
        send(writer.as_fd(), true, Step::Mounts, first);
        send(writer.as_fd(), false, Step::Program, second);
        drop(writer);
        let records: Vec<Record> = std::iter::from_fn(|| next(&reader).unwrap()).collect();
        let expected = [
            Record { warning: true, reached: false, step: Step::Mounts, failure: first },
            Record { warning: false, reached: false, step: Step::Program, failure: second },
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn bytes_of_someone_else_are_refused() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, &[0xff; RECORD]).unwrap();
        drop(writer);
        assert_eq!(next(reader), Err(Errno::PROTO));
    }

    #[test]
    fn every_op_has_its_number() {
        for (number, op) in OPS.iter().enumerate() {
            assert_eq!(*op as usize, number);
        }
    }

    #[test]
    fn error_texts_are_gos() {
        assert_eq!(errno_text(Errno::NOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::ACCESS), "permission denied");
    }
}
