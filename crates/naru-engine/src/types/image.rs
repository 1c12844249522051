//! Images, and what takes long with them.

use super::{ContainerConfig, UnixNanos};
use naru_base::{Digest, Platform, Reference};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How `commit` makes an image.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Container.
    pub container: String,
    /// Where to tag it.
    pub target: Option<Reference>,
    /// Author.
    pub author: String,
    /// Comment.
    pub comment: String,
    /// Pause it meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Settings that replace the container's.
    pub config: Option<ContainerConfig>,
    /// Where is told how far it is.
    pub progress: Option<ProgressSink>,
}

/// Credentials for a registry, as the caller gave them.
pub type Auth = naru_registry::Auth;

/// Progress of a long operation.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A sentence, about the object `id` if there is one.
    Status {
        /// Short id of a layer, or a tag.
        id: Option<String>,
        /// docker's word for it.
        status: String,
    },
    /// How far.
    Bytes {
        /// Short id of a layer.
        id: String,
        /// docker's word for it.
        status: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all, 0 when unknown.
        total: u64,
    },
    /// How many of several.
    Count {
        /// What is worked on: `images`, `containers`, ….
        id: String,
        /// The word for what is done.
        status: String,
        /// Done so far.
        current: usize,
        /// All.
        total: usize,
    },
    /// Text of a load.
    Stream(String),
    /// Machine-readable result.
    Aux(serde_json::Value),
}

/// Where progress goes; a closed receiver cancels nothing.
pub type ProgressSink = tokio::sync::mpsc::UnboundedSender<Progress>;

/// An image in a list.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// Id.
    pub id: Digest,
    /// Parent's id, when it was made here.
    pub parent: Option<Digest>,
    /// `name:tag`, familiar.
    pub tags: Vec<String>,
    /// `name@digest`, familiar.
    pub digests: Vec<String>,
    /// When made.
    pub created: UnixNanos,
    /// Bytes of all layers.
    pub size: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers use it.
    pub containers: usize,
    /// Whether another image was made from it here.
    pub has_children: bool,
}

/// An image, whole.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// As in a list.
    pub summary: ImageSummary,
    /// The image's configuration document (config.json), parsed.
    pub config: serde_json::Value,
    /// Layers' diff ids, base first.
    pub diff_ids: Vec<Digest>,
    /// Folders of the layers, top first.
    pub layer_dirs: Vec<PathBuf>,
    /// Last time that it was tagged.
    pub last_tagged: UnixNanos,
    /// Its manifest, when it came with one.
    pub manifest: Option<ManifestView>,
}

/// A manifest as shown.
#[derive(Debug, Clone)]
pub struct ManifestView {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// A manifest that an image's name stands for.
#[derive(Debug, Clone)]
pub struct PlatformView {
    /// The manifest.
    pub manifest: ManifestView,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// Whether it is an image.
    pub is_image: bool,
    /// When it is an attestation: the manifest that it is of.
    pub attests: Option<String>,
    /// Of its descriptor.
    pub annotations: BTreeMap<String, String>,
    /// Whether all of it is here.
    pub available: bool,
    /// Bytes of its blobs that are here.
    pub content: u64,
    /// Bytes of its layers' files that are here.
    pub unpacked: u64,
    /// Ids of the containers that use it.
    pub containers: Vec<String>,
}

/// A step of an image's history.
#[derive(Debug, Clone)]
pub struct HistoryView {
    /// The image after that step, when it is here.
    pub id: Option<Digest>,
    /// When.
    pub created: UnixNanos,
    /// Command.
    pub created_by: String,
    /// Tags of that image.
    pub tags: Vec<String>,
    /// Bytes that it added.
    pub size: u64,
    /// Comment.
    pub comment: String,
}

/// What `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRemoval {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(Digest),
}
