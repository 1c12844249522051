//! Image archives: what `docker save` writes and `docker load` reads.

mod load;
mod save;

pub use load::LoadEvent;
pub use save::SaveTarget;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
const REPOSITORIES: &str = "repositories";
const BLOBS: &str = "blobs/sha256/";
/// containerd's annotation with the whole name.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The image specification's annotation with the name, or a part of it.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An item of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

/// `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// `repositories`: name to tag to the topmost layer.
type Repositories = BTreeMap<String, BTreeMap<String, String>>;
