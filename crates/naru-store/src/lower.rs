//! The merged view of a stack of layer folders, without mounting it.

use crate::extract::{OPAQUE_XATTR, is_whiteout_stat};
use naru_fs::{Root, xattr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Layer folders, topmost first.
pub(crate) struct Lower {
    layers: Vec<Root>,
}

/// What the merged view has at a path.
pub(crate) struct Found {
    /// The folder, in one layer, that holds it.
    pub(crate) parent: OwnedFd,
    /// Its status.
    pub(crate) stat: Stat,
}

impl Lower {
    /// The stack of these folders, topmost first.
    ///
    /// # Errors
    /// When one can't be opened.
    pub(crate) fn open(layers: &[PathBuf]) -> naru_fs::Result<Self> {
        Ok(Self { layers: layers.iter().map(Root::open_host).collect::<Result<_, _>>()? })
    }

    /// What is at `components`; links on the way are not followed.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub(crate) fn find(&self, components: &[&[u8]]) -> naru_fs::Result<Option<Found>> {
        let Some((name, dirs)) = components.split_last() else { return Ok(None) };
        let mut merged: Vec<OwnedFd> = Vec::new();
        for layer in &self.layers {
            merged.push(layer.open_dir("/")?);
        }
        for dir in dirs {
            let mut next = Vec::new();
            for parent in merged {
                match stat(&parent, dir)? {
                    None => {}
                    Some(s) if FileType::from_raw_mode(s.st_mode) == FileType::Directory => {
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let fd = rustix::fs::openat(&parent, *dir, flags, Mode::empty())
                            .map_err(|e| error("open", dir, e))?;
                        let opaque = is_opaque(&fd);
                        next.push(fd);
                        if opaque {
                            break;
                        }
                    }
                    // A whiteout or another kind of entry hides what is below.
                    Some(_) => break,
                }
            }
            merged = next;
        }
        for parent in merged {
            match stat(&parent, name)? {
                None => {}
                Some(s) if is_whiteout_stat(&s) => return Ok(None),
                Some(stat) => return Ok(Some(Found { parent, stat })),
            }
        }
        Ok(None)
    }
}

/// Whether the folder hides all that lower layers have in it.
pub(crate) fn is_opaque(dir: impl AsFd) -> bool {
    xattr::get(dir, OPAQUE_XATTR).is_ok_and(|value| value.as_deref() == Some(b"y"))
}

fn stat(dir: &OwnedFd, name: &[u8]) -> naru_fs::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(error("stat", name, e)),
    }
}

fn error(operation: &'static str, name: &[u8], e: Errno) -> naru_fs::Error {
    use std::os::unix::ffi::OsStrExt;
    naru_fs::Error::new(operation, Path::new(std::ffi::OsStr::from_bytes(name)), e)
}
