//! The index: which images there are and what they are called. Held in memory, replaced whole.

use crate::image::{Image, ImageRecord, Source};
use crate::platforms::ImageIndex;
use crate::spec::Descriptor;
use naru_base::{Digest, Error, Reference, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The version of `index.json`.
pub(crate) const VERSION: u32 = 1;

/// The names of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repository {
    /// Tag to image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Digest of a manifest or index to image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) digests: BTreeMap<Digest, Digest>,
    /// Tag to index, for those that stand for several platforms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) indexes: BTreeMap<String, Digest>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) images: BTreeMap<Digest, Arc<Image>>,
    /// By whole name without tag, `docker.io/library/debian`.
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// What names stand for that have several platforms, by digest.
    pub(crate) indices: BTreeMap<Digest, Arc<ImageIndex>>,
}

/// `index.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct IndexRecord {
    pub(crate) version: u32,
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Indices, whose bytes are blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) indices: Vec<Descriptor>,
}

impl Index {
    /// What is written: all but images that are no content of the store, and their names.
    pub(crate) fn record(&self) -> IndexRecord {
        let stored = |id: &Digest| self.images.get(id).is_some_and(|i| i.source == Source::Layers);
        let mut repositories = self.repositories.clone();
        for repository in repositories.values_mut() {
            repository.tags.retain(|_, id| stored(id));
            repository.digests.retain(|_, id| stored(id));
        }
        repositories.retain(|_, r| !r.is_empty());
        let images = self.images.values().filter(|i| i.source == Source::Layers).map(|i| i.record()).collect();
        let indices = self.indices.values().map(|of| of.descriptor.clone()).collect();
        IndexRecord { version: VERSION, images, repositories, indices }
    }

    /// Tags and digests that name `id`, whole names, sorted: tags first.
    pub(crate) fn references(&self, id: &Digest) -> Vec<Reference> {
        let (mut tags, mut digests) = (Vec::new(), Vec::new());
        for (name, repository) in &self.repositories {
            let Ok(name) = Reference::parse(name) else { continue };
            let named = repository.tags.iter().filter(|(_, image)| *image == id);
            tags.extend(named.filter_map(|(tag, _)| name.with_tag(tag).ok()));
            let named = repository.digests.iter().filter(|(_, image)| *image == id);
            digests.extend(named.map(|(digest, _)| name.with_digest(digest.clone())));
        }
        tags.append(&mut digests);
        tags
    }

    /// The names of all images: tags, then digests of each.
    pub(crate) fn all_references(&self) -> HashMap<Digest, Vec<Reference>> {
        let mut all: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for (name, repository) in &self.repositories {
            let Ok(name) = Reference::parse(name) else { continue };
            for (tag, id) in &repository.tags {
                all.entry(id.clone()).or_default().extend(name.with_tag(tag).ok());
            }
        }
        for (name, repository) in &self.repositories {
            let Ok(name) = Reference::parse(name) else { continue };
            for (digest, id) in &repository.digests {
                all.entry(id.clone()).or_default().push(name.with_digest(digest.clone()));
            }
        }
        all
    }

    /// The image that `reference` names exactly (a name without tag and digest means `latest`).
    pub(crate) fn named(&self, reference: &Reference) -> Option<&Digest> {
        let repository = self.repositories.get(&reference.repository().to_string())?;
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => repository.digests.get(digest),
            (None, tag) => repository.tags.get(tag.unwrap_or(naru_base::reference::DEFAULT_TAG)),
        }
    }

    /// The image that a user means by `text`: a whole id, `name@digest`, `name:tag`, or the beginning of an id.
    ///
    /// # Errors
    /// `No such image: …`; a beginning that several ids have in common names none.
    pub(crate) fn lookup(&self, text: &str) -> Result<&Arc<Image>> {
        let hex = text.strip_prefix(Digest::PREFIX).unwrap_or(text);
        if let Ok(id) = Digest::parse(&format!("{}{hex}", Digest::PREFIX)) {
            return self.images.get(&id).ok_or_else(|| no_such_image(text));
        }
        let reference = Reference::parse(text).ok();
        if let Some(image) = reference.as_ref().and_then(|r| self.named(r)).and_then(|id| self.images.get(id)) {
            return Ok(image);
        }
        if !hex.is_empty() && hex.bytes().all(naru_base::id::is_lower_hex) {
            let from = Digest::parse(&format!("{}{hex:0<64}", Digest::PREFIX))?;
            let mut found = self.images.range(from..).take_while(|(id, _)| id.hex().starts_with(hex));
            if let (Some((_, image)), None) = (found.next(), found.next()) {
                return Ok(image);
            }
        }
        match reference {
            Some(reference) => Err(no_such_image(&reference.with_default_tag().familiar())),
            None if text.starts_with(Digest::PREFIX) => Err(no_such_image(text)),
            None => Err(Reference::parse(text).err().unwrap_or_else(|| no_such_image(text))),
        }
    }

    /// Notes that an image was given a name now.
    pub(crate) fn mark_tagged(&mut self, id: &Digest) -> Result<()> {
        let mut image = (**self.get(id)?).clone();
        image.last_tagged = Some(jiff::Timestamp::now().to_string());
        self.images.insert(id.clone(), Arc::new(image));
        Ok(())
    }

    pub(crate) fn get(&self, id: &Digest) -> Result<&Arc<Image>> {
        self.images.get(id).ok_or_else(|| no_such_image(id.as_str()))
    }

    /// Takes a name away; the image that it had named.
    pub(crate) fn remove_name(&mut self, reference: &Reference) -> Option<Digest> {
        let name = reference.repository().to_string();
        let repository = self.repositories.get_mut(&name)?;
        let removed = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => repository.digests.remove(digest),
            (None, tag) => repository.tags.remove(tag.unwrap_or(naru_base::reference::DEFAULT_TAG)),
        };
        if repository.is_empty() {
            self.repositories.remove(&name);
        }
        removed
    }

    /// Takes an image and all its names away.
    pub(crate) fn remove_image(&mut self, id: &Digest) {
        self.images.remove(id);
        self.hand_on_names(id);
        for repository in self.repositories.values_mut() {
            repository.tags.retain(|_, image| image != id);
            repository.digests.retain(|_, image| image != id);
        }
        self.repositories.retain(|_, r| !r.is_empty());
    }
}

impl Repository {
    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.digests.is_empty()
    }
}

fn no_such_image(name: &str) -> Error {
    Error::not_found(format!("No such image: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ImageConfig;

    fn id(start: &str) -> Digest {
        Digest::parse(&format!("sha256:{start:a<64}")).unwrap()
    }

    fn index() -> Index {
        let mut index = Index::default();
        for start in ["cafe", "cab", "0123"] {
            let image = Image {
                id: id(start),
                config: ImageConfig::default(),
                layers: Vec::new(),
                manifest: None,
                parent: None,
                last_tagged: None,
                source: Source::Layers,
            };
            index.images.insert(image.id.clone(), Arc::new(image));
        }
        let repository = index.repositories.entry("docker.io/library/cab".into()).or_default();
        repository.tags.insert("latest".into(), id("0123"));
        repository.digests.insert(id("dd"), id("cafe"));
        index
    }

    #[test]
    fn a_name_wins_over_the_beginning_of_an_id() {
        let index = index();
        let is = |text: &str, start: &str| assert_eq!(index.lookup(text).unwrap().id, id(start), "{text}");
        is("cab", "0123");
        is("caba", "cab");
        is("sha256:cab", "cab");
        is("cafe", "cafe");
        is("cab:latest", "0123");
        is(&format!("cab@{}", id("dd")), "cafe");
        is(id("cafe").hex(), "cafe");
        is(id("cafe").as_str(), "cafe");
    }

    #[test]
    fn what_is_not_there_is_named_in_full() {
        let index = index();
        let says = |text: &str| index.lookup(text).unwrap_err().message().to_owned();
        assert_eq!(says("foo"), "No such image: foo:latest");
        assert_eq!(says("ca"), "No such image: ca:latest");
        assert_eq!(says(id("ffff").as_str()), format!("No such image: {}", id("ffff")));
        assert!(says("Foo").contains("must be lowercase"));
    }

    #[test]
    fn names_go_with_their_image() {
        let mut index = index();
        assert_eq!(index.references(&id("cafe")).len(), 1);
        index.remove_image(&id("cafe"));
        assert!(index.lookup(&format!("cab@{}", id("dd"))).is_err());
        let name = Reference::parse("cab").unwrap();
        assert_eq!(index.remove_name(&name), Some(id("0123")));
        assert!(index.repositories.is_empty());
    }
}
