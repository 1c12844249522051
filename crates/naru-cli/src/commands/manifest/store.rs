//! Lists that are being made, as docker's client keeps them: `~/.docker/manifests/<list>/<manifest>`, one file for each image.

use super::super::go_io;
use crate::failure::Failure;
use naru_base::Reference;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of lists.
pub(super) struct Lists(PathBuf);

impl Lists {
    /// Beside the configuration file.
    pub(super) fn beside(config: &Path) -> Self {
        Self(config.parent().unwrap_or(Path::new(".")).join("manifests"))
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// The manifests of a list in the order of their names; `None` when there is no such list.
    pub(super) fn all(&self, list: &Reference) -> Result<Option<Vec<Value>>, Failure> {
        let folder = self.folder(list);
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(|e| problem("open", &folder, &e))?,
        };
        let mut names: Vec<_> = entries.filter_map(Result::ok).map(|e| e.file_name()).collect();
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort();
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            all.extend(read(&folder.join(name))?);
        }
        Ok(Some(all))
    }

    /// One manifest of a list.
    pub(super) fn get(&self, list: &Reference, manifest: &Reference) -> Result<Option<Value>, Failure> {
        read(&self.folder(list).join(file_name(manifest)))
    }

    /// Keeps a manifest in a list.
    pub(super) fn save(&self, list: &Reference, manifest: &Reference, value: &Value) -> Result<(), Failure> {
        let folder = self.folder(list);
        std::fs::create_dir_all(&folder).map_err(|e| problem("mkdir", &folder, &e))?;
        let target = folder.join(file_name(manifest));
        let temp = folder.join(format!(".{}.{}", file_name(manifest), std::process::id()));
        std::fs::write(&temp, value.to_string())
            .and_then(|()| std::fs::rename(&temp, &target))
            .map_err(|e| problem("write", &target, &e))
    }

    /// Forgets a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<(), Failure> {
        let folder = self.folder(list);
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|e| problem("remove", &folder, &e)),
        }
    }
}

/// docker's name for a reference's file. Neither `.` nor `..` can come out: each has a tag or digest.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn read(path: &Path) -> Result<Option<Value>, Failure> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(problem("open", path, &e)),
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| Failure::new(format!("{} is no manifest: {e}", path.display()))),
    }
}

fn problem(action: &str, path: &Path, e: &io::Error) -> Failure {
    Failure::new(format!("{action} {}: {}", path.display(), go_io(e)))
}
