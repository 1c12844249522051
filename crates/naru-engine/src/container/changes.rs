//! A container's files, looked at from outside: what has changed, and all of them as an archive.

use crate::Engine;
use crate::channel_io::produce;
use crate::image::blocking;
use crate::root_view;
use crate::types::{Change, ChangeKind};
use bytes::Bytes;
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::Root;
use std::sync::Arc;
use tokio::sync::mpsc;

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

    /// All its files as an archive: its own, without volumes, as docker has it.
    ///
    /// # Errors
    /// When there is no such container; a failure later comes out of the channel.
    pub async fn export(self: &Arc<Self>, name: &str) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let container = self.containers.find(name)?;
        let image = container.read(|r| r.image.clone());
        if self.images.is_host(&image) {
            return Err(Error::invalid(
                "the files of a container of the image \"host\" are this machine's: they can't be exported",
            ));
        }
        let upper = self.files(&container.id, 0).upper;
        let layers: Vec<_> = std::iter::once(upper).chain(self.images.lower_dirs(&image)?).collect();
        let root = root_view::of_layers(&layers)?.into_fd();
        self.container_event(&container, "export", &[]);
        Ok(produce(move |out| naru_store::pack_tree(root, out)))
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
