//! [`Store`]: the images of one engine.

use crate::blob::Blobs;
use crate::check::Problem;
use crate::extract::sub_root;
use crate::hash::{chain_id, digest_of};
use crate::image::{Image, ImageLayer, Source};
use crate::index::{self, Index, IndexRecord};
use crate::ingest::{LayerIngest, UnpackedLayer};
use crate::layer::{Layer, Layers};
use crate::platforms::ImageIndex;
use crate::policy::ImagePolicy;
use crate::spec::{Descriptor, Document, ImageConfig, Manifest, media_type};
use crate::trash::Trash;
use naru_base::error::Context;
use naru_base::{Digest, Error, Reference, Result};
use naru_fs::{Durability, Root, durable};
use rustix::fs::{FlockOperation, IFlags, Mode, OFlags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const INDEX: &str = "index.json";
/// A configuration or manifest is never larger.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;
/// How long a blob that was not completed waits to be taken up again, in seconds.
const RESUME_LIFE: u64 = 24 * 60 * 60;

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

/// What must not be collected although no image has it.
#[derive(Default)]
struct Holds {
    /// Chain ids by owner.
    owners: HashMap<String, Digest>,
    leases: usize,
    /// Something became garbage while there were leases; whether its blobs are to be kept for the next ingest.
    wanted: Option<bool>,
}

/// While one lives, nothing is collected: for the time between storing parts of an image and the image itself.
pub struct Lease(Arc<Inner>);

/// An image to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// The configuration's bytes.
    pub config: &'a [u8],
    /// The manifest that it came with, its media type and bytes.
    pub manifest: Option<(&'a str, &'a [u8])>,
    /// The image that it was built on, when that is in the store.
    pub parent: Option<&'a Digest>,
}

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
    /// Opens the store in the folder `path`, making it if there is none.
    ///
    /// Call [`Store::sweep`] once everything that holds layers has said so.
    ///
    /// # Errors
    /// When another process has it open, or its index can't be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, ImagePolicy::default())
    }

    /// As [`Store::open`], with a policy for layers that are taken in from now on.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, policy: ImagePolicy) -> Result<Self> {
        let path = path.as_ref();
        let root = Root::from_fd(Root::open_host("/")?.create_dir_all(path, Mode::RWXU)?);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        let lock_file = root.open("lock", flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::flock(&lock_file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::conflict(format!("image store {} is in use by another engine", path.display())))?;
        durable::sweep(&root)?;
        let trash = Trash::new(sub_root(&root, "trash")?);
        let blobs = Blobs::new(sub_root(&root, "blobs/sha256")?);
        blobs.sweep()?;
        let (layers, bad) = Layers::open(sub_root(&root, "layers")?, path.join("layers"))?;
        for name in bad {
            layers.discard(&name, &trash)?;
        }
        let (index, lost) = load_index(&root, &blobs, &layers)?;
        Ok(Self(Arc::new(Inner {
            ingest: sub_root(&root, "ingest")?,
            unpack: spread_root(&root, "unpack")?,
            root,
            blobs,
            layers,
            trash,
            policy,
            index: RwLock::new(Arc::new(index)),
            change: Mutex::new(()),
            ingests: Mutex::default(),
            ingest_released: Condvar::new(),
            holds: Mutex::default(),
            serial: AtomicU64::new(0),
            lost: Mutex::new(lost),
            _lock: File::from(lock_file),
        })))
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&read(&self.0.index))
    }

    /// Every image, by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.index().images.values().cloned().collect()
    }

    /// The image with this id.
    ///
    /// # Errors
    /// `No such image: …`.
    pub fn image(&self, id: &Digest) -> Result<Arc<Image>> {
        self.index().get(id).cloned()
    }

    /// The image that a user means by `text`: a whole id, `name@digest`, `name:tag`, or the beginning of an id, in this order.
    ///
    /// # Errors
    /// `No such image: …`.
    pub fn lookup(&self, text: &str) -> Result<Arc<Image>> {
        self.index().lookup(text).cloned()
    }

    /// The image that a name has exactly; a name without tag and digest means `latest`.
    pub fn named(&self, reference: &Reference) -> Option<Arc<Image>> {
        let index = self.index();
        index.named(reference).and_then(|id| index.images.get(id)).cloned()
    }

    /// All names of an image: tags, then digests.
    pub fn references(&self, id: &Digest) -> Vec<Reference> {
        self.index().references(id)
    }

    /// The names of all images at once, for lists.
    pub fn all_references(&self) -> HashMap<Digest, Vec<Reference>> {
        let index = self.index();
        let mut all: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for (name, repository) in &index.repositories {
            let Ok(name) = Reference::parse(name) else { continue };
            for (tag, id) in &repository.tags {
                all.entry(id.clone()).or_default().extend(name.with_tag(tag).ok());
            }
        }
        for (name, repository) in &index.repositories {
            let Ok(name) = Reference::parse(name) else { continue };
            for (digest, id) in &repository.digests {
                all.entry(id.clone()).or_default().push(name.with_digest(digest.clone()));
            }
        }
        all
    }

    /// All tags of a repository, with their images.
    pub fn tags_of(&self, repository: &Reference) -> Vec<(Reference, Arc<Image>)> {
        let index = self.index();
        let Some(names) = index.repositories.get(&repository.repository().to_string()) else { return Vec::new() };
        let pair =
            |(tag, id): (&String, &Digest)| Some((repository.with_tag(tag).ok()?, Arc::clone(index.images.get(id)?)));
        names.tags.iter().filter_map(pair).collect()
    }

    /// Repositories of `registry`, other than `but`, that were seen to have the layer blob `blob`, at most `limit`.
    pub fn repositories_with(&self, blob: &Digest, registry: &str, but: &Reference, limit: usize) -> Vec<Reference> {
        let index = self.index();
        let has = |id: &Digest| index.images.get(id).is_some_and(|i| i.layers.iter().any(|l| l.blob.digest == *blob));
        index
            .repositories
            .iter()
            .filter(|(_, repository)| repository.digests.values().any(has))
            .filter_map(|(name, _)| Reference::parse(name).ok())
            .filter(|name| name.domain() == registry && name.path() != but.path())
            .take(limit)
            .collect()
    }

    /// The images that were built on this one.
    pub fn children(&self, id: &Digest) -> Vec<Digest> {
        self.index().images.values().filter(|i| i.parent.as_ref() == Some(id)).map(|i| i.id.clone()).collect()
    }

    /// The images that others were built on, whether they are here or not. For a look at many: one pass, where [`Store::children`] is one
    /// for each.
    pub fn parents(&self) -> HashSet<Digest> {
        self.index().images.values().filter_map(|i| i.parent.clone()).collect()
    }

    /// Images that have neither a tag nor a digest nor a child, and are in no index that has a name.
    pub fn dangling(&self) -> Vec<Arc<Image>> {
        let index = self.index();
        let named: HashSet<&Digest> =
            index.repositories.values().flat_map(|r| r.tags.values().chain(r.digests.values())).collect();
        let parents: HashSet<&Digest> = index.images.values().filter_map(|i| i.parent.as_ref()).collect();
        let followers = self.followers();
        let unused = |i: &&Arc<Image>| !named.contains(&i.id) && !parents.contains(&i.id) && !followers.contains(&i.id);
        index.images.values().filter(unused).cloned().collect()
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

    /// Keeps everything in the store as long as it lives.
    pub fn lease(&self) -> Lease {
        Lease::new(&self.0)
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

    /// Stores an image whose layers are all there. It has no name yet.
    ///
    /// Hold a [`Lease`] from before the first layer is looked up until this returns.
    ///
    /// # Errors
    /// When the configuration or manifest is malformed, they don't fit each other, or a layer is missing.
    pub fn put_image(&self, new: &NewImage<'_>) -> Result<Arc<Image>> {
        let config = ImageConfig::parse(new.config)?;
        let manifest = match new.manifest {
            None => None,
            Some((media_type, bytes)) => Some(check_manifest(media_type, bytes, new.config, &config)?),
        };
        let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len());
        let mut chain: Option<Digest> = None;
        for (at, diff_id) in config.rootfs.diff_ids.iter().enumerate() {
            let id = chain_id(chain.as_ref(), diff_id);
            let layer = self.layer(&id).ok_or_else(|| Error::not_found(format!("layer {id} is not in the store")))?;
            // The blob that the manifest names, or the one that the layer was first made from.
            let named = manifest.as_ref().and_then(|(_, m)| m.layers.get(at)).filter(|d| self.has_blob(&d.digest));
            let blob = named.unwrap_or(&layer.blob);
            layers.push(ImageLayer {
                diff_id: diff_id.clone(),
                chain_id: id.clone(),
                size: layer.size,
                blob: Descriptor::new(&blob.media_type, blob.digest.clone(), blob.size),
            });
            chain = Some(id);
        }
        let _lease = self.lease();
        let id = self.0.blobs.put(new.config)?;
        let manifest = match (manifest, new.manifest) {
            (Some((descriptor, _)), Some((_, bytes))) => {
                self.0.blobs.put(bytes)?;
                Some(descriptor)
            }
            _ => None,
        };
        let mut image = Image {
            id: id.clone(),
            config,
            layers,
            manifest,
            parent: new.parent.cloned(),
            last_tagged: None,
            source: Source::Layers,
        };
        self.change(Sync::Content, |index| {
            if let Some(old) = index.images.get(&id) {
                image.parent = image.parent.take().or_else(|| old.parent.clone());
                image.manifest = image.manifest.take().or_else(|| old.manifest.clone());
                image.last_tagged.clone_from(&old.last_tagged);
            }
            let image = Arc::new(image);
            index.images.insert(id, Arc::clone(&image));
            Ok(image)
        })
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

    /// The images that were in the index and whose parts were not all there at the start; with `forget` for the last time.
    ///
    /// # Errors
    /// When the index can't be written.
    pub(crate) fn lost(&self, forget: bool) -> Result<Vec<Problem>> {
        let mut lost = lock(&self.0.lost).clone();
        if forget && !lost.is_empty() {
            self.change(Sync::Index, |_| Ok(()))?;
            lock(&self.0.lost).clear();
            for problem in &mut lost {
                problem.repaired = Some("forgotten: pull or load it again".into());
            }
        }
        Ok(lost)
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

    /// A manifest of the image for which the store has every blob: the one that it came with, byte for byte, or else one
    /// in OCI's types made of the blobs that there are.
    ///
    /// # Errors
    /// When the image has no blobs.
    pub fn manifest(&self, image: &Image) -> Result<(Manifest, Vec<u8>, String)> {
        self.manifest_in(image, &OCI)
    }

    /// As [`Store::manifest`], but one made here has docker's types, as docker's own push.
    ///
    /// # Errors
    /// When the image has no blobs.
    pub fn manifest_to_push(&self, image: &Image) -> Result<(Manifest, Vec<u8>, String)> {
        self.manifest_in(image, &DOCKER)
    }

    fn manifest_in(&self, image: &Image, types: &Types) -> Result<(Manifest, Vec<u8>, String)> {
        refuse_host(image)?;
        if let Some(descriptor) = &image.manifest {
            let bytes = self.0.blobs.read(&descriptor.digest, DOCUMENT_LIMIT)?;
            if let Document::Manifest(manifest) = Document::parse(&bytes, &descriptor.media_type)?
                && manifest.layers.iter().all(|layer| self.has_blob(&layer.digest))
            {
                return Ok((manifest, bytes, descriptor.media_type.clone()));
            }
        }
        let config_size = self.0.blobs.size(&image.id).unwrap_or(0);
        let layer = |blob: &Descriptor| {
            let media_type = match blob.media_type.as_str() {
                t if t.ends_with("zstd") => types.zstd,
                t if t.ends_with("gzip") => types.gzip,
                _ => types.plain,
            };
            Descriptor::new(media_type, blob.digest.clone(), blob.size)
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: types.manifest.into(),
            config: Descriptor::new(types.config, image.id.clone(), config_size),
            layers: image.layers.iter().map(|l| layer(&l.blob)).collect(),
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).system("encode a manifest")?;
        Ok((manifest, bytes, types.manifest.into()))
    }
}

/// The media types of a manifest that is made here.
struct Types {
    manifest: &'static str,
    config: &'static str,
    plain: &'static str,
    gzip: &'static str,
    zstd: &'static str,
}

const OCI: Types = Types {
    manifest: media_type::OCI_MANIFEST,
    config: media_type::OCI_CONFIG,
    plain: media_type::OCI_LAYER,
    gzip: media_type::OCI_LAYER_GZIP,
    zstd: media_type::OCI_LAYER_ZSTD,
};

const DOCKER: Types = Types {
    manifest: media_type::DOCKER_MANIFEST,
    config: media_type::DOCKER_CONFIG,
    plain: media_type::DOCKER_LAYER,
    gzip: media_type::DOCKER_LAYER_GZIP,
    zstd: media_type::DOCKER_LAYER_ZSTD,
};

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

    fn collect(&self, recycle: bool) -> Result<Removed> {
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

pub(crate) fn refuse_host(image: &Image) -> Result<()> {
    match image.source {
        Source::Layers => Ok(()),
        Source::Host(_) => {
            Err(Error::invalid("the image \"host\" is a view of this machine's own files: it can't be saved or pushed"))
        }
    }
}

/// The folder `name`, whose own folders ext4 spreads over the disk (FS_TOPDIR_FL, ioctl_iflags(2)), each with inodes near it that nothing
/// has used lately.
fn spread_root(root: &Root, name: &str) -> Result<Root> {
    let folder = sub_root(root, name)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&folder) {
        // Other file systems have no such flag, and no such need.
        let _ = rustix::fs::ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
    Ok(folder)
}

/// Reads the index. Images whose parts are gone are left out, and told: better than an engine that doesn't start.
fn load_index(root: &Root, blobs: &Blobs, layers: &Layers) -> Result<(Index, Vec<Problem>)> {
    let Some(record) = durable::read_json::<IndexRecord>(root, INDEX)? else { return Ok(Default::default()) };
    if record.version != index::VERSION {
        return Err(Error::system(format!("image index has the unknown version {}", record.version)));
    }
    let mut index = Index::default();
    let mut lost: Vec<(Digest, String)> = Vec::new();
    for record in record.images {
        let config = blobs.read(&record.id, DOCUMENT_LIMIT).and_then(|bytes| ImageConfig::parse(&bytes));
        let missing = record.layers.iter().find(|layer| layers.get(&layer.chain_id).is_none());
        match (config, missing) {
            (Ok(config), None) => {
                let image = Image::from_record(record, config);
                index.images.insert(image.id.clone(), Arc::new(image));
            }
            (Err(error), _) => lost.push((record.id, format!("it was left out at the start: {error}"))),
            (_, Some(layer)) => {
                let layer = layer.chain_id.clone();
                lost.push((record.id, format!("it was left out at the start: layer {layer} is missing")));
            }
        }
    }
    for descriptor in record.indices {
        let read = blobs.read(&descriptor.digest, DOCUMENT_LIMIT);
        match read.and_then(|bytes| ImageIndex::parse(&descriptor.media_type, &bytes)) {
            Ok(of) => drop(index.indices.insert(descriptor.digest, Arc::new(of))),
            // The names stay with the images that carry them.
            Err(error) => lost.push((descriptor.digest, format!("the list of its platforms was left out: {error}"))),
        }
    }
    let names = |id: &Digest| -> String {
        let tags = |(name, repository): (&String, &index::Repository)| -> Vec<String> {
            repository.tags.iter().filter(|(_, of)| *of == id).map(|(tag, _)| format!("{name}:{tag}")).collect()
        };
        record.repositories.iter().flat_map(tags).collect::<Vec<_>>().join(", ")
    };
    let problem = |(id, problem): (Digest, String)| {
        let names = names(&id);
        let subject = if names.is_empty() { id.to_string() } else { format!("{id} ({names})") };
        Problem { kind: "image", subject, problem, repaired: None }
    };
    let lost = lost.into_iter().map(problem).collect();
    for (name, mut repository) in record.repositories {
        repository.tags.retain(|_, id| index.images.contains_key(id));
        repository.digests.retain(|_, id| index.images.contains_key(id));
        if !repository.is_empty() {
            index.repositories.insert(name, repository);
        }
    }
    Ok((index, lost))
}

fn check_manifest(
    kind: &str,
    bytes: &[u8],
    config_bytes: &[u8],
    config: &ImageConfig,
) -> Result<(Descriptor, Manifest)> {
    let document = Document::parse(bytes, kind)?;
    let media_type = document.media_type(kind).to_owned();
    let Document::Manifest(manifest) = document else {
        return Err(Error::invalid("a list of manifests is no image's manifest"));
    };
    if manifest.config.digest != digest_of(config_bytes) {
        return Err(Error::invalid("the image configuration is not the one that the manifest names"));
    }
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(Error::invalid("layers from manifest don't match image configuration"));
    }
    Ok((Descriptor::new(&media_type, digest_of(bytes), bytes.len() as u64), manifest))
}
