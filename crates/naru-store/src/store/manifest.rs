//! The manifest of an image: the one that it came with, or one made here.

use super::{DOCUMENT_LIMIT, Store, refuse_host};
use crate::hash::digest_of;
use crate::image::Image;
use crate::spec::{Descriptor, Document, ImageConfig, Manifest, media_type};
use naru_base::error::Context;
use naru_base::{Error, Result};
use std::collections::BTreeMap;

impl Store {
    /// A manifest of the image for which the store has every blob: the one that it came with, byte for byte, or else one
    /// in OCI's types made of the blobs that there are.
    ///
    /// # Errors
    /// When the image has no blobs.
    pub fn manifest(&self, image: &Image) -> Result<(Manifest, Vec<u8>, String)> {
        self.manifest_in(image, &OCI)
    }

    /// As [`Store::manifest`], but one made here has docker's types, as docker's own push.
    ///
    /// # Errors
    /// When the image has no blobs.
    pub fn manifest_to_push(&self, image: &Image) -> Result<(Manifest, Vec<u8>, String)> {
        self.manifest_in(image, &DOCKER)
    }

    fn manifest_in(&self, image: &Image, types: &Types) -> Result<(Manifest, Vec<u8>, String)> {
        refuse_host(image)?;
        if let Some(descriptor) = &image.manifest {
            let bytes = self.0.blobs.read(&descriptor.digest, DOCUMENT_LIMIT)?;
            if let Document::Manifest(manifest) = Document::parse(&bytes, &descriptor.media_type)?
                && manifest.layers.iter().all(|layer| self.has_blob(&layer.digest))
            {
                return Ok((manifest, bytes, descriptor.media_type.clone()));
            }
        }
        let config_size = self.0.blobs.size(&image.id).unwrap_or(0);
        let layer = |blob: &Descriptor| {
            let media_type = match blob.media_type.as_str() {
                t if t.ends_with("zstd") => types.zstd,
                t if t.ends_with("gzip") => types.gzip,
                _ => types.plain,
            };
            Descriptor::new(media_type, blob.digest.clone(), blob.size)
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: types.manifest.into(),
            config: Descriptor::new(types.config, image.id.clone(), config_size),
            layers: image.layers.iter().map(|l| layer(&l.blob)).collect(),
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).system("encode a manifest")?;
        Ok((manifest, bytes, types.manifest.into()))
    }
}

/// The media types of a manifest that is made here.
struct Types {
    manifest: &'static str,
    config: &'static str,
    plain: &'static str,
    gzip: &'static str,
    zstd: &'static str,
}

const OCI: Types = Types {
    manifest: media_type::OCI_MANIFEST,
    config: media_type::OCI_CONFIG,
    plain: media_type::OCI_LAYER,
    gzip: media_type::OCI_LAYER_GZIP,
    zstd: media_type::OCI_LAYER_ZSTD,
};

const DOCKER: Types = Types {
    manifest: media_type::DOCKER_MANIFEST,
    config: media_type::DOCKER_CONFIG,
    plain: media_type::DOCKER_LAYER,
    gzip: media_type::DOCKER_LAYER_GZIP,
    zstd: media_type::DOCKER_LAYER_ZSTD,
};

/// Reads a manifest, and whether it fits the configuration.
pub(super) fn check_manifest(
    kind: &str,
    bytes: &[u8],
    config_bytes: &[u8],
    config: &ImageConfig,
) -> Result<(Descriptor, Manifest)> {
    let document = Document::parse(bytes, kind)?;
    let media_type = document.media_type(kind).to_owned();
    let Document::Manifest(manifest) = document else {
        return Err(Error::invalid("a list of manifests is no image's manifest"));
    };
    if manifest.config.digest != digest_of(config_bytes) {
        return Err(Error::invalid("the image configuration is not the one that the manifest names"));
    }
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(Error::invalid("layers from manifest don't match image configuration"));
    }
    Ok((Descriptor::new(&media_type, digest_of(bytes), bytes.len() as u64), manifest))
}
