//! docker's init layer: between an image and a container's writable layer, the folders and files that mounts need, so that making them
//! does not show as a change of the container.
//!
//! One per image, made once, beneath a temporary name and renamed when whole.

use naru_base::error::Context as _;
use naru_base::{Digest, Result};
use naru_fs::Root;
use rustix::fs::{FileType, Mode, Stat};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FOLDERS: &[&str] = &["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: &[&str] = &[".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The init layers of one engine.
#[derive(Debug)]
pub(crate) struct InitLayers {
    folder: PathBuf,
    making: Mutex<()>,
}

impl InitLayers {
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).system(format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder, making: Mutex::new(()) })
    }

    /// The layer for an image with these layers (top first), made if it isn't there.
    pub(crate) fn layer(&self, image: &Digest, lower: &[PathBuf]) -> Result<PathBuf> {
        let path = self.folder.join(image.hex());
        if path.exists() {
            return Ok(path);
        }
        let _one = crate::lock(&self.making);
        if path.exists() {
            return Ok(path);
        }
        let all = Root::open_host(&self.folder).system("cannot open the init layers")?;
        let temporary = format!("tmp-{}", image.short());
        naru_fs::remove_tree(&all, &temporary)
            .or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })
            .system("cannot clear an init layer")?;
        all.create_dir_all(&temporary, Mode::from_raw_mode(0o755)).system("cannot make an init layer")?;
        fill(&all.sub(&temporary).system("cannot make an init layer")?, lower)?;
        naru_sys::fault::point();
        std::fs::rename(self.folder.join(&temporary), &path).system("cannot publish an init layer")?;
        Ok(path)
    }

    /// Removes the layers of all other images.
    pub(crate) fn keep_only(&self, images: &[Digest]) {
        let Ok(all) = Root::open_host(&self.folder) else { return };
        for name in all.list("/").unwrap_or_default() {
            if !images.iter().any(|i| *i.hex() == *name)
                && let Err(error) = naru_fs::remove_tree(&all, &name)
            {
                tracing::warn!("cannot remove an init layer: {error}");
            }
        }
    }
}

fn fill(layer: &Root, lower: &[PathBuf]) -> Result<()> {
    let lower: Vec<Root> =
        lower.iter().map(Root::open_host).collect::<std::result::Result<_, _>>().system("cannot open a layer")?;
    let seen = |path: &str| lower.iter().find_map(|root| root.lstat(path).ok());
    if let Some(top) = lower.first().and_then(|r| r.stat("/").ok()) {
        take_after(layer, Path::new("/"), &top)?;
    }
    for folder in FOLDERS {
        // What the image has in a folder's place (a link, a file, a whiteout) is the image's business: nothing is made over it.
        match seen(folder) {
            Some(stat) if is(&stat, FileType::Directory) => {
                layer.create_dir_all(folder, Mode::from_raw_mode(0o755)).system("cannot make an init layer")?;
                take_after(layer, Path::new(folder), &stat)?;
            }
            Some(_) => {}
            None if parent_is_ours(layer, folder) => {
                layer.create_dir_all(folder, Mode::from_raw_mode(0o755)).system("cannot make an init layer")?;
            }
            None => {}
        }
    }
    for file in FILES {
        if seen(file).is_none() && parent_is_ours(layer, file) {
            layer.create_file(file, Mode::from_raw_mode(0o755)).system("cannot make an init layer")?;
        }
    }
    if seen("etc/mtab").is_none() && parent_is_ours(layer, "etc/mtab") {
        layer.symlink("/proc/mounts", "etc/mtab").system("cannot make an init layer")?;
    }
    Ok(())
}

fn parent_is_ours(layer: &Root, path: &str) -> bool {
    match path.rsplit_once('/') {
        Some((parent, _)) => layer.lstat(parent).is_ok_and(|s| is(&s, FileType::Directory)),
        None => true,
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Owner and mode: overlay shows the topmost folder's.
fn take_after(layer: &Root, path: &Path, stat: &Stat) -> Result<()> {
    let folder = layer.open_dir(path).system("cannot make an init layer")?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&folder, Some(uid), Some(gid)).system("cannot make an init layer")?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(stat.st_mode & 0o7777)).system("cannot make an init layer")
}
