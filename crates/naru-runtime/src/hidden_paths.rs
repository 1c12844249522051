//! Paths that a container must not see (masked) or not write (read-only).

use crate::StartError;
use crate::inside;
use crate::mounts::{NewFilesystem, attach, c_path, clone_tree};
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::mount_attr::{MountAttr, MountChange, MountPropagation, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The paths, and what masks are made of.
#[derive(Debug)]
pub(crate) struct HiddenPaths {
    masked: Vec<CString>,
    readonly: Vec<CString>,
    /// A detached bind of the null device; checked, since what shows up in its place would show up in `/proc`.
    null: Option<OwnedFd>,
    /// A detached, empty, read-only tmpfs.
    empty: Option<OwnedFd>,
}

/// Makes the masks, if there is something to mask.
pub(crate) fn prepare(masked: &[PathBuf], readonly: &[PathBuf]) -> Result<HiddenPaths, StartError> {
    let paths = |list: &[PathBuf]| list.iter().map(|p| c_path(p.as_os_str().as_bytes())).collect::<Result<Vec<_>, _>>();
    let (masked, readonly) = (paths(masked)?, paths(readonly)?);
    if masked.is_empty() {
        return Ok(HiddenPaths { masked, readonly, null: None, empty: None });
    }
    let null = null_bind().map_err(|e| StartError::system(format!("mask: /dev/null: {}", errno_text(e))))?;
    let attributes = MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    let options = ["nr_inodes=1".to_owned(), "mode=555".to_owned()];
    let empty = NewFilesystem::new("tmpfs", "tmpfs", &options, attributes)?
        .make(0)
        .map_err(|f| StartError::system(format!("mask: tmpfs: {}", errno_text(f.errno))))?;
    Ok(HiddenPaths { masked, readonly, null: Some(null), empty: Some(empty) })
}

fn null_bind() -> rustix::io::Result<OwnedFd> {
    let null = rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&null)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(Errno::NODEV);
    }
    let tree = clone_tree(null.as_fd(), false)?;
    let set = MountAttr::NOSUID | MountAttr::NOEXEC;
    let propagation = Some(MountPropagation::Private);
    mount_setattr(tree.as_fd(), c"", &MountChange { set, propagation, ..MountChange::default() })?;
    Ok(tree)
}

/// Puts the masks in their places; paths that aren't there are skipped. After clone.
pub(crate) fn mask(root: BorrowedFd<'_>, paths: &HiddenPaths) -> Result<(), Failure> {
    // A detached mount can be cloned since Linux 6.15 only, an attached one always: the first place gets the original.
    let mut attached = [false; 2];
    for (index, path) in paths.masked.iter().enumerate() {
        let place = match inside::open(root, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.at(Op::Target, index)?,
        };
        let mode = rustix::fs::fstat(&place).at(Op::Target, index)?.st_mode;
        let folder = FileType::from_raw_mode(mode) == FileType::Directory;
        let cover = if folder { &paths.empty } else { &paths.null };
        let Some(cover) = cover else { continue };
        let first = attached.get_mut(usize::from(folder)).is_some_and(|seen| !std::mem::replace(seen, true));
        if first {
            attach(cover.as_fd(), place.as_fd()).at(Op::Attach, index)?;
        } else {
            let copy = clone_tree(cover.as_fd(), false).at(Op::Create, index)?;
            attach(copy.as_fd(), place.as_fd()).at(Op::Attach, index)?;
        }
    }
    Ok(())
}

/// Covers each path with a read-only bind of itself; paths that aren't there are skipped. After clone.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, paths: &HiddenPaths) -> Result<(), Failure> {
    let change = MountChange { set: MountAttr::RDONLY, recursive: true, ..MountChange::default() };
    for (index, path) in paths.readonly.iter().enumerate() {
        let place = match inside::open(root, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.at(Op::Target, index)?,
        };
        let copy = clone_tree(place.as_fd(), true).at(Op::Create, index)?;
        mount_setattr(copy.as_fd(), c"", &change).at(Op::Attributes, index)?;
        attach(copy.as_fd(), place.as_fd()).at(Op::Attach, index)?;
    }
    Ok(())
}

/// What failed.
pub(crate) fn describe(what: &str, path: Option<&PathBuf>, failure: Failure) -> StartError {
    let path = path.map(|p| p.display().to_string()).unwrap_or_default();
    StartError::system(format!("can't {what} path \"{path}\": {}", errno_text(failure.errno)))
}
