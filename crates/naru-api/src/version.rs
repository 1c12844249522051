//! API versions: which ones are served, and how a request's is told.

use naru_base::{Error, Result};
use std::fmt;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

/// Version 1.`minor`.
pub(crate) const fn v1(minor: u32) -> ApiVersion {
    ApiVersion { major: 1, minor }
}

/// The newest version that is served; requests without a version mean it.
pub const NEWEST: ApiVersion = v1(50);
/// The oldest.
pub const OLDEST: ApiVersion = v1(24);

/// The Docker release whose API this is, with our own version after it: tools compare it with versions of Docker.
pub(crate) const ENGINE_VERSION: &str = concat!("28.2.2+naru-", env!("CARGO_PKG_VERSION"));

impl ApiVersion {
    /// Reads `1.41`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self { major: major.parse().ok()?, minor: minor.split('.').next()?.parse().ok()? })
    }

    /// Refuses versions that are not served.
    ///
    /// # Errors
    /// With docker's texts, which clients show as they are.
    pub(crate) fn check(self) -> Result<Self> {
        if self > NEWEST {
            return Err(Error::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {NEWEST}"
            )));
        }
        if self < OLDEST {
            return Err(Error::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer \
                 version"
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Cuts `/v1.41` off a path. `None` for a path without a version.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    if end == 0 || !rest[end..].starts_with('/') {
        return (None, path);
    }
    (Some(&rest[..end]), &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_off_paths() {
        assert_eq!(split("/v1.41/info"), (Some("1.41"), "/info"));
        assert_eq!(split("/info"), (None, "/info"));
        assert_eq!(split("/volumes"), (None, "/volumes"));
        assert_eq!(split("/v1.41"), (None, "/v1.41"));
        assert_eq!(split("/v/info"), (None, "/v/info"));
    }

    #[test]
    fn only_served_versions_pass() {
        let check = |t: &str| ApiVersion::parse(t).unwrap().check();
        assert!(check("1.24").is_ok() && check("1.50").is_ok() && check("1.9").is_err());
        assert_eq!(
            check("1.51").unwrap_err().message(),
            "client version 1.51 is too new. Maximum supported API version is 1.50"
        );
        assert!(
            check("1.23")
                .unwrap_err()
                .message()
                .starts_with("client version 1.23 is too old. Minimum supported API version is 1.24")
        );
        assert!(v1(9) < v1(24));
        assert!(ApiVersion::parse("...").is_none());
    }
}
