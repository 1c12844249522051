//! Image references (`registry:5000/a/b:tag@sha256:…`), with the grammar and defaults of docker's `distribution/reference`.

use crate::id::is_lower_hex;
use crate::{Digest, Error, Result};
use std::fmt;

/// The registry that a name without one means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that a name without one means, where one is needed.
pub const DEFAULT_TAG: &str = "latest";
/// The most characters that a repository name may have (with its domain).
const NAME_LIMIT: usize = 255;

/// A normalised reference: the domain and path are always whole (`docker.io`, `library/debian`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a user types.
    ///
    /// # Errors
    /// With docker's texts: `invalid reference format`, `repository name must be lowercase`, …
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("invalid reference format{why}"));
        if is_identifier(text) {
            return Err(Error::invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, d)) => (rest, Some(Digest::parse(d).map_err(|_| bad(""))?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad(""));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, rest)) if is_domain_part(first) => (first, rest),
            _ => (DEFAULT_DOMAIN, name),
        };
        if domain != DEFAULT_DOMAIN && !is_domain(domain) {
            return Err(bad(""));
        }
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad(&format!(": repository name ({path}) must be lowercase")));
        }
        let path =
            if domain == DEFAULT_DOMAIN && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if !path.split('/').all(is_path_component) {
            return Err(bad(""));
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(Error::invalid(format!("repository name must not be more than {NAME_LIMIT} characters")));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// `docker.io`, `localhost:5000`, …
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside its registry, `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// With the tag `latest` when there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under this tag, without a digest.
    ///
    /// # Errors
    /// When the tag is malformed.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("invalid tag format: {tag:?}")));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at this digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Only the repository: neither tag nor digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// Whether it is neither tagged nor by digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The repository as users see it: `debian`, `user/app`, `localhost:5000/a`.
    pub fn familiar_name(&self) -> String {
        // A namespace that looks like a registry would be read as one.
        let ambiguous = self.path.split_once('/').is_some_and(|(first, _)| is_domain_part(first));
        if self.domain == DEFAULT_DOMAIN && !ambiguous {
            // Nor may it look like an id.
            let short = |name: &&str| !name.contains('/') && !is_identifier(name);
            self.path.strip_prefix("library/").filter(short).unwrap_or(&self.path).to_owned()
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The whole reference as users see it: `debian:12`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut out: String) -> String {
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(digest.as_str());
        }
        out
    }
}

/// Whether it looks like the whole id of an image.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn is_tag(tag: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(first) && tag.bytes().all(|b| first(b) || b == b'.' || b == b'-')
}

/// Whether the text before the first slash is a registry rather than a part of the path.
fn is_domain_part(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let Some((v6, port)) = rest.split_once(']') else { return false };
        if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match port.strip_prefix(':') {
            Some(p) => return is_port(p),
            None => return port.is_empty(),
        }
    } else {
        match domain.split_once(':') {
            Some((h, p)) => (h, Some(p)),
            None => (domain, None),
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(p: &str) -> bool {
    !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes.split(|&b| alnum(b)).all(|sep| matches!(sep, b"" | b"." | b"_" | b"__") || sep.iter().all(|&b| b == b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(format!("{}/{}", self.domain, self.path)))
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(r: Reference) -> Self {
        r.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (given, whole, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("index.docker.io/library/x", "docker.io/library/x", "x"),
            ("docker.io/x", "docker.io/library/x", "x"),
            ("docker.io/a.b/x", "docker.io/a.b/x", "docker.io/a.b/x"),
            ("docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io/localhost/x:1"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("a__b/c.d-e---f", "docker.io/a__b/c.d-e---f", "a__b/c.d-e---f"),
        ] {
            let r = Reference::parse(given).unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(r.to_string(), whole);
            assert_eq!(r.familiar(), familiar);
            assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in [
            "",
            ":tag",
            "a:",
            "a@",
            "a@sha256:12",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a/",
            "/a",
            "a//b",
            "A",
            "x:ü",
            "h.x:p/y",
            "a b",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert!(Reference::parse("Debian").unwrap_err().message().contains("must be lowercase"));
        assert!(Reference::parse(&"a".repeat(64)).is_err());
    }
}
