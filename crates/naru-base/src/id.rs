//! 256-bit object ids, as docker writes them: 64 lower-case hexadecimal digits.

use crate::{Error, Result};
use std::fmt;

/// The id of a container, exec, network or sandbox.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// Length of the short form in characters.
    pub const SHORT: usize = 12;

    /// A new random id whose short form is not all digits (such a name would look like a number to tools).
    ///
    /// # Errors
    /// When the kernel gives no random bytes (getrandom(2)).
    pub fn random() -> Result<Self> {
        loop {
            let mut raw = [0u8; 32];
            let mut filled = 0;
            while filled < raw.len() {
                filled += rustix::rand::getrandom(&mut raw[filled..], rustix::rand::GetRandomFlags::empty())
                    .map_err(|e| Error::system(format!("no random bytes for an id: {e}")))?;
            }
            let id = Self(hex(&raw));
            if !id.short().bytes().all(|b| b.is_ascii_digit()) {
                return Ok(id);
            }
        }
    }

    /// Reads a whole id.
    ///
    /// # Errors
    /// When `text` is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("invalid id {text:?}: 64 lower-case hexadecimal digits are needed")))
        }
    }

    /// The first 12 characters.
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }

    /// All 64 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `b` is one of `0-9a-f`.
pub fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(char::from(DIGITS[usize::from(b >> 4)]));
        out.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    out
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl TryFrom<String> for Id {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl std::borrow::Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_well_formed_and_differ() {
        let (a, b) = (Id::random().unwrap(), Id::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(Id::parse(a.as_str()).unwrap(), a);
        assert_eq!(a.short().len(), 12);
    }

    #[test]
    fn parse_refuses_what_is_no_id() {
        for bad in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert!(Id::parse(bad).is_err(), "{bad}");
        }
    }
}
