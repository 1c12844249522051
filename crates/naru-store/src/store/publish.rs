//! A new image: its documents, and its names from the moment that it is there.

use super::manifest::check_manifest;
use super::{Store, Sync};
use crate::hash::chain_id;
use crate::image::{Image, ImageLayer, Source};
use crate::index::Index;
use crate::platforms::ImageIndex;
use crate::spec::{Descriptor, ImageConfig};
use naru_base::{Digest, Error, Platform, Reference, Result};
use std::sync::Arc;

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

/// What a new image is called.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewNames<'a> {
    /// Names with tags.
    pub tags: &'a [Reference],
    /// A repository that has it under the digest of a manifest or index.
    pub digest: Option<(&'a Reference, &'a Digest)>,
    /// The index that the names stand for, its type and bytes. Of its images the one for this machine carries them, or else the new one.
    pub index: Option<(&'a str, &'a [u8])>,
}

/// A tag that another image had before, and that image.
pub type Renamed = (Reference, Digest);

impl Store {
    /// Stores an image whose layers are all there. It has no name yet.
    ///
    /// Hold a [`super::Lease`] from before the first layer is looked up until this returns.
    ///
    /// # Errors
    /// When the configuration or manifest is malformed, they don't fit each other, or a layer is missing.
    pub fn put_image(&self, new: &NewImage<'_>) -> Result<Arc<Image>> {
        self.publish(new, &NewNames::default()).map(|(image, _)| image)
    }

    /// As [`Store::put_image`], with names: one sync for its content and one write of the index for all of it.
    ///
    /// # Errors
    /// As [`Store::put_image`]; and when the index is none.
    pub fn publish(&self, new: &NewImage<'_>, names: &NewNames<'_>) -> Result<(Arc<Image>, Vec<Renamed>)> {
        let config = ImageConfig::parse(new.config)?;
        let manifest = match new.manifest {
            None => None,
            Some((media_type, bytes)) => Some(check_manifest(media_type, bytes, new.config, &config)?),
        };
        let of =
            names.index.map(|(media_type, bytes)| ImageIndex::parse(media_type, bytes).map(Arc::new)).transpose()?;
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
        let documents = [new.manifest, names.index];
        documents.into_iter().flatten().try_for_each(|(_, bytes)| self.0.blobs.put(bytes).map(drop))?;
        let mut image = Image {
            id: id.clone(),
            config,
            layers,
            manifest: manifest.map(|(descriptor, _)| descriptor),
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
            index.images.insert(id.clone(), Arc::new(image));
            let renamed = index.name(&id, names, of)?;
            Ok((Arc::clone(index.get(&id)?), renamed))
        })
    }
}

impl Index {
    fn name(&mut self, new: &Digest, names: &NewNames<'_>, of: Option<Arc<ImageIndex>>) -> Result<Vec<Renamed>> {
        let best = of.as_ref().and_then(|of| self.best(of, &Platform::host()));
        let id = best.map_or_else(|| new.clone(), |image| image.id.clone());
        if let Some((repository, digest)) = names.digest {
            let names = self.repositories.entry(repository.repository().to_string()).or_default();
            names.digests.insert(digest.clone(), id.clone());
        }
        let mut renamed = Vec::new();
        for name in names.tags {
            self.mark_tagged(&id)?;
            let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG).to_owned();
            let repository = self.repositories.entry(name.repository().to_string()).or_default();
            match &of {
                Some(of) => repository.indexes.insert(tag.clone(), of.descriptor.digest.clone()),
                None => repository.indexes.remove(&tag),
            };
            let before = repository.tags.insert(tag, id.clone()).filter(|old| *old != id);
            renamed.extend(before.map(|old| (name.clone(), old)));
        }
        if let Some(of) = of {
            self.indices.insert(of.descriptor.digest.clone(), of);
        }
        Ok(renamed)
    }
}
