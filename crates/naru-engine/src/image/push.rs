//! Pushing: layers and configuration as they are stored, then the manifest.

use super::pull::tell;
use crate::Engine;
use crate::types::{Auth, Progress, ProgressSink};
use naru_base::{Digest, Error, Reference, Result};
use naru_registry::{BlobSource, Scope, Session};
use naru_store::{Image, Store};
use std::io::{self, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;

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
        let session = self.images.registry.repository(&reference, auth.unwrap_or_default(), Scope::Push);
        tell(&progress, None, format!("The push refers to repository [{}]", reference.repository()));
        for (name, image) in images {
            self.push_one(&session, &name, &image, &progress).await?;
        }
        Ok(())
    }

    async fn push_one(
        &self,
        session: &Session,
        name: &Reference,
        image: &Image,
        progress: &ProgressSink,
    ) -> Result<()> {
        let (manifest, bytes, media_type) = self.images.store.manifest_to_push(image)?;
        for layer in &manifest.layers {
            tell(progress, Some(layer.digest.short().to_owned()), "Preparing".into());
        }
        for layer in &manifest.layers {
            let id = layer.digest.short().to_owned();
            if session.blob_exists(&layer.digest).await?.is_some() {
                tell(progress, Some(id), "Layer already exists".into());
                continue;
            }
            if let Some(from) = self.mount(session, name, &layer.digest).await {
                tell(progress, Some(id), format!("Mounted from {}", from.path()));
                continue;
            }
            self.upload(session, &layer.digest, layer.size, Some(progress)).await?;
            tell(progress, Some(id), "Pushed".into());
        }
        if session.blob_exists(&manifest.config.digest).await?.is_none() {
            self.upload(session, &manifest.config.digest, manifest.config.size, None).await?;
        }
        let tag = name.tag().unwrap_or(naru_base::reference::DEFAULT_TAG);
        let size = bytes.len();
        let digest = session.put_manifest(tag, &media_type, bytes.into()).await?;
        self.images.store.add_digest(&image.id, &name.repository(), &digest)?;
        self.image_event("push", &image.id, &name.familiar());
        tell(progress, None, format!("{tag}: digest: {digest} size: {size}"));
        let _ = progress.send(Progress::Aux(serde_json::json!({"Tag": tag, "Digest": digest, "Size": size})));
        Ok(())
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
