//! What a container has changed of its image.

use crate::Engine;
use crate::image::blocking;
use crate::types::{Change, ChangeKind};
use naru_base::Result;
use naru_base::error::Context as _;
use naru_fs::Root;
use std::sync::Arc;

impl Engine {
    /// What the container has changed of its image.
    ///
    /// # Errors
    /// When there is no such container, or its files can't be read.
    pub async fn changes(self: &Arc<Self>, name: &str) -> Result<Vec<Change>> {
        let container = self.containers.find(name)?;
        let lower = self.images.lower_dirs(&container.read(|r| r.image.clone()))?;
        let upper = self.files(&container.id, 0).upper;
        blocking(move || {
            let upper = Root::open_host(upper).system("cannot open the writable layer")?;
            let found = naru_store::diff(&lower, &upper)?;
            Ok(found.into_iter().map(change).collect())
        })
        .await
    }
}

fn change(found: naru_store::Change) -> Change {
    let path = found.path.to_string_lossy();
    Change {
        path: if path.starts_with('/') { path.into_owned() } else { format!("/{path}") },
        kind: match found.kind {
            naru_store::ChangeKind::Modified => ChangeKind::Modified,
            naru_store::ChangeKind::Added => ChangeKind::Added,
            naru_store::ChangeKind::Deleted => ChangeKind::Deleted,
        },
    }
}
