//! An archive, unpacked as a layer: nothing leaves the store's folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_store::Store;
use std::sync::OnceLock;

static STORE: OnceLock<Store> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let store = STORE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("naru-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("outside"), "kept").expect("a file");
        Store::open(folder.join("store")).expect("a store")
    });
    let Ok(mut ingest) = store.ingest_unknown() else { return };
    if ingest.write(bytes).is_ok() {
        let _ = ingest.finish(None);
    }
    let folder = std::env::temp_dir().join(format!("naru-fuzz-{}", std::process::id()));
    assert_eq!(std::fs::read_to_string(folder.join("outside")).ok().as_deref(), Some("kept"));
    assert_eq!(std::fs::read_dir(folder).expect("the folder").count(), 2);
});
