//! Single paths of a container as archives (`cp`).

use crate::Engine;
use crate::channel_io::produce;
use crate::types::UnixNanos;
use bytes::Bytes;
use naru_base::{Error, Result};
use naru_fs::Root;
use rustix::fs::FileType;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// What a path in a container is.
#[derive(Debug, Clone, Default)]
pub struct ArchiveStat {
    /// Its last part.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Mode in Go's bits (`fs.FileMode`).
    pub mode_go: u32,
    /// Last change.
    pub mtime: UnixNanos,
    /// Where a link points.
    pub link_target: String,
}

impl Engine {
    /// What the path is.
    ///
    /// # Errors
    /// When there is no such container or path.
    pub async fn archive_stat(&self, name: &str, path: &str) -> Result<ArchiveStat> {
        let container = self.containers.find(name)?;
        stat(&self.root_of(&container)?, path, name)
    }

    /// The path as an archive.
    ///
    /// # Errors
    /// When there is no such container or path; a failure later comes out of the channel.
    pub async fn archive_get(&self, name: &str, path: &str) -> Result<(ArchiveStat, mpsc::Receiver<Result<Bytes>>)> {
        let container = self.containers.find(name)?;
        let root = self.root_of(&container)?;
        let shown = stat(&root, path, name)?;
        let contents_only = path.ends_with("/.");
        let clean = clean(path);
        let (parent, last): (_, OsString) = match clean.file_name() {
            Some(last) => root.parent(&clean).map(|(fd, _)| (fd, last.to_owned())),
            None => root.open_dir("/").map(|fd| (fd, OsString::from("."))),
        }
        .map_err(|e| missing(name, path, &e))?;
        let alias = if contents_only || last == "." { OsString::from(".") } else { last.clone() };
        self.container_event(&container, "archive-path", &[]);
        Ok((shown, produce(move |out| naru_store::pack_path(parent, &last, &alias, out))))
    }

    /// Unpacks an archive at a path. Not there yet: copying into a container comes with volumes.
    ///
    /// # Errors
    /// Always [`naru_base::Class::NotImplemented`], after the container and path have been looked up.
    pub async fn archive_put(
        &self,
        name: &str,
        path: &str,
        _body: mpsc::Receiver<std::io::Result<Bytes>>,
        _no_overwrite_dir_non_dir: bool,
        _copy_uid_gid: bool,
    ) -> Result<()> {
        self.archive_stat(name, path).await?;
        Err(Error::not_implemented("copying into a container is not supported by this engine yet"))
    }
}

fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            std::path::Component::Normal(p) => out.push(p),
            std::path::Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn missing(container: &str, path: &str, error: &naru_fs::Error) -> Error {
    if error.is_not_found() {
        Error::not_found(format!("Could not find the file {path} in container {container}"))
    } else {
        Error::system(format!("cannot look at {path} in container {container}: {error}"))
    }
}

fn stat(root: &Root, path: &str, container: &str) -> Result<ArchiveStat> {
    let clean = clean(path);
    let found = root.lstat(&clean).map_err(|e| missing(container, path, &e))?;
    let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
    let target = if is_link { root.read_link(&clean).unwrap_or_default() } else { PathBuf::new() };
    Ok(ArchiveStat {
        name: clean.file_name().unwrap_or(OsStr::new("/")).to_string_lossy().into_owned(),
        size: found.st_size,
        mode_go: go_mode(found.st_mode),
        mtime: found
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
        link_target: target.to_string_lossy().into_owned(),
    })
}

/// Unix mode bits in Go's order (`io/fs`).
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => (1 << 26) | (1 << 21),
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    special.iter().filter(|(bit, _)| mode & bit != 0).fold(kind | (mode & 0o777), |m, (_, go)| m | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), (1 << 31) | 0o755);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
        assert_eq!(go_mode(0o041_777), (1 << 31) | (1 << 20) | 0o777);
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(clean("/a/../../b/./c/"), Path::new("/b/c"));
        assert_eq!(clean("/."), Path::new("/"));
    }
}
