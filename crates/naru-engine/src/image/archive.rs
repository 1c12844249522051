//! Images in and out of archives: load, save, import.

use super::pull::blocking;
use crate::channel_io::{ChannelReader, produce};
use crate::container::apply_changes;
use crate::types::{ContainerConfig, Progress, ProgressSink};
use crate::{Engine, clock};
use bytes::Bytes;
use naru_base::{Digest, Error, Platform, Reference, Result};
use naru_store::LoadEvent;
use naru_store::spec::{History, ImageConfig};
use std::sync::Arc;
use tokio::sync::mpsc;

impl Engine {
    /// Takes in the images of an archive, docker's or an OCI layout, compressed or not.
    ///
    /// # Errors
    /// docker's texts for a malformed archive.
    pub async fn load(
        self: &Arc<Self>,
        body: mpsc::Receiver<std::io::Result<Bytes>>,
        platform: Option<Platform>,
        quiet: bool,
        progress: ProgressSink,
    ) -> Result<()> {
        let engine = Arc::clone(self);
        blocking(move || {
            let mut report = |event: LoadEvent| engine.report_load(event, quiet, &progress);
            engine.images.store.load(ChannelReader::new(body), platform.as_ref(), &mut report).map(|_| ())
        })
        .await
    }

    fn report_load(&self, event: LoadEvent, quiet: bool, progress: &ProgressSink) {
        let say = |text: String| {
            let _ = progress.send(Progress::Stream(text));
        };
        match event {
            LoadEvent::Layer { name, current, total } if !quiet => {
                let id = name.rsplit('/').next().unwrap_or(&name).chars().take(12).collect();
                let _ = progress.send(Progress::Bytes { id, status: "Loading layer".into(), current, total });
            }
            LoadEvent::Layer { .. } => {}
            LoadEvent::Renamed { tag, old } => say(format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string\n",
                tag.familiar()
            )),
            LoadEvent::Loaded { image, tags } => {
                self.image_event("load", &image.id, image.id.as_str());
                if tags.is_empty() {
                    say(format!("Loaded image ID: {}\n", image.id));
                }
                for tag in tags {
                    say(format!("Loaded image: {}\n", tag.familiar()));
                }
            }
        }
    }

    /// An archive of these images.
    ///
    /// # Errors
    /// When one of them isn't there, or not for this platform; a failure later comes out of the channel.
    pub async fn save(
        self: &Arc<Self>,
        names: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let targets = self.images.store.save_targets(&names, platform.as_ref())?;
        for target in &targets {
            self.image_event("save", &target.image.id, target.image.id.as_str());
        }
        let engine = Arc::clone(self);
        Ok(produce(move |out| engine.images.store.save(&targets, out)))
    }

    /// An image with one layer, the given archive of a root file system.
    ///
    /// # Errors
    /// For a malformed archive or instruction.
    pub async fn import(
        self: &Arc<Self>,
        body: mpsc::Receiver<std::io::Result<Bytes>>,
        target: Option<Reference>,
        message: String,
        changes: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<Digest> {
        let mut run = ContainerConfig::default();
        apply_changes(&mut run, &changes)?;
        let comment = if message.is_empty() { "Imported from -".to_owned() } else { message };
        let platform = platform.unwrap_or_else(Platform::host);
        let created = Some(clock::rfc3339(clock::now()));
        let config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            comment: comment.clone(),
            created: created.clone(),
            config: run_config_of(&run)?,
            ..ImageConfig::default()
        };
        let step = History { created, comment, ..History::default() };
        let engine = Arc::clone(self);
        blocking(move || {
            let image = engine.images.store.import(ChannelReader::new(body), config, step)?;
            if let Some(target) = target {
                engine.images.store.tag(&image.id, &target.with_default_tag())?;
            }
            engine.image_event("import", &image.id, image.id.as_str());
            Ok(image.id.clone())
        })
        .await
    }
}

/// The engine's settings in the store's form.
pub(crate) fn run_config_of(config: &ContainerConfig) -> Result<naru_store::spec::RunConfig> {
    serde_json::from_value(super::to_document(config))
        .map_err(|e| Error::system(format!("cannot write the image's configuration: {e}")))
}
