//! Any bytes are a question that can be answered, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_dns::message::{Code, Query, Record, answer, is_answer_to, refusal, truncate};

fuzz_target!(|bytes: &[u8]| {
    match Query::read(bytes) {
        Ok(query) => {
            let _ = query.reverse_address();
            let records = [Record::Address([10, 0, 0, 2].into()), Record::Name("web.harbour".into())];
            let limit = query.udp_size();
            let mut out = answer(bytes, &query, Code::Success, &records, 600, limit);
            assert!(is_answer_to(bytes, &query, query.id, &out));
            truncate(&mut out, &query, limit);
        }
        Err(_) => drop(refusal(bytes, Code::Malformed)),
    }
});
