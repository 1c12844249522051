//! Images, as containers and lists need them: the store's, looked at with the engine's eyes.

mod archive;
mod config;
mod host;
mod init_layer;
mod list;
mod platforms;
mod pull;
mod push;
mod remove;
mod search;
mod transfer;

pub(crate) use archive::run_config_of;
pub(crate) use config::to_document;
pub(crate) use host::secrets as host_secrets;
pub(crate) use pull::blocking;

use crate::types::ContainerConfig;
use naru_base::error::Context as _;
use naru_base::{Digest, Id, Platform, Result};
use naru_registry::Client;
use naru_store::{Image, ImagePolicy, Source, Store};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The images of one engine.
#[derive(Debug)]
pub(crate) struct Images {
    pub store: Store,
    registry: Mutex<Client>,
    init: init_layer::InitLayers,
    /// Layers on their way.
    transfers: transfer::Transfers,
}

/// What a container takes from its image.
pub(crate) struct Facts {
    pub config: ContainerConfig,
    pub platform: Platform,
}

/// What a view shows of a container's image.
#[derive(Default)]
pub(crate) struct SummaryParts {
    pub layer_dirs: Vec<PathBuf>,
    pub manifest_digest: Option<Digest>,
}

impl Images {
    pub(crate) fn open(data_root: &Path, policy: ImagePolicy, registry: Client) -> Result<Self> {
        let store = Store::open_with(data_root.join("images"), policy)?;
        let init = init_layer::InitLayers::open(data_root.join("init"))?;
        let images = Self { store, registry: Mutex::new(registry), init, transfers: transfer::Transfers::default() };
        images.register_host()?;
        Ok(images)
    }

    /// The client of registries, as the settings want it now.
    pub(crate) fn registry(&self) -> Client {
        crate::lock(&self.registry).clone()
    }

    /// Another one from now on.
    pub(crate) fn set_registry(&self, client: Client) {
        *crate::lock(&self.registry) = client;
    }

    /// The image that a name, id or beginning of an id means.
    pub(crate) fn find(&self, name: &str) -> Result<Digest> {
        self.store.lookup(name).map(|i| i.id.clone())
    }

    /// As [`Images::find`], but the image for `platform`, and refused when that is not here.
    pub(crate) fn find_for(&self, name: &str, platform: Option<&Platform>) -> Result<Digest> {
        let image = self.store.lookup(name)?;
        match platform {
            Some(wanted) => self.store.for_platform(name, &image, wanted).map(|i| i.id.clone()),
            None => Ok(image.id.clone()),
        }
    }

    pub(crate) fn facts(&self, id: &Digest) -> Result<Facts> {
        let image = self.store.image(id)?;
        Ok(Facts { config: run_config(&image)?, platform: image.config.platform() })
    }

    /// Keeps the image's layers for a container, whatever becomes of the image.
    pub(crate) fn hold(&self, container: &Id, image: &Digest) {
        if let Ok(image) = self.store.image(image)
            && let Some(chain) = image.chain_id()
        {
            self.store.hold(container.as_str(), chain);
        }
    }

    /// The layers of a container of this image, top first: docker's init layer, then the image's.
    pub(crate) fn lower_dirs(&self, id: &Digest) -> Result<Vec<PathBuf>> {
        let image = self.store.image(id)?;
        let mut dirs = self.store.lower_dirs(&image)?;
        // This machine's root has what mounts need, and overlay refuses a layer that lies inside another.
        if !matches!(image.source, Source::Host(_)) {
            dirs.insert(0, self.init.layer(&image.id, &dirs)?);
        }
        Ok(dirs)
    }

    /// The image's own layers, top first.
    pub(crate) fn layers(&self, id: &Digest) -> Result<Vec<PathBuf>> {
        let image = self.store.image(id)?;
        self.store.lower_dirs(&image)
    }

    /// Mode of the root folder of a container of this image: overlay shows the upper folder's.
    pub(crate) fn root_mode(&self, id: &Digest) -> u32 {
        let top = self.layers(id).ok().and_then(|dirs| dirs.into_iter().next());
        top.and_then(|d| std::fs::metadata(d).ok()).map_or(0o755, |m| m.mode() & 0o7777)
    }

    /// Whether the image is this machine's own root.
    pub(crate) fn is_host(&self, id: &Digest) -> bool {
        self.store.image(id).is_ok_and(|i| matches!(i.source, Source::Host(_)))
    }

    pub(crate) fn summary_parts(&self, id: &Digest) -> SummaryParts {
        let Ok(image) = self.store.image(id) else { return SummaryParts::default() };
        SummaryParts {
            layer_dirs: self.store.lower_dirs(&image).unwrap_or_default(),
            manifest_digest: image.manifest.as_ref().map(|m| m.digest.clone()),
        }
    }

    pub(crate) fn size(&self, id: &Digest) -> u64 {
        self.store.image(id).map_or(0, |i| i.size())
    }

    /// Removes the init layers of images that are gone.
    pub(crate) fn sweep_init_layers(&self) {
        let known: Vec<Digest> = self.store.images().iter().map(|i| i.id.clone()).collect();
        self.init.keep_only(&known);
    }
}

/// The image's settings in the engine's form.
pub(crate) fn run_config(image: &Image) -> Result<ContainerConfig> {
    let document = serde_json::to_value(&image.config.config).system("cannot read the image's configuration")?;
    Ok(config::from_document(&document))
}
