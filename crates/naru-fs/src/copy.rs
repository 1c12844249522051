//! Copies of file content between open files: shared extents where the file system can, holes kept.

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much one copy step moves at most.
const STEP: usize = 1 << 30;
/// The buffer of the way that always works.
const BUFFER: usize = 256 << 10;

/// Gives the empty regular file `to` the content and length of the regular file `from`, holes included; the number of
/// bytes of its length.
///
/// Tries FICLONE (ioctl_ficlonerange(2)), then copy_file_range(2), then reads and writes.
///
/// # Errors
/// When a read or write fails, `ENOSPC` for instance.
pub fn file(from: impl AsFd, to: impl AsFd) -> Result<u64> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let fail = |e| Error::new("copy", ".", e);
    let size = rustix::fs::fstat(from).map_err(fail)?.st_size.max(0) as u64;
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(size);
    }
    rustix::fs::ftruncate(to, size).map_err(fail)?;
    let mut at = 0;
    while at < size {
        let Some((start, end)) = data_range(from, at, size).map_err(fail)? else { break };
        range(from, to, start, end).map_err(fail)?;
        at = end;
    }
    Ok(size)
}

/// The next run of data at or after `at`; the whole rest where holes can't be told (lseek(2) SEEK_DATA).
fn data_range(fd: BorrowedFd<'_>, at: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(e) => return Err(e),
    };
    let end = rustix::fs::seek(fd, SeekFrom::Hole(start)).unwrap_or(size);
    Ok((start < size).then_some((start, end.min(size))))
}

fn range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let want = usize::try_from(end - source).unwrap_or(STEP).min(STEP);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), want) {
            // The file shrank under us.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return by_hand(from, to, source, end),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..want], at))?;
        if got == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < got {
            written +=
                rustix::io::retry_on_intr(|| rustix::io::pwrite(to, &buffer[written..got], at + written as u64))?;
        }
        at += got as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use crate::testing::Scratch;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn holes_and_content_are_kept() {
        let scratch = Scratch::new("copy");
        let root = Root::open_host(scratch.path()).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CREATE;
        let from = root.open("from", flags, mode).unwrap();
        rustix::io::pwrite(&from, b"begin", 0).unwrap();
        rustix::io::pwrite(&from, b"end", 50 << 20).unwrap();
        rustix::fs::ftruncate(&from, 60 << 20).unwrap();
        let to = root.open("to", flags, mode).unwrap();
        assert_eq!(file(&from, &to).unwrap(), 60 << 20);
        assert!(rustix::fs::fstat(&to).unwrap().st_blocks < 2048);
        let by_hand_to = root.open("hand", flags, mode).unwrap();
        by_hand(from.as_fd(), by_hand_to.as_fd(), 0, 60 << 20).unwrap();
        let want = std::fs::read(scratch.path().join("from")).unwrap();
        assert!(want == std::fs::read(scratch.path().join("to")).unwrap());
        assert!(want == std::fs::read(scratch.path().join("hand")).unwrap());
    }
}
