//! [`Store`]: the images of one engine.

mod catalogue;
mod collect;
mod look_up;
mod manifest;
mod open;
mod publish;

pub use catalogue::Catalogue;
pub use collect::{Lease, Removed};
pub use publish::{NewImage, NewNames, Renamed};

use self::collect::Holds;
use crate::blob::Blobs;
use crate::check::Problem;
use crate::hash::{chain_id, digest_of};
use crate::image::{Image, Source};
use crate::index::Index;
use crate::ingest::{LayerIngest, UnpackedLayer};
use crate::layer::{Layer, Layers};
use crate::policy::ImagePolicy;
use crate::spec::{Descriptor, ImageConfig};
use crate::trash::Trash;
use naru_base::error::Context;
use naru_base::{Digest, Error, Reference, Result};
use naru_fs::{Durability, Root, durable};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const INDEX: &str = "index.json";
/// A configuration or manifest is never larger.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// Images on disk. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) root: Root,
    pub(crate) blobs: Blobs,
    pub(crate) layers: Layers,
    pub(crate) ingest: Root,
    /// Layers that are being unpacked.
    pub(crate) unpack: Root,
    pub(crate) trash: Arc<Trash>,
    pub(crate) policy: ImagePolicy,
    index: RwLock<Arc<Index>>,
    /// Held while the index changes, from reading the old one to publishing the new one.
    change: Mutex<()>,
    ingests: Mutex<HashSet<String>>,
    ingest_released: Condvar,
    holds: Mutex<Holds>,
    serial: AtomicU64,
    /// Images of the index that could not be taken up.
    lost: Mutex<Vec<Problem>>,
    /// Keeps a second engine out.
    _lock: File,
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&read(&self.0.index))
    }

    /// The bytes of an image's configuration, as received.
    ///
    /// # Errors
    /// When the blob is damaged, or the image has none.
    pub fn config_bytes(&self, image: &Image) -> Result<Vec<u8>> {
        match image.source {
            Source::Layers => self.0.blobs.read(&image.id, DOCUMENT_LIMIT),
            Source::Host(_) => image.config.to_bytes(),
        }
    }

    /// The folders that an overlay of this image is made of, topmost first.
    ///
    /// # Errors
    /// When a layer is missing.
    pub fn lower_dirs(&self, image: &Image) -> Result<Vec<PathBuf>> {
        match &image.source {
            Source::Host(path) => Ok(vec![path.clone()]),
            Source::Layers => self.0.layers.paths(image.chain_id()),
        }
    }

    /// The layer with this chain id.
    pub fn layer(&self, chain: &Digest) -> Option<Arc<Layer>> {
        self.0.layers.get(chain)
    }

    /// The layer of `diff_id` on top of `parent`, when the store has it: it need not be downloaded.
    pub fn layer_on(&self, parent: Option<&Digest>, diff_id: &Digest) -> Option<Arc<Layer>> {
        self.0.layers.get(&chain_id(parent, diff_id))
    }

    /// Whether the blob is in the store.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.0.blobs.has(digest)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        self.0.blobs.open(digest)
    }

    /// Takes up the download of a layer: feed it from [`LayerIngest::resume_offset`] on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn ingest(&self, blob: Descriptor) -> Result<LayerIngest> {
        LayerIngest::begin(&self.0, blob, None)?.ok_or_else(|| Error::system("an ingest of no layer has none"))
    }

    /// As [`Store::ingest`], for the layer `chain`: `None` when the store has the blob and the layer, perhaps from another ingest that
    /// this call has waited for.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn ingest_layer(&self, blob: Descriptor, chain: &Digest) -> Result<Option<LayerIngest>> {
        LayerIngest::begin(&self.0, blob, Some(chain))
    }

    /// Ends what a pull began and did not complete: layers and blobs that no image has go. With `resume`, blobs are kept aside for the
    /// next ingest of the same digest; without, what there is of `blobs` goes too.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn abandon(&self, blobs: &[Digest], resume: bool) -> Result<()> {
        self.0.collect(resume)?;
        if !resume {
            for digest in blobs {
                // Waits for an ingest that is being ended; one that is wanted by others completes, and leaves nothing here.
                self.0.claim_ingest(digest.hex());
                let removed = naru_fs::remove_tree(&self.0.ingest, digest.hex());
                self.0.release_ingest(digest.hex());
                removed?;
            }
        }
        Ok(())
    }

    /// Takes in a layer whose digest comes out in the end.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn ingest_unknown(&self) -> Result<LayerIngest> {
        LayerIngest::begin_unknown(&self.0)
    }

    /// Puts an unpacked layer on top of `parent`.
    ///
    /// # Errors
    /// When the archive has hard links to what is in no layer below, or the disk refuses.
    pub fn commit_layer(&self, layer: UnpackedLayer, parent: Option<&Digest>) -> Result<Arc<Layer>> {
        layer.commit(&self.0, parent)
    }

    /// An image that shows a folder of this machine, under this name; it is not written to the index.
    ///
    /// # Errors
    /// When the configuration can't be encoded.
    pub fn register_host(&self, name: &Reference, path: &Path, config: ImageConfig) -> Result<Arc<Image>> {
        let id = digest_of(&config.to_bytes()?);
        let image = Arc::new(Image {
            id: id.clone(),
            config,
            layers: Vec::new(),
            manifest: None,
            parent: None,
            last_tagged: None,
            source: Source::Host(path.to_owned()),
        });
        let _change = lock(&self.0.change);
        let mut index = (*self.index()).clone();
        index.images.insert(id.clone(), Arc::clone(&image));
        let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG).to_owned();
        index.repositories.entry(name.repository().to_string()).or_default().tags.insert(tag, id);
        *write(&self.0.index) = Arc::new(index);
        Ok(image)
    }

    /// Gives an image a tag (`latest` when the name has none); the image that had it before, if it was another.
    ///
    /// # Errors
    /// When there is no such image, or the name has a digest.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<Option<Digest>> {
        if name.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG).to_owned();
        self.change(Sync::Index, |index| {
            index.mark_tagged(id)?;
            let repository = index.repositories.entry(name.repository().to_string()).or_default();
            repository.indexes.remove(&tag);
            Ok(repository.tags.insert(tag, id.clone()).filter(|old| old != id))
        })
    }

    /// Notes that `repository` has the image under the digest of a manifest or index (a "repo digest").
    ///
    /// # Errors
    /// When there is no such image.
    pub fn add_digest(&self, id: &Digest, repository: &Reference, manifest: &Digest) -> Result<()> {
        self.change(Sync::Index, |index| {
            index.get(id)?;
            let names = index.repositories.entry(repository.repository().to_string()).or_default();
            names.digests.insert(manifest.clone(), id.clone());
            Ok(())
        })
    }

    /// Takes a name away; the image that it had named. The image stays.
    ///
    /// # Errors
    /// `No such image: …` when nothing has the name.
    pub fn untag(&self, name: &Reference) -> Result<Digest> {
        self.change(Sync::Index, |index| {
            index.remove_name(name).ok_or_else(|| {
                Error::not_found(format!("No such image: {}", name.clone().with_default_tag().familiar()))
            })
        })
    }

    /// Removes an image with all its names, and what only it had. Whether that is allowed is for the caller to know.
    ///
    /// # Errors
    /// `No such image: …`; or when the disk refuses.
    pub fn delete(&self, id: &Digest) -> Result<Removed> {
        self.change(Sync::Index, |index| {
            let image = Arc::clone(index.get(id)?);
            if let Source::Host(_) = image.source {
                return Err(Error::conflict("the image \"host\" is built in and can't be removed"));
            }
            index.remove_image(id);
            Ok(())
        })?;
        Ok(Removed { images: vec![id.clone()], ..self.collect()? })
    }

    /// As [`Store::delete`], but leaves an image that has a name (again, when a pull or load was faster): `None`.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn delete_unnamed(&self, id: &Digest) -> Result<Option<Removed>> {
        let gone = self.change(Sync::Index, |index| {
            if let Source::Host(_) = index.get(id)?.source {
                return Err(Error::conflict("the image \"host\" is built in and can't be removed"));
            }
            let unnamed = index.references(id).is_empty();
            if unnamed {
                index.remove_image(id);
            }
            Ok(unnamed)
        })?;
        if !gone {
            return Ok(None);
        }
        Ok(Some(Removed { images: vec![id.clone()], ..self.collect()? }))
    }

    /// Changes the index: on disk first, then in memory. Nothing changes when `change` fails.
    pub(crate) fn change<T>(&self, sync: Sync, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _change = lock(&self.0.change);
        let mut index = (*self.index()).clone();
        let answer = change(&mut index)?;
        index.drop_unnamed_indices();
        if sync == Sync::Content {
            // One sync for all blobs and layers of the image, then its name.
            rustix::fs::syncfs(&self.0.root).system("sync the image store")?;
        }
        durable::write_json(&self.0.root, INDEX, &index.record(), Durability::Synced)?;
        *write(&self.0.index) = Arc::new(index);
        Ok(answer)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Only names change.
    Index,
    /// Blobs and layers must be on the disk before the index is.
    Content,
}

impl Inner {
    /// Waits until no other ingest has the folder `name`, then has it.
    pub(crate) fn claim_ingest(&self, name: &str) {
        let mut ingests = lock(&self.ingests);
        while !ingests.insert(name.to_owned()) {
            ingests = self.ingest_released.wait(ingests).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn release_ingest(&self, name: &str) {
        lock(&self.ingests).remove(name);
        self.ingest_released.notify_all();
    }

    /// A name for an ingest that no digest is known of.
    pub(crate) fn fresh_name(&self) -> String {
        format!("new-{}", self.serial.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) fn refuse_host(image: &Image) -> Result<()> {
    match image.source {
        Source::Layers => Ok(()),
        Source::Host(_) => {
            Err(Error::invalid("the image \"host\" is a view of this machine's own files: it can't be saved or pushed"))
        }
    }
}
