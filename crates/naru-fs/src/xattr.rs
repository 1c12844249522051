//! Extended attributes (xattr(7)) of open files and of entries of an open folder.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The kernel's own limit for a value and for a list (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const LIMIT: usize = 64 << 10;

/// The names of `fd`'s attributes, sorted; none where the file system has no attributes.
///
/// # Errors
/// flistxattr(2)'s.
pub fn list(fd: impl AsFd) -> Result<Vec<OsString>, Errno> {
    names(|buffer| rustix::fs::flistxattr(&fd, buffer))
}

/// The value of `fd`'s attribute, or `None` when it has none of that name.
///
/// # Errors
/// fgetxattr(2)'s.
pub fn get(fd: impl AsFd, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>, Errno> {
    let name = name.as_ref();
    value(|buffer| rustix::fs::fgetxattr(&fd, name, buffer))
}

/// Sets `fd`'s attribute.
///
/// # Errors
/// fsetxattr(2)'s.
pub fn set(fd: impl AsFd, name: impl AsRef<OsStr>, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, name.as_ref(), value, XattrFlags::empty())
}

/// As [`list`], for the entry `name` (one component) of the folder `dir`: links, devices and fifos are not opened.
///
/// # Errors
/// llistxattr(2)'s.
pub fn list_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> Result<Vec<OsString>, Errno> {
    let path = entry_path(dir.as_fd(), name.as_ref())?;
    names(|buffer| rustix::fs::llistxattr(&path, buffer))
}

/// As [`get`], for the entry `name` of the folder `dir`.
///
/// # Errors
/// lgetxattr(2)'s.
pub fn get_at(dir: impl AsFd, name: impl AsRef<OsStr>, attribute: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>, Errno> {
    let path = entry_path(dir.as_fd(), name.as_ref())?;
    value(|buffer| rustix::fs::lgetxattr(&path, attribute.as_ref(), buffer))
}

/// As [`set`], for the entry `name` of the folder `dir`.
///
/// # Errors
/// lsetxattr(2)'s.
pub fn set_at(
    dir: impl AsFd,
    name: impl AsRef<OsStr>,
    attribute: impl AsRef<OsStr>,
    value: &[u8],
) -> Result<(), Errno> {
    let path = entry_path(dir.as_fd(), name.as_ref())?;
    rustix::fs::lsetxattr(&path, attribute.as_ref(), value, XattrFlags::empty())
}

/// A path of one component below a descriptor: nothing in it can be swapped for a link.
fn entry_path(dir: BorrowedFd<'_>, name: &OsStr) -> Result<PathBuf, Errno> {
    if name.is_empty() || name == ".." || name.as_bytes().contains(&b'/') {
        return Err(Errno::INVAL);
    }
    let mut path = OsString::from(format!("/proc/self/fd/{}/", dir.as_raw_fd()));
    path.push(name);
    Ok(path.into())
}

fn names(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<OsString>, Errno> {
    // Most files have no attribute, or few: a small buffer first.
    let bytes = match fill(256, &call) {
        Err(Errno::RANGE) => fill(LIMIT, &call),
        other => other,
    };
    let bytes = match bytes {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<OsString> =
        bytes.split(|&b| b == 0).filter(|n| !n.is_empty()).map(|n| OsString::from_vec(n.to_vec())).collect();
    names.sort_unstable();
    Ok(names)
}

fn value(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    let bytes = match fill(256, &call) {
        Err(Errno::RANGE) => fill(LIMIT, &call),
        other => other,
    };
    match bytes {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        other => other.map(Some),
    }
}

fn fill(size: usize, call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; size];
    let got = call(&mut buffer)?;
    buffer.truncate(got);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use crate::testing::Scratch;

    #[test]
    fn set_get_list() {
        let scratch = Scratch::new("xattr");
        let root = Root::open_host(scratch.path()).unwrap();
        let file = root.create_file("file", rustix::fs::Mode::RUSR).unwrap();
        let long = vec![b'x'; 1000];
        if set(&file, "user.long", &long) == Err(Errno::OPNOTSUPP) {
            eprintln!("skipped: this file system has no user attributes");
            return;
        }
        set_at(&root, "file", "user.a", b"1").unwrap();
        assert_eq!(list(&file).unwrap(), ["user.a", "user.long"]);
        assert_eq!(list_at(&root, "file").unwrap(), ["user.a", "user.long"]);
        assert_eq!(get(&file, "user.long").unwrap(), Some(long));
        assert_eq!(get_at(&root, "file", "user.none").unwrap(), None);
        assert!(get_at(&root, "../file", "user.a").is_err());
    }
}
