//! Archives: read whole and in pieces, decompressed, unpacked.

use naru_store::tar::{self, Entry, Limits, Reader, Result, Sink};
use naru_store::{Decompressor, Store};
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Default, PartialEq, Debug)]
struct Log(Vec<String>, Vec<u8>);

impl Sink for Log {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.0.push(format!("{entry:?}"));
        Ok(())
    }

    fn data(&mut self, _offset: u64, bytes: &[u8]) -> Result<()> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

fn read(bytes: &[u8], step: usize) -> (Log, bool) {
    let mut log = Log::default();
    let mut reader = Reader::new(Limits::default());
    let good = bytes.chunks(step).all(|piece| reader.push(piece, &mut log).is_ok());
    (log, good && reader.finish().is_ok())
}

/// An archive read whole and read in small pieces says the same.
pub fn tar_reader(bytes: &[u8]) {
    assert_eq!(read(bytes, usize::MAX), read(bytes, 97));
}

/// A layer's stream: compression by magic, then whatever comes out of it.
pub fn layer_stream(bytes: &[u8]) {
    /// No input of a fuzzer's size may make more, in bytes.
    const LIMIT: usize = 64 << 20;
    let mut produced = 0;
    let mut output = |out: &[u8]| -> Result<()> {
        produced += out.len();
        if produced > LIMIT { Err(tar::Error::Limit("enough".into())) } else { Ok(()) }
    };
    let mut decompressor = Decompressor::default();
    if bytes.chunks(61).all(|piece| decompressor.push(piece, &mut output).is_ok()) {
        let _ = decompressor.finish(&mut output);
    }
}

static SCRATCH: Mutex<Option<(PathBuf, Store)>> = Mutex::new(None);

/// An archive, unpacked as a layer and put in its place: nothing leaves the store's folder, and nothing is left when it is refused.
pub fn extract(bytes: &[u8]) {
    let mut scratch = SCRATCH.lock().expect("no other input panicked");
    let (folder, store) = scratch.get_or_insert_with(|| {
        let memory = PathBuf::from("/dev/shm");
        let above = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = above.join(format!("naru-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("outside"), "kept").expect("a file");
        let store = Store::open(folder.join("store")).expect("a store");
        (folder, store)
    });
    {
        let lease = store.lease();
        let mut ingest = store.ingest_unknown().expect("an ingest");
        let unpacked = ingest.write(bytes).and_then(|()| ingest.finish(None));
        if let Ok(layer) = unpacked {
            let _ = store.commit_layer(layer, None);
        }
        drop(lease);
    }
    store.collect().expect("what no image has can be removed");
    assert_eq!(std::fs::read_to_string(folder.join("outside")).ok().as_deref(), Some("kept"));
    assert_eq!(std::fs::read_dir(&*folder).expect("the folder").count(), 2);
    store.wait_for_removals().expect("everything can be removed");
    for part in ["ingest", "unpack", "layers", "blobs/sha256", "trash"] {
        let left = std::fs::read_dir(folder.join("store").join(part)).expect("the store's folder").count();
        assert_eq!(left, 0, "{part} has something left");
    }
}

/// Removes what [`extract`] made.
pub fn forget_scratch() {
    // After a panic the folder is what one wants to see.
    if let Ok(mut scratch) = SCRATCH.lock()
        && let Some((folder, store)) = scratch.take()
    {
        drop(store);
        let _ = std::fs::remove_dir_all(folder);
    }
}
