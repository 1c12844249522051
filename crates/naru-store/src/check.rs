//! Whether the store has what it says: blobs by their digests, layers against the blobs that they were made from, and nothing beside.

use crate::Store;
use crate::decompress::Decompressor;
use crate::extract::split;
use crate::hash::Hasher;
use crate::image::{Image, ImageLayer, Source};
use crate::ingest::LayerIngest;
use crate::store::Inner;
use crate::tar::{self, Entry, Kind, Limits, Reader, Sink};
use naru_base::error::Context as _;
use naru_base::{Digest, Error, Result};
use naru_fs::{Root, remove_contents};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const PIECE: usize = 256 << 10;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `image`, `layer`, `blob`, ….
    pub kind: &'static str,
    /// Which.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What was done about it; `None` when nothing was.
    pub repaired: Option<String>,
}

/// Counts of what was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Images.
    pub images: usize,
    /// Layers.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
}

impl Store {
    /// Looks at everything, and with `repair` puts right what can be. Layers that containers have are not rebuilt under them.
    ///
    /// # Errors
    /// When the disk refuses; what is wrong with the store is no error.
    pub fn check(&self, repair: bool) -> Result<(Vec<Problem>, Checked)> {
        let problems = self.lost(repair)?;
        let mut check = Check { store: self, repair, problems, checked: Checked::default() };
        // Kept whole meanwhile.
        let lease = self.lease();
        let images = self.images();
        let images: Vec<&Image> = images.iter().map(AsRef::as_ref).filter(|i| i.source == Source::Layers).collect();
        let mut blobs: HashMap<Digest, bool> = HashMap::new();
        for image in &images {
            check.checked.images += 1;
            check.documents(image);
            for layer in &image.layers {
                if !blobs.contains_key(&layer.blob.digest) {
                    let good = check.blob(image, layer)?;
                    blobs.insert(layer.blob.digest.clone(), good);
                }
            }
        }
        for digest in self.index().indices.keys() {
            check.checked.blobs += 1;
            if let Err(error) = check.inner().blobs.read(digest, crate::store::DOCUMENT_LIMIT) {
                let problem = format!("the list of an image's platforms: {error}: pull or load the image again");
                check.note("image", digest, problem, None);
            }
        }
        let mut layers: HashSet<&Digest> = HashSet::new();
        for image in &images {
            for at in 0..image.layers.len() {
                let layer = &image.layers[at];
                if layers.insert(&layer.chain_id) {
                    let good = blobs.get(&layer.blob.digest).copied().unwrap_or(false);
                    check.layer(image, at, good)?;
                }
            }
        }
        drop(lease);
        check.beside()?;
        Ok((check.problems, check.checked))
    }
}

struct Check<'s> {
    store: &'s Store,
    repair: bool,
    problems: Vec<Problem>,
    checked: Checked,
}

impl Check<'_> {
    fn inner(&self) -> &Inner {
        &self.store.0
    }

    fn note(
        &mut self,
        kind: &'static str,
        subject: impl ToString,
        problem: impl Into<String>,
        repaired: Option<String>,
    ) {
        self.problems.push(Problem { kind, subject: subject.to_string(), problem: problem.into(), repaired });
    }

    /// An image's configuration and manifest.
    fn documents(&mut self, image: &Image) {
        let digests = std::iter::once(&image.id).chain(image.manifest.iter().map(|m| &m.digest));
        for digest in digests {
            self.checked.blobs += 1;
            let read = self.inner().blobs.read(digest, crate::store::DOCUMENT_LIMIT);
            if let Err(error) = read {
                self.note("image", &image.id, format!("{error}: pull or load the image again"), None);
            }
        }
    }

    /// A layer's blob; whether it is good.
    fn blob(&mut self, image: &Image, layer: &ImageLayer) -> Result<bool> {
        self.checked.blobs += 1;
        let digest = &layer.blob.digest;
        let Ok(file) = self.inner().blobs.open(digest) else {
            let problem = format!("it is missing: image {} can't be pushed or saved; pull or load it again", image.id);
            self.note("blob", digest, problem, None);
            return Ok(false);
        };
        if hash(file)? == *digest {
            return Ok(true);
        }
        let repaired = if self.repair {
            self.inner().blobs.remove(digest)?;
            Some("removed: the next pull or load of the image brings it back".to_owned())
        } else {
            None
        };
        let problem = format!("its content has another digest: image {} can't be pushed or saved", image.id);
        self.note("blob", digest, problem, repaired);
        Ok(false)
    }

    /// A layer's folder, against its blob if that is `good`.
    fn layer(&mut self, image: &Image, at: usize, good: bool) -> Result<()> {
        self.checked.layers += 1;
        let layer = &image.layers[at];
        let problem = match self.inner().layers.get(&layer.chain_id) {
            None => Some("its folder is missing".to_owned()),
            Some(_) if !good => None,
            Some(_) => self.damage(layer)?,
        };
        let Some(problem) = problem else { return Ok(()) };
        let repaired = match (self.repair, good) {
            (true, true) => self.rebuild(image, at)?,
            _ => None,
        };
        self.note("layer", &layer.chain_id, problem, repaired);
        Ok(())
    }

    /// What is wrong with a layer's files, if anything is.
    fn damage(&self, layer: &ImageLayer) -> Result<Option<String>> {
        let files = match expected(self.inner().blobs.open(&layer.blob.digest)?) {
            Ok(files) => files,
            Err(error) => return Ok(Some(format!("its blob can't be read: {error}"))),
        };
        let root = match Root::open_host(self.inner().layers.diff_path(&layer.chain_id)) {
            Ok(root) => root,
            Err(error) => return Ok(Some(error.to_string())),
        };
        for (path, wanted) in files {
            let Some((size, digest)) = wanted else { continue };
            let shown = PathBuf::from(OsStr::from_bytes(&path));
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = match root.open(&shown, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(e) => return Ok(Some(format!("file /{}: {e}", shown.display()))),
            };
            let meta = file.metadata().system("look at a layer's file")?;
            if !meta.is_file() || meta.len() != size || hash(file)? != digest {
                return Ok(Some(format!("file /{} is not what its blob has", shown.display())));
            }
        }
        Ok(None)
    }

    /// Makes a layer anew from its blob, unless a container has it.
    fn rebuild(&self, image: &Image, at: usize) -> Result<Option<String>> {
        let layer = &image.layers[at];
        if self.store.is_held(&layer.chain_id)? {
            return Ok(None);
        }
        let inner = &self.store.0;
        inner.layers.discard(layer.chain_id.hex().as_ref(), &inner.trash)?;
        inner.trash.empty();
        let ingest = LayerIngest::begin(inner, layer.blob.clone(), None)?
            .ok_or_else(|| Error::system("a layer that is to be made anew is there"))?;
        let unpacked = ingest.finish(Some(&layer.diff_id))?;
        let parent = at.checked_sub(1).map(|below| &image.layers[below].chain_id);
        self.store.commit_layer(unpacked, parent)?;
        Ok(Some("made anew from its blob".into()))
    }

    /// What nobody needs.
    fn beside(&mut self) -> Result<()> {
        let Some((blobs, layers)) = self.store.garbage()? else { return Ok(()) };
        let done = |repair: bool| repair.then(|| "removed".to_owned());
        let repair = self.repair;
        for chain in layers {
            self.note("layer", &chain, "no image and no container has it", done(repair));
        }
        for digest in blobs {
            self.note("blob", &digest, "no image has it", done(repair));
        }
        if repair {
            self.store.collect()?;
        }
        let store = &self.store.0;
        let left = store.unpack.list("/")?.len();
        if left > 0 {
            if repair {
                remove_contents(&store.unpack)?;
            }
            self.note("store", "unpack", format!("{left} folders of work that was cut short"), done(repair));
        }
        // What is being removed is no problem; what could not be is.
        if let Err(error) = store.trash.wait() {
            let left = store.trash.list()?;
            let mut repaired = None;
            if repair {
                store.trash.empty();
                repaired = store.trash.wait().ok().map(|()| "removed".to_owned());
            }
            self.note("store", "trash", format!("{left} removed layers and blobs are still there: {error}"), repaired);
        }
        Ok(())
    }
}

fn hash(mut file: File) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).system("read a file of the store")? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

/// Length and digest of a file; `None` for what is no file, or no longer one.
type Wanted = BTreeMap<Vec<u8>, Option<(u64, Digest)>>;

/// The regular files that a layer's archive leaves.
fn expected(mut blob: File) -> Result<Wanted> {
    let mut listing = Listing { files: Wanted::new(), current: None };
    let mut reader = Reader::new(Limits::default());
    let mut decompressor = Decompressor::default();
    let mut piece = vec![0; PIECE];
    loop {
        let count = blob.read(&mut piece).system("read a blob")?;
        if count == 0 {
            break;
        }
        decompressor
            .push(&piece[..count], &mut |bytes: &[u8]| reader.push(bytes, &mut listing))
            .map_err(Error::from)?;
    }
    decompressor.finish(&mut |bytes: &[u8]| reader.push(bytes, &mut listing)).map_err(Error::from)?;
    reader.finish().map_err(Error::from)?;
    Ok(listing.files)
}

struct Listing {
    files: Wanted,
    current: Option<Current>,
}

struct Current {
    path: Vec<u8>,
    hasher: Hasher,
    size: u64,
    end: u64,
}

impl Current {
    /// Holes are zeros.
    fn zeros_up_to(&mut self, offset: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.end < offset {
            let now = usize::try_from(offset - self.end).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.hasher.update(&ZEROS[..now]);
            self.end += now as u64;
        }
    }
}

impl Sink for Listing {
    fn entry(&mut self, entry: &Entry<'_>) -> tar::Result<()> {
        let components = split(entry.path)?;
        // Whiteouts are no files.
        let is_file =
            entry.kind == Kind::File && !components.iter().any(|part| part.starts_with(crate::extract::WHITEOUT));
        let path = components.join(&b'/');
        if entry.kind != Kind::Directory {
            // What was below an entry of this name went with it.
            let below: Vec<u8> = [&path[..], b"/"].concat();
            self.files.retain(|name, _| !name.starts_with(&below));
        }
        self.files.insert(path.clone(), None);
        if is_file {
            self.current = Some(Current { path, hasher: Hasher::default(), size: entry.size, end: 0 });
        }
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> tar::Result<()> {
        if let Some(current) = &mut self.current {
            current.zeros_up_to(offset);
            current.hasher.update(bytes);
            current.end = offset + bytes.len() as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> tar::Result<()> {
        if let Some(mut current) = self.current.take() {
            current.zeros_up_to(current.size);
            self.files.insert(current.path, Some((current.size, current.hasher.finish())));
        }
        Ok(())
    }
}
