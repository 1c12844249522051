//! Writing an archive that docker, podman, skopeo and containerd read: OCI layout and docker's `manifest.json` in one.
//!
//! Layers go in as they were received, so that what was pulled, saved, loaded and pushed keeps its digests.

use super::{
    BLOBS, INDEX, LAYOUT, Layout, MANIFEST, ManifestItem, NAME_ANNOTATION, REF_ANNOTATION, REPOSITORIES, Repositories,
};
use crate::image::Image;
use crate::platforms::ImageIndex;
use crate::spec::{self, Descriptor, media_type};
use crate::store::{Store, refuse_host};
use crate::tar::{Header, Writer};
use naru_base::error::Context;
use naru_base::{Digest, Platform, Reference, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

const BUFFER: usize = 256 << 10;

/// An image to be saved, with the names that it has in the archive.
#[derive(Debug, Clone)]
pub struct SaveTarget {
    /// The image.
    pub image: Arc<Image>,
    /// Its names, each with a tag.
    pub tags: Vec<Reference>,
    /// What the names stand for, when that is more than one platform: all of it that is here goes into the archive.
    pub index: Option<Arc<ImageIndex>>,
}

/// The documents of an archive, and the blobs that they name.
#[derive(Default)]
struct Plan {
    /// Documents that are in no blob file: manifests made for this archive.
    documents: BTreeMap<Digest, Vec<u8>>,
    /// Blobs, by digest, with their sizes.
    blobs: BTreeMap<Digest, u64>,
    items: Vec<ManifestItem>,
    index: Vec<Descriptor>,
    repositories: Repositories,
}

impl Store {
    /// What `docker save` means by these names: a name without a tag is all tags of the repository; an id or a digest is
    /// an image without a name. The same image named twice is one target with all names. With a platform that one's image is
    /// meant, alone; without, all that are here of the name.
    ///
    /// # Errors
    /// `No such image: …`; when it is not here for that platform; and for the image `host`.
    pub fn save_targets(&self, names: &[String], platform: Option<&Platform>) -> Result<Vec<SaveTarget>> {
        let mut targets: Vec<SaveTarget> = Vec::new();
        let mut add = |image: Arc<Image>, name: &str, tag: Option<Reference>| -> Result<()> {
            let (image, index) = match platform {
                Some(wanted) => (self.for_platform(name, &image, wanted)?, None),
                None => {
                    let named = tag.as_ref().and_then(|t| self.index_named(t));
                    (image, named.or_else(|| Reference::parse(name).ok().and_then(|r| self.index_named(&r))))
                }
            };
            let of = |index: &Option<Arc<ImageIndex>>| index.as_ref().map(|i| i.descriptor.digest.clone());
            let same = |t: &SaveTarget| t.image.id == image.id && of(&t.index) == of(&index);
            let at = targets.iter().position(same).unwrap_or_else(|| {
                targets.push(SaveTarget { image, tags: Vec::new(), index });
                targets.len() - 1
            });
            if let Some(tag) = tag.filter(|tag| !targets[at].tags.contains(tag)) {
                targets[at].tags.push(tag);
            }
            Ok(())
        };
        for name in names {
            let reference = Reference::parse(name).ok();
            let all = reference.as_ref().filter(|r| r.is_name_only()).map(|r| self.tags_of(r)).unwrap_or_default();
            if !all.is_empty() {
                all.into_iter().try_for_each(|(tag, image)| add(image, &tag.familiar(), Some(tag)))?;
                continue;
            }
            let image = self.lookup(name)?;
            let named =
                reference.filter(|r| r.digest().is_none() && self.named(r).is_some()).map(Reference::with_default_tag);
            add(image, name, named)?;
        }
        targets.iter().try_for_each(|target| refuse_host(&target.image))?;
        Ok(targets)
    }

    /// Writes the images as one archive.
    ///
    /// # Errors
    /// When a blob is missing, or `out` fails.
    pub fn save(&self, targets: &[SaveTarget], out: impl Write) -> Result<()> {
        let _lease = self.lease();
        let mut plan = Plan::default();
        for target in targets {
            self.plan_image(target, &mut plan)?;
        }
        let mut out = Writer::new(std::io::BufWriter::with_capacity(BUFFER, out));
        let failed = |e: std::io::Error| naru_base::error::failed("write the archive", e);
        for dir in ["blobs", "blobs/sha256"] {
            out.header(&Header::directory(dir.as_bytes())).map_err(failed)?;
        }
        let mut buffer = vec![0; BUFFER];
        let mut digests: Vec<&Digest> = plan.blobs.keys().chain(plan.documents.keys()).collect();
        digests.sort_unstable();
        digests.dedup();
        for digest in digests {
            let path = format!("{BLOBS}{}", digest.hex());
            if let Some(bytes) = plan.documents.get(digest) {
                out.file(&Header::file(path.as_bytes(), 0), bytes).map_err(failed)?;
                continue;
            }
            let mut file = self.open_blob(digest)?;
            let size = file.metadata().system("stat a blob")?.len();
            out.header(&Header::file(path.as_bytes(), size)).map_err(failed)?;
            loop {
                let got = file.read(&mut buffer).system(format!("read blob {digest}"))?;
                if got == 0 {
                    break;
                }
                out.data(&buffer[..got]).map_err(failed)?;
            }
        }
        for (name, bytes) in plan.tables()? {
            out.file(&Header::file(name.as_bytes(), 0), &bytes).map_err(failed)?;
        }
        out.finish().and_then(|mut out| out.flush()).map_err(failed)
    }

    fn plan_image(&self, target: &SaveTarget, plan: &mut Plan) -> Result<()> {
        let image = &target.image;
        let mut whole = None;
        if let Some(index) = &target.index {
            for other in self.members(index).into_iter().filter_map(|m| m.image) {
                let (manifest, bytes, _) = self.manifest(&other)?;
                for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    plan.blobs.insert(part.digest.clone(), part.size);
                }
                plan.documents.insert(crate::digest_of(&bytes), bytes);
            }
            plan.documents.insert(index.descriptor.digest.clone(), self.index_bytes(index)?);
            whole = Some(index.descriptor.clone());
        }
        let (manifest, bytes, kind) = self.manifest(image)?;
        let digest = crate::digest_of(&bytes);
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            plan.blobs.insert(part.digest.clone(), part.size);
        }
        let descriptor = whole.unwrap_or_else(|| Descriptor::new(&kind, digest.clone(), bytes.len() as u64));
        plan.documents.insert(digest, bytes);
        if target.tags.is_empty() {
            plan.index.push(descriptor.clone());
        }
        for tag in &target.tags {
            let mut named = descriptor.clone();
            named.annotations.insert(NAME_ANNOTATION.into(), tag.to_string());
            named.annotations.insert(REF_ANNOTATION.into(), tag.tag().unwrap_or_default().to_owned());
            plan.index.push(named);
            if let (Some(tag_name), Some(layer)) = (tag.tag(), image.layers.last()) {
                let tags = plan.repositories.entry(tag.familiar_name()).or_default();
                tags.insert(tag_name.to_owned(), layer.chain_id.hex().to_owned());
            }
        }
        let tags: Vec<String> = target.tags.iter().map(Reference::familiar).collect();
        let path = |digest: &Digest| format!("{BLOBS}{}", digest.hex());
        plan.items.push(ManifestItem {
            config: path(&manifest.config.digest),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: Some(manifest.layers.iter().map(|layer| path(&layer.digest)).collect()),
            parent: None,
        });
        Ok(())
    }
}

impl Plan {
    /// The files beside the blobs, sorted by name.
    fn tables(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let index = spec::Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            manifests: self.index.clone(),
            annotations: BTreeMap::new(),
        };
        let mut tables = vec![
            (INDEX, json(&index)?),
            (MANIFEST, json(&self.items)?),
            (LAYOUT, json(&Layout { image_layout_version: "1.0.0".into() })?),
        ];
        if !self.repositories.is_empty() {
            tables.push((REPOSITORIES, json(&self.repositories)?));
        }
        Ok(tables)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).system("encode an archive's table")
}
