//! A walk over a tree by descriptors, in a fixed order, that bears a tree which changes meanwhile.

use crate::tar::{Error, Result};
use naru_fs::open_beneath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Deepest folder: one descriptor is kept open for each level.
const DEPTH_LIMIT: usize = 512;

/// An entry of the tree.
pub(crate) struct Node<'a> {
    /// Its path from the start of the walk, without a slash before it.
    pub(crate) path: &'a [u8],
    /// The folder that holds it.
    pub(crate) parent: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a [u8],
    /// Its status; links are not followed.
    pub(crate) stat: Stat,
    /// A directory's descriptor.
    pub(crate) dir: Option<&'a OwnedFd>,
}

impl Node<'_> {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

struct Level {
    fd: OwnedFd,
    /// Names that are still to be visited, last first.
    names: Vec<Vec<u8>>,
    /// Length of the folder's path.
    path: usize,
}

/// Visits all below the directory `root` (not itself): each folder before what is in it, names in byte order. What
/// vanishes between being listed and being opened is left out.
///
/// # Errors
/// `visit`'s; a folder's that can't be read; and when the tree is too deep.
pub(crate) fn walk(root: BorrowedFd<'_>, mut visit: impl FnMut(&Node<'_>) -> Result<()>) -> Result<()> {
    let fd = open_beneath(root, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| fail(b".", e))?;
    let mut path = Vec::new();
    let names = list(&fd, &path)?;
    let mut levels = vec![Level { fd, names, path: 0 }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        path.truncate(level.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let depth = levels.len();
        let Some(level) = levels.last() else { break };
        let stat = match rustix::fs::statat(&level.fd, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(fail(&path, e)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            visit(&Node { path: &path, parent: level.fd.as_fd(), name: &name, stat, dir: None })?;
            continue;
        }
        if depth >= DEPTH_LIMIT {
            return Err(Error::Limit(format!("a folder is more than {DEPTH_LIMIT} levels deep")));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = match open_beneath(level.fd.as_fd(), OsStr::from_bytes(&name), flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(fail(&path, e)),
        };
        visit(&Node { path: &path, parent: level.fd.as_fd(), name: &name, stat, dir: Some(&fd) })?;
        let names = list(&fd, &path)?;
        levels.push(Level { fd, names, path: path.len() });
    }
    Ok(())
}

/// The names in a folder, last first.
fn list(fd: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd).map_err(|e| fail(path, e))? {
        let entry = entry.map_err(|e| fail(path, e))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn fail(path: &[u8], e: Errno) -> Error {
    Error::Io(naru_fs::Error::new("read", OsStr::from_bytes(path), e))
}
