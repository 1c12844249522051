//! A container's files, looked at from outside: what has changed, and all of them as an archive.

use super::Container;
use crate::channel_io::produce;
use crate::image::blocking;
use crate::types::{Change, ChangeKind};
use crate::{Engine, root_view};
use bytes::Bytes;
use naru_base::Result;
use naru_base::error::Context as _;
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

    /// All its files as an archive.
    ///
    /// # Errors
    /// When there is no such container; a failure later comes out of the channel.
    pub async fn export(self: &Arc<Self>, name: &str) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let container = self.containers.find(name)?;
        let root = self.root_of(&container)?;
        self.container_event(&container, "export", &[]);
        Ok(produce(move |out| naru_store::pack_tree(root.into_fd(), out)))
    }

    /// The container's file tree.
    pub(crate) fn root_of(&self, container: &Container) -> Result<Root> {
        let (pid, running) = container.read(|r| (r.state.pid, r.state.status.is_running()));
        if running && pid > 0 {
            return root_view::of_process(pid);
        }
        let mut layers = vec![self.files(&container.id, 0).upper];
        layers.extend(self.images.lower_dirs(&container.read(|r| r.image.clone()))?);
        root_view::of_layers(&layers)
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
