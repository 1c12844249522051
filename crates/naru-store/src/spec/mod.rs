//! The JSON documents of the image specification: manifests, indices and configurations.

mod config;
mod manifest;
pub mod media_type;

pub use config::{Empty, Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use manifest::{Descriptor, Document, Index, LAYER_LIMIT, Manifest};
pub(crate) use manifest::{REPEAT_LIMIT, SMALL_LAYER, repeated, too_deep};
