//! Pseudo-terminals out of a container's own devpts (pts(4)).

use crate::StartError;
use crate::inside::{self, Kind};
use crate::mounts::{attach, clone_tree};
use crate::report::{At, Failure, Op, errno_text};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, makedev};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::AsRawFd;

/// DEVPTS_SUPER_MAGIC (linux/magic.h).
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub master: OwnedFd,
    pub slave: OwnedFd,
    /// A detached bind of the slave, where only the parent could make one.
    bind: Option<OwnedFd>,
}

/// A terminal of the container that is being made: out of its detached devpts, or out of the host's if it gets none of its own.
pub(crate) fn allocate(devpts: Option<BorrowedFd<'_>>, size: Option<(u16, u16)>) -> Result<Console, StartError> {
    let fail = |e: Errno| StartError::system(format!("allocate a terminal: {}", errno_text(e)));
    match devpts {
        Some(devpts) => {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty()).map_err(fail)?;
            peer(master, size).map_err(fail)
        }
        None => {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(fail)?;
            let console = peer(master, size).map_err(fail)?;
            let bind = clone_tree(console.slave.as_fd(), false).map_err(fail)?;
            crate::mounts::make_private(bind.as_fd()).map_err(fail)?;
            Ok(Console { bind: Some(bind), ..console })
        }
    }
}

/// A terminal of the running container below `root`, whose processes may have put anything in the place of its devpts: what is there is
/// looked at before it is opened.
pub(crate) fn allocate_in(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<Console, StartError> {
    let fail = |e: Errno| StartError::system(format!("allocate a terminal in the container: {}", errno_text(e)));
    let handle = inside::open(root, c"dev/pts/ptmx", OFlags::PATH).map_err(fail)?;
    let stat = fstat(&handle).map_err(fail)?;
    let genuine = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(5, 2)
        && fstatfs(&handle).map_err(fail)?.f_type as u64 == DEVPTS_MAGIC;
    if !genuine {
        return Err(StartError::system(
            "allocate a terminal in the container: its /dev/pts/ptmx is not a devpts master",
        ));
    }
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
    peer(master, size).map_err(fail)
}

fn peer(master: OwnedFd, size: Option<(u16, u16)>) -> rustix::io::Result<Console> {
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if let Some((rows, columns)) = size {
        tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    Ok(Console { master, slave, bind: None })
}

/// Shows the terminal as `/dev/console`. After the mounts and nodes. After clone.
pub(crate) fn bind(root: BorrowedFd<'_>, console: &Console) -> Result<(), Failure> {
    let place = inside::ensure(root, c"dev/console", Kind::File).at(Op::Target, 0)?;
    match &console.bind {
        Some(tree) => attach(tree.as_fd(), place.as_fd()).at(Op::Attach, 0),
        None => {
            let tree = clone_tree(console.slave.as_fd(), false).at(Op::Create, 0)?;
            attach(tree.as_fd(), place.as_fd()).at(Op::Attach, 0)
        }
    }
}
