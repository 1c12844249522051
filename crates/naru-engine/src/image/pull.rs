//! Pulling: manifest, configuration, then the layers side by side, each in one pass from the socket to its folder.

use super::transfer::{Outcome, Transfer, ended};
use crate::Engine;
use crate::types::{Auth, Progress, ProgressSink};
use bytes::Bytes;
use naru_base::error::Context as _;
use naru_base::{Digest, Error, Platform, Reference, Result};
use naru_registry::{DownloadEvent, Scope, Session};
use naru_store::spec::{Descriptor, Document, ImageConfig, Manifest};
use naru_store::{LayerIngest, Lease, NewImage, NewNames, UnpackedLayer};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The largest configuration that is taken, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;
/// How deep indices may be nested.
const NESTING_LIMIT: usize = 4;
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
        let session = self.images.registry().repository(&reference, auth.unwrap_or_default(), Scope::Pull);
        if !reference.is_name_only() {
            return self.pull_now(&session, &reference, platform.as_ref(), &progress).await;
        }
        for tag in session.tags().await? {
            self.pull_now(&session, &reference.with_tag(&tag)?, platform.as_ref(), &progress).await?;
        }
        Ok(())
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
        let mut found = top.clone();
        let mut depth = 0;
        let manifest = loop {
            match Document::parse(&found.bytes, &found.media_type)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(_) if depth == NESTING_LIMIT => {
                    return Err(Error::invalid(format!("image indices are nested more than {NESTING_LIMIT} deep")));
                }
                Document::Index(index) => {
                    let chosen = index.choose(platform.unwrap_or(&host))?.digest.clone();
                    found = session.manifest(chosen.as_str()).await?;
                    depth += 1;
                }
            }
        };
        let (digest, media_type, bytes) = (found.digest, found.media_type, found.bytes);
        tell(progress, Some(target(reference)), format!("Pulling from {}", reference.path()));
        let config = session.blob_bytes(&manifest.config.digest, manifest.config.size, CONFIG_LIMIT).await?;
        let known = self.images.store.image(&manifest.config.digest).is_ok();
        let mut pulling = Pulling::begin(self, &manifest);
        let stored = async {
            self.pull_layers(session, &manifest, &config, progress).await?;
            self.publish(reference, &config, &media_type, &bytes, &top).await
        };
        let stored = stored.await.inspect_err(|e| pulling.failed(e))?;
        pulling.complete();
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
        top: &naru_registry::Manifest,
    ) -> Result<bool> {
        let engine = Arc::clone(self);
        let (reference, config, media_type) = (reference.clone(), config.clone(), media_type.to_owned());
        let (manifest, top) = (manifest.clone(), top.clone());
        blocking(move || {
            let store = &engine.images.store;
            let new = NewImage { config: &config, manifest: Some((&media_type, &manifest)), parent: None };
            let before = store.named(&reference).map(|i| i.id.clone());
            let named = reference.tag().is_some() && reference.digest().is_none();
            let own = naru_store::digest_of(&manifest);
            // With the index that it is from, when that names it itself.
            let listed = matches!(
                Document::parse(&top.bytes, &top.media_type)?,
                Document::Index(index) if index.manifests.iter().any(|d| d.digest == own)
            );
            let names = NewNames {
                tags: if named { std::slice::from_ref(&reference) } else { &[] },
                digest: Some((&reference, &top.digest)),
                index: listed.then_some((top.media_type.as_str(), &top.bytes)),
            };
            let (image, _) = store.publish(&new, &names)?;
            engine.transfer_event("pull", &image.id, &reference);
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
        let permits = Arc::new(Semaphore::new(self.live().max_downloads));
        let mut chain: Option<Digest> = None;
        let mut parent: Option<Outcome> = None;
        let mut shares = Vec::new();
        for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let below = chain.clone();
            let own = naru_store::chain_id(below.as_ref(), &diff_id);
            chain = Some(own.clone());
            let id = Some(blob.digest.short().to_owned());
            if self.images.store.layer(&own).is_some() && self.images.store.has_blob(&blob.digest) {
                tell(progress, id, "Already exists".into());
                parent = None;
                continue;
            }
            tell(progress, id, "Pulling fs layer".into());
            let below = Below { chain: below, outcome: parent.take() };
            let layer = Layer { blob: blob.clone(), diff_id, chain: own.clone(), below };
            let share = self.images.transfers.join(&own, progress, |transfer| {
                fetch(Arc::clone(self), session.clone(), layer, transfer, Arc::clone(&permits))
            });
            parent = Some(share.outcome());
            shares.push(share);
        }
        // The first failure counts, whichever layer's it is.
        let mut ends: JoinSet<_> = shares.iter().map(|share| ended(share.outcome())).collect();
        while let Some(end) = ends.join_next().await {
            end.map_err(|e| Error::system(format!("the pull was broken off: {e}")))??;
        }
        Ok(())
    }
}

/// What a pull keeps while it runs; what becomes of the parts that it got when it isn't completed.
struct Pulling {
    engine: Arc<Engine>,
    blobs: Vec<Digest>,
    lease: Option<Lease>,
    resume: bool,
    complete: bool,
}

impl Pulling {
    fn begin(engine: &Arc<Engine>, manifest: &Manifest) -> Self {
        Self {
            engine: Arc::clone(engine),
            blobs: manifest.layers.iter().map(|l| l.digest.clone()).collect(),
            lease: Some(engine.images.store.lease()),
            resume: true,
            complete: false,
        }
    }

    /// Of what is wrong in itself nothing is kept for another try, nor on a disk that is full of it.
    fn failed(&mut self, error: &Error) {
        self.resume = error.class() != naru_base::Class::InvalidParameter && !error.is_disk_full();
    }

    fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let (engine, blobs, lease) = (Arc::clone(&self.engine), std::mem::take(&mut self.blobs), self.lease.take());
        let (resume, complete) = (self.resume, self.complete);
        let tidy = move || {
            drop(lease);
            if !complete && let Err(error) = engine.images.store.abandon(&blobs, resume) {
                tracing::warn!("cannot remove what a pull left: {error}");
            }
        };
        // Both remove files, which no task may wait for.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(tidy)),
            Err(_) => tidy(),
        }
    }
}

/// A layer to be had.
struct Layer {
    blob: Descriptor,
    diff_id: Digest,
    chain: Digest,
    below: Below,
}

/// What a layer is put on.
struct Below {
    chain: Option<Digest>,
    /// When that is on its way too.
    outcome: Option<Outcome>,
}

/// One layer, from the registry to its place in the store.
async fn fetch(
    engine: Arc<Engine>,
    session: Session,
    layer: Layer,
    transfer: Arc<Transfer>,
    permits: Arc<Semaphore>,
) -> Result<()> {
    let Layer { blob, diff_id, chain, below } = layer;
    let short = blob.digest.short().to_owned();
    let say = |status: &str| transfer.tell(Progress::Status { id: Some(short.clone()), status: status.into() });
    if permits.available_permits() == 0 {
        say("Waiting");
    }
    let permit = permits.acquire_owned().await.system("the pull was ended")?;
    let Some(unpacked) = receive(&engine, &session, blob, diff_id, chain, &transfer).await? else {
        say("Already exists");
        return Ok(());
    };
    drop(permit);
    say("Download complete");
    if let Some(outcome) = below.outcome {
        ended(outcome).await?;
    }
    say("Extracting");
    blocking(move || engine.images.store.commit_layer(unpacked, below.chain.as_ref())).await?;
    say("Pull complete");
    Ok(())
}

/// From the socket to a folder that is not published yet, in one pass; `None` when the layer has come into the store another way.
async fn receive(
    engine: &Arc<Engine>,
    session: &Session,
    blob: Descriptor,
    diff_id: Digest,
    chain: Digest,
    transfer: &Transfer,
) -> Result<Option<UnpackedLayer>> {
    let (digest, size) = (blob.digest.clone(), blob.size);
    let (pieces, incoming) = mpsc::channel::<Bytes>(BACKLOG);
    let (ready, offset) = tokio::sync::oneshot::channel();
    let store = engine.images.store.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        let Some(ingest) = store.ingest_layer(blob, &chain)? else { return Ok(None) };
        if ready.send(ingest.resume_offset()).is_err() {
            return Err(Error::new(naru_base::Class::Cancelled, "the pull was ended"));
        }
        unpack(ingest, incoming, &diff_id).map(Some)
    });
    let downloaded = match offset.await {
        Ok(offset) => download(session, &digest, size, offset, &pieces, transfer).await,
        // The ingest could not be begun, or need not be: it says so.
        Err(_) => Ok(()),
    };
    if downloaded.is_ok() && !pieces.is_closed() {
        let id = Some(digest.short().to_owned());
        transfer.tell(Progress::Status { id, status: "Verifying Checksum".into() });
    }
    // What came stays for the next try; only the end is missing when it has failed.
    drop(pieces);
    let unpacked =
        unpacking.await.map_err(|e| Error::system(format!("layer {}: {e}", digest.short()))).and_then(|done| done);
    match (downloaded, unpacked) {
        (Ok(()), unpacked) => unpacked,
        // The download stops when the unpacking does, whose word counts; that the end is missing is no news.
        (Err(stopped), Err(own)) if stopped.class() == naru_base::Class::Cancelled => Err(own),
        (Err(error), _) => Err(error),
    }
}

async fn download(
    session: &Session,
    digest: &Digest,
    size: u64,
    offset: u64,
    pieces: &mpsc::Sender<Bytes>,
    transfer: &Transfer,
) -> Result<()> {
    let short = digest.short();
    let mut download = session.download(digest, size, offset);
    let (mut at, mut fed, mut told) = (offset, offset, 0);
    while let Some(event) = download.next().await? {
        match event {
            DownloadEvent::Restart => at = 0,
            DownloadEvent::Retry { delay, cause } => {
                tracing::debug!("layer {short}: {cause}");
                let status = format!("Retrying in {} seconds", delay.as_secs().max(1));
                transfer.tell(Progress::Status { id: Some(short.to_owned()), status });
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
                    transfer.tell(Progress::Bytes { id, status, current: at, total: size });
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

pub(super) fn tell(progress: &ProgressSink, id: Option<String>, status: String) {
    // Nobody may be listening.
    let _ = progress.send(Progress::Status { id, status });
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::system(format!("the work was broken off: {e}")))?
}
