//! New images from trees: a container's changes, or an archive of a root file system.

use crate::Output;
use crate::hash::Hasher;
use crate::image::{Image, Source};
use crate::ingest::{UnpackedLayer, Unpacker, Work};
use crate::pack::pack_layer;
use crate::policy::ImagePolicy;
use crate::spec::{Descriptor, History, ImageConfig, RootFs, media_type};
use crate::store::{Lease, NewImage, Store};
use flate2::write::GzEncoder;
use naru_base::error::Context;
use naru_base::{Digest, Error, Result};
use naru_fs::Root;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

const BUFFER: usize = 256 << 10;

impl Store {
    /// Makes a layer of `upper`, an overlay's upper folder, on top of `parent`, and an image of that and of `config`.
    ///
    /// `config` says everything but layers and history, which are the parent's with one more; `step` is the new entry of
    /// the history. When nothing changed there is no new layer. `level` is gzip's, 0 to 9.
    ///
    /// # Errors
    /// When the tree can't be read or the disk refuses; and for a parent that has no layers of its own to build on.
    pub fn commit(
        &self,
        parent: Option<&Image>,
        upper: &Root,
        config: ImageConfig,
        step: History,
        level: u32,
    ) -> Result<Arc<Image>> {
        self.commit_watched(parent, upper, config, step, level, &mut |_| {})
    }

    /// As [`Store::commit`]; `watch` is told how many bytes of the layer's archive there are, again and again.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_watched(
        &self,
        parent: Option<&Image>,
        upper: &Root,
        mut config: ImageConfig,
        mut step: History,
        level: u32,
        watch: &mut dyn FnMut(u64),
    ) -> Result<Arc<Image>> {
        if let Some(Image { source: Source::Host(_), .. }) = parent {
            return Err(Error::invalid(
                "a container of the image \"host\" can't be committed: its files are this machine's",
            ));
        }
        let _lease = self.lease();
        let layer = self.pack_upper(upper, level, watch)?;
        config.rootfs = parent.map_or_else(RootFs::default, |p| p.config.rootfs.clone());
        config.history = parent.map_or_else(Vec::new, |p| p.config.history.clone());
        step.empty_layer = layer.is_none();
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id().clone());
            self.commit_layer(layer, parent.and_then(Image::chain_id))?;
        }
        config.history.push(step);
        self.put_image(&NewImage { config: &config.to_bytes()?, manifest: None, parent: parent.map(|p| &p.id) })
    }

    /// An image with one layer, the archive `input` (compressed or not). `config` and `step` as for [`Store::commit`].
    ///
    /// # Errors
    /// When the archive is malformed or hostile, or the disk refuses.
    pub fn import(&self, input: impl Read, mut config: ImageConfig, step: History) -> Result<Arc<Image>> {
        let _lease = self.lease();
        let layer = self.ingest_from(input)?;
        config.rootfs = RootFs { diff_ids: vec![layer.diff_id().clone()], ..RootFs::default() };
        config.history = vec![step];
        self.commit_layer(layer, None)?;
        self.put_image(&NewImage { config: &config.to_bytes()?, manifest: None, parent: None })
    }

    fn ingest_from(&self, mut input: impl Read) -> Result<UnpackedLayer> {
        let mut ingest = self.ingest_unknown()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return ingest.finish(None),
                Ok(got) => ingest.write(&buffer[..got])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::system(format!("read the archive: {e}"))),
            }
        }
    }

    /// Packs, compresses, hashes and unpacks an upper folder at once; `None` when there is nothing in it.
    fn pack_upper(&self, upper: &Root, level: u32, watch: &mut dyn FnMut(u64)) -> Result<Option<UnpackedLayer>> {
        let work = Work::new(&self.0, self.0.fresh_name())?;
        let lease = Lease::new(&self.0);
        let blob = HashedFile { file: BufWriter::with_capacity(BUFFER, work.open_blob()?), hasher: Hasher::default() };
        let gzip = GzEncoder::new(blob, flate2::Compression::new(level.min(9)));
        // What a container of this engine has made is not from elsewhere.
        let unpacker = Unpacker::new(work.make_layer()?, ImagePolicy::default());
        let mut tee = Tee { unpacker, gzip, taken: 0, watch };
        pack_layer(upper, &mut tee)?;
        let unpacked = tee.unpacker.finish().map_err(Error::from)?;
        if unpacked.entries == 0 {
            return Ok(None);
        }
        let (digest, size) = tee.gzip.finish().and_then(HashedFile::finish).system("write a layer's blob")?;
        work.publish_blob(&digest)?;
        let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size);
        Ok(Some(UnpackedLayer::new(work, lease, blob, unpacked)))
    }
}

/// Feeds an archive to the unpacker and to the compressor.
struct Tee<'a> {
    unpacker: Unpacker,
    gzip: GzEncoder<HashedFile>,
    taken: u64,
    watch: &'a mut dyn FnMut(u64),
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unpacker.take(bytes).map_err(io::Error::other)?;
        self.gzip.write_all(bytes)?;
        self.taken += bytes.len() as u64;
        (self.watch)(self.taken);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct HashedFile {
    file: BufWriter<File>,
    hasher: Hasher,
}

impl HashedFile {
    fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.file.flush()?;
        let size = self.hasher.length();
        Ok((self.hasher.finish(), size))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
