#![no_main]
#![allow(missing_docs, reason = "naru_fuzz::challenge has them")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::challenge(bytes));
