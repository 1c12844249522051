//! Opening a store: what is on the disk, and what of it is lost.

use super::{DOCUMENT_LIMIT, INDEX, Inner, Store, Sync, lock};
use crate::blob::Blobs;
use crate::check::Problem;
use crate::extract::sub_root;
use crate::image::Image;
use crate::index::{self, Index, IndexRecord};
use crate::layer::Layers;
use crate::platforms::ImageIndex;
use crate::policy::ImagePolicy;
use crate::spec::ImageConfig;
use crate::trash::Trash;
use naru_base::{Digest, Error, Result};
use naru_fs::{Root, durable};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, RwLock};

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
}

/// The folder `name`, whose own folders are spread over the disk.
fn spread_root(root: &Root, name: &str) -> Result<Root> {
    let folder = sub_root(root, name)?;
    naru_fs::spread_folders(&folder);
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
