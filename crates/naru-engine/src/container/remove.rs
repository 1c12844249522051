//! Removing containers: names and table first, so that nobody finds them, then folders.

use super::Container;
use crate::Engine;
use crate::steps::Steps;
use crate::types::{Filters, ProgressSink, RemoveOptions, Status};
use naru_base::error::Context as _;
use naru_base::{Class, Error, Id, Result};
use naru_fs::Durability;
use naru_sys::fault;
use std::sync::Arc;
use tokio::sync::oneshot;

/// In the folder of a container that is being removed: the anonymous volumes that go with it.
const VOLUMES_FILE: &str = "volumes-to-remove.json";

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// docker's texts: it runs, is paused, is being removed already.
    pub async fn remove(self: &Arc<Self>, name: &str, options: RemoveOptions) -> Result<()> {
        let container = self.containers.find(name)?;
        let status = container.status();
        if status.is_running() && !options.force {
            let why = match status {
                Status::Paused => "container is paused and must be unpaused first",
                Status::Restarting => "container is restarting: stop the container before removing or force remove",
                _ => "container is running: stop the container before removing or force remove",
            };
            return Err(Error::conflict(format!("cannot remove container \"{}\": {why}", shown(name, &container))));
        }
        if !container.begin_removal() {
            return Err(Error::conflict(format!("removal of container {name} is already in progress")));
        }
        let removed = async {
            let _operation = container.operation.lock().await;
            if container.read(|r| r.state.status.is_running()) {
                container.end_removal(false);
                // `--rm` must not remove it a second time.
                container.change(|r| r.host.auto_remove = false);
                self.stop_locked(&container, "rm", Some("KILL".into()), Some(10)).await?;
                container.begin_removal();
            }
            let volumes_gone = self.remove_locked(&container, options.volumes)?;
            if options.volumes {
                // Its other end is dropped then.
                let _ = volumes_gone.await;
            }
            Ok::<(), Error>(())
        }
        .await;
        // Who finds it gone had waited for somebody else's removal.
        if removed.as_ref().is_err_and(|e| e.class() != Class::NotFound) {
            container.end_removal(!container.read(|r| r.state.status.is_running()));
        }
        removed
    }

    /// Removes a container that has ended by itself (`--rm`), with its anonymous volumes. One that is being started again goes at its next end.
    pub(crate) fn remove_in_background(self: &Arc<Self>, container: &Arc<Container>) {
        if !container.begin_removal_unless_started() {
            return;
        }
        if let Err(error) = self.remove_locked(container, true)
            && error.class() != Class::NotFound
        {
            container.end_removal(true);
            container.announce_removal();
            tracing::warn!(container = container.id.short(), "{error}");
        }
    }

    /// The slow part, the writable layer, goes on in the background: its folder has been moved out of the way. What is given tells when the
    /// volumes have gone that go with it.
    fn remove_locked(self: &Arc<Self>, container: &Arc<Container>, volumes: bool) -> Result<oneshot::Receiver<()>> {
        let id = container.id.as_str();
        container.take_folder(|| self.move_to_trash(container, volumes))?;
        fault::point();
        self.containers.remove(&container.id);
        self.images.store.release(id);
        self.container_event(container, "destroy", &[]);
        container.announce_removal();
        let engine = Arc::clone(self);
        let run_dir = self.config.exec_root.join("containers").join(id);
        let name = id.to_owned();
        let (told, volumes_gone) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            fault::point();
            engine.remove_volumes_of_trash(&name);
            drop(told);
            let _ = std::fs::remove_dir_all(run_dir);
            engine.remove_folder_of_trash(&name);
        });
        Ok(volumes_gone)
    }

    /// Its folder, with the names of the volumes that go with it.
    fn move_to_trash(&self, container: &Container, volumes: bool) -> Result<()> {
        let id = container.id.as_str();
        let trash = self.config.trash_dir().join(id);
        let anonymous: Vec<String> =
            container.read(|r| r.mounts.iter().filter(|m| m.anonymous).map(|m| m.view.name.clone()).collect());
        if !anonymous.is_empty() {
            let folder = self.records.folder(id).system("cannot open the container's folder")?;
            if volumes {
                // Goes with the folder: an engine that finds that in the trash knows what else is to go.
                naru_fs::durable::write_json(&folder, VOLUMES_FILE, &anonymous, Durability::Synced)
            } else {
                // A removal with volumes that an engine's death cut short has left it; this one is without.
                naru_fs::durable::remove(&folder, VOLUMES_FILE, Durability::Volatile)
            }
            .system("cannot write down the volumes to be removed")?;
        }
        fault::point();
        match std::fs::rename(self.config.container_dir(&container.id), &trash) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::system(format!("cannot remove container {id}: {e}"))),
            // A machine that loses its power brings it back otherwise. One with `--rm` goes then, too.
            Ok(()) if !container.read(|r| r.host.auto_remove) => {
                self.records.sync().system(format!("cannot remove container {id} for good"))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Removes one folder of the trash, and before it the volumes that are to go with it.
    pub(crate) fn empty_trash(&self, name: &str) {
        self.remove_volumes_of_trash(name);
        self.remove_folder_of_trash(name);
    }

    fn remove_folder_of_trash(&self, name: &str) {
        let removed =
            naru_fs::Root::open_host(self.config.trash_dir()).and_then(|trash| naru_fs::remove_tree(&trash, name));
        if let Err(error) = removed {
            tracing::warn!("cannot remove the files of container {name}: {error}");
        }
    }

    fn remove_volumes_of_trash(&self, name: &str) {
        let folder = naru_fs::Root::open_host(self.config.trash_dir().join(name));
        if let Ok(folder) = &folder {
            crate::quota::lift(folder, "fs");
        }
        let volumes = folder.and_then(|f| naru_fs::durable::read_json::<Vec<String>>(&f, VOLUMES_FILE));
        for volume in volumes.ok().flatten().unwrap_or_default() {
            if let Err(error) = self.remove_unused_volume(&volume)
                && error.class() != Class::NotFound
            {
                tracing::warn!(volume, "{error}");
            }
        }
    }

    /// Removes all containers that aren't running; returns their ids and the bytes that they took.
    ///
    /// # Errors
    /// For filters that docker doesn't know here.
    pub async fn prune_containers(
        self: &Arc<Self>,
        filters: &Filters,
        progress: Option<ProgressSink>,
    ) -> Result<(Vec<Id>, u64)> {
        let filter = crate::prune::Filter::parse(filters)?;
        let (mut removed, mut bytes) = (Vec::new(), 0);
        let all = self.containers.all();
        let mut steps = Steps::begin(progress, "containers", all.len());
        for container in all {
            steps.step();
            let (created, labels) = container.read(|r| (r.created, r.config.labels.clone()));
            if container.status().is_running() || !filter.accepts(created, &labels) {
                continue;
            }
            let size = self.container_bytes(&container.id);
            if self.remove(container.id.as_str(), RemoveOptions::default()).await.is_ok() {
                removed.push(container.id.clone());
                bytes += size;
            }
        }
        steps.end(removed.len(), bytes);
        self.prune_event("container", bytes);
        Ok((removed, bytes))
    }
}

/// docker shows the name with its slash where a name was given, and the id otherwise.
fn shown(given: &str, container: &Container) -> String {
    let name = container.name();
    if given.trim_start_matches('/') == name { format!("/{name}") } else { given.to_owned() }
}
