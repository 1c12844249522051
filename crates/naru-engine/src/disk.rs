//! How much things take on disk.

use crate::Engine;
use crate::types::{ContainerView, Filters, ImageSummary, ListOptions, VolumeView};
use naru_base::{Id, Result};
use naru_fs::Root;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// The block of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;
/// A file up to this length may lie in its inode, without blocks.
const INLINE: u64 = 4096;

/// Bytes of all regular files below `folder`, hard links and holes not counted; what can't be read counts as nothing.
pub(crate) fn usage(folder: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && (meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino()))) {
                total += size_of(&meta);
            }
        }
    }
    total
}

/// Whether the folder is on an xfs.
pub(crate) fn is_xfs(folder: &Path) -> bool {
    // XFS_SUPER_MAGIC (statfs(2)).
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == 0x5846_5342)
}

pub(crate) fn size_of(meta: &std::fs::Metadata) -> u64 {
    let (length, allocated) = (meta.len(), meta.blocks().saturating_mul(BLOCK));
    if length > INLINE { length.min(allocated) } else { length }
}

/// What was moved out of the way is removed in the background: only what has lain so many seconds is a leftover.
const STALE: i64 = 600;

/// Whether the entry has lain for so long that nobody is at work on it any more.
pub(crate) fn is_stale(root: &Root, name: &str) -> bool {
    let now = crate::clock::now() / 1_000_000_000;
    root.lstat(name).is_ok_and(|stat| stat.st_ctime.saturating_add(STALE) < now)
}

/// What everything takes.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// All images together: layers' files and blobs, each once, and what of removed ones is still there.
    pub images_total: u64,
    /// Images, each with what it takes and how much of that others have, too.
    pub images: Vec<(ImageSummary, u64)>,
    /// Containers; the size of the writable layer is with the logs'.
    pub containers: Vec<ContainerView>,
    /// Volumes, with how many containers have each and its bytes; `None` for one whose files lie elsewhere.
    pub volumes: Vec<(VolumeView, usize, Option<u64>)>,
}

/// What of it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct DiskUsageOf {
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
    /// Volumes.
    pub volumes: bool,
}

impl Engine {
    /// What everything takes on disk. It looks at every file of containers and volumes.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn disk_usage(self: &Arc<Self>, of: DiskUsageOf) -> Result<DiskUsage> {
        let engine = Arc::clone(self);
        crate::image::blocking(move || engine.measure(of)).await
    }

    fn measure(&self, of: DiskUsageOf) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if of.images {
            let store = self.images.store.usage()?;
            usage.images_total = store.total + store.trash;
            let users = self.image_users();
            for mut summary in self.images(true, &Filters::new())? {
                let own = store.images.get(&summary.id).copied().unwrap_or_default();
                // The built-in image takes nothing.
                summary.size = own.size;
                summary.containers = users.get(&summary.id).copied().unwrap_or_default();
                usage.images.push((summary, own.shared));
            }
            // Those of further platforms stand below their images' names.
            let mut seen = std::collections::HashSet::new();
            for (id, family) in self.images.store.families() {
                for image in family.iter().filter(|image| seen.insert(image.id.clone())) {
                    let own = store.images.get(&image.id).copied().unwrap_or_default();
                    let summary = self.summary(image, &self.images.store.references(&id), &users, false)?;
                    usage.images.push((ImageSummary { size: own.size, ..summary }, own.shared));
                }
            }
        }
        if of.containers {
            usage.containers = self.list(&ListOptions { all: true, size: true, ..ListOptions::default() })?;
            for container in &mut usage.containers {
                let logs = self.log_bytes(&container.id);
                container.size_rw = container.size_rw.map(|own| own + logs);
            }
        }
        if of.volumes {
            for volume in self.volumes.list() {
                let users = self.volume_users(&volume.name).len();
                let size = (!volume.is_elsewhere()).then(|| self::usage(&volume.mountpoint));
                usage.volumes.push((volume, users, size));
            }
        }
        Ok(usage)
    }

    /// Bytes of a container's writable layer and logs: what its removal frees.
    pub(crate) fn container_bytes(&self, id: &Id) -> u64 {
        usage(&self.files(id, 0).upper) + self.log_bytes(id)
    }

    /// Bytes of a container's logs, rotated ones too.
    fn log_bytes(&self, id: &Id) -> u64 {
        let settings = self.containers.by_id(id).map(|c| c.read(|r| r.host.log.clone())).unwrap_or_default();
        let path = crate::log_config::path(&settings, &self.config.container_dir(id), id.as_str());
        path.map_or(0, |path| crate::container::log_size(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_holes_take_nothing() {
        let folder = std::env::temp_dir().join(format!("naru-disk-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a"), [1; 1000]).unwrap();
        std::fs::hard_link(folder.join("a"), folder.join("sub/b")).unwrap();
        std::os::unix::fs::symlink("a", folder.join("l")).unwrap();
        std::fs::File::create(folder.join("hole")).unwrap().set_len(1 << 30).unwrap();
        let found = usage(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!((1000..1 << 20).contains(&found), "{found}");
    }
}
