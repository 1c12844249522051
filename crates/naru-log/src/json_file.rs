//! docker's `json-file`: an object per line (moby, daemon/logger/jsonfilelog/jsonlog).

use crate::driver::{Driver, Rotation, Step};
use crate::entry::{Entry, Stream};
use crate::{json_text, timestamp};
use serde::Deserialize;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A line longer than this is no record (16 KiB of output, each byte escaped, and its attributes).
const RECORD_LIMIT: usize = 1 << 20;
/// What is around the text of a line, about.
const FRAME: usize = 80;

/// The driver.
#[derive(Debug)]
pub(crate) struct JsonFile;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

thread_local! {
    /// The last moment that was written, and its text: all lines of one read share it.
    static LAST: RefCell<(i64, String)> = RefCell::new((0, timestamp::rfc3339_nano(0)));
}

impl Driver for JsonFile {
    fn name(&self) -> &'static str {
        "json-file"
    }

    fn options(&self) -> &'static [&'static str] {
        &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"]
    }

    fn file(&self, container: &str) -> Option<String> {
        Some(format!("{container}-json.log"))
    }

    fn rotation(&self) -> Rotation {
        Rotation { max_size: 10 << 20, max_files: 3, compress: false }
    }

    fn attributes(&self, attributes: &BTreeMap<String, String>) -> Vec<u8> {
        if attributes.is_empty() {
            return Vec::new();
        }
        let mut out = b"\"attrs\":{".to_vec();
        for (at, (key, value)) in attributes.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            json_text::escape(key.as_bytes(), &mut out);
            out.extend_from_slice(b"\":\"");
            json_text::escape(value.as_bytes(), &mut out);
            out.push(b'"');
        }
        out.extend_from_slice(b"},");
        out
    }

    fn encode(&self, entry: &Entry<'_>, attributes: &[u8], out: &mut Vec<u8>) {
        out.reserve(entry.text.len() + attributes.len() + FRAME);
        out.extend_from_slice(b"{\"log\":\"");
        // Most lines have nothing to escape but their end.
        match entry.text.strip_suffix(b"\n") {
            Some(line) => {
                json_text::escape(line, out);
                out.extend_from_slice(b"\\n");
            }
            None => json_text::escape(&entry.text, out),
        }
        out.extend_from_slice(match entry.stream {
            Stream::Stdout => b"\",\"stream\":\"stdout\",",
            Stream::Stderr => b"\",\"stream\":\"stderr\",",
        });
        out.extend_from_slice(attributes);
        out.extend_from_slice(b"\"time\":\"");
        LAST.with_borrow_mut(|(time, text)| {
            if *time != entry.time {
                *text = timestamp::rfc3339_nano(entry.time);
                *time = entry.time;
            }
            out.extend_from_slice(text.as_bytes());
        });
        out.extend_from_slice(b"\"}\n");
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            return if bytes.len() < RECORD_LIMIT { Step::More } else { Step::Skip(bytes.len()) };
        };
        parse(&bytes[..end]).map_or(Step::Skip(end + 1), |entry| Step::Entry(entry, end + 1))
    }
}

fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        stream: if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
        time: timestamp::parse(&line.time)?,
        text: match line.log {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        partial: None,
        attributes: line.attrs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_dockers() {
        let attributes = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "<1>".to_owned())]);
        let entry = Entry {
            stream: Stream::Stderr,
            time: 1_136_214_245_120_000_000,
            text: b"x <y>\n".into(),
            ..Entry::default()
        };
        let mut out = Vec::new();
        JsonFile.encode(&entry, &JsonFile.attributes(&attributes), &mut out);
        JsonFile.encode(&entry, b"", &mut out);
        let expected = concat!(
            r#"{"log":"x \u003cy\u003e\n","stream":"stderr","attrs":{"a":"\u003c1\u003e","b":"2"},"time":"2006-01-02T15:04:05.12Z"}"#,
            "\n",
            r#"{"log":"x \u003cy\u003e\n","stream":"stderr","time":"2006-01-02T15:04:05.12Z"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let Step::Entry(read, _) = JsonFile.decode(expected.as_bytes()) else { panic!("no record") };
        assert_eq!(read, Entry { attributes, ..entry });
    }
}
