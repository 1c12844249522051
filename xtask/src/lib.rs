//! Checks that keep the workspace as ARCHITECTURE.md tells.

pub mod layers;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
