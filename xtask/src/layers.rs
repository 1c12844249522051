//! Dependencies point to a lower layer only.

use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// Each shipped crate with its layer.
const LAYERS: &[(&str, u8)] = &[
    ("naru", 5),
    ("naru-cli", 4),
    ("naru-api", 4),
    ("naru-client", 3),
    ("naru-engine", 3),
    ("naru-oci", 3),
    ("naru-store", 2),
    ("naru-registry", 2),
    ("naru-net", 2),
    ("naru-monitor", 2),
    ("naru-runtime", 1),
    ("naru-dns", 1),
    ("naru-log", 1),
    ("naru-fs", 0),
    ("naru-sys", 0),
    ("naru-base", 0),
    ("naru-dbus", 0),
];
/// Crates of layer 0 that stand on another of it.
const WITHIN: &[(&str, &str)] = &[("naru-fs", "naru-base"), ("naru-fs", "naru-sys")];

/// Reads the manifests below `root` and compares.
///
/// # Errors
/// When a crate is in no layer, or depends on one that is not below it; the text names both.
pub fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for &(name, layer) in LAYERS {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        for dependency in dependencies(&text) {
            let Some(&(_, below)) = LAYERS.iter().find(|(n, _)| *n == dependency) else {
                wrong.push(format!("{name} depends on {dependency}, which is in no layer"));
                continue;
            };
            if below >= layer && !WITHIN.contains(&(name, dependency.as_str())) {
                wrong.push(format!("{name} (layer {layer}) depends on {dependency} (layer {below})"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Names of this workspace's crates in the `[dependencies]` table of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|l| l.trim() != "[dependencies]")
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split(['.', '=', ' ']).next())
        .filter(|n| n.starts_with("naru-"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_point_down() {
        check(&crate::workspace_root()).unwrap();
    }

    #[test]
    fn names_are_found() {
        let text = "[package]\nname = \"naru-x\"\n[dependencies]\nnaru-base.workspace = true\nserde = \"1\"\nnaru-sys = { }\n[dev-dependencies]\nnaru-y = 1\n";
        assert_eq!(dependencies(text), ["naru-base", "naru-sys"]);
    }
}
