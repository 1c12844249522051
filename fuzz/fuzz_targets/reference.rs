//! Names of images: what is read is written in a form that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_base::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(Reference::parse(&form).expect("our own form"), reference);
        }
    }
});
