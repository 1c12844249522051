//! Layers that came without compression, compressed before they are sent anywhere.

use super::{Lease, Store, Sync};
use crate::commit::HashedFile;
use crate::image::{Image, Source};
use crate::ingest::Work;
use crate::spec::{Descriptor, media_type};
use flate2::write::GzEncoder;
use naru_base::error::Context;
use naru_base::{Digest, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// A plain blob that was compressed. While it lives nothing is collected: no image has the new blob yet.
pub struct Compressed {
    plain: Digest,
    blob: Descriptor,
    _lease: Lease,
}

impl Store {
    /// The blobs of an image's layers that are not compressed, each once. None for an image that came with a manifest, which names its blobs.
    pub fn plain_blobs(&self, image: &Image) -> Vec<Descriptor> {
        let mut found: Vec<Descriptor> = Vec::new();
        if image.manifest.is_some() || image.source != Source::Layers {
            return found;
        }
        for layer in &image.layers {
            let kind = layer.blob.media_type.as_str();
            let plain = !kind.ends_with("gzip") && !kind.ends_with("zstd");
            if plain && self.has_blob(&layer.blob.digest) && !found.iter().any(|d| d.digest == layer.blob.digest) {
                found.push(layer.blob.clone());
            }
        }
        found
    }

    /// Compresses a plain blob with gzip; `level` is 0 to 9.
    ///
    /// # Errors
    /// When the blob is missing, or the disk refuses.
    pub fn compress_blob(&self, plain: &Descriptor, level: u32) -> Result<Compressed> {
        let lease = self.lease();
        let mut from = self.open_blob(&plain.digest)?;
        let work = Work::new(&self.0, self.0.fresh_name())?;
        let mut gzip = GzEncoder::new(HashedFile::new(work.open_blob()?), flate2::Compression::new(level.min(9)));
        std::io::copy(&mut from, &mut gzip).system(format!("compress blob {}", plain.digest))?;
        // On the disk before the index names it: one file, which costs less than a sync of all.
        let (digest, size) = gzip.finish().and_then(HashedFile::finish_synced).system("write a layer's blob")?;
        work.publish_blob(&digest)?;
        let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size);
        Ok(Compressed { plain: plain.digest.clone(), blob, _lease: lease })
    }

    /// Has compressed blobs take the place of the plain ones in all images that came without a manifest; what nothing needs then is removed. The
    /// image `id` as it is afterwards.
    ///
    /// # Errors
    /// `No such image: …`; or when the disk refuses.
    pub fn use_compressed(&self, id: &Digest, compressed: Vec<Compressed>) -> Result<Arc<Image>> {
        let image = {
            let blobs: HashMap<&Digest, &Descriptor> = compressed.iter().map(|c| (&c.plain, &c.blob)).collect();
            self.0.blobs.sync()?;
            self.change(Sync::Index, |index| {
                for image in index.images.values_mut() {
                    let plain = image.layers.iter().any(|layer| blobs.contains_key(&layer.blob.digest));
                    if !plain || image.manifest.is_some() {
                        continue;
                    }
                    let mut new = (**image).clone();
                    for layer in &mut new.layers {
                        if let Some(blob) = blobs.get(&layer.blob.digest) {
                            layer.blob = (*blob).clone();
                        }
                    }
                    *image = Arc::new(new);
                }
                index.get(id).cloned()
            })?
        };
        drop(compressed);
        self.collect()?;
        Ok(image)
    }
}
