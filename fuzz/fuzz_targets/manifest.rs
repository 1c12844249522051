//! Manifests, indices and configurations: what is read can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_store::spec::{Document, ImageConfig};

fuzz_target!(|bytes: &[u8]| {
    match Document::parse(bytes, "") {
        Ok(Document::Manifest(manifest)) => {
            let text = serde_json::to_vec(&manifest).expect("a manifest is JSON");
            assert_eq!(Document::parse(&text, "").expect("our own"), Document::Manifest(manifest));
        }
        Ok(Document::Index(index)) => {
            let _ = index.choose(&naru_base::Platform::host());
        }
        Err(_) => {}
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let text = config.to_bytes().expect("a configuration is JSON");
        assert_eq!(ImageConfig::parse(&text).expect("our own"), config);
    }
});
