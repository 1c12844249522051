//! The keys that detach a client from a terminal (`ctrl-p,ctrl-q`).

use naru_base::{Error, Result};

/// docker's default, ctrl-p ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads a list of single characters and `ctrl-` ones; `None` and an empty text give the default.
///
/// # Errors
/// When a key is malformed.
pub(crate) fn parse(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(DEFAULT.to_vec()) };
    text.split(',')
        .map(key)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
}

fn key(text: &str) -> Option<u8> {
    if text == "DEL" {
        return Some(127);
    }
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([one], _) => Some(*one),
        (_, Some([c @ b'a'..=b'z'])) => Some(c - b'a' + 1),
        (_, Some([b'@'])) => Some(0),
        (_, Some([c @ b'['..=b'_'])) => Some(c - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse(None).unwrap(), [16, 17]);
        assert_eq!(parse(Some("ctrl-a,b,DEL,ctrl-_,ctrl-@,ctrl-[")).unwrap(), [1, b'b', 127, 31, 0, 27]);
        for bad in ["ctrl-", "ctrl-A", "xy", "a,,b", "ctrl-aa"] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
