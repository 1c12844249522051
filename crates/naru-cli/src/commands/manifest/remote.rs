//! Manifests in a registry, which the client asks by itself: the engine has no part in these commands.

use super::entry;
use crate::config::HUB;
use crate::context::Context;
use crate::failure::Failure;
use naru_base::{Class, Digest, Error, Reference};
use naru_registry::{Auth, Client, Config, Manifest, Proxies, Scope, Session, media_type};
use naru_store::spec::{Descriptor, Document};
use serde_json::{Map, Value, json};

/// No configuration is larger, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;

/// Registries, as one command sees them.
pub(super) struct Registries {
    runtime: tokio::runtime::Runtime,
    insecure: bool,
}

/// What a name stands for in a registry.
pub(super) enum Found {
    /// One image, in the form that lists keep.
    Image(Value),
    /// A list, and the images of it.
    List(Vec<Value>),
}

impl Registries {
    pub(super) fn new(insecure: bool) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("start the client of registries: {e}")))?;
        Ok(Self { runtime, insecure })
    }

    fn session(&self, context: &Context, reference: &Reference, scope: Scope) -> Session {
        let registry = if reference.domain() == "docker.io" { HUB } else { reference.domain() };
        let known = context.config().credentials(registry).unwrap_or_default();
        let auth = Auth {
            username: known.username,
            password: known.password,
            identity_token: known.identity_token,
            server_address: registry.to_owned(),
            ..Auth::default()
        };
        let insecure = if self.insecure { vec![reference.domain().to_owned()] } else { Vec::new() };
        let config = Config { insecure, proxies: Proxies::from_env(), ..Config::default() };
        Client::new(config).repository(reference, auth, scope)
    }

    /// What a name stands for.
    pub(super) fn get(&self, context: &Context, reference: &Reference) -> Result<Found, Failure> {
        let session = self.session(context, reference, Scope::Pull);
        self.runtime.block_on(async {
            let wanted = match reference.digest() {
                Some(digest) => digest.to_string(),
                None => reference.tag().unwrap_or(naru_base::reference::DEFAULT_TAG).to_owned(),
            };
            let missing = |e: Error| match e.class() {
                Class::NotFound => Failure::new(format!("no such manifest: {}", reference.familiar())),
                _ => Failure::from(e),
            };
            let manifest = session.manifest(&wanted).await.map_err(missing)?;
            let index = match Document::parse(&manifest.bytes, &manifest.media_type)? {
                Document::Manifest(parsed) => {
                    let platform = platform_of(&session, &parsed.config).await?;
                    return Ok(Found::Image(entry(&reference.to_string(), &manifest, platform)?));
                }
                Document::Index(index) => index,
            };
            let whole: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
            let mut images = Vec::with_capacity(index.manifests.len());
            for (at, member) in index.manifests.iter().enumerate() {
                if media_type::is_index(&member.media_type) {
                    return Err(Failure::new(format!("{}: a list of lists is not supported", reference.familiar())));
                }
                let image = session.manifest(member.digest.as_str()).await.map_err(Failure::from)?;
                let platform = whole["manifests"][at].get("platform").cloned();
                images.push(entry(&format!("{reference}@{}", member.digest), &image, platform)?);
            }
            Ok(Found::List(images))
        })
    }

    /// Has the registry take the blobs of an image from its own repository, and puts its manifest beside the list.
    pub(super) fn put_image(
        &self,
        context: &Context,
        target: &Reference,
        from: &Reference,
        manifest: &Manifest,
    ) -> Result<Digest, Failure> {
        let session = self.session(context, target, Scope::Push);
        self.runtime.block_on(async {
            if let Document::Manifest(parsed) = Document::parse(&manifest.bytes, &manifest.media_type)? {
                for part in std::iter::once(&parsed.config).chain(&parsed.layers) {
                    if session.mount_blob(&part.digest, from).await?
                        || session.blob_exists(&part.digest).await?.is_some()
                    {
                        continue;
                    }
                    return Err(Failure::new(format!(
                        "the registry doesn't take blob {} from {} to {}: push that image there first",
                        part.digest,
                        from.familiar_name(),
                        target.familiar_name()
                    )));
                }
            }
            let at = manifest.digest.as_str();
            Ok(session.put_manifest(at, &manifest.media_type, manifest.bytes.clone()).await?)
        })
    }

    /// Puts a list under its name.
    pub(super) fn put_list(
        &self,
        context: &Context,
        target: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest, Failure> {
        let session = self.session(context, target, Scope::Push);
        let tag = target.tag().unwrap_or(naru_base::reference::DEFAULT_TAG);
        Ok(self.runtime.block_on(session.put_manifest(tag, media_type, bytes.into()))?)
    }
}

/// What an image's configuration says that it runs on.
async fn platform_of(session: &Session, config: &Descriptor) -> Result<Option<Value>, Failure> {
    let bytes = session.blob_bytes(&config.digest, config.size, CONFIG_LIMIT).await?;
    let config: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(format!("the configuration {} is damaged: {e}", config.digest)))?;
    let mut platform = Map::new();
    for key in ["architecture", "os", "os.version", "os.features", "variant"] {
        let empty = |v: &&Value| v.is_null() || v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty);
        match config.get(key).filter(|v| !empty(v)) {
            Some(value) => drop(platform.insert(key.to_owned(), value.clone())),
            // Always shown.
            None if matches!(key, "architecture" | "os") => drop(platform.insert(key.to_owned(), json!(""))),
            None => {}
        }
    }
    Ok(Some(Value::Object(platform)))
}
