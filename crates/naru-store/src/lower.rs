//! The merged view of a stack of layer folders, without mounting it.

use crate::extract::{OPAQUE_XATTR, is_whiteout_stat};
use naru_fs::{Root, xattr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
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

    /// The names in the folder at `components`.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub(crate) fn list(&self, components: &[&[u8]]) -> naru_fs::Result<Vec<Vec<u8>>> {
        // Each name with whether it is there: a whiteout above hides it below.
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for dir in self.merged(components)? {
            let root = Root::from_fd(dir);
            for name in root.list("/")? {
                let name = name.into_vec();
                let there = stat(&root, &name)?.is_some_and(|s| !is_whiteout_stat(&s));
                names.entry(name).or_insert(there);
            }
        }
        Ok(names.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect())
    }

    /// The folders that are merged into the one at `components`, topmost first.
    fn merged(&self, components: &[&[u8]]) -> naru_fs::Result<Vec<OwnedFd>> {
        let mut merged: Vec<OwnedFd> = self.layers.iter().map(|layer| layer.open_dir("/")).collect::<Result<_, _>>()?;
        for dir in components {
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
        Ok(merged)
    }

    /// What is at `components`; links on the way are not followed.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub(crate) fn find(&self, components: &[&[u8]]) -> naru_fs::Result<Option<Found>> {
        let Some((name, dirs)) = components.split_last() else { return Ok(None) };
        let merged = self.merged(dirs)?;
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

/// The folders, topmost first, that an overlay of the layer folders `layers` (topmost first) shows merged at `path`. Links are not
/// followed.
///
/// # Errors
/// When a layer can't be read, or there is no such folder.
pub fn lower_folders(layers: &[PathBuf], path: &str) -> naru_base::Result<Vec<PathBuf>> {
    let components = crate::extract::split(path.as_bytes())?;
    let mut merged: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for layer in layers {
        merged.push((layer.clone(), Root::open_host(layer)?.into_fd()));
    }
    for name in components {
        let mut next = Vec::new();
        for (above, parent) in merged {
            match stat(&parent, name)? {
                None => {}
                Some(s) if FileType::from_raw_mode(s.st_mode) == FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd =
                        rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|e| error("open", name, e))?;
                    let opaque = is_opaque(&fd);
                    next.push((above.join(std::ffi::OsString::from_vec(name.to_vec())), fd));
                    if opaque {
                        break;
                    }
                }
                Some(_) => break,
            }
        }
        merged = next;
    }
    if merged.is_empty() {
        return Err(naru_base::Error::invalid(format!("the image has no folder {path:?}")));
    }
    Ok(merged.into_iter().map(|(folder, _)| folder).collect())
}

/// Whether the folder hides all that lower layers have in it.
pub(crate) fn is_opaque(dir: impl AsFd) -> bool {
    xattr::get(dir, OPAQUE_XATTR).is_ok_and(|value| value.as_deref() == Some(b"y"))
}

fn stat(dir: impl AsFd, name: &[u8]) -> naru_fs::Result<Option<Stat>> {
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
