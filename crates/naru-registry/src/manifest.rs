//! Manifests: what a tag or digest stands for.

use crate::endpoint::Target;
use crate::errors::{Failure, Result};
use crate::session::Session;
use crate::transport::{Answer, Call};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Method};
use naru_base::{Digest, Error};
use sha2::{Digest as _, Sha256};

/// The most bytes of a manifest (distribution specification, "Pushing Manifests").
pub const MANIFEST_LIMIT: usize = 4 << 20;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The media types of manifests (image specification; docker's are the same JSON under other names).
pub mod media_type {
    /// An image of one platform.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Images of several platforms.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's name of [`OCI_MANIFEST`].
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's name of [`OCI_INDEX`].
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// How the names of the obsolete form begin.
    pub const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";

    /// Whether it lists images of several platforms.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }
}

const ACCEPTED: [&str; 4] =
    [media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST, media_type::DOCKER_LIST, media_type::OCI_INDEX];

/// A manifest as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// One of [`media_type`]'s, or something newer.
    pub media_type: String,
    /// Of `bytes`; checked.
    pub digest: Digest,
    /// The exact bytes: never serialise them anew.
    pub bytes: Bytes,
}

impl Manifest {
    /// What stands for it elsewhere.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { media_type: self.media_type.clone(), digest: self.digest.clone(), size: self.bytes.len() as u64 }
    }
}

/// What identifies content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// The digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

impl Session {
    /// What a tag (or digest) stands for now, without the content where the registry allows that (`HEAD`, which the limits
    /// of public registries don't count). Not verified: only content that is fetched can be.
    ///
    /// # Errors
    /// With docker's texts of a failing pull.
    pub async fn resolve(&self, tag_or_digest: &str) -> naru_base::Result<Descriptor> {
        self.check_name(tag_or_digest)?;
        let mut failed = None;
        for target in self.targets() {
            match self.patiently(|| self.resolve_at(target, tag_or_digest)).await {
                Ok(found) => return Ok(found),
                Err(e) if self.falls_through(target, &e) => failed = Some(e),
                Err(e) => return Err(self.pulling(&e, tag_or_digest)),
            }
        }
        Err(self.no_target(failed))
    }

    async fn resolve_at(&self, target: &Target, name: &str) -> Result<Descriptor> {
        let answer = self.send(target, |e| self.manifest_call(e, Method::HEAD, name)).await?;
        if answer.status.as_u16() == 429 {
            return Err(self.refusal(answer).await);
        }
        let digest = answer.header(&CONTENT_DIGEST).and_then(|d| Digest::parse(d).ok());
        let size = answer.header(CONTENT_LENGTH).and_then(|l| l.parse::<u64>().ok());
        match (answer.status.as_u16(), digest, size, content_type(&answer)) {
            (200, Some(digest), Some(size), Some(media_type)) if size <= MANIFEST_LIMIT as u64 => {
                Ok(Descriptor { media_type, digest, size })
            }
            // A refusal of HEAD has no body: GET tells the reason.
            _ => self.manifest_at(target, name).await.map(|m| m.descriptor()),
        }
    }

    /// The manifest or index that a tag or digest stands for, verified.
    ///
    /// # Errors
    /// With docker's texts of a failing pull.
    pub async fn manifest(&self, tag_or_digest: &str) -> naru_base::Result<Manifest> {
        self.check_name(tag_or_digest)?;
        let mut failed = None;
        for target in self.targets() {
            match self.patiently(|| self.manifest_at(target, tag_or_digest)).await {
                Ok(found) => return Ok(found),
                Err(e) if self.falls_through(target, &e) => failed = Some(e),
                Err(e) => return Err(self.pulling(&e, tag_or_digest)),
            }
        }
        Err(self.no_target(failed))
    }

    async fn manifest_at(&self, target: &Target, name: &str) -> Result<Manifest> {
        let answer = self.send(target, |e| self.manifest_call(e, Method::GET, name)).await?;
        let mut answer = self.expect(answer, &[200]).await?;
        let bytes = Bytes::from(answer.read(MANIFEST_LIMIT).await?);
        let digest = digest_of(&bytes);
        // A server that names sha512 is not wrong, but of no help.
        let promised = answer.header(&CONTENT_DIGEST).and_then(|d| Digest::parse(d).ok());
        for expected in [Digest::parse(name).ok(), promised].into_iter().flatten() {
            if expected != digest {
                return Err(Failure::Digest {
                    request: answer.request.clone(),
                    expected: expected.to_string(),
                    actual: digest.to_string(),
                });
            }
        }
        let media_type = check_kind(&answer, &bytes)?;
        Ok(Manifest { media_type, digest, bytes })
    }

    /// Stores a manifest under a tag, or by its digest.
    ///
    /// # Errors
    /// When the registry refuses it, for instance because a blob is missing, or stores something else.
    pub async fn put_manifest(&self, tag_or_digest: &str, media_type: &str, bytes: Bytes) -> naru_base::Result<Digest> {
        self.check_name(tag_or_digest)?;
        let target = self.own_target();
        self.patiently(|| self.put_manifest_at(&target, tag_or_digest, media_type, &bytes))
            .await
            .map_err(|e| e.pushing(self.reference()))
    }

    async fn put_manifest_at(&self, target: &Target, name: &str, media_type: &str, bytes: &Bytes) -> Result<Digest> {
        let make = |e: &crate::endpoint::Endpoint| {
            let url = e.url(&self.path(e.repository.as_deref(), &format!("manifests/{name}")))?;
            let mut call = Call::new(Method::PUT, url, e.trust.clone()).header(CONTENT_TYPE, media_type);
            call.patient = true;
            Ok(call.bytes(bytes.clone()))
        };
        let answer = self.expect(self.send(target, make).await?, &[200, 201, 202]).await?;
        let digest = digest_of(bytes);
        match answer.header(&CONTENT_DIGEST).and_then(|d| Digest::parse(d).ok()) {
            Some(stored) if stored != digest => Err(Failure::Digest {
                request: answer.request.clone(),
                expected: digest.to_string(),
                actual: stored.to_string(),
            }),
            _ => Ok(digest),
        }
    }

    fn manifest_call(&self, endpoint: &crate::endpoint::Endpoint, method: Method, name: &str) -> Result<Call> {
        let url = endpoint.url(&self.path(endpoint.repository.as_deref(), &format!("manifests/{name}")))?;
        let call = Call::new(method, url, endpoint.trust.clone());
        Ok(ACCEPTED.iter().fold(call, |call, accepted| call.header(ACCEPT, accepted)))
    }

    /// Names become part of a URL: only tags and digests may.
    fn check_name(&self, tag_or_digest: &str) -> naru_base::Result<()> {
        if tag_or_digest.contains(':') {
            Digest::parse(tag_or_digest).map(drop)
        } else {
            self.reference().with_tag(tag_or_digest).map(drop)
        }
    }

    fn pulling(&self, failure: &Failure, tag_or_digest: &str) -> Error {
        let repository = self.reference().repository();
        let reference = match Digest::parse(tag_or_digest) {
            Ok(digest) => repository.with_digest(digest),
            Err(_) => repository.with_tag(tag_or_digest).unwrap_or(repository),
        };
        failure.pulling(&reference)
    }

    pub(crate) fn no_target(&self, failed: Option<Failure>) -> Error {
        failed.map_or_else(
            || Error::system(format!("no endpoint for {}", self.reference().familiar_name())),
            |e| e.pulling(self.reference()),
        )
    }
}

/// `Content-Type` without its parameters.
fn content_type(answer: &Answer) -> Option<String> {
    let text = answer.header(CONTENT_TYPE)?.split(';').next()?.trim().to_ascii_lowercase();
    (!text.is_empty()).then_some(text)
}

/// What kind of manifest it is. Header and content must agree: else two readers could see two images (CVE-2021-41190).
fn check_kind(answer: &Answer, bytes: &[u8]) -> Result<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<u64>,
        #[serde(default)]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|e| answer.protocol(format!("the answer is no manifest: {e}")))?;
    let header = content_type(answer).unwrap_or_default();
    if shape.schema_version == Some(1) || header.starts_with(media_type::SCHEMA1) {
        return Err(Failure::Unsupported(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed; \
             the image must be pushed again in a current format"
                .to_owned(),
        ));
    }
    if shape.manifests.is_some() && shape.layers.is_some() {
        return Err(answer.protocol("the manifest claims to be both an image and an index"));
    }
    let known = ACCEPTED.contains(&header.as_str());
    match (shape.media_type.as_str(), known) {
        ("", true) => Ok(header),
        // Servers that send `application/json` or nothing: the content must tell.
        ("", false) if shape.manifests.is_some() => Ok(media_type::OCI_INDEX.to_owned()),
        ("", false) if shape.layers.is_some() => Ok(media_type::OCI_MANIFEST.to_owned()),
        ("", false) => Ok(header),
        (inside, true) if inside != header => {
            Err(answer.protocol(format!("mediaType in manifest should be {header:?} not {inside:?}")))
        }
        (inside, _) => Ok(inside.to_owned()),
    }
}
