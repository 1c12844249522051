//! An image: configuration, layers, and where they came from.

use crate::spec::{Descriptor, ImageConfig};
use naru_base::Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where an image's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the store's layers.
    Layers,
    /// A folder of this machine, seen as it is: no blob stands for it, and it is neither saved nor pushed.
    Host(PathBuf),
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its place in the chain.
    pub chain_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// The blob that the store has of it.
    pub blob: Descriptor,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the configuration's bytes.
    pub id: Digest,
    /// The parsed configuration.
    pub config: ImageConfig,
    /// The layers, base first.
    pub layers: Vec<ImageLayer>,
    /// The manifest that it came with, when it came with one.
    pub manifest: Option<Descriptor>,
    /// The image that it was built on, when that was on this machine.
    pub parent: Option<Digest>,
    /// When it was last given a name, RFC 3339.
    pub last_tagged: Option<String>,
    /// Where its files are.
    pub source: Source,
}

/// What the index keeps of an image: all but the configuration, which is a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: Digest,
    pub(crate) layers: Vec<ImageLayer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_tagged: Option<String>,
}

impl Image {
    /// Bytes of the files of all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// The chain id of the topmost layer; an image without layers has none.
    pub fn chain_id(&self) -> Option<&Digest> {
        self.layers.last().map(|layer| &layer.chain_id)
    }

    pub(crate) fn record(&self) -> ImageRecord {
        ImageRecord {
            id: self.id.clone(),
            layers: self.layers.clone(),
            manifest: self.manifest.clone(),
            parent: self.parent.clone(),
            last_tagged: self.last_tagged.clone(),
        }
    }

    pub(crate) fn from_record(record: ImageRecord, config: ImageConfig) -> Self {
        Self {
            id: record.id,
            config,
            layers: record.layers,
            manifest: record.manifest,
            parent: record.parent,
            last_tagged: record.last_tagged,
            source: Source::Layers,
        }
    }
}
