#![no_main]
#![allow(missing_docs, reason = "naru_fuzz::dbus_message has them")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::dbus_message(bytes));
