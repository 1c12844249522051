//! Content digests (OCI image specification, descriptor.md).

use crate::id::{hex, is_lower_hex};
use crate::{Error, Result};
use std::fmt;

/// A `sha256:` digest. Other algorithms are refused: docker makes no other, and a digest that can't be checked is no digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// What every digest begins with.
    pub const PREFIX: &'static str = "sha256:";

    /// The digest with these 32 bytes.
    pub fn from_bytes(sha256: &[u8; 32]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex(sha256)))
    }

    /// Reads `sha256:<64 lower-case hex>`.
    ///
    /// # Errors
    /// For another algorithm or form.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix(Self::PREFIX) {
            Some(h) if h.len() == 64 && h.bytes().all(is_lower_hex) => Ok(Self(text.to_owned())),
            Some(_) => {
                Err(Error::invalid(format!("invalid digest {text:?}: 64 lower-case hexadecimal digits are needed")))
            }
            None => Err(Error::invalid(format!("unsupported digest {text:?}: only sha256 is supported"))),
        }
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }

    /// The first 12 hexadecimal digits.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// With the algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.short())
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let d = Digest::from_bytes(&[0xab; 32]);
        assert_eq!(Digest::parse(d.as_str()).unwrap(), d);
        assert_eq!(d.short(), "abababababab");
    }

    #[test]
    fn refuses_other_forms() {
        for bad in ["", "sha256:", "sha512:00", &format!("sha256:{}", "Z".repeat(64)), &"a".repeat(64)] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
