//! An archive read whole and read in small pieces must say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_store::tar::{Entry, Limits, Reader, Result, Sink};

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

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(read(bytes, usize::MAX), read(bytes, 97));
});
