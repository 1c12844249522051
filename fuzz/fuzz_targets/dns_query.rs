#![no_main]
#![allow(missing_docs, reason = "naru_fuzz::dns_query has them")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::dns_query(bytes));
