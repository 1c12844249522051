//! The manifests that an image's name stands for (docker's `ImageManifestSummary`).

use naru_engine::types::{ManifestView, PlatformView};
use serde_json::{Map, Value, json};

/// An OCI descriptor.
pub(crate) fn descriptor(of: &ManifestView) -> Value {
    json!({"mediaType": of.media_type, "digest": of.digest.to_string(), "size": of.size})
}

/// One of the manifests.
pub(crate) fn manifest(view: &PlatformView) -> Value {
    let mut descriptor = descriptor(&view.manifest);
    if !view.annotations.is_empty() {
        descriptor["annotations"] = json!(view.annotations);
    }
    let mut platform = Map::new();
    if let Some(own) = &view.platform {
        platform.insert("architecture".into(), json!(own.architecture));
        platform.insert("os".into(), json!(own.os));
        if !own.variant.is_empty() {
            platform.insert("variant".into(), json!(own.variant));
        }
        descriptor["platform"] = Value::Object(platform.clone());
    }
    let mut shown = json!({
        "ID": view.manifest.digest.to_string(),
        "Descriptor": descriptor,
        "Available": view.available,
        "Size": {"Content": view.content, "Total": view.content + view.unpacked},
        "Kind": match (&view.attests, view.is_image) {
            (Some(_), _) => "attestation",
            (None, true) => "image",
            (None, false) => "unknown",
        },
    });
    match &view.attests {
        Some(of) => shown["AttestationData"] = json!({"For": of}),
        None if view.is_image => {
            shown["ImageData"] = json!({
                "Platform": platform,
                "Containers": view.containers,
                "Size": {"Unpacked": view.unpacked},
            });
        }
        None => {}
    }
    shown
}
