//! Looking many images up at once.

use super::Store;
use crate::image::Image;
use crate::index::Index;
use crate::platforms::{ImageIndex, Member};
use naru_base::{Digest, Reference};
use std::collections::HashMap;
use std::sync::Arc;

/// All names, manifests and indices as they are at one moment. [`Store::references`], [`Store::index_of`] and [`Store::members`] go over all
/// of them for each image; who asks about many asks this.
pub struct Catalogue {
    index: Arc<Index>,
    names: HashMap<Digest, Vec<Reference>>,
    by_manifest: HashMap<Digest, Arc<Image>>,
}

impl Store {
    /// See [`Catalogue`].
    pub fn catalogue(&self) -> Catalogue {
        let index = self.index();
        // Without an index nobody asks which image a manifest is of.
        let by_manifest = if index.indices.is_empty() {
            HashMap::new()
        } else {
            index.by_manifest().into_iter().map(|(digest, image)| (digest.clone(), Arc::clone(image))).collect()
        };
        Catalogue { names: index.all_references(), by_manifest, index }
    }
}

impl Catalogue {
    /// The image with this id, if there is one.
    pub fn image(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.index.images.get(id)
    }

    /// The index that the first of an image's names stands for that stands for one.
    pub fn index_of(&self, image: &Image) -> Option<&Arc<ImageIndex>> {
        self.names.get(&image.id)?.iter().find_map(|name| self.index.index_named(name))
    }

    /// What an index lists, with the images that are here.
    pub fn members(&self, of: &ImageIndex) -> Vec<Member> {
        of.members(|digest| self.by_manifest.get(digest).cloned())
    }
}
