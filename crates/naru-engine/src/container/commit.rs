//! An image out of a container: its writable layer on top of its image.

use super::{Container, merge};
use crate::image::{blocking, run_config_of};
use crate::steps::watch_bytes;
use crate::types::{CommitRequest, ContainerConfig, Progress, Status};
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::size::human_size;
use naru_base::{Class, Digest, Error, Result};
use naru_fs::Root;
use naru_store::spec::{History, ImageConfig};
use std::sync::Arc;

/// gzip's level for new layers: the fastest.
const LEVEL: u32 = 1;

impl Engine {
    /// Makes an image of what the container has changed, and tags it if asked to.
    ///
    /// # Errors
    /// When there is no such container, a change instruction is malformed, or its files can't be read.
    pub async fn commit(self: &Arc<Self>, request: CommitRequest) -> Result<Digest> {
        let container = self.containers.find(&request.container)?;
        let _operation = container.operation.lock().await;
        self.not_removed(&container)?;
        let record = container.read(Clone::clone);
        let mut run = request.config.map_or_else(|| image_part(&record.config), |own| replace(own, &record.config));
        merge::apply_changes(&mut run, &request.changes)?;
        let created = Some(clock::rfc3339(clock::now()));
        let command: Vec<_> = record.config.cmd.iter().flatten().map(String::as_str).collect();
        let config = ImageConfig {
            architecture: record.platform.architecture.clone(),
            os: record.platform.os.clone(),
            variant: record.platform.variant.clone(),
            author: request.author.clone(),
            comment: request.comment.clone(),
            container: record.id.to_string(),
            created: created.clone(),
            config: run_config_of(&run)?,
            ..ImageConfig::default()
        };
        let step = History {
            created,
            created_by: command.join(" "),
            author: request.author,
            comment: request.comment.clone(),
            ..History::default()
        };
        let frozen = request.pause && container.status() == Status::Running && self.hold_still(&container).await?;
        let upper = self.files(&container.id, 0).upper;
        let engine = Arc::clone(self);
        let sink = request.progress.clone();
        let say = |status: String| {
            if let Some(sink) = &sink {
                let _ = sink.send(Progress::Status { id: None, status });
            }
        };
        say(format!("Packing the changes of {}", record.name));
        let mut packed = 0;
        let mut tell = watch_bytes(sink.clone(), container.id.short().to_owned(), "Packing");
        let made = blocking(move || {
            let upper = Root::open_host(upper).system("cannot open the writable layer")?;
            let parent = engine.images.store.image(&record.image)?;
            let mut watch = |bytes| {
                packed = bytes;
                tell(bytes);
            };
            let image = engine.images.store.commit_watched(Some(&parent), &upper, config, step, LEVEL, &mut watch)?;
            Ok((image, packed))
        })
        .await;
        let thawed = if frozen { self.cgroup(&container).and_then(|group| group.thaw()) } else { Ok(()) };
        let (image, packed) = made.map_err(|error| self.not_removed(&container).err().unwrap_or(error))?;
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        say(format!("Packed {}", human_size(packed as f64)));
        if let Err(error) = thawed {
            self.unless_still(&container, error)?;
        }
        let mut shown = String::new();
        if let Some(target) = request.target {
            let target = target.with_default_tag();
            self.images.store.tag(&image.id, &target)?;
            shown = target.to_string();
            self.image_event("tag", &image.id, &target.familiar());
        }
        let more =
            [("comment", request.comment.as_str()), ("imageID", image.id.as_str()), ("imageRef", shown.as_str())];
        self.container_event(&container, "commit", &more);
        Ok(image.id.clone())
    }

    /// One that removes itself may go at any moment.
    fn not_removed(&self, container: &Container) -> Result<()> {
        if self.containers.by_id(&container.id).is_none() {
            return Err(Error::not_found(format!("No such container: {}", container.id)));
        }
        match container.status() {
            Status::Removing => {
                Err(Error::conflict(format!("You cannot commit container {} which is being removed", container.id)))
            }
            _ => Ok(()),
        }
    }

    /// Freezes a container that runs. Gives false for one that is ending: its files change no more.
    async fn hold_still(&self, container: &Container) -> Result<bool> {
        match self.freeze(container).await {
            Ok(()) => Ok(true),
            Err(error) => self.unless_still(container, error).map(|()| false),
        }
    }

    /// What went wrong with a container that has ended meanwhile is of no interest.
    fn unless_still(&self, container: &Container, error: Error) -> Result<()> {
        let error = self.unless_ended(container, error);
        if error.class() == Class::Conflict { Ok(()) } else { Err(error) }
    }
}

/// What of a container's settings is an image's.
fn image_part(config: &ContainerConfig) -> ContainerConfig {
    ContainerConfig { hostname: String::new(), domainname: String::new(), image: String::new(), ..config.clone() }
}

/// The caller's settings, with the container's where the caller has none.
fn replace(own: ContainerConfig, container: &ContainerConfig) -> ContainerConfig {
    let base = image_part(container);
    ContainerConfig {
        user: if own.user.is_empty() { base.user } else { own.user },
        env: if own.env.is_empty() { base.env } else { own.env },
        cmd: own.cmd.or(base.cmd),
        entrypoint: own.entrypoint.or(base.entrypoint),
        working_dir: if own.working_dir.is_empty() { base.working_dir } else { own.working_dir },
        labels: if own.labels.is_empty() { base.labels } else { own.labels },
        exposed_ports: if own.exposed_ports.is_empty() { base.exposed_ports } else { own.exposed_ports },
        volumes: if own.volumes.is_empty() { base.volumes } else { own.volumes },
        ..base
    }
}
