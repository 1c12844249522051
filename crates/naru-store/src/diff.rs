//! What a container changed: its upper folder compared with the layers below.

use crate::extract::{is_whiteout_stat, split};
use crate::layer::attributes_of;
use crate::lower::{Lower, is_opaque};
use crate::tree;
use naru_base::Result;
use naru_fs::Root;
use rustix::fd::AsFd;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// How a path changed. The numbers are those of docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was there and is another.
    Modified = 0,
    /// It was not there.
    Added = 1,
    /// It is no longer there.
    Deleted = 2,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root, `/etc/passwd`.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// What `upper`, an overlay's upper folder, changes of the layer folders `lower` (topmost first), sorted by path.
///
/// As in docker, a folder counts as modified when its own attributes are, or when something directly in it was added or
/// deleted. `upper` may be in use: what vanishes meanwhile is left out.
///
/// # Errors
/// When a folder can't be read.
pub fn diff(lower: &[PathBuf], upper: &Root) -> Result<Vec<Change>> {
    let lower = Lower::open(lower)?;
    let mut changes: BTreeMap<Vec<u8>, ChangeKind> = BTreeMap::new();
    let mut note = |path: &[u8], kind: ChangeKind| {
        changes.insert(path.to_vec(), kind);
        if kind != ChangeKind::Modified
            && let Some(slash) = path.iter().rposition(|&b| b == b'/')
        {
            changes.entry(path[..slash].to_vec()).or_insert(ChangeKind::Modified);
        }
    };
    tree::walk(upper.as_fd(), |node| {
        let components = split(node.path)?;
        let below = lower.find(&components)?;
        if is_whiteout_stat(&node.stat) {
            if below.is_some() {
                note(node.path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let Some(below) = below else {
            note(node.path, ChangeKind::Added);
            return Ok(());
        };
        let was_dir = FileType::from_raw_mode(below.stat.st_mode) == FileType::Directory;
        let Some(dir) = node.dir.filter(|_| was_dir) else {
            note(node.path, ChangeKind::Modified);
            return Ok(());
        };
        let opaque = is_opaque(dir);
        if opaque {
            for name in lower.list(&components)? {
                let mut path = [node.path, b"/"].concat();
                path.extend_from_slice(&name);
                if rustix::fs::statat(dir, &name[..], rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_err() {
                    note(&path, ChangeKind::Deleted);
                }
            }
        }
        if opaque || attributes_of(&node.stat) != attributes_of(&below.stat) {
            note(node.path, ChangeKind::Modified);
        }
        Ok(())
    })?;
    let change = |(path, kind): (Vec<u8>, ChangeKind)| {
        let mut whole = vec![b'/'];
        whole.extend_from_slice(&path);
        Change { path: PathBuf::from(OsString::from_vec(whole)), kind }
    };
    Ok(changes.into_iter().map(change).collect())
}
