//! Names in queries and bodies.

use naru_base::{Error, Platform, Reference, Result};

/// A container's name out of a query, without docker's slash; `None` for nothing.
pub(crate) fn container(text: &str) -> Option<String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    (!name.is_empty()).then(|| name.to_owned())
}

/// A platform out of a query: `os/arch[/variant]`, or JSON as some routes have it. `None` for nothing.
///
/// # Errors
/// For other text, and JSON without system or architecture.
pub(crate) fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Platform::parse(text).map(Some);
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Given {
        os: String,
        architecture: String,
        variant: String,
    }
    let bad = |why: String| Error::invalid(format!("failed to parse platform: {why}"));
    let given: Given = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
    if given.os.is_empty() || given.architecture.is_empty() {
        return Err(bad("both OS and Architecture must be provided".into()));
    }
    Ok(Some(Platform { os: given.os, architecture: given.architecture, variant: given.variant }.normalised()))
}

/// The name of a repository and a tag or digest, as two members of a query.
///
/// # Errors
/// For names and tags that are none.
pub(crate) fn repository(name: &str, tag_or_digest: &str) -> Result<Reference> {
    let name = name.strip_suffix(':').unwrap_or(name);
    let reference = Reference::parse(name).map_err(|e| e.with_class(naru_base::Class::InvalidParameter))?;
    if tag_or_digest.is_empty() {
        return Ok(reference);
    }
    match naru_base::Digest::parse(tag_or_digest) {
        Ok(digest) => Ok(reference.repository().with_digest(digest)),
        Err(e) if tag_or_digest.contains(':') => Err(e),
        Err(_) => reference.repository().with_tag(tag_or_digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_come_in_two_forms() {
        assert_eq!(platform("linux/arm64/v8").unwrap().unwrap().to_string(), "linux/arm64");
        assert_eq!(platform(r#"{"os":"linux","architecture":"amd64"}"#).unwrap().unwrap().to_string(), "linux/amd64");
        assert!(platform("").unwrap().is_none());
        for bad in [r#"{"os":"linux"}"#, "{", "a/b/c/d"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_and_digests_share_a_parameter() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(repository("busybox", "1").unwrap().familiar(), "busybox:1");
        assert_eq!(repository("busybox:", "").unwrap().familiar(), "busybox");
        assert_eq!(repository("busybox:old", "new").unwrap().familiar(), "busybox:new");
        assert_eq!(repository("busybox", &digest).unwrap().digest().unwrap().as_str(), digest);
        assert!(repository("Bad", "").is_err() && repository("a", "sha256:x").is_err());
    }
}
