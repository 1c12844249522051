//! The answer to `/system/df`.

use super::{container_list, image, volume};
use serde::Serialize;

/// docker's `DiskUsage` before 1.52. What was not asked for is `null`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DiskUsage {
    pub(crate) layers_size: u64,
    pub(crate) images: Option<Vec<image::Summary>>,
    pub(crate) containers: Option<Vec<container_list::Summary>>,
    pub(crate) volumes: Option<Vec<volume::Volume>>,
    pub(crate) build_cache: Option<Vec<()>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) builder_size: Option<u64>,
}
