//! What the store takes on disk, and which image takes how much of it.

use crate::Store;
use naru_base::{Digest, Result};
use std::collections::{HashMap, HashSet};

/// Bytes on disk.
#[derive(Debug, Clone, Default)]
pub struct StoreUsage {
    /// All layers' files and all blobs, each once.
    pub total: u64,
    /// What is being removed and still takes space.
    pub trash: u64,
    /// Of each image: all that it has, and how much of that another image has, too.
    pub images: HashMap<Digest, ImageUsage>,
}

/// Bytes of one image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its layers' files and its blobs.
    pub size: u64,
    /// What of that is another image's, too.
    pub shared: u64,
}

impl Store {
    /// What the store takes on disk.
    ///
    /// # Errors
    /// When the blobs can't be listed.
    pub fn usage(&self) -> Result<StoreUsage> {
        let inner = &self.0;
        let layers: u64 = inner.layers.all().iter().filter_map(|chain| inner.layers.get(chain)).map(|l| l.size).sum();
        let blobs: HashMap<Digest, u64> = inner
            .blobs
            .list()?
            .into_iter()
            .map(|digest| (digest.clone(), inner.blobs.size(&digest).unwrap_or(0)))
            .collect();
        let images = self.images();
        // Each part of an image once, with how many images have it. Layers and blobs can't be confused: their digests differ.
        let parts: Vec<(Digest, HashMap<Digest, u64>)> = images
            .iter()
            .map(|image| {
                let mut parts: HashMap<Digest, u64> =
                    image.layers.iter().map(|layer| (layer.chain_id.clone(), layer.size)).collect();
                let documents = std::iter::once(&image.id).chain(image.manifest.iter().map(|m| &m.digest));
                for digest in documents.chain(image.layers.iter().map(|layer| &layer.blob.digest)) {
                    if let Some(size) = blobs.get(digest) {
                        // The lowest layer's chain id is its diff id, and that of an uncompressed layer its blob's digest.
                        *parts.entry(digest.clone()).or_default() += size;
                    }
                }
                (image.id.clone(), parts)
            })
            .collect();
        let mut seen: HashSet<&Digest> = HashSet::new();
        let mut several: HashSet<&Digest> = HashSet::new();
        for digest in parts.iter().flat_map(|(_, parts)| parts.keys()) {
            if !seen.insert(digest) {
                several.insert(digest);
            }
        }
        let of_image = |parts: &HashMap<Digest, u64>| ImageUsage {
            size: parts.values().sum(),
            shared: parts.iter().filter(|(digest, _)| several.contains(digest)).map(|(_, size)| size).sum(),
        };
        let images = parts.iter().map(|(id, parts)| (id.clone(), of_image(parts))).collect();
        Ok(StoreUsage { total: layers + blobs.values().sum::<u64>(), trash: inner.trash.bytes()?, images })
    }
}
