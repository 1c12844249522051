//! `WWW-Authenticate` headers of a registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| naru_registry::fuzz_challenge(bytes));
