#![no_main]
#![allow(missing_docs, reason = "naru_fuzz::log_records has them")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::log_records(bytes));
