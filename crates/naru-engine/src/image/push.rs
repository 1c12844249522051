//! Pushing: layers side by side and the configuration, as they are stored, then the manifest.

use super::pull::tell;
use crate::Engine;
use crate::types::{Auth, Progress, ProgressSink};
use naru_base::error::Context as _;
use naru_base::{Digest, Error, Platform, Reference, Result};
use naru_registry::{BlobSource, Scope, Session};
use naru_store::spec::Descriptor;
use naru_store::{Image, ImageIndex, Store};
use std::collections::HashSet;
use std::io::{self, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many repositories are tried for a blob that one of them may have.
const MOUNT_TRIES: usize = 3;

impl Engine {
    /// Sends the image of this name to its registry, or all of the repository's tags.
    ///
    /// # Errors
    /// docker's texts: no such tag, a digest; and what the registry says.
    pub async fn push(
        self: &Arc<Self>,
        reference: Reference,
        platform: Option<Platform>,
        auth: Option<Auth>,
        progress: ProgressSink,
    ) -> Result<()> {
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let images: Vec<(Reference, Arc<Image>)> = if reference.is_name_only() {
            self.images.store.tags_of(&reference)
        } else {
            self.images.store.named(&reference).map(|i| (reference.clone(), i)).into_iter().collect()
        };
        if images.is_empty() {
            return Err(Error::not_found(match reference.tag() {
                Some(_) => format!("tag does not exist: {}", reference.familiar()),
                None => format!("An image does not exist locally with the tag: {}", reference.familiar_name()),
            }));
        }
        let session = self.images.registry().repository(&reference, auth.unwrap_or_default(), Scope::Push);
        tell(&progress, None, format!("The push refers to repository [{}]", reference.repository()));
        for (name, image) in images {
            let parcel = self.parcel(&name, image, platform.as_ref())?;
            self.push_parcel(&session, &name, &parcel, &progress).await?;
        }
        Ok(())
    }

    /// What a name's push sends: one platform's image, or an index with all of its images.
    fn parcel(&self, name: &Reference, image: Arc<Image>, platform: Option<&Platform>) -> Result<Parcel> {
        let store = &self.images.store;
        let familiar = name.familiar();
        if let Some(wanted) = platform {
            return Ok(Parcel {
                images: vec![store.for_platform(&familiar, &image, wanted)?],
                index: None,
                whole: None,
            });
        }
        let Some(of) = store.index_named(name) else {
            return Ok(Parcel { images: vec![image], index: None, whole: None });
        };
        let members = store.members(&of);
        let missing = members.iter().any(|m| m.image.is_none());
        let images: Vec<Arc<Image>> = members.into_iter().filter_map(|m| m.image).collect();
        match (missing, images.len()) {
            (false, _) => Ok(Parcel { images, index: Some(of), whole: None }),
            (true, 0) => Ok(Parcel { images: vec![image], index: None, whole: Some(of) }),
            (true, 1) => Ok(Parcel { images, index: None, whole: Some(of) }),
            (true, _) => Err(Error::conflict(format!(
                "{familiar}: several of its platforms are here, but not all that its index lists: multiple matching manifests found but no \
                 specific platform requested (choose one with --platform, or pull the others first)"
            ))),
        }
    }

    async fn push_parcel(
        self: &Arc<Self>,
        session: &Session,
        name: &Reference,
        parcel: &Parcel,
        progress: &ProgressSink,
    ) -> Result<()> {
        let store = &self.images.store;
        let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG);
        for image in &parcel.images {
            let sent = self.push_one(session, name, image, parcel.index.is_none().then_some(tag), progress).await?;
            if let (Some(whole), Some(selected)) = (&parcel.whole, sent) {
                let original = &whole.descriptor;
                let _ = progress.send(Progress::Aux(serde_json::json!({
                    "manifestPushedInsteadOfIndex": true,
                    "originalIndex": {"mediaType": original.media_type, "digest": original.digest, "size": original.size},
                    "selectedManifest": {"mediaType": selected.media_type, "digest": selected.digest, "size": selected.size},
                })));
            }
        }
        let (Some(of), Some(first)) = (&parcel.index, parcel.images.first()) else { return Ok(()) };
        let bytes = store.index_bytes(of)?;
        let size = bytes.len();
        let digest = session.put_manifest(tag, &of.descriptor.media_type, bytes.clone().into()).await?;
        store.name_index(
            &name.repository().with_digest(digest.clone()),
            &of.descriptor.media_type,
            &bytes,
            &first.id,
        )?;
        self.pushed(name, &first.id, tag, &digest, size, progress);
        Ok(())
    }

    fn pushed(&self, name: &Reference, id: &Digest, tag: &str, digest: &Digest, size: usize, progress: &ProgressSink) {
        self.transfer_event("push", id, name);
        tell(progress, None, format!("{tag}: digest: {digest} size: {size}"));
        let _ = progress.send(Progress::Aux(serde_json::json!({"Tag": tag, "Digest": digest, "Size": size})));
    }

    /// Sends one image; under its digest alone when there is no tag for it.
    async fn push_one(
        self: &Arc<Self>,
        session: &Session,
        name: &Reference,
        image: &Image,
        tag: Option<&str>,
        progress: &ProgressSink,
    ) -> Result<Option<Descriptor>> {
        let (manifest, bytes, media_type) = self.images.store.manifest_to_push(image)?;
        for layer in &manifest.layers {
            tell(progress, Some(layer.digest.short().to_owned()), "Preparing".into());
        }
        // Asked first, and alone: what this logs in with serves all layers.
        let known = session.blob_exists(&manifest.config.digest).await?.is_some();
        self.push_layers(session, name, &manifest.layers, progress).await?;
        if !known {
            self.upload(session, &manifest.config.digest, manifest.config.size, None).await?;
        }
        let size = bytes.len();
        let Some(tag) = tag else {
            let own = naru_store::digest_of(&bytes);
            session.put_manifest(own.as_str(), &media_type, bytes.into()).await?;
            return Ok(None);
        };
        let digest = session.put_manifest(tag, &media_type, bytes.into()).await?;
        self.images.store.add_digest(&image.id, &name.repository(), &digest)?;
        self.pushed(name, &image.id, tag, &digest, size, progress);
        Ok(Some(Descriptor::new(&media_type, digest, size as u64)))
    }

    /// Sends the layers that the registry doesn't have. The first failure ends the others.
    async fn push_layers(
        self: &Arc<Self>,
        session: &Session,
        name: &Reference,
        layers: &[Descriptor],
        progress: &ProgressSink,
    ) -> Result<()> {
        let permits = Arc::new(Semaphore::new(self.live().max_uploads));
        let mut seen = HashSet::new();
        let mut sending = JoinSet::new();
        for layer in layers.iter().filter(|layer| seen.insert(&layer.digest)) {
            let (engine, session, name, layer) = (Arc::clone(self), session.clone(), name.clone(), layer.clone());
            let (progress, permits) = (progress.clone(), Arc::clone(&permits));
            sending.spawn(async move {
                let id = Some(layer.digest.short().to_owned());
                if permits.available_permits() == 0 {
                    tell(&progress, id.clone(), "Waiting".into());
                }
                let _permit = permits.acquire().await.system("the push was ended")?;
                let done = engine.push_layer(&session, &name, &layer, &progress).await?;
                tell(&progress, id, done);
                Ok::<_, Error>(())
            });
        }
        while let Some(end) = sending.join_next().await {
            end.map_err(|e| Error::system(format!("the push was broken off: {e}")))??;
        }
        Ok(())
    }

    /// Sees that the registry has a layer; what was done for it.
    async fn push_layer(
        &self,
        session: &Session,
        name: &Reference,
        layer: &Descriptor,
        progress: &ProgressSink,
    ) -> Result<String> {
        if session.blob_exists(&layer.digest).await?.is_some() {
            return Ok("Layer already exists".into());
        }
        if let Some(from) = self.mount(session, name, &layer.digest).await {
            return Ok(format!("Mounted from {}", from.path()));
        }
        self.upload(session, &layer.digest, layer.size, Some(progress)).await?;
        Ok("Pushed".into())
    }

    /// Has the registry take the blob from another of its repositories, which then needs no upload.
    async fn mount(&self, session: &Session, name: &Reference, blob: &Digest) -> Option<Reference> {
        for from in self.images.store.repositories_with(blob, name.domain(), name, MOUNT_TRIES) {
            match session.mount_blob(blob, &from).await {
                Ok(true) => return Some(from),
                Ok(false) => {}
                Err(error) => tracing::debug!("cannot mount {blob} from {from}: {error}"),
            }
        }
        None
    }

    async fn upload(
        &self,
        session: &Session,
        digest: &Digest,
        size: u64,
        progress: Option<&ProgressSink>,
    ) -> Result<()> {
        let source =
            StoredBlob { store: self.images.store.clone(), digest: digest.clone(), size, progress: progress.cloned() };
        session.upload_blob(digest, size, Arc::new(source)).await
    }
}

/// What a push sends.
struct Parcel {
    images: Vec<Arc<Image>>,
    /// Pushed after the images.
    index: Option<Arc<ImageIndex>>,
    /// The index that is not all here, of which the image is pushed instead.
    whole: Option<Arc<ImageIndex>>,
}

/// A blob of the store, to be read from any place.
struct StoredBlob {
    store: Store,
    digest: Digest,
    size: u64,
    progress: Option<ProgressSink>,
}

impl BlobSource for StoredBlob {
    fn open(&self, offset: u64) -> io::Result<Pin<Box<dyn AsyncRead + Send>>> {
        let mut file = self.store.open_blob(&self.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::pin(tokio::fs::File::from_std(file)))
    }

    fn progress(&self, sent: u64) {
        if let Some(progress) = &self.progress {
            let (id, status) = (self.digest.short().to_owned(), "Pushing".to_owned());
            let _ = progress.send(Progress::Bytes { id, status, current: sent, total: self.size });
        }
    }

    fn retrying(&self, delay: Duration, cause: &str) {
        tracing::debug!("layer {}: {cause}", self.digest.short());
        if let Some(progress) = &self.progress {
            let text = format!("Retrying in {} seconds", delay.as_secs().max(1));
            tell(progress, Some(self.digest.short().to_owned()), text);
        }
    }
}
