//! Images for several platforms: a name stands for an index, which is kept byte for byte; of the platforms that it lists, some are here.
//!
//! Each platform's image is an image of the store like any other. The one that runs best on this machine carries the name; the others are
//! its followers: they have no name of their own, and are there as long as something names their index.

use crate::hash::digest_of;
use crate::image::{Image, Source};
use crate::index::Index;
use crate::spec::{self, Descriptor, Document};
use crate::store::{DOCUMENT_LIMIT, Store, Sync};
use naru_base::{Digest, Error, Platform, Reference, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An index (docker: manifest list) that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// Its own type, digest and size.
    pub descriptor: Descriptor,
    /// What it lists.
    pub document: spec::Index,
}

/// An entry of an index.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the index has it.
    pub descriptor: Descriptor,
    /// The image, when it is here.
    pub image: Option<Arc<Image>>,
}

impl ImageIndex {
    pub(crate) fn parse(media_type: &str, bytes: &[u8]) -> Result<Self> {
        let document = Document::parse(bytes, media_type)?;
        let media_type = document.media_type(media_type).to_owned();
        let Document::Index(document) = document else {
            return Err(Error::invalid("an image manifest is no list of manifests"));
        };
        Ok(Self { descriptor: Descriptor::new(&media_type, digest_of(bytes), bytes.len() as u64), document })
    }

    /// What it lists, each with the image that `image` has for the manifest's digest.
    pub(crate) fn members(&self, image: impl Fn(&Digest) -> Option<Arc<Image>>) -> Vec<Member> {
        let member = |d: &Descriptor| Member { descriptor: d.clone(), image: image(&d.digest) };
        self.document.manifests.iter().map(member).collect()
    }
}

impl Member {
    /// Whether it is an image, and not what is said about one (docker's attestations).
    pub fn is_image(&self) -> bool {
        spec::media_type::is_manifest(&self.descriptor.media_type) && self.attests().is_none()
    }

    /// The manifest that this one is an attestation of.
    pub fn attests(&self) -> Option<&str> {
        let kind = self.descriptor.annotations.get("vnd.docker.reference.type")?;
        (kind == "attestation-manifest")
            .then(|| self.descriptor.annotations.get("vnd.docker.reference.digest").map_or("", String::as_str))
    }

    /// What it runs on: as the index says, or else as the image does.
    pub fn platform(&self) -> Option<Platform> {
        self.descriptor.platform.clone().or_else(|| self.image.as_ref().map(|i| i.config.platform()))
    }
}

impl Index {
    /// The index that a name stands for.
    pub(crate) fn index_named(&self, reference: &Reference) -> Option<&Arc<ImageIndex>> {
        let repository = self.repositories.get(&reference.repository().to_string())?;
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => repository.digests.contains_key(digest).then(|| self.indices.get(digest))?,
            (None, tag) => {
                let tag = tag.unwrap_or(naru_base::reference::DEFAULT_TAG);
                repository.tags.get(tag)?;
                self.indices.get(repository.indexes.get(tag)?)
            }
        }
    }

    /// Images of manifests, by the manifests' digests.
    pub(crate) fn by_manifest(&self) -> HashMap<&Digest, &Arc<Image>> {
        self.images.values().filter_map(|i| Some((&i.manifest.as_ref()?.digest, i))).collect()
    }

    pub(crate) fn members(&self, of: &ImageIndex) -> Vec<Member> {
        let images = self.by_manifest();
        of.members(|digest| images.get(digest).map(|image| Arc::clone(image)))
    }

    /// Of the images of an index that are here, the one that runs best on `wanted`.
    pub(crate) fn best(&self, of: &ImageIndex, wanted: &Platform) -> Option<Arc<Image>> {
        let images = self.by_manifest();
        of.document.candidates(wanted).into_iter().find_map(|d| images.get(&d.digest).map(|image| Arc::clone(image)))
    }

    /// All images that are in an index with a name, and have none themselves.
    fn followers(&self) -> HashSet<Digest> {
        if self.indices.is_empty() {
            return HashSet::new();
        }
        let images = self.by_manifest();
        let listed = self.indices.values().flat_map(|of| &of.document.manifests);
        let mut found: HashSet<Digest> =
            listed.filter_map(|d| images.get(&d.digest)).map(|image| image.id.clone()).collect();
        for repository in self.repositories.values() {
            for named in repository.tags.values().chain(repository.digests.values()) {
                found.remove(named);
            }
        }
        found
    }

    /// Forgets the indices that nothing names.
    pub(crate) fn drop_unnamed_indices(&mut self) {
        for repository in self.repositories.values_mut() {
            let tags = &repository.tags;
            repository.indexes.retain(|tag, _| tags.contains_key(tag));
        }
        if !self.indices.is_empty() {
            let named: HashSet<&Digest> =
                self.repositories.values().flat_map(|r| r.indexes.values().chain(r.digests.keys())).collect();
            self.indices.retain(|digest, _| named.contains(digest));
        }
    }

    /// Gives the names of an image that goes to another of the same index, where there is one.
    pub(crate) fn hand_on_names(&mut self, gone: &Digest) {
        if self.indices.is_empty() {
            return;
        }
        let host = Platform::host();
        let mut heirs: HashMap<Digest, Option<Digest>> = HashMap::new();
        for (digest, of) in &self.indices {
            let next = self.best(of, &host).map(|i| i.id.clone());
            let any = || self.members(of).into_iter().find_map(|m| Some(m.image?.id.clone()));
            heirs.insert(digest.clone(), next.or_else(any));
        }
        for repository in self.repositories.values_mut() {
            for (tag, of) in &repository.indexes {
                if let (Some(id), Some(Some(heir))) = (repository.tags.get_mut(tag), heirs.get(of))
                    && id == gone
                {
                    id.clone_from(heir);
                }
            }
            for (digest, id) in &mut repository.digests {
                if let Some(Some(heir)) = heirs.get(digest)
                    && id == gone
                {
                    id.clone_from(heir);
                }
            }
        }
    }
}

impl Store {
    /// The index behind what a user calls an image: that of the name, or else the first of the image's names that has one.
    pub fn index_of(&self, text: &str, image: &Image) -> Option<Arc<ImageIndex>> {
        let index = self.index();
        let given = Reference::parse(text).ok().filter(|r| index.named(r).is_some());
        if let Some(given) = given {
            return index.index_named(&given).cloned();
        }
        index.references(&image.id).iter().find_map(|r| index.index_named(r)).cloned()
    }

    /// The index that a name has exactly.
    pub fn index_named(&self, reference: &Reference) -> Option<Arc<ImageIndex>> {
        self.index().index_named(reference).cloned()
    }

    /// What an index lists, with the images that are here.
    pub fn members(&self, of: &ImageIndex) -> Vec<Member> {
        self.index().members(of)
    }

    /// Of the images of an index that are here, the one that runs best on `wanted`.
    pub fn best_member(&self, of: &ImageIndex, wanted: &Platform) -> Option<Arc<Image>> {
        self.index().best(of, wanted)
    }

    /// The images that have no name themselves, but are in an index that has.
    pub fn followers(&self) -> HashSet<Digest> {
        self.index().followers()
    }

    /// The image that `name` means for a platform; `image` is the one that it means without.
    ///
    /// # Errors
    /// docker's words, when it isn't here for that platform.
    pub fn for_platform(&self, name: &str, image: &Arc<Image>, wanted: &Platform) -> Result<Arc<Image>> {
        if let Some(of) = self.index_of(name, image) {
            return self.best_member(&of, wanted).ok_or_else(|| {
                Error::not_found(format!(
                    "image with reference {name} was found but does not provide the specified platform ({wanted})"
                ))
            });
        }
        let own = image.config.platform();
        wanted.rank(&own).map(|_| Arc::clone(image)).ok_or_else(|| {
            Error::not_found(format!(
                "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wanted})"
            ))
        })
    }

    /// The followers of each image that carries the name of an index.
    pub fn families(&self) -> HashMap<Digest, Vec<Arc<Image>>> {
        let index = self.index();
        let followers = index.followers();
        let mut found: HashMap<Digest, Vec<Arc<Image>>> = HashMap::new();
        if followers.is_empty() {
            return found;
        }
        let images = index.by_manifest();
        for repository in index.repositories.values() {
            let tags = repository.tags.iter().filter_map(|(tag, id)| Some((id, repository.indexes.get(tag)?)));
            for (id, of) in tags.chain(repository.digests.iter().map(|(of, id)| (id, of))) {
                let Some(of) = index.indices.get(of) else { continue };
                let family = found.entry(id.clone()).or_default();
                for image in of.document.manifests.iter().filter_map(|d| images.get(&d.digest)) {
                    if followers.contains(&image.id) && !family.iter().any(|known| known.id == image.id) {
                        family.push(Arc::clone(image));
                    }
                }
            }
        }
        found
    }

    /// The bytes of an index, as received.
    ///
    /// # Errors
    /// When the blob is damaged.
    pub fn index_bytes(&self, of: &ImageIndex) -> Result<Vec<u8>> {
        self.0.blobs.read(&of.descriptor.digest, DOCUMENT_LIMIT)
    }

    /// Has a name stand for an index of which at least one image is here: a tag, or the index' own digest. The image for this machine
    /// carries the name, or else `fallback`. Answers the image that had the name before, if it was another.
    ///
    /// # Errors
    /// When it is no index, or lists no image that is here.
    pub fn name_index(
        &self,
        name: &Reference,
        media_type: &str,
        bytes: &[u8],
        fallback: &Digest,
    ) -> Result<Option<Digest>> {
        let _lease = self.lease();
        let of = Arc::new(ImageIndex::parse(media_type, bytes)?);
        self.0.blobs.put(bytes)?;
        self.change(Sync::Content, |index| {
            let id = match index.best(&of, &Platform::host()) {
                Some(image) => image.id.clone(),
                None => index.get(fallback)?.id.clone(),
            };
            let digest = of.descriptor.digest.clone();
            index.indices.insert(digest.clone(), Arc::clone(&of));
            let Some(tag) = name.tag().filter(|_| name.digest().is_none()) else {
                let repository = index.repositories.entry(name.repository().to_string()).or_default();
                return Ok(repository.digests.insert(digest, id.clone()).filter(|old| *old != id));
            };
            index.mark_tagged(&id)?;
            let repository = index.repositories.entry(name.repository().to_string()).or_default();
            repository.indexes.insert(tag.to_owned(), digest);
            Ok(repository.tags.insert(tag.to_owned(), id.clone()).filter(|old| *old != id))
        })
    }

    /// Has a tag stand for an index that is here already, with the image `id` carrying it.
    ///
    /// # Errors
    /// When there is no such image or index.
    pub fn tag_index(&self, id: &Digest, name: &Reference, of: &ImageIndex) -> Result<()> {
        let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG).to_owned();
        self.change(Sync::Index, |index| {
            index.mark_tagged(id)?;
            let repository = index.repositories.entry(name.repository().to_string()).or_default();
            repository.indexes.insert(tag.clone(), of.descriptor.digest.clone());
            repository.tags.insert(tag, id.clone());
            Ok(())
        })
    }

    /// Bytes of an image's blobs, its manifest and configuration: what a registry would send.
    pub fn content_size(&self, image: &Image) -> u64 {
        if image.source != Source::Layers {
            return 0;
        }
        let blob = |digest: &Digest| self.0.blobs.size(digest).unwrap_or(0);
        let layers: HashSet<&Digest> = image.layers.iter().map(|l| &l.blob.digest).collect();
        let layers: u64 = layers.into_iter().map(blob).sum();
        layers + blob(&image.id) + image.manifest.as_ref().map_or(0, |m| blob(&m.digest))
    }
}
