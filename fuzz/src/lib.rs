//! What the fuzzers do with an input: one function for each thing that reads bytes from outside. Each panics when what it holds to be true
//! is not. libFuzzer drives them (`tools/fuzz TARGET SECONDS`), and so does a plain test, with the corpus and mutations of it
//! (`tests/corpus.rs`).

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target says that something is wrong")]

mod tar;

pub use tar::{extract, forget_scratch, layer_stream, tar_reader};

use naru_base::{Digest, Id, Platform, Reference};
use naru_runtime::seccomp::{KernelVersion, Profile, compile, instructions};
use naru_store::spec::{Document, ImageConfig};

/// A target: its name, which is that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("challenge", challenge),
    ("config", config),
    ("dbus_message", dbus_message),
    ("dns_query", dns_query),
    ("extract", extract),
    ("layer_stream", layer_stream),
    ("log_records", log_records),
    ("manifest", manifest),
    ("reference", reference),
    ("seccomp", seccomp),
    ("tar_reader", tar_reader),
    ("words", words),
];

/// `WWW-Authenticate` headers of a registry.
pub fn challenge(bytes: &[u8]) {
    naru_registry::fuzz_challenge(bytes);
}

/// An image's configuration: what is read can be written, and reads the same again.
pub fn config(bytes: &[u8]) {
    if let Ok(config) = ImageConfig::parse(bytes) {
        let text = config.to_bytes().expect("a configuration is JSON");
        assert_eq!(ImageConfig::parse(&text).expect("our own"), config);
    }
}

/// Manifests and indices: what is read can be written, and reads the same again.
pub fn manifest(bytes: &[u8]) {
    match Document::parse(bytes, "") {
        Ok(Document::Manifest(manifest)) => {
            let text = serde_json::to_vec(&manifest).expect("a manifest is JSON");
            assert_eq!(Document::parse(&text, "").expect("our own"), Document::Manifest(manifest));
        }
        Ok(Document::Index(index)) => {
            let _ = index.choose(&Platform::host());
            let _ = index.choose(&Platform::parse("linux/arm/v7").expect("a platform"));
        }
        Err(_) => {}
    }
}

/// Logs of each driver: any bytes are read to their end, and what is a record can be written and reads the same again.
pub fn log_records(bytes: &[u8]) {
    use naru_log::{DRIVERS, Step};
    for driver in DRIVERS {
        let mut rest = bytes;
        loop {
            match driver.decode(rest) {
                Step::Entry(entry, taken) => {
                    let mut written = Vec::new();
                    driver.encode(&entry, &driver.attributes(&entry.attributes), &mut written);
                    assert_eq!(driver.decode(&written), Step::Entry(entry, written.len()), "{driver:?}");
                    rest = &rest[taken..];
                }
                Step::Skip(count) => {
                    assert!(count > 0);
                    rest = &rest[count..];
                }
                Step::More => break,
            }
        }
    }
}

/// Messages of D-Bus: what is read can be written, and reads the same again.
pub fn dbus_message(bytes: &[u8]) {
    let Ok(message) = naru_dbus::Message::read(bytes) else { return };
    // A number that is none equals nothing; and what comes in the other byte order may need more room.
    if let Ok(written) = message.write()
        && !format!("{message:?}").contains("NaN")
    {
        assert_eq!(naru_dbus::Message::read(&written).expect("our own"), message);
    }
}

/// Any bytes are a question that can be answered, or are refused.
pub fn dns_query(bytes: &[u8]) {
    use naru_dns::message::{Code, Query, Record, answer, is_answer_to, refusal, truncate};
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
}

/// Names of images: what is read is written in a form that reads the same.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(Reference::parse(&form).expect("our own form"), reference);
        }
        let tagged = reference.clone().with_default_tag();
        assert_eq!(Reference::parse(&tagged.familiar()).expect("our own form"), tagged);
    }
}

/// A seccomp profile: what is taken compiles to a program that the kernel takes, or is refused with a word.
pub fn seccomp(bytes: &[u8]) {
    /// BPF_MAXINSNS.
    const LONGEST: usize = 4096;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(profile) = Profile::parse(text) else { return };
    let kernel = KernelVersion::parse("6.8.0").expect("a version");
    for capabilities in [0, u64::MAX] {
        if let Ok(program) = compile(&profile, capabilities, kernel) {
            let length = instructions(&program).expect("our own program").len();
            assert!((1..=LONGEST).contains(&length), "{length} instructions");
        }
    }
}

/// The small words that requests and settings have: digests, ids, platforms, sizes, durations, signals.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(id) = Id::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(Platform::parse(&platform.to_string()).expect("our own form"), platform);
    }
    let _ = naru_base::size::parse_bytes(text);
    let _ = naru_base::size::parse_decimal_bytes(text);
    let _ = naru_base::duration::parse(text);
    let _ = naru_base::signal::parse(text);
    let _ = naru_base::name::container(text);
    let _ = naru_base::error::as_go_says(text);
    let _ = naru_base::human::go_quote(text);
}
