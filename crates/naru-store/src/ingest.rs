//! Taking in a layer in one pass: blob, its digest, decompression, the digest of that, and the unpacked files.
//!
//! Protocol on disk:
//! 1. `ingest/<name>/blob` grows as bytes arrive (a crash here: the next ingest of the same digest replays it and goes on after it);
//! 2. `unpack/<random>/diff` is filled at the same time (a crash: removed at start, made anew);
//! 3. all is verified; `blob` is renamed into `blobs/` (a crash: the blob is taken up like an unfinished one);
//! 4. `unpack/<random>` with its record is renamed into `layers/` (a crash: nothing in the index holds it; removed at start).

use crate::decompress::{Compression, Decompressor, Output};
use crate::extract::{Extractor, Loose};
use crate::hash::Hasher;
use crate::layer::{DIFF, Layer};
use crate::policy::ImagePolicy;
use crate::spec::{Descriptor, media_type};
use crate::store::{Inner, Lease};
use crate::tar::{self, Limits, Reader};
use naru_base::error::Context;
use naru_base::{Digest, Error, Id, Result};
use naru_fs::{open_beneath, remove_tree};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

const BLOB: &str = "blob";
const BUFFER: usize = 256 << 10;
/// As many bytes as tell how a layer is compressed.
const MAGIC: usize = 8;

/// The folder of one ingest; what is left of it is removed in the end, but for a blob that is to be resumed.
pub(crate) struct Work {
    dir: OwnedFd,
    keep_blob: bool,
    /// The folder in `unpack/` that is being filled.
    unpacking: String,
    store: Arc<Inner>,
    /// Given up with [`Work::settle`], when all else is cleaned up.
    claim: Option<Claim>,
}

/// The right to the folder `name`.
struct Claim {
    store: Arc<Inner>,
    name: String,
}

impl Claim {
    fn new(store: &Arc<Inner>, name: String) -> Self {
        store.claim_ingest(&name);
        Self { store: Arc::clone(store), name }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.release_ingest(&self.name);
    }
}

impl Work {
    /// Takes the folder `name` for itself, waiting while another has it.
    pub(crate) fn new(store: &Arc<Inner>, name: String) -> Result<Self> {
        store.trash.make_room();
        let (store, claim) = (Arc::clone(store), Claim::new(store, name));
        let dir = store.ingest.create_dir_all(&claim.name, Mode::RWXU)?;
        // A name that never was: ext4 places a folder by its name, and would go back to where one has just been removed, whose inodes it
        // then passes over one by one for some seconds.
        let unpacking = Id::random()?.as_str().to_owned();
        Ok(Self { store, claim: Some(claim), dir, keep_blob: false, unpacking })
    }

    /// Makes the empty folder that is unpacked into.
    pub(crate) fn make_layer(&self) -> Result<OwnedFd> {
        let root = &self.store.unpack;
        let diff = root.create_dir_all(format!("{}/{DIFF}", self.unpacking), Mode::RWXU)?;
        rustix::fs::fchmod(&diff, Mode::from_raw_mode(0o755)).system("set the mode of a layer's folder")?;
        Ok(diff)
    }

    fn policy(&self) -> ImagePolicy {
        self.store.policy
    }

    pub(crate) fn open_blob(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, BLOB, flags, Mode::RUSR | Mode::WUSR).system("open an ingest's blob")?;
        Ok(File::from(fd))
    }

    fn forget_blob(&self) -> Result<()> {
        Ok(remove_tree(&self.dir, BLOB)?)
    }

    /// Step 3: gives the blob its place.
    pub(crate) fn publish_blob(&self, digest: &Digest) -> Result<()> {
        self.store.blobs.adopt(&self.dir, BLOB, digest)
    }

    /// Gives up the ingest's folder, and removes it but for a blob that is to be resumed. Who waits for the layer below must not hold it: that
    /// may be of the same blob.
    fn settle(&mut self) {
        // Dropped last.
        let Some(claim) = self.claim.take() else { return };
        let empty = rustix::fs::statat(&self.dir, BLOB, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| s.st_size == 0);
        if !self.keep_blob || empty {
            // Nothing can be reported from here; what stays behind is swept at the next start.
            let _ = remove_tree(&self.store.ingest, &claim.name);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // As in `settle`.
        let _ = remove_tree(&self.store.unpack, &self.unpacking);
        self.settle();
    }
}

/// Where decompressed bytes go: their digest and the files.
pub(crate) struct Unpacker {
    hasher: Hasher,
    reader: Reader,
    extractor: Extractor,
}

impl Unpacker {
    pub(crate) fn new(diff: OwnedFd, policy: ImagePolicy) -> Self {
        Self {
            hasher: Hasher::default(),
            reader: Reader::new(Limits::default()),
            extractor: Extractor::new(diff, policy),
        }
    }

    pub(crate) fn finish(self) -> tar::Result<Unpacked> {
        let entries = self.reader.entries();
        self.reader.finish()?;
        let (size, loose) = self.extractor.finish()?;
        Ok(Unpacked { diff_id: self.hasher.finish(), size, loose, entries })
    }
}

/// What came out of an archive.
pub(crate) struct Unpacked {
    pub(crate) diff_id: Digest,
    /// Bytes of files.
    pub(crate) size: u64,
    pub(crate) loose: Loose,
    pub(crate) entries: u64,
}

impl Output for Unpacker {
    fn take(&mut self, bytes: &[u8]) -> tar::Result<()> {
        self.hasher.update(bytes);
        self.reader.push(bytes, &mut self.extractor)
    }
}

/// What a layer's stream goes through.
struct Pipeline {
    hasher: Hasher,
    head: Vec<u8>,
    decompressor: Decompressor,
    unpacker: Unpacker,
}

impl Pipeline {
    fn push(&mut self, bytes: &[u8]) -> tar::Result<()> {
        if self.head.len() < MAGIC {
            self.head.extend(bytes.iter().take(MAGIC - self.head.len()));
        }
        self.hasher.update(bytes);
        self.decompressor.push(bytes, &mut self.unpacker)
    }
}

/// A layer that is being taken in. Dropped before [`LayerIngest::finish`], it leaves the blob's bytes to be resumed.
pub struct LayerIngest {
    work: Work,
    lease: Lease,
    blob: File,
    expected: Option<Descriptor>,
    pipeline: Pipeline,
    resumed: u64,
    /// The blob is one of the store's already, under a second name.
    lent: bool,
    /// Around a blob whose digest is not known before.
    outer: Option<Outer>,
}

/// A compression that layers don't have in any registry (xz, bzip2): taken off, the blob is the plain archive.
enum Outer {
    /// The first bytes, too few to tell.
    Head(Vec<u8>),
    Around(Box<Decompressor>),
}

impl LayerIngest {
    /// Takes up `expected` where an earlier ingest of it ended, or begins it. Waits while another one takes in the same; when that one
    /// has made the layer `chain`, there is nothing to do.
    pub(crate) fn begin(store: &Arc<Inner>, expected: Descriptor, chain: Option<&Digest>) -> Result<Option<Self>> {
        let work = Work::new(store, expected.digest.hex().to_owned())?;
        let lease = Lease::new(store);
        if chain.is_some_and(|chain| store.layers.get(chain).is_some()) && store.blobs.has(&expected.digest) {
            return Ok(None);
        }
        let mut lent = false;
        if store.blobs.size(&expected.digest) == Some(expected.size) {
            work.forget_blob()?;
            lent = store.blobs.lend(&expected.digest, &work.dir, BLOB)?;
        }
        let mut ingest = Self::with_work(work, lease, Some(expected))?;
        ingest.lent = lent;
        ingest.work.keep_blob = true;
        ingest.replay()?;
        Ok(Some(ingest))
    }

    /// Takes in a layer whose digest is not known before; it can't be resumed.
    pub(crate) fn begin_unknown(store: &Arc<Inner>) -> Result<Self> {
        let work = Work::new(store, store.fresh_name())?;
        let mut ingest = Self::with_work(work, Lease::new(store), None)?;
        ingest.outer = Some(Outer::Head(Vec::new()));
        Ok(ingest)
    }

    fn with_work(work: Work, lease: Lease, expected: Option<Descriptor>) -> Result<Self> {
        let blob = work.open_blob()?;
        let pipeline = Pipeline {
            hasher: Hasher::default(),
            head: Vec::with_capacity(MAGIC),
            decompressor: Decompressor::default(),
            unpacker: Unpacker::new(work.make_layer()?, work.policy()),
        };
        Ok(Self { work, lease, blob, expected, pipeline, resumed: 0, lent: false, outer: None })
    }

    /// Feeds what an earlier ingest received.
    fn replay(&mut self) -> Result<()> {
        let length = self.blob.metadata().system("stat an ingest's blob")?.len();
        if self.expected.as_ref().is_some_and(|e| length > e.size) {
            self.work.forget_blob()?;
            self.blob = self.work.open_blob()?;
            return Ok(());
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let got = self.blob.read(&mut buffer).system("read an ingest's blob")?;
            if got == 0 {
                return Ok(());
            }
            self.resumed += got as u64;
            self.feed(&buffer[..got])?;
        }
    }

    /// How many bytes of the blob are there already: the caller goes on after them.
    pub fn resume_offset(&self) -> u64 {
        self.resumed
    }

    /// How many bytes of the blob have been taken in, resumed ones included.
    pub fn received(&self) -> u64 {
        self.pipeline.hasher.length()
    }

    /// Takes in the next bytes of the blob.
    ///
    /// # Errors
    /// When the blob is longer than announced, is no layer, or the disk is full. The ingest is over then: drop it. What
    /// can be resumed is kept.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.outer.take() {
            None => self.append(bytes),
            Some(Outer::Head(mut head)) => {
                head.extend_from_slice(bytes);
                if head.len() < MAGIC {
                    self.outer = Some(Outer::Head(head));
                    return Ok(());
                }
                match Compression::detect(&head) {
                    Compression::Xz | Compression::Bzip2 => self.take_off(Box::default(), &head),
                    _ => self.append(&head),
                }
            }
            Some(Outer::Around(decompressor)) => self.take_off(decompressor, bytes),
        }
    }

    fn take_off(&mut self, mut outer: Box<Decompressor>, bytes: &[u8]) -> Result<()> {
        outer.push(bytes, &mut |plain: &[u8]| Ok(self.append(plain)?)).map_err(Error::from)?;
        self.outer = Some(Outer::Around(outer));
        Ok(())
    }

    fn end_outer(&mut self) -> Result<()> {
        match self.outer.take() {
            None => Ok(()),
            Some(Outer::Head(head)) => self.append(&head),
            Some(Outer::Around(outer)) => {
                outer.finish(&mut |plain: &[u8]| Ok(self.append(plain)?)).map_err(Error::from)
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(expected) = &self.expected
            && self.received() + bytes.len() as u64 > expected.size
        {
            self.work.keep_blob = false;
            return Err(Error::invalid(format!(
                "blob {} is longer than the {} bytes that were announced",
                expected.digest, expected.size
            )));
        }
        naru_sys::fault::point();
        let written = self.blob.write_all(bytes).system("write a layer's blob");
        self.keep_unless_full(written)?;
        self.feed(bytes)
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let fed = self.pipeline.push(bytes).map_err(|e| {
            self.work.keep_blob &= !e.is_permanent();
            Error::from(e)
        });
        self.keep_unless_full(fed)
    }

    /// On a full disk nothing is kept for another try.
    fn keep_unless_full(&mut self, done: Result<()>) -> Result<()> {
        self.work.keep_blob &= !done.as_ref().is_err_and(Error::is_disk_full);
        done
    }

    /// Ends the stream and verifies it.
    ///
    /// # Errors
    /// When size, digest or diff id are not what they must be, or the stream is cut short. Nothing is kept of a blob that
    /// is complete and wrong.
    pub fn finish(mut self, diff_id: Option<&Digest>) -> Result<UnpackedLayer> {
        self.end_outer()?;
        let received = self.received();
        if let Some(expected) = &self.expected
            && received < expected.size
        {
            return Err(Error::unavailable(format!(
                "blob {} ended after {received} of {} bytes",
                expected.digest, expected.size
            )));
        }
        let Self { mut work, lease, expected, pipeline, lent, .. } = self;
        let digest = pipeline.hasher.finish();
        // The blob is complete: keeping a wrong one would only repeat the failure.
        work.keep_blob = false;
        if let Some(expected) = &expected
            && digest != expected.digest
        {
            return Err(Error::invalid(format!("filesystem layer verification failed for digest {}", expected.digest)));
        }
        let mut unpacker = pipeline.unpacker;
        pipeline.decompressor.finish(&mut unpacker).map_err(Error::from)?;
        let unpacked = unpacker.finish().map_err(Error::from)?;
        if let Some(wanted) = diff_id
            && unpacked.diff_id != *wanted
        {
            return Err(Error::invalid(format!(
                "layer {digest} has the diff id {}, and not {wanted} as announced",
                unpacked.diff_id
            )));
        }
        if !lent {
            work.publish_blob(&digest)?;
        }
        let blob = match expected {
            Some(expected) if !expected.media_type.is_empty() => {
                Descriptor::new(&expected.media_type, digest, received)
            }
            _ => Descriptor::new(layer_type(&pipeline.head)?, digest, received),
        };
        work.settle();
        Ok(UnpackedLayer { work, lease, blob, unpacked })
    }
}

/// The media type of a layer that begins with `head`.
fn layer_type(head: &[u8]) -> Result<&'static str> {
    match Compression::detect(head) {
        Compression::None => Ok(media_type::OCI_LAYER),
        Compression::Gzip => Ok(media_type::OCI_LAYER_GZIP),
        Compression::Zstd => Ok(media_type::OCI_LAYER_ZSTD),
        Compression::Xz | Compression::Bzip2 => {
            Err(Error::invalid("a layer compressed with xz or bzip2 has no media type: compress it with gzip or zstd"))
        }
    }
}

/// A verified layer that has no place in a chain yet. Dropped before that, its files are removed; its blob stays.
pub struct UnpackedLayer {
    work: Work,
    lease: Lease,
    blob: Descriptor,
    unpacked: Unpacked,
}

impl UnpackedLayer {
    pub(crate) fn new(work: Work, lease: Lease, blob: Descriptor, unpacked: Unpacked) -> Self {
        Self { work, lease, blob, unpacked }
    }

    /// Digest of the uncompressed archive.
    pub fn diff_id(&self) -> &Digest {
        &self.unpacked.diff_id
    }

    /// The blob.
    pub fn blob(&self) -> &Descriptor {
        &self.blob
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        self.unpacked.size
    }

    /// Puts it on top of `parent`; when there is such a layer already, that is the answer.
    pub(crate) fn commit(self, store: &Arc<Inner>, parent: Option<&Digest>) -> Result<Arc<Layer>> {
        let layer = store.layers.commit(&self, parent)?;
        drop(self.work);
        drop(self.lease);
        Ok(layer)
    }

    pub(crate) fn loose(&self) -> &Loose {
        &self.unpacked.loose
    }

    pub(crate) fn layer_dir(&self) -> Result<OwnedFd> {
        let unpack = self.work.store.unpack.as_fd();
        open_beneath(unpack, &self.work.unpacking, OFlags::RDONLY | OFlags::DIRECTORY).system("open an unpacked layer")
    }

    /// Step 4. Whether it was this call that published `name`.
    pub(crate) fn publish_layer(&self, layers: BorrowedFd<'_>, name: &str) -> Result<bool> {
        let unpack = &self.work.store.unpack;
        naru_sys::fault::point();
        match rustix::fs::renameat_with(unpack, &self.work.unpacking, layers, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e).system(format!("publish layer {name}")),
        }
    }
}
