//! Manifests and indices.

use super::media_type;
use naru_base::{Digest, Error, Platform, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// No manifest or index may be larger (registries must take 4 MiB).
const SIZE_LIMIT: usize = 4 << 20;
/// No image may have more layers: overlayfs takes 500 lower folders (OVL_MAX_STACK), and a container adds its own.
pub const LAYER_LIMIT: usize = 400;
/// Layers of up to so many bytes may be repeated at will: the empty one often is.
pub(crate) const SMALL_LAYER: u64 = 1 << 20;
/// How often an image may have the same larger layer, which is unpacked anew each time.
pub(crate) const REPEAT_LIMIT: usize = 8;

/// Points to content by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Other places to get it from.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What kind of artifact it is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with only what is needed.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }
}

/// One platform's image: its configuration and layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// The document's own type; may be empty in OCI documents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Free text by key.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// The document's own type; may be empty in OCI documents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Free text by key.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Either of the two.
#[expect(clippy::large_enum_variant, reason = "short-lived, and most are the large one")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// One image for each of several platforms.
    Index(Index),
}

/// The keys that tell a document's kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or index, as which it came with `content_type` (empty when that is not known).
    ///
    /// # Errors
    /// When it is too large, neither of the two, both (which two readers could understand differently), or docker's
    /// schema 1.
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Self> {
        if bytes.len() > SIZE_LIMIT {
            return Err(Error::invalid(format!("manifest has more than {SIZE_LIMIT} bytes")));
        }
        let broken = |e: serde_json::Error| Error::invalid(format!("invalid manifest: {e}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(broken)?;
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            return Err(Error::invalid(
                "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Ask the \
                 author of the image to upgrade it to the OCI Format or Docker Image manifest version 2, schema 2",
            ));
        }
        let own = shape.media_type.unwrap_or_default();
        let known = |t: &str| media_type::is_index(t) || media_type::is_manifest(t);
        if known(&own) && known(content_type) && own != content_type {
            return Err(Error::invalid(format!("manifest of type {content_type} says it is of type {own}")));
        }
        let kind = if known(&own) { own.as_str() } else { content_type };
        let (has_config, has_manifests) = (shape.config.is_some(), shape.manifests.is_some());
        let is_index = match kind {
            t if media_type::is_index(t) => true,
            t if media_type::is_manifest(t) => false,
            _ => has_manifests,
        };
        match (is_index, has_config, has_manifests) {
            (_, true, true) => {
                Err(Error::invalid("invalid manifest: it has both a configuration and a list of manifests"))
            }
            (true, false, true) => serde_json::from_slice(bytes).map(Self::Index).map_err(broken),
            (false, true, false) => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(broken)?;
                manifest.check()?;
                Ok(Self::Manifest(manifest))
            }
            _ => Err(Error::invalid("invalid manifest: neither an image manifest nor a list of them")),
        }
    }

    /// The type that the document is of, `content_type` where it doesn't say.
    pub fn media_type<'a>(&'a self, content_type: &'a str) -> &'a str {
        let (own, default) = match self {
            Self::Manifest(m) => (m.media_type.as_str(), media_type::OCI_MANIFEST),
            Self::Index(i) => (i.media_type.as_str(), media_type::OCI_INDEX),
        };
        match (own, content_type) {
            ("", "") => default,
            ("", t) => t,
            (own, _) => own,
        }
    }
}

/// docker's words for an image with too many layers.
pub(crate) fn too_deep(layers: usize) -> Error {
    Error::invalid(format!("max depth exceeded: the image has {layers} layers, {LAYER_LIMIT} are the most"))
}

pub(crate) fn repeated(layer: &str) -> Error {
    Error::invalid(format!("the image has the layer {layer} more than {REPEAT_LIMIT} times"))
}

impl Manifest {
    fn check(&self) -> Result<()> {
        if self.layers.len() > LAYER_LIMIT {
            return Err(too_deep(self.layers.len()));
        }
        let mut uses: HashMap<&Digest, usize> = HashMap::new();
        for layer in self.layers.iter().filter(|layer| layer.size > SMALL_LAYER) {
            let times = uses.entry(&layer.digest).or_default();
            *times += 1;
            if *times > REPEAT_LIMIT {
                return Err(repeated(layer.digest.as_str()));
            }
        }
        for part in std::iter::once(&self.config).chain(&self.layers) {
            if !media_type::is_image_part(&part.media_type) {
                return Err(Error::invalid(format!("unsupported media type {}", part.media_type)));
            }
        }
        Ok(())
    }

    /// Size of all that it points to.
    pub fn total_size(&self) -> u64 {
        self.layers.iter().fold(self.config.size, |sum, layer| sum.saturating_add(layer.size))
    }
}

impl Index {
    /// The manifests (or nested indices) that run on `wanted`, best first.
    pub fn candidates(&self, wanted: &Platform) -> Vec<&Descriptor> {
        let usable = |d: &Descriptor| {
            (media_type::is_manifest(&d.media_type) || media_type::is_index(&d.media_type))
                && !d.annotations.contains_key("vnd.docker.reference.type")
        };
        let rank = |d: &Descriptor| match &d.platform {
            Some(platform) => wanted.rank(platform),
            // Docker takes an entry without a platform when nothing better is there.
            None => Some(u32::MAX),
        };
        let mut ranked: Vec<(u32, &Descriptor)> =
            self.manifests.iter().filter(|d| usable(d)).filter_map(|d| rank(d).map(|r| (r, d))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, d)| d).collect()
    }

    /// The best manifest for `wanted`.
    ///
    /// # Errors
    /// `no matching manifest for …` when none runs on it.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        self.candidates(wanted)
            .into_iter()
            .next()
            .ok_or_else(|| Error::not_found(format!("no matching manifest for {wanted} in the manifest list entries")))
    }
}

/// Go writes `null` for an empty list or map.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[test]
    fn kinds_are_told_apart() {
        let d = digest('a');
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{d}","size":2}},"layers":null}}"#,
            media_type::OCI_CONFIG
        );
        let parsed = Document::parse(manifest.as_bytes(), "").unwrap();
        assert!(matches!(&parsed, Document::Manifest(m) if m.layers.is_empty()));
        assert_eq!(parsed.media_type(""), media_type::OCI_MANIFEST);
        assert!(Document::parse(manifest.as_bytes(), media_type::OCI_INDEX).is_err());
        assert!(Document::parse(br#"{"schemaVersion":2,"config":{},"manifests":[]}"#, "").is_err());
        assert!(
            Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, "").unwrap_err().message().contains("schema 1")
        );
        assert!(Document::parse(b"[]", "").is_err());
        let plugin = manifest.replace(media_type::OCI_CONFIG, "application/vnd.docker.plugin.v1+json");
        assert_eq!(
            Document::parse(plugin.as_bytes(), "").unwrap_err().message(),
            "unsupported media type application/vnd.docker.plugin.v1+json"
        );
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let entry = |c: char, platform: &str| {
            let platform = (!platform.is_empty()).then(|| Platform::parse(platform).unwrap());
            Descriptor { platform, ..Descriptor::new(media_type::OCI_MANIFEST, Digest::parse(&digest(c)).unwrap(), 1) }
        };
        let mut attestation = entry('f', "linux/amd64");
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let index = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests: vec![attestation, entry('a', ""), entry('b', "linux/386"), entry('c', "linux/amd64")],
            annotations: BTreeMap::new(),
        };
        let amd64 = Platform::parse("linux/amd64").unwrap();
        let order: Vec<String> = index.candidates(&amd64).iter().map(|d| d.digest.to_string()).collect();
        assert_eq!(order, [digest('c'), digest('b'), digest('a')]);
        let only = Index { manifests: vec![entry('b', "linux/386")], ..index };
        assert_eq!(
            only.choose(&Platform::parse("linux/arm64").unwrap()).unwrap_err().message(),
            "no matching manifest for linux/arm64 in the manifest list entries"
        );
    }
}
