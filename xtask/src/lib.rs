//! Checks that keep the workspace as ARCHITECTURE.md tells, and machines that lose their power.

pub mod layers;
pub mod power_cut;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
