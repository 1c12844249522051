//! Looking images up.

use super::Store;
use crate::image::Image;
use naru_base::{Digest, Reference, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl Store {
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
        self.index().all_references()
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
}
