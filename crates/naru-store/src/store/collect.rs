//! What keeps layers and blobs, and the removal of what nothing keeps.

use super::{Inner, Store, lock, read};
use crate::index::Index;
use naru_base::{Digest, Result};
use rustix::fs::Mode;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;

/// How long a blob that was not completed waits to be taken up again, in seconds.
const RESUME_LIFE: u64 = 24 * 60 * 60;

/// What must not be collected although no image has it.
#[derive(Default)]
pub(super) struct Holds {
    /// Chain ids by owner.
    owners: HashMap<String, Digest>,
    leases: usize,
    /// Something became garbage while there were leases; whether its blobs are to be kept for the next ingest.
    wanted: Option<bool>,
}

/// While one lives, nothing is collected: for the time between storing parts of an image and the image itself.
pub struct Lease(Arc<Inner>);

/// What a removal removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images.
    pub images: Vec<Digest>,
    /// Chain ids of layers, topmost first.
    pub layers: Vec<Digest>,
    /// Bytes of the layers' files and of blobs.
    pub bytes: u64,
}

impl Store {
    /// Keeps everything in the store as long as it lives.
    pub fn lease(&self) -> Lease {
        Lease::new(&self.0)
    }

    /// Keeps the chain that ends in `chain` for `owner` (a container), although its image may go.
    pub fn hold(&self, owner: &str, chain: &Digest) {
        lock(&self.0.holds).owners.insert(owner.to_owned(), chain.clone());
    }

    /// `owner` needs its chain no more. What becomes garbage goes with the next [`Store::collect`].
    pub fn release(&self, owner: &str) {
        lock(&self.0.holds).owners.remove(owner);
    }

    /// Removes layers and blobs that no image and no owner needs; later, when there are leases.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn collect(&self) -> Result<Removed> {
        self.0.collect(false)
    }

    /// Whether a container has this layer.
    ///
    /// # Errors
    /// When a chain is broken.
    pub(crate) fn is_held(&self, chain: &Digest) -> Result<bool> {
        for top in lock(&self.0.holds).owners.values() {
            if self.0.layers.chain(Some(top))?.iter().any(|layer| layer.chain_id == *chain) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The blobs and layers that nothing needs; `None` while something is being taken in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn garbage(&self) -> Result<Option<(Vec<Digest>, Vec<Digest>)>> {
        let _change = lock(&self.0.change);
        let holds = lock(&self.0.holds);
        if holds.leases > 0 {
            return Ok(None);
        }
        let (blobs, layers) = self.0.live(&self.index(), &holds)?;
        let blobs = self.0.blobs.list()?.into_iter().filter(|digest| !blobs.contains(digest)).collect();
        Ok(Some((blobs, self.0.layers.all().into_iter().filter(|chain| !layers.contains(chain)).collect())))
    }

    /// To be called once after opening, when all owners hold their layers: removes what earlier runs left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sweep(&self) -> Result<Removed> {
        self.0.trash.take_all(&self.0.unpack)?;
        self.0.expire_ingests(false)?;
        let removed = self.0.collect(true);
        self.0.trash.empty();
        removed
    }

    /// Removes what is kept of downloads that were not completed, but for those under way; the bytes that are freed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_downloads(&self) -> Result<u64> {
        self.0.expire_ingests(true)
    }

    /// Waits until what was removed is off the disk, too, which happens in the background.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn wait_for_removals(&self) -> Result<()> {
        self.0.trash.wait()
    }
}

impl Inner {
    /// Removes the ingests that can't be taken up again: those without a digest, and those that nobody has taken up for a day; or all.
    /// The bytes that are freed: a blob that has another name is not.
    fn expire_ingests(&self, all: bool) -> Result<u64> {
        let mut freed = 0;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        for name in self.ingest.list("/")? {
            let Some(text) = name.to_str() else { continue };
            if !lock(&self.ingests).insert(text.to_owned()) {
                continue;
            }
            let is_resumable = Digest::parse(&format!("{}{text}", Digest::PREFIX)).is_ok();
            let blob = self.ingest.lstat(format!("{text}/blob")).ok();
            let changed = blob.map_or(0, |s| u64::try_from(s.st_mtime).unwrap_or(0));
            let removed = if all || !is_resumable || changed.saturating_add(RESUME_LIFE) < now {
                let alone = blob.filter(|s| s.st_nlink == 1);
                freed += alone.map_or(0, |s| u64::try_from(s.st_size).unwrap_or(0));
                naru_fs::remove_tree(&self.ingest, &name)
            } else {
                Ok(())
            };
            self.release_ingest(text);
            removed?;
        }
        Ok(freed)
    }

    pub(super) fn collect(&self, recycle: bool) -> Result<Removed> {
        let mut removed = Removed::default();
        {
            let _change = lock(&self.change);
            let mut holds = lock(&self.holds);
            if holds.leases > 0 {
                holds.wanted = Some(holds.wanted.unwrap_or(true) && recycle);
                return Ok(removed);
            }
            holds.wanted = None;
            let index = Arc::clone(&read(&self.index));
            let (blobs, layers) = self.live(&index, &holds)?;
            for chain in self.layers.all() {
                if layers.contains(&chain) {
                    continue;
                }
                removed.bytes += self.layers.get(&chain).map_or(0, |l| l.size);
                self.layers.discard(OsStr::new(chain.hex()), &self.trash)?;
                removed.layers.push(chain);
            }
            for digest in self.blobs.list()? {
                if !blobs.contains(&digest) {
                    removed.bytes += self.blobs.size(&digest).unwrap_or(0);
                    self.retire_blob(&digest, recycle)?;
                }
            }
        }
        if removed.bytes > 0 || !removed.layers.is_empty() {
            self.trash.empty();
        }
        Ok(removed)
    }

    /// Removes a blob, or (at start) gives it back to the next ingest of the same digest.
    fn retire_blob(&self, digest: &Digest, recycle: bool) -> Result<()> {
        if recycle {
            let dir = self.ingest.create_dir_all(digest.hex(), Mode::RWXU)?;
            naru_fs::remove_tree(&dir, "blob")?;
            self.blobs.lend(digest, &dir, "blob")?;
        }
        self.blobs.discard(digest, &self.trash)
    }

    /// The blobs and layers that something needs.
    fn live(&self, index: &Index, holds: &Holds) -> Result<(HashSet<Digest>, HashSet<Digest>)> {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        blobs.extend(index.indices.keys().cloned());
        for image in index.images.values() {
            blobs.insert(image.id.clone());
            blobs.extend(image.manifest.iter().map(|m| m.digest.clone()));
            for layer in &image.layers {
                layers.insert(layer.chain_id.clone());
                blobs.insert(layer.blob.digest.clone());
            }
        }
        for chain in holds.owners.values() {
            layers.extend(self.layers.chain(Some(chain))?.iter().map(|layer| layer.chain_id.clone()));
        }
        Ok((blobs, layers))
    }
}

impl Lease {
    pub(crate) fn new(store: &Arc<Inner>) -> Self {
        lock(&store.holds).leases += 1;
        Self(Arc::clone(store))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let collect = {
            let mut holds = lock(&self.0.holds);
            holds.leases -= 1;
            holds.wanted.filter(|_| holds.leases == 0)
        };
        if let Some(recycle) = collect {
            // What can't be removed now is garbage still, and goes another time.
            let _ = self.0.collect(recycle);
        }
    }
}
