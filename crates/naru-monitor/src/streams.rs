//! The two ends of a process's standard streams.

use naru_base::{Error, Result};
use naru_runtime::Stdio;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// So much input may wait for the process before clients have to.
const QUEUE_LIMIT: usize = 64 << 10;
/// More than this isn't kept when it isn't needed.
const KEPT: usize = 4 << 10;

/// What a process's streams are to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// A pseudo-terminal.
    pub terminal: bool,
    /// Clients may send input.
    pub input: bool,
    /// Someone wants the output.
    pub output: bool,
}

/// The monitor's ends.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Whether they are those of a terminal.
    pub terminal: bool,
    /// Standard input.
    pub input: Option<Input>,
    /// Standard output and standard error; a terminal has only the first.
    pub outputs: [Option<OwnedFd>; 2],
}

/// The way into a process.
#[derive(Debug)]
pub(crate) struct Input {
    fd: OwnedFd,
    queue: Vec<u8>,
    /// Close it when the queue is empty.
    closing: bool,
}

/// Makes both ends; those of a terminal come later, with [`Ends::take_console`].
///
/// # Errors
/// pipe(2)'s and open(2)'s.
pub(crate) fn make(wanted: Wanted) -> Result<(Stdio, Ends)> {
    if wanted.terminal {
        return Ok((Stdio::Terminal, Ends { terminal: true, ..Ends::default() }));
    }
    if !wanted.output && !wanted.input {
        return Ok((Stdio::Null, Ends::default()));
    }
    let fail = |e: Errno| Error::system(format!("make the standard streams: {e}"));
    let (stdin, input) = if wanted.input {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
        (theirs, Some(Input::new(ours).map_err(fail)?))
    } else {
        (rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?, None)
    };
    let output = || {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((ours, theirs))
    };
    let (out, stdout) = output().map_err(fail)?;
    let (err, stderr) = output().map_err(fail)?;
    Ok((Stdio::Pipes { stdin, stdout, stderr }, Ends { terminal: false, input, outputs: [Some(out), Some(err)] }))
}

impl Ends {
    /// Takes the master of a terminal that has been made.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub(crate) fn take_console(&mut self, console: OwnedFd, input: bool) -> Result<()> {
        let fail = |e: Errno| Error::system(format!("set up the terminal: {e}"));
        rustix::io::ioctl_fionbio(&console, true).map_err(fail)?;
        if input {
            let copy = rustix::io::fcntl_dupfd_cloexec(&console, 3).map_err(fail)?;
            self.input = Some(Input::new(copy).map_err(fail)?);
        }
        self.outputs[0] = Some(console);
        Ok(())
    }
}

impl Input {
    fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, queue: Vec::new(), closing: false })
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where input is put; [`Input::flush`] passes it on.
    pub(crate) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.queue
    }

    /// Whether more may be put into the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < QUEUE_LIMIT
    }

    /// Whether the process has to read before more can be passed on.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// No more input comes: it is closed when all has been passed on.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Passes on what the process takes; false when it is at its end and to be dropped.
    pub(crate) fn flush(&mut self) -> bool {
        let mut passed = 0;
        let open = loop {
            if passed == self.queue.len() {
                break !self.closing;
            }
            match rustix::io::write(&self.fd, &self.queue[passed..]) {
                Ok(count) => passed += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break true,
                Err(_) => break false,
            }
        };
        self.queue.drain(..passed);
        if self.queue.is_empty() {
            self.queue.shrink_to(KEPT);
        }
        open
    }
}
