//! Bytes as the inside of a JSON string, the way docker's `json-file` driver writes them (moby, daemon/logger/jsonfilelog/jsonlog).

/// Bytes that are looked at together.
const BLOCK: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` to `out`: invalid UTF-8 becomes U+FFFD, and besides what JSON demands `<`, `>`, `&`, U+2028 and U+2029 are escaped.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    // Checks eight bytes at once where they are ASCII, which the chunks don't.
    if let Ok(text) = std::str::from_utf8(bytes) {
        return escape_text(text.as_bytes(), out);
    }
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid().as_bytes(), out);
        // One mark for each byte, as Go's decoder has it.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for (number, block) in text.chunks(BLOCK).enumerate() {
        // Without a branch per byte: the compiler makes vector instructions of it.
        if !block.iter().fold(false, |any, byte| any | is_special(*byte)) {
            continue;
        }
        for (at, &byte) in block.iter().enumerate().map(|(at, byte)| (number * BLOCK + at, byte)) {
            if !is_special(byte) {
                continue;
            }
            let skip = match byte {
                b'\n' => flush(text, start, at, b"\\n", out),
                b'\r' => flush(text, start, at, b"\\r", out),
                b'"' => flush(text, start, at, b"\\\"", out),
                b'\\' => flush(text, start, at, b"\\\\", out),
                // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
                0xe2 => match text.get(at + 1..at + 3) {
                    Some([0x80, last @ (0xa8 | 0xa9)]) => {
                        let mark: &[u8] = if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" };
                        flush(text, start, at, mark, out) + 2
                    }
                    _ => continue,
                },
                _ => {
                    let [high, low] = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    flush(text, start, at, &[b'\\', b'u', b'0', b'0', high, low], out)
                }
            };
            start = at + skip;
        }
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
}

/// Whether all of it is ASCII that stands for itself: one pass of vector instructions.
fn is_plain(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let plain = |block: &[u8]| !block.iter().fold(false, |any, byte| any | is_special(*byte) | (*byte >= 0x80));
    blocks.iter().all(|block| plain(block)) && plain(rest)
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

fn flush(text: &[u8], start: usize, at: usize, replacement: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&text[start..at]);
    out.extend_from_slice(replacement);
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_like_docker() {
        assert_eq!(escaped(b"plain"), "plain");
        assert_eq!(escaped(b"a\tb\n\r\"\\\x01"), "a\\u0009b\\n\\r\\\"\\\\\\u0001");
        assert_eq!(escaped(b"<a>&b"), "\\u003ca\\u003e\\u0026b");
        assert_eq!(escaped("é€\u{2028}x\u{2029}".as_bytes()), "é€\\u2028x\\u2029");
        assert_eq!(escaped(b"a\xff\xfeb\xe2\x80"), "a\\ufffd\\ufffdb\\ufffd\\ufffd");
    }

    proptest! {
        #[test]
        fn parses_back_to_the_same_text(text in ".*") {
            let json = format!("\"{}\"", escaped(text.as_bytes()));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_give_json(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let json = format!("\"{}\"", escaped(&bytes));
            prop_assert!(serde_json::from_str::<String>(&json).is_ok());
        }
    }
}
