//! A layer's stream: compression by magic, then whatever comes out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_store::{Decompressor, tar};

/// No input of a fuzzer's size may make more.
const LIMIT: usize = 256 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut produced = 0;
    let mut output = |out: &[u8]| -> tar::Result<()> {
        produced += out.len();
        if produced > LIMIT { Err(tar::Error::Limit("enough".into())) } else { Ok(()) }
    };
    let mut decompressor = Decompressor::default();
    if bytes.chunks(61).all(|piece| decompressor.push(piece, &mut output).is_ok()) {
        let _ = decompressor.finish(&mut output);
    }
});
