//! docker's `local`: each record is its length, a protobuf message, and its length again; 32 bits, big-endian (moby,
//! daemon/logger/local; api/types/plugins/logdriver/entry.proto).

use crate::driver::{Driver, Rotation, Step};
use crate::entry::{Entry, Partial, Stream};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A longer message is none (16 KiB of output and its frame).
const RECORD_LIMIT: usize = 1 << 20;
/// A length.
const FRAME: usize = 4;

// Tags of `LogEntry` and `PartialLogEntryMetadata`: number * 8 + wire type.
const SOURCE: u8 = 0x0a;
const TIME: u8 = 0x10;
const LINE: u8 = 0x1a;
const PARTIAL: u8 = 0x20;
const METADATA: u8 = 0x2a;
const LAST: u8 = 0x08;
const ID: u8 = 0x12;
const ORDINAL: u8 = 0x18;

/// The driver.
#[derive(Debug)]
pub(crate) struct Local;

impl Driver for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn options(&self) -> &'static [&'static str] {
        &["max-file", "max-size", "compress"]
    }

    fn file(&self, _: &str) -> Option<String> {
        Some("local-logs/container.log".into())
    }

    fn rotation(&self) -> Rotation {
        Rotation { max_size: 20 << 20, max_files: 5, compress: true }
    }

    fn attributes(&self, _: &BTreeMap<String, String>) -> Vec<u8> {
        Vec::new()
    }

    fn encode(&self, entry: &Entry<'_>, _: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME]);
        bytes_field(SOURCE, entry.stream.name().as_bytes(), out);
        number_field(TIME, entry.time.cast_unsigned(), out);
        let ends = entry.partial.as_ref().is_none_or(|p| p.last);
        let line = entry.text.strip_suffix(b"\n").filter(|_| ends).unwrap_or(&entry.text);
        if !line.is_empty() {
            bytes_field(LINE, line, out);
        }
        if let Some(partial) = &entry.partial {
            number_field(PARTIAL, 1, out);
            let mut metadata = Vec::with_capacity(80);
            if partial.last {
                number_field(LAST, 1, &mut metadata);
            }
            bytes_field(ID, partial.id.as_bytes(), &mut metadata);
            number_field(ORDINAL, i64::from(partial.ordinal).cast_unsigned(), &mut metadata);
            bytes_field(METADATA, &metadata, out);
        }
        let size = u32::try_from(out.len() - start - FRAME).unwrap_or(u32::MAX).to_be_bytes();
        out[start..start + FRAME].copy_from_slice(&size);
        out.extend_from_slice(&size);
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        let Some(size) = length(bytes, 0) else { return Step::More };
        if size > RECORD_LIMIT {
            return resync(bytes);
        }
        let whole = size + 2 * FRAME;
        if bytes.len() < whole {
            // A length that a damaged place only pretends to would hold up everything after it: bytes that can't begin a message tell.
            let plausible = bytes.get(FRAME).is_none_or(|b| *b == SOURCE);
            return if plausible { Step::More } else { resync(bytes) };
        }
        if length(bytes, FRAME + size) != Some(size) {
            return resync(bytes);
        }
        match parse(&bytes[FRAME..FRAME + size]) {
            Some(entry) => Step::Entry(entry, whole),
            None => resync(bytes),
        }
    }
}

/// Skips to the next place where a record may begin: a length below the limit before the tag of a source.
fn resync(bytes: &[u8]) -> Step<'_> {
    let begins =
        |at: usize| bytes.get(at..at + FRAME + 1).is_some_and(|b| b[0] == 0 && b[1] < 16 && b[FRAME] == SOURCE);
    let next = (1..bytes.len().saturating_sub(FRAME)).find(|at| begins(*at));
    // The last bytes may be the beginning of one.
    Step::Skip(next.unwrap_or_else(|| bytes.len().saturating_sub(FRAME).max(1)))
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let size: [u8; FRAME] = bytes.get(at..at + FRAME)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(size)).ok()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number_field(tag: u8, value: u64, out: &mut Vec<u8>) {
    out.push(tag);
    varint(value, out);
}

fn bytes_field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A protobuf message, field by field.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field; `Err` for what is no message.
    fn next(&mut self) -> Option<Result<(u64, Value<'a>), ()>> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || {
            let tag = self.varint()?;
            let value = match tag & 7 {
                0 => Value::Number(self.varint()?),
                1 => Value::Bytes(self.take(8)?),
                2 => {
                    let count = usize::try_from(self.varint()?).ok()?;
                    Value::Bytes(self.take(count)?)
                }
                5 => Value::Bytes(self.take(4)?),
                _ => return None,
            };
            Some((tag, value))
        };
        Some(read().ok_or(()))
    }
}

fn parse(message: &[u8]) -> Option<Entry<'_>> {
    let mut fields = Fields(message);
    let mut entry = Entry::default();
    let (mut line, mut is_partial, mut metadata): (&[u8], _, _) = (&[], false, None);
    while let Some(field) = fields.next() {
        let (tag, value) = field.ok()?;
        match (u8::try_from(tag), value) {
            (Ok(SOURCE), Value::Bytes(name)) => {
                entry.stream = if name == b"stderr" { Stream::Stderr } else { Stream::Stdout };
            }
            (Ok(TIME), Value::Number(time)) => entry.time = time.cast_signed(),
            (Ok(LINE), Value::Bytes(bytes)) => line = bytes,
            (Ok(PARTIAL), Value::Number(set)) => is_partial = set != 0,
            (Ok(METADATA), Value::Bytes(bytes)) => metadata = Some(parse_partial(bytes)?),
            // A field of a later docker.
            _ => {}
        }
    }
    entry.partial = is_partial.then(|| metadata.unwrap_or(Partial { id: "".into(), ordinal: 0, last: false }));
    let ends = entry.partial.as_ref().is_none_or(|p| p.last);
    entry.text = if ends { Cow::Owned([line, b"\n"].concat()) } else { Cow::Borrowed(line) };
    Some(entry)
}

fn parse_partial(message: &[u8]) -> Option<Partial<'_>> {
    let mut fields = Fields(message);
    let mut partial = Partial { id: "".into(), ordinal: 0, last: false };
    while let Some(field) = fields.next() {
        let (tag, value) = field.ok()?;
        match (u8::try_from(tag), value) {
            (Ok(LAST), Value::Number(set)) => partial.last = set != 0,
            (Ok(ID), Value::Bytes(id)) => partial.id = String::from_utf8_lossy(id),
            (Ok(ORDINAL), Value::Number(number)) => partial.ordinal = number as i32,
            _ => {}
        }
    }
    Some(partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_dockers() {
        let entry = Entry { time: 1, text: b"hi\n".into(), ..Entry::default() };
        let mut out = Vec::new();
        Local.encode(&entry, b"", &mut out);
        assert_eq!(out, b"\0\0\0\x0e\x0a\x06stdout\x10\x01\x1a\x02hi\0\0\0\x0e");
        let piece = Entry {
            partial: Some(Partial { id: "ab".into(), ordinal: 2, last: false }),
            text: b"x".into(),
            stream: Stream::Stderr,
            time: 300,
            ..Entry::default()
        };
        out.clear();
        Local.encode(&piece, b"", &mut out);
        assert_eq!(out, b"\0\0\0\x18\x0a\x06stderr\x10\xac\x02\x1a\x01x\x20\x01\x2a\x06\x12\x02ab\x18\x02\0\0\0\x18");
        assert_eq!(Local.decode(&out), Step::Entry(piece, out.len()));
    }
}
