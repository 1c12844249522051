//! Pulling: manifest, configuration, then the layers side by side, each in one pass from the socket to its folder.

use crate::Engine;
use crate::types::{Auth, Progress, ProgressSink};
use bytes::Bytes;
use naru_base::error::Context as _;
use naru_base::{Digest, Error, Platform, Reference, Result};
use naru_registry::{DownloadEvent, Scope, Session};
use naru_store::spec::{Document, ImageConfig, Manifest};
use naru_store::{LayerIngest, NewImage, UnpackedLayer};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Layers fetched at once (docker's number).
const AT_ONCE: usize = 3;
/// The largest configuration that is taken, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;
/// Pieces on their way from the socket to the disk.
const BACKLOG: usize = 16;
/// Bytes between two reports of progress.
const REPORT_EVERY: u64 = 512 << 10;

/// What is asked of a registry: the digest, or else the tag.
pub(super) fn target(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => naru_base::reference::DEFAULT_TAG.to_owned(),
    }
}

impl Engine {
    /// Gets an image, or with neither tag nor digest all of the repository's.
    ///
    /// # Errors
    /// What the registry says, in docker's words; and when what it sends is not what it promised, or the disk is full.
    pub async fn pull(
        self: &Arc<Self>,
        reference: Reference,
        platform: Option<Platform>,
        auth: Option<Auth>,
        progress: ProgressSink,
    ) -> Result<()> {
        let session = self.images.registry.repository(&reference, auth.unwrap_or_default(), Scope::Pull);
        if !reference.is_name_only() {
            return self.pull_one(&session, &reference, platform.as_ref(), &progress).await;
        }
        for tag in session.tags().await? {
            self.pull_one(&session, &reference.with_tag(&tag)?, platform.as_ref(), &progress).await?;
        }
        Ok(())
    }

    /// A second pull of the same reference waits for the first and then finds everything there.
    async fn pull_one(
        self: &Arc<Self>,
        session: &Session,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &ProgressSink,
    ) -> Result<()> {
        let turn = Arc::clone(crate::lock(&self.images.pulls).entry(reference.to_string()).or_default());
        let done = {
            let _turn = turn.lock().await;
            self.pull_now(session, reference, platform, progress).await
        };
        crate::lock(&self.images.pulls).retain(|_, t| Arc::strong_count(t) > 2 || !Arc::ptr_eq(t, &turn));
        done
    }

    async fn pull_now(
        self: &Arc<Self>,
        session: &Session,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &ProgressSink,
    ) -> Result<()> {
        let top = session.manifest(&target(reference)).await?;
        let host = Platform::host();
        let (digest, media_type, bytes, manifest) = match Document::parse(&top.bytes, &top.media_type)? {
            Document::Manifest(manifest) => (top.digest.clone(), top.media_type.clone(), top.bytes.clone(), manifest),
            Document::Index(index) => {
                let chosen = index.choose(platform.unwrap_or(&host))?.digest.clone();
                let child = session.manifest(chosen.as_str()).await?;
                match Document::parse(&child.bytes, &child.media_type)? {
                    Document::Manifest(manifest) => (child.digest, child.media_type, child.bytes, manifest),
                    Document::Index(_) => {
                        return Err(Error::invalid("an image index within an index is not supported"));
                    }
                }
            }
        };
        tell(progress, Some(target(reference)), format!("Pulling from {}", reference.path()));
        let config = session.blob_bytes(&manifest.config.digest, manifest.config.size, CONFIG_LIMIT).await?;
        let known = self.images.store.image(&manifest.config.digest).is_ok();
        let lease = self.images.store.lease();
        self.pull_layers(session, &manifest, &config, progress).await?;
        let stored = self.publish(reference, &config, &media_type, &bytes, &top.digest).await?;
        drop(lease);
        tracing::debug!("pulled {reference} as {digest}");
        let familiar = reference.familiar();
        tell(progress, None, format!("Digest: {}", top.digest));
        let word = if known && !stored { "Image is up to date" } else { "Downloaded newer image" };
        tell(progress, None, format!("Status: {word} for {familiar}"));
        Ok(())
    }

    /// Puts the image into the index under its name; true when the name was not its before.
    async fn publish(
        self: &Arc<Self>,
        reference: &Reference,
        config: &Bytes,
        media_type: &str,
        manifest: &Bytes,
        top: &Digest,
    ) -> Result<bool> {
        let engine = Arc::clone(self);
        let (reference, config, media_type) = (reference.clone(), config.clone(), media_type.to_owned());
        let (manifest, top) = (manifest.clone(), top.clone());
        blocking(move || {
            let store = &engine.images.store;
            let new = NewImage { config: &config, manifest: Some((&media_type, &manifest)), parent: None };
            let image = store.put_image(&new)?;
            let named = reference.tag().is_some() && reference.digest().is_none();
            let before = store.named(&reference).map(|i| i.id.clone());
            if named {
                store.tag(&image.id, &reference)?;
            }
            store.add_digest(&image.id, &reference.repository(), &top)?;
            engine.image_event("pull", &image.id, &reference.familiar());
            Ok(before.as_ref() != Some(&image.id))
        })
        .await
    }

    async fn pull_layers(
        self: &Arc<Self>,
        session: &Session,
        manifest: &Manifest,
        config: &[u8],
        progress: &ProgressSink,
    ) -> Result<()> {
        let config = ImageConfig::parse(config)?;
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid("layers from manifest don't match image configuration"));
        }
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut parent: Option<Digest> = None;
        let mut tasks = Vec::new();
        for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let id = Some(blob.digest.short().to_owned());
            let here = self.images.store.layer_on(parent.as_ref(), &diff_id);
            let below = parent.replace(naru_store::chain_id(parent.as_ref(), &diff_id));
            if here.is_some_and(|_| self.images.store.has_blob(&blob.digest)) {
                tell(progress, id, "Already exists".into());
                continue;
            }
            tell(progress, id, "Pulling fs layer".into());
            let work =
                fetch(Arc::clone(self), session.clone(), blob.clone(), diff_id, progress.clone(), Arc::clone(&permits));
            tasks.push((below, blob.digest.short().to_owned(), AbortOnDrop(tokio::spawn(work))));
        }
        for (below, short, mut task) in tasks {
            let unpacked = (&mut task.0).await.map_err(|e| Error::system(format!("layer {short}: {e}")))??;
            let engine = Arc::clone(self);
            tell(progress, Some(short.clone()), "Extracting".into());
            blocking(move || engine.images.store.commit_layer(unpacked, below.as_ref())).await?;
            tell(progress, Some(short), "Pull complete".into());
        }
        Ok(())
    }
}

/// One layer, from the registry to a folder that is not published yet.
async fn fetch(
    engine: Arc<Engine>,
    session: Session,
    blob: naru_store::spec::Descriptor,
    diff_id: Digest,
    progress: ProgressSink,
    permits: Arc<Semaphore>,
) -> Result<UnpackedLayer> {
    let short = blob.digest.short().to_owned();
    if permits.available_permits() == 0 {
        tell(&progress, Some(short.clone()), "Waiting".into());
    }
    let _permit = permits.acquire().await.system("the pull was ended")?;
    let (digest, size) = (blob.digest.clone(), blob.size);
    let (pieces, incoming) = mpsc::channel::<Bytes>(BACKLOG);
    let (ready, offset) = tokio::sync::oneshot::channel();
    let unpacking = tokio::task::spawn_blocking(move || {
        let ingest = engine.images.store.ingest(blob)?;
        let _ = ready.send(ingest.resume_offset());
        unpack(ingest, incoming, &diff_id)
    });
    let downloaded = match offset.await {
        Ok(offset) => download(&session, &digest, size, offset, &pieces, &progress).await,
        // The ingest could not be begun: its error is the answer.
        Err(_) => Ok(()),
    };
    match downloaded {
        Ok(()) => {
            drop(pieces);
            let unpacked = unpacking.await.map_err(|e| Error::system(format!("layer {short}: {e}")))??;
            tell(&progress, Some(short.clone()), "Verifying Checksum".into());
            tell(&progress, Some(short), "Download complete".into());
            Ok(unpacked)
        }
        Err(error) => {
            // What came stays for the next try; only the end is missing.
            drop(pieces);
            match unpacking.await {
                Ok(Err(own)) if own.class() != naru_base::Class::Cancelled => Err(own),
                _ => Err(error),
            }
        }
    }
}

async fn download(
    session: &Session,
    digest: &Digest,
    size: u64,
    offset: u64,
    pieces: &mpsc::Sender<Bytes>,
    progress: &ProgressSink,
) -> Result<()> {
    let short = digest.short();
    let mut download = session.download(digest, size, offset);
    let (mut at, mut fed, mut told) = (offset, offset, 0);
    while let Some(event) = download.next().await? {
        match event {
            DownloadEvent::Restart => at = 0,
            DownloadEvent::Retry { delay, cause } => {
                tracing::debug!("layer {short}: {cause}");
                tell(progress, Some(short.to_owned()), format!("Retrying in {} seconds", delay.as_secs().max(1)));
            }
            DownloadEvent::Data(data) => {
                // After a restart the same bytes come again: those that the ingest has are passed over.
                let known = usize::try_from(fed.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
                at += data.len() as u64;
                if known < data.len() && pieces.send(data.slice(known..)).await.is_err() {
                    // The ingest has failed; it tells why.
                    return Err(Error::new(naru_base::Class::Cancelled, "the layer could not be unpacked"));
                }
                fed = fed.max(at);
                if at >= told + REPORT_EVERY || at == size {
                    told = at;
                    let (id, status) = (short.to_owned(), "Downloading".to_owned());
                    let _ = progress.send(Progress::Bytes { id, status, current: at, total: size });
                }
            }
        }
    }
    Ok(())
}

fn unpack(mut ingest: LayerIngest, mut incoming: mpsc::Receiver<Bytes>, diff_id: &Digest) -> Result<UnpackedLayer> {
    while let Some(piece) = incoming.blocking_recv() {
        ingest.write(&piece)?;
    }
    ingest.finish(Some(diff_id))
}

/// A task that ends with its owner: a client that goes away ends the pull.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn tell(progress: &ProgressSink, id: Option<String>, status: String) {
    // Nobody may be listening.
    let _ = progress.send(Progress::Status { id, status });
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::system(format!("the work was broken off: {e}")))?
}
