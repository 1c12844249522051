//! Reading archives in one pass, whatever the order of their entries.
//!
//! Documents (JSON) are kept in memory; everything else that can be a layer is taken in as it streams by, before it is
//! known whether it is needed. In the end the tables say which is which; what nothing named is dropped with its folder.

use super::{BLOBS, INDEX, LAYOUT, Layout, MANIFEST, ManifestItem, NAME_ANNOTATION, REF_ANNOTATION};
use crate::Output;
use crate::decompress::Decompressor;
use crate::extract::split;
use crate::hash::{chain_id, digest_of};
use crate::image::Image;
use crate::ingest::{LayerIngest, UnpackedLayer};
use crate::spec::{
    Descriptor, Document, ImageConfig, LAYER_LIMIT, REPEAT_LIMIT, SMALL_LAYER, media_type, repeated, too_deep,
};
use crate::store::{NewImage, NewNames, Renamed, Store};
use crate::tar::{self, Entry, Kind, Limits, Reader, Sink};
use naru_base::{Class, Digest, Error, Platform, Reference, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

const BUFFER: usize = 256 << 10;
/// Larger files are no documents.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// All documents of an archive together.
const DOCUMENTS_LIMIT: u64 = 64 << 20;
/// How deep indices may be nested, and links followed.
const NESTING_LIMIT: usize = 8;
/// How many documents the indices of an archive may lead to.
const DOCUMENT_COUNT: usize = 10_000;

/// What happens while an archive is loaded.
#[derive(Debug, Clone)]
pub enum LoadEvent {
    /// Bytes of a layer were taken in: the layer's name in the archive, how many so far, and of how many.
    Layer {
        /// Its path in the archive.
        name: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A tag went from another image to a loaded one.
    Renamed {
        /// The tag.
        tag: Reference,
        /// The image that had it.
        old: Digest,
    },
    /// An image is loaded.
    Loaded {
        /// The image.
        image: Arc<Image>,
        /// The tags that it got.
        tags: Vec<Reference>,
    },
}

impl Store {
    /// Loads the images of an archive (compressed or not): docker's, of any version since 1.10, or an OCI layout. Of an
    /// index all that is there is taken, and the index with it; with `platform` only the manifest for that one.
    ///
    /// # Errors
    /// With docker's texts, when the archive is malformed or incomplete; images before the fault stay loaded.
    pub fn load(
        &self,
        input: impl Read,
        platform: Option<&Platform>,
        report: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<Arc<Image>>> {
        let lease = self.lease();
        let loaded = self.load_images(input, platform, report);
        drop(lease);
        if loaded.is_err() {
            self.collect()?;
        }
        loaded
    }

    fn load_images(
        &self,
        input: impl Read,
        platform: Option<&Platform>,
        report: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<Arc<Image>>> {
        let mut contents = self.read_archive(input, report)?;
        let images = match contents.oci_images(platform)? {
            Some(images) => images,
            None => contents.docker_images()?,
        };
        let mut loaded = Vec::new();
        for item in &images {
            let config = ImageConfig::parse(&item.config)?;
            if let Some(wanted) = platform
                && wanted.rank(&config.platform()).is_none()
            {
                let own = config.platform();
                return Err(Error::not_found(format!(
                    "the archive has an image for {own}, and none for the specified platform ({wanted})"
                )));
            }
            for other in &item.others {
                self.load_image(other, &mut contents)?;
            }
            let (image, renamed) = self.load_image(item, &mut contents)?;
            renamed.into_iter().for_each(|(tag, old)| report(LoadEvent::Renamed { tag, old }));
            report(LoadEvent::Loaded { image: Arc::clone(&image), tags: item.tags.clone() });
            loaded.push(image);
        }
        Ok(loaded)
    }

    fn read_archive(&self, mut input: impl Read, report: &mut dyn FnMut(LoadEvent)) -> Result<Contents> {
        let sink = Collector { store: self, report, contents: Contents::default(), current: Current::Skip };
        let mut stage = Stage { reader: Reader::new(Limits::default()), sink };
        let mut decompressor = Decompressor::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => decompressor.push(&buffer[..got], &mut stage).map_err(Error::from)?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::system(format!("read the archive: {e}"))),
            }
        }
        decompressor.finish(&mut stage).map_err(Error::from)?;
        stage.reader.finish().map_err(Error::from)?;
        Ok(stage.sink.contents)
    }

    fn load_image(&self, item: &Item, contents: &mut Contents) -> Result<(Arc<Image>, Vec<Renamed>)> {
        let config = ImageConfig::parse(&item.config)?;
        if config.os != "linux" && !config.os.is_empty() {
            return Err(Error::invalid(format!("cannot load {} image on linux", config.os)));
        }
        let (want, have) = (item.layers.len(), config.rootfs.diff_ids.len());
        if want != have {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {want}, got {have}"
            )));
        }
        if have > LAYER_LIMIT {
            return Err(too_deep(have));
        }
        let mut parent: Option<Digest> = None;
        let mut uses: HashMap<&Digest, usize> = HashMap::new();
        for (at, (path, diff_id)) in item.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
            let id = chain_id(parent.as_ref(), diff_id);
            if self.layer(&id).is_none() {
                let layer = self.take_layer(path, contents)?;
                if layer.diff_id() != diff_id {
                    return Err(Error::invalid(format!(
                        "invalid diffID for layer {at}: expected \"{diff_id}\", got \"{}\"",
                        layer.diff_id()
                    )));
                }
                if layer.size() > SMALL_LAYER {
                    *uses.entry(diff_id).or_default() += 1;
                }
                if uses.get(diff_id).is_some_and(|times| *times > REPEAT_LIMIT) {
                    return Err(repeated(diff_id.as_str()));
                }
                self.commit_layer(layer, parent.as_ref())?;
            }
            parent = Some(id);
        }
        let manifest = item.manifest.as_ref().map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let index = item.index.as_ref().map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let names = NewNames { tags: &item.tags, digest: None, index };
        self.publish(&NewImage { config: &item.config, manifest, parent: None }, &names)
    }

    /// The unpacked layer of an archive's file.
    fn take_layer(&self, path: &str, contents: &mut Contents) -> Result<UnpackedLayer> {
        let path = contents.resolve(path);
        if let Some(layer) = contents.layers.remove(&path) {
            // A second image may want the same layer on another parent: from its blob then.
            contents.blobs.insert(path, layer.blob().clone());
            return Ok(layer);
        }
        if let Some(e) = contents.failed.remove(&path) {
            return Err(e.context(path));
        }
        let Some(blob) = contents.blobs.get(&path).cloned() else {
            return Err(Error::invalid(format!("invalid archive: does not contain the layer {path}")));
        };
        let ingest = self.ingest(blob)?;
        ingest.finish(None)
    }
}

/// A way through indices: each document is read once, however many ways lead to it.
struct Walk<'a> {
    depth: usize,
    seen: HashSet<Digest>,
    /// Documents that may be read still, for all ways together.
    left: &'a mut usize,
}

/// An image of an archive.
struct Item {
    config: Vec<u8>,
    manifest: Option<(String, Vec<u8>)>,
    layers: Vec<String>,
    tags: Vec<Reference>,
    /// The index that the tags stand for, and its other images.
    index: Option<(String, Vec<u8>)>,
    others: Vec<Item>,
}

/// What was in an archive, by path.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    document_bytes: u64,
    layers: HashMap<String, UnpackedLayer>,
    /// Layers whose blob the store has.
    blobs: HashMap<String, Descriptor>,
    /// Files that could have been layers and are none: an error only if an image names them.
    failed: HashMap<String, Error>,
    /// Links, to a path in the archive.
    links: HashMap<String, String>,
}

impl Contents {
    /// Follows the archive's links.
    fn resolve(&self, path: &str) -> String {
        let mut path = normal(path.as_bytes()).unwrap_or_else(|| path.to_owned());
        for _ in 0..NESTING_LIMIT {
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        path
    }

    fn document(&self, path: &str) -> Option<&[u8]> {
        self.documents.get(&self.resolve(path)).map(Vec::as_slice)
    }

    /// A document among the blobs, verified.
    fn blob_document(&self, digest: &Digest) -> Result<Option<&[u8]>> {
        let Some(bytes) = self.document(&format!("{BLOBS}{}", digest.hex())) else { return Ok(None) };
        if digest_of(bytes) != *digest {
            return Err(Error::invalid(format!("invalid archive: blob {digest} has another digest")));
        }
        Ok(Some(bytes))
    }

    /// The images of an OCI layout; `None` when it is none, or names no image that is in the archive.
    fn oci_images(&self, platform: Option<&Platform>) -> Result<Option<Vec<Item>>> {
        let (Some(layout), Some(index)) = (self.document(LAYOUT), self.document(INDEX)) else { return Ok(None) };
        let layout: Layout = parse(LAYOUT, layout)?;
        if layout.image_layout_version != "1.0.0" {
            return Err(Error::invalid(format!("unsupported OCI version: {}", layout.image_layout_version)));
        }
        let Document::Index(index) = Document::parse(index, media_type::OCI_INDEX)? else {
            return Err(Error::invalid("invalid archive: index.json is no index"));
        };
        let mut images: Vec<(Digest, Item)> = Vec::new();
        let mut left = DOCUMENT_COUNT;
        for descriptor in &index.manifests {
            let mut walk = Walk { depth: 0, seen: HashSet::new(), left: &mut left };
            let host = Platform::host();
            let mut found = self.oci_image(descriptor, platform.unwrap_or(&host), &mut walk)?;
            if platform.is_none() {
                found = self.with_index(descriptor, found, &mut left)?;
            }
            let Some((digest, mut item)) = found else { continue };
            let tag = name_of(descriptor);
            match images.iter_mut().find(|(known, _)| *known == digest) {
                Some((_, known)) => known.tags.extend(tag),
                None => {
                    item.tags.extend(tag);
                    images.push((digest, item));
                }
            }
        }
        let images: Vec<Item> = images.into_iter().map(|(_, item)| item).collect();
        Ok((!images.is_empty() || self.document(MANIFEST).is_none()).then_some(images))
    }

    /// Adds to the image that was found behind an index the others of that index that are in the archive, and the index.
    fn with_index(
        &self,
        descriptor: &Descriptor,
        found: Option<(Digest, Item)>,
        left: &mut usize,
    ) -> Result<Option<(Digest, Item)>> {
        if !media_type::is_index(&descriptor.media_type) {
            return Ok(found);
        }
        let Some(bytes) = self.blob_document(&descriptor.digest)? else { return Ok(found) };
        let Document::Index(index) = Document::parse(bytes, &descriptor.media_type)? else { return Ok(found) };
        let mut others = Vec::new();
        let listed = index.manifests.iter().filter(|d| media_type::is_manifest(&d.media_type));
        for member in listed.filter(|d| !d.annotations.contains_key("vnd.docker.reference.type")) {
            let mut walk = Walk { depth: 0, seen: HashSet::new(), left: &mut *left };
            let platform = member.platform.clone().unwrap_or_else(Platform::host);
            others.extend(self.oci_image(member, &platform, &mut walk)?);
        }
        let at = found.as_ref().and_then(|(first, _)| others.iter().position(|(digest, _)| digest == first));
        let (_, mut item) = match at {
            Some(at) => others.remove(at),
            // What was found is not the index' own: it lies deeper.
            None if found.is_some() || others.is_empty() => return Ok(found),
            None => others.remove(0),
        };
        item.others = others.into_iter().map(|(_, other)| other).collect();
        item.index = Some((descriptor.media_type.clone(), bytes.to_vec()));
        Ok(Some((descriptor.digest.clone(), item)))
    }

    /// The image behind a descriptor; `None` when its content is not in the archive, or not for this platform.
    fn oci_image(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
        walk: &mut Walk<'_>,
    ) -> Result<Option<(Digest, Item)>> {
        // An index that has led to nothing leads to nothing again.
        if !walk.seen.insert(descriptor.digest.clone()) {
            return Ok(None);
        }
        *walk.left = walk
            .left
            .checked_sub(1)
            .ok_or_else(|| Error::invalid("archive refused: its indices lead to too many documents"))?;
        let Some(bytes) = self.blob_document(&descriptor.digest)? else { return Ok(None) };
        let is_image = media_type::is_index(&descriptor.media_type) || media_type::is_manifest(&descriptor.media_type);
        if walk.depth > NESTING_LIMIT || !is_image {
            return Ok(None);
        }
        let document = Document::parse(bytes, &descriptor.media_type)?;
        let kind = document.media_type(&descriptor.media_type).to_owned();
        match document {
            Document::Index(index) => {
                walk.depth += 1;
                for candidate in index.candidates(platform) {
                    if let Some(found) = self.oci_image(candidate, platform, walk)? {
                        return Ok(Some(found));
                    }
                }
                walk.depth -= 1;
                Ok(None)
            }
            Document::Manifest(manifest) => {
                let Some(config) = self.blob_document(&manifest.config.digest)? else { return Ok(None) };
                let layers = manifest.layers.iter().map(|l| format!("{BLOBS}{}", l.digest.hex())).collect();
                let manifest = Some((kind, bytes.to_vec()));
                let (tags, others) = (Vec::new(), Vec::new());
                let item = Item { config: config.to_vec(), manifest, layers, tags, index: None, others };
                Ok(Some((descriptor.digest.clone(), item)))
            }
        }
    }

    /// The images of `manifest.json`.
    fn docker_images(&self) -> Result<Vec<Item>> {
        let Some(table) = self.document(MANIFEST) else {
            return Err(Error::invalid("invalid archive: does not contain a manifest.json"));
        };
        let Some(items) = parse::<Option<Vec<ManifestItem>>>(MANIFEST, table)? else {
            return Err(Error::invalid("invalid manifest, manifest cannot be null (but can be [])"));
        };
        items.into_iter().map(|item| self.docker_image(item)).collect()
    }

    fn docker_image(&self, item: ManifestItem) -> Result<Item> {
        let config = self.document(&item.config).ok_or_else(|| {
            Error::invalid(format!("invalid archive: does not contain the configuration {}", item.config))
        })?;
        let tag = |text: String| {
            Reference::parse(&text)
                .ok()
                .filter(|r| r.tag().is_some() && r.digest().is_none())
                .ok_or_else(|| Error::invalid(format!("invalid tag {text:?}")))
        };
        Ok(Item {
            config: config.to_vec(),
            manifest: None,
            layers: item.layers.unwrap_or_default(),
            tags: item.repo_tags.unwrap_or_default().into_iter().map(tag).collect::<Result<_>>()?,
            index: None,
            others: Vec::new(),
        })
    }
}

/// The name that an index gives an image.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let whole = descriptor.annotations.get(NAME_ANNOTATION).or_else(|| {
        // The specification's annotation may be a tag only: a name has more.
        descriptor.annotations.get(REF_ANNOTATION).filter(|name| name.contains([':', '/']))
    })?;
    Reference::parse(whole).ok().filter(|r| r.digest().is_none()).map(Reference::with_default_tag)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("invalid archive: {name}: {e}")))
}

/// A path without `.` parts and outer slashes; `None` when it has `..` or is not UTF-8.
fn normal(path: &[u8]) -> Option<String> {
    String::from_utf8(split(path).ok()?.join(&b'/')).ok()
}

struct Stage<'a> {
    reader: Reader,
    sink: Collector<'a>,
}

impl Output for Stage<'_> {
    fn take(&mut self, bytes: &[u8]) -> tar::Result<()> {
        self.reader.push(bytes, &mut self.sink)
    }
}

/// Sorts an archive's files.
struct Collector<'a> {
    store: &'a Store,
    report: &'a mut dyn FnMut(LoadEvent),
    contents: Contents,
    current: Current,
}

/// What the current file is.
enum Current {
    Skip,
    /// Not known before its first byte.
    New {
        path: String,
        size: u64,
    },
    Document {
        path: String,
        bytes: Vec<u8>,
    },
    Layer(Box<LayerFile>),
}

struct LayerFile {
    path: String,
    size: u64,
    seen: u64,
    ingest: LayerIngest,
}

impl LayerFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // What an earlier attempt left is there already.
        let known = self.ingest.resume_offset().saturating_sub(self.seen).min(bytes.len() as u64);
        self.seen += bytes.len() as u64;
        self.ingest.write(&bytes[usize::try_from(known).unwrap_or(bytes.len())..])
    }
}

impl Collector<'_> {
    /// Goes on without a file that is no layer; a host that fails ends the load.
    fn give_up(&mut self, path: String, e: Error) -> Result<()> {
        self.current = Current::Skip;
        if e.class() != Class::InvalidParameter {
            return Err(e);
        }
        self.contents.failed.insert(path, e);
        Ok(())
    }

    fn begin(&mut self, path: String, size: u64, first: u8) -> Result<Current> {
        let is_blob = path.strip_prefix(BLOBS).and_then(|hex| Digest::parse(&format!("{}{hex}", Digest::PREFIX)).ok());
        let is_tar = path.ends_with(".tar") || path.ends_with(".tar.gz");
        let is_table = [MANIFEST, INDEX, LAYOUT].contains(&path.as_str());
        if (is_table || matches!(first, b'{' | b'[')) && size <= DOCUMENT_LIMIT && !is_tar {
            self.contents.document_bytes += size;
            if self.contents.document_bytes > DOCUMENTS_LIMIT {
                return Err(Error::invalid("archive refused: its documents are too large"));
            }
            return Ok(Current::Document { path, bytes: Vec::new() });
        }
        match is_blob {
            Some(digest) => {
                if self.store.has_blob(&digest) {
                    self.contents.blobs.insert(path, Descriptor::new("", digest, size));
                    return Ok(Current::Skip);
                }
                let ingest = self.store.ingest(Descriptor::new("", digest, size))?;
                Ok(Current::Layer(Box::new(LayerFile { path, size, seen: 0, ingest })))
            }
            None if is_tar => {
                let ingest = self.store.ingest_unknown()?;
                Ok(Current::Layer(Box::new(LayerFile { path, size, seen: 0, ingest })))
            }
            None => Ok(Current::Skip),
        }
    }
}

impl Sink for Collector<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> tar::Result<()> {
        self.current = Current::Skip;
        let Some(path) = normal(entry.path) else { return Ok(()) };
        match entry.kind {
            Kind::File => self.current = Current::New { path, size: entry.size },
            Kind::HardLink => {
                self.contents.links.extend(normal(entry.link).map(|target| (path, target)));
            }
            Kind::Symlink => {
                // `../<other>/layer.tar`, relative to the link's folder.
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = String::from_utf8_lossy(entry.link);
                let target = match target.strip_prefix("../") {
                    Some(rest) => match folder.rsplit_once('/') {
                        Some((above, _)) => format!("{above}/{rest}"),
                        None => rest.to_owned(),
                    },
                    None => format!("{folder}/{target}"),
                };
                self.contents.links.extend(normal(target.as_bytes()).map(|target| (path, target)));
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, _offset: u64, bytes: &[u8]) -> tar::Result<()> {
        if let Current::New { path, size } = &mut self.current
            && let Some(&first) = bytes.first()
        {
            let (path, size) = (std::mem::take(path), *size);
            self.current = self.begin(path, size, first)?;
        }
        match &mut self.current {
            Current::New { .. } | Current::Skip => {}
            Current::Document { bytes: all, .. } => all.extend_from_slice(bytes),
            Current::Layer(layer) => match layer.write(bytes) {
                Ok(()) => {
                    let (name, current, total) = (layer.path.clone(), layer.seen, layer.size);
                    (self.report)(LoadEvent::Layer { name, current, total });
                }
                Err(e) => {
                    let path = std::mem::take(&mut layer.path);
                    self.give_up(path, e)?;
                }
            },
        }
        Ok(())
    }

    fn end(&mut self) -> tar::Result<()> {
        match std::mem::replace(&mut self.current, Current::Skip) {
            Current::Skip | Current::New { .. } => {}
            Current::Document { path, bytes } => {
                self.contents.documents.insert(path, bytes);
            }
            Current::Layer(layer) => match layer.ingest.finish(None) {
                Ok(unpacked) => {
                    self.contents.layers.insert(layer.path, unpacked);
                }
                Err(e) => self.give_up(layer.path, e)?,
            },
        }
        Ok(())
    }
}
