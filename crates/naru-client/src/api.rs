//! API versions, `major.minor`.

use std::fmt;

/// An API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl Version {
    /// The newest that this client speaks.
    pub const CURRENT: Self = Self { major: 1, minor: 50 };

    /// Reads `1.50`; `None` when it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The version in `… is too new. Maximum supported API version is 1.41`.
    pub(crate) fn from_refusal(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once("Maximum supported API version is ")?;
        Self::parse(rest.split_whitespace().next()?)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(Version::parse("1.9") < Version::parse("1.41"));
        assert_eq!(Version::parse("v1.50"), Some(Version::CURRENT));
        assert_eq!(Version::parse("1"), None);
        let refusal = "client version 1.50 is too new. Maximum supported API version is 1.41";
        assert_eq!(Version::from_refusal(refusal), Version::parse("1.41"));
    }
}
