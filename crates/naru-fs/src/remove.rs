//! Removal of a tree by descriptors: no link is followed, no mount is crossed.

use crate::root::{open_beneath, open_retry};
use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep the walk goes with one descriptor each; what is deeper is first moved up.
const DEPTH_LIMIT: usize = 64;

/// Removes `name` in the folder `dir` and, if it is a directory, all below it. Nothing there is no error.
///
/// Immutable and append-only flags (chattr(1)) are cleared on the way. Entries that others make or remove meanwhile are
/// tolerated.
///
/// # Errors
/// `EXDEV` or `EBUSY` when something is mounted below; unlinkat(2)'s. What could be removed before that is gone.
pub fn remove_tree(dir: impl AsFd, name: impl AsRef<OsStr>) -> Result<()> {
    let dir = dir.as_fd();
    let name = name.as_ref();
    let path = Path::new(name);
    let c_name = CString::new(name.as_bytes()).map_err(|_| Error::new("remove", path, Errno::INVAL))?;
    match unlink(dir, &c_name) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(Error::new("remove", path, e)),
    }
    // A writer in the tree can make entries after they were listed: look again, a few times.
    for _ in 0..8 {
        let fd = match open_dir(dir, &c_name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::new("remove", path, e)),
        };
        Walk::new(fd, path).run()?;
        match rmdir(dir, &c_name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(Error::new("remove", path, e)),
        }
    }
    Err(Error::new("remove", path, Errno::NOTEMPTY))
}

/// Removes all that is in the directory `dir`, but not the directory itself.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_contents(dir: impl AsFd) -> Result<()> {
    let fd = open_dir(dir.as_fd(), c".").map_err(|e| Error::new("remove", ".", e))?;
    Walk::new(fd, Path::new(".")).run()
}

/// One directory that is being emptied.
struct Level {
    fd: OwnedFd,
    /// Its name in the level above.
    name: CString,
    /// Sub-directories that were found and are not yet emptied.
    pending: Vec<CString>,
}

struct Walk {
    levels: Vec<Level>,
    path: PathBuf,
    moved: u64,
}

impl Walk {
    fn new(fd: OwnedFd, path: &Path) -> Self {
        let top = Level { fd, name: CString::default(), pending: Vec::new() };
        Self { levels: vec![top], path: path.to_owned(), moved: 0 }
    }

    fn run(&mut self) -> Result<()> {
        self.clear_top()?;
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                self.enter(name)?;
                continue;
            }
            let Some(done) = self.levels.pop() else { break };
            let Some(above) = self.levels.last() else { break };
            drop(done.fd);
            match rmdir(above.fd.as_fd(), &done.name) {
                // Something was made in it meanwhile: the caller looks at the whole tree again.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(e) => return Err(self.fail(&done.name, e)),
            }
        }
        Ok(())
    }

    /// Unlinks what is not a directory in the topmost level and notes the directories.
    fn clear_top(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let fail =
            |name: &std::ffi::CStr, e| Error::new("remove", self.path.join(OsStr::from_bytes(name.to_bytes())), e);
        let listing = Dir::read_from(&level.fd).map_err(|e| fail(c".", e))?;
        for entry in listing {
            let entry = entry.map_err(|e| fail(c".", e))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                level.pending.push(name.to_owned());
                continue;
            }
            match unlink(level.fd.as_fd(), name) {
                Ok(()) => {}
                Err(Errno::ISDIR) => level.pending.push(name.to_owned()),
                Err(e) => return Err(fail(name, e)),
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: CString) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        if self.levels.len() >= DEPTH_LIMIT {
            return self.move_up(name);
        }
        match open_dir(level.fd.as_fd(), &name) {
            Ok(fd) => {
                self.levels.push(Level { fd, name, pending: Vec::new() });
                self.clear_top()
            }
            Err(Errno::NOENT) => Ok(()),
            // It was replaced by something else, a link for instance, after it was listed.
            Err(Errno::NOTDIR | Errno::LOOP) => unlink(level.fd.as_fd(), &name).map_err(|e| self.fail(&name, e)),
            Err(e) => Err(self.fail(&name, e)),
        }
    }

    /// Moves a directory that lies too deep to the first level, so that a chain of any depth needs few descriptors.
    fn move_up(&mut self, name: CString) -> Result<()> {
        let (Some(first), Some(last)) = (self.levels.first(), self.levels.last()) else { return Ok(()) };
        loop {
            self.moved += 1;
            let new = CString::new(format!(".naru-removed-{}", self.moved)).unwrap_or_default();
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&last.fd, &name, &first.fd, &new, flags) {
                Ok(()) => {
                    self.levels[0].pending.push(new);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::PERM) if clear_flags(last.fd.as_fd(), &name) => {}
                Err(e) => return Err(self.fail(&name, e)),
            }
        }
    }

    fn fail(&self, name: &std::ffi::CStr, e: Errno) -> Error {
        Error::new("remove", self.path.join(OsStr::from_bytes(name.to_bytes())), e)
    }
}

/// Opens a directory to list it: not a link, not another mount.
fn open_dir(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_retry(dir, Path::new(OsStr::from_bytes(name.to_bytes())), flags, Mode::empty(), resolve)
}

/// Unlinks what is no directory; `ISDIR` for a directory.
fn unlink(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
    naru_sys::fault::point();
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) if clear_flags(dir, name) => match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e),
        },
        Err(e) => Err(e),
    }
}

fn rmdir(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
    naru_sys::fault::point();
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::PERM) if clear_flags(dir, name) => rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        other => other,
    }
}

/// Clears the flags that forbid removal, on the entry and its folder; whether that changed anything.
fn clear_flags(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> bool {
    let clear = |fd: BorrowedFd<'_>| -> bool {
        let Ok(flags) = rustix::fs::ioctl_getflags(fd) else { return false };
        let frozen = IFlags::IMMUTABLE | IFlags::APPEND;
        flags.intersects(frozen) && rustix::fs::ioctl_setflags(fd, flags - frozen).is_ok()
    };
    let in_dir = open_dir(dir, c".").is_ok_and(|fd| clear(fd.as_fd()));
    // Only a file or directory has such flags: a fifo or device must not be opened.
    let plain = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|s| matches!(FileType::from_raw_mode(s.st_mode), FileType::RegularFile | FileType::Directory));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let path = OsStr::from_bytes(name.to_bytes());
    let on_entry = plain && open_beneath(dir, path, flags).is_ok_and(|fd| clear(fd.as_fd()));
    in_dir || on_entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use crate::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed() {
        let scratch = Scratch::new("links");
        fs::create_dir_all(scratch.path().join("kept")).unwrap();
        fs::write(scratch.path().join("kept/file"), "").unwrap();
        let tree = scratch.path().join("tree/sub");
        fs::create_dir_all(&tree).unwrap();
        symlink("../../kept", tree.join("link")).unwrap();
        symlink("kept", scratch.path().join("top-link")).unwrap();
        let root = Root::open_host(scratch.path()).unwrap();
        root.remove_all("tree").unwrap();
        root.remove_all("/top-link").unwrap();
        root.remove_all("never/was").unwrap();
        assert_eq!(root.list("/").unwrap(), ["kept"]);
        assert!(root.exists("kept/file").unwrap());
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let scratch = Scratch::new("deep");
        let root = Root::open_host(scratch.path()).unwrap();
        let mut at = root.create_dir_all("tree", Mode::RWXU).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, "e", Mode::RWXU).unwrap();
            at = open_beneath(at.as_fd(), "d", OFlags::RDONLY).unwrap();
        }
        root.remove_all("tree").unwrap();
        assert!(root.list("/").unwrap().is_empty());
    }

    #[test]
    fn immutable_entries_go_too() {
        let scratch = Scratch::new("immutable");
        let root = Root::open_host(scratch.path()).unwrap();
        fs::create_dir_all(scratch.path().join("tree/sub")).unwrap();
        fs::write(scratch.path().join("tree/sub/file"), "").unwrap();
        for (path, flag) in
            [("tree/sub/file", IFlags::IMMUTABLE), ("tree/sub", IFlags::IMMUTABLE), ("tree", IFlags::APPEND)]
        {
            let fd = root.open(path, OFlags::RDONLY, Mode::empty()).unwrap();
            if rustix::fs::ioctl_setflags(&fd, flag).is_err() {
                eprintln!("skipped: this file system has no such flags");
            }
        }
        root.remove_all("tree").unwrap();
        assert!(!root.exists("tree").unwrap());
    }
}
