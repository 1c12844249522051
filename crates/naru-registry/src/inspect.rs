//! `docker distribution inspect`: what a name stands for in its registry, and for which platforms.

use crate::manifest::{Descriptor, Manifest, media_type};
use crate::session::Session;
use naru_base::{Digest, Error, Platform};

/// The largest image configuration that is read.
const CONFIG_LIMIT: u64 = 8 << 20;

/// What the Engine API answers, with the names that go into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Of the manifest or index.
    pub descriptor: Descriptor,
    /// Those of an index in its order, or that of the one image.
    pub platforms: Vec<Platform>,
}

#[derive(serde::Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    platform: Option<Platform>,
}

#[derive(serde::Deserialize)]
struct Image {
    config: Option<Config>,
}

#[derive(serde::Deserialize)]
struct Config {
    digest: Digest,
    size: u64,
}

impl Session {
    /// What a tag or digest stands for.
    ///
    /// # Errors
    /// As [`Session::manifest`], and for content that is no image.
    pub async fn inspect(&self, tag_or_digest: &str) -> naru_base::Result<Inspection> {
        let manifest = self.manifest(tag_or_digest).await?;
        let platforms = if media_type::is_index(&manifest.media_type) {
            parse::<Index>(&manifest)?.manifests.into_iter().filter_map(|e| e.platform).collect()
        } else {
            match parse::<Image>(&manifest)?.config {
                Some(config) => self.config_platform(&config).await?.into_iter().collect(),
                None => Vec::new(),
            }
        };
        Ok(Inspection { descriptor: manifest.descriptor(), platforms })
    }

    async fn config_platform(&self, config: &Config) -> naru_base::Result<Option<Platform>> {
        let bytes = self.blob_bytes(&config.digest, config.size, CONFIG_LIMIT).await?;
        // What isn't an image has no platform.
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

fn parse<T: serde::de::DeserializeOwned>(manifest: &Manifest) -> naru_base::Result<T> {
    serde_json::from_slice(&manifest.bytes)
        .map_err(|e| Error::system(format!("malformed manifest {}: {e}", manifest.digest)))
}
