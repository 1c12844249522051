//! Platforms as the image specification names them (`linux/amd64`, `linux/arm/v7`).

use crate::{Error, Result};
use std::fmt;

/// An operating system and processor, with Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// `v7`, `v8`, …; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant` and normalises the names.
    ///
    /// # Errors
    /// For an empty or longer form.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("{text:?} is an invalid platform: os/arch[/variant] is needed"));
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))) {
            return Err(bad());
        }
        let host = Self::host();
        let (os, arch, variant) = match parts[..] {
            [one] if matches!(one, "linux" | "windows" | "darwin" | "macos" | "freebsd") => {
                (one, host.architecture.as_str(), "")
            }
            [one] => ("linux", one, ""),
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => return Err(bad()),
        };
        Ok(Self {
            os: os.to_ascii_lowercase(),
            architecture: arch.to_ascii_lowercase(),
            variant: variant.to_ascii_lowercase(),
        }
        .normalised())
    }

    /// With the names that the specification uses: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8` has no variant.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        let (arch, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("aarch64" | "arm64", "v8" | "8" | "") => ("arm64", ""),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("i386" | "i686", _) => ("386", ""),
            ("arm", "" | "7") => ("arm", "v7"),
            other => other,
        };
        let (arch, variant) = (arch.to_owned(), variant.to_owned());
        if self.os == "macos" {
            self.os = "darwin".into();
        }
        Self { os: self.os, architecture: arch, variant }
    }

    /// How well an image of platform `offer` runs where `self` is wanted: smaller is better, `None` not at all.
    pub fn rank(&self, offer: &Self) -> Option<u32> {
        let (want, offer) = (self.clone().normalised(), offer.clone().normalised());
        if want.os != offer.os {
            return None;
        }
        let level = |v: &str| v.trim_start_matches('v').parse::<u32>().ok();
        match (want.architecture.as_str(), offer.architecture.as_str()) {
            (a, b) if a == b => match (level(&want.variant), level(&offer.variant)) {
                (a, b) if a == b => Some(0),
                (Some(w), Some(o)) if o < w => Some(w - o),
                (Some(w), None) => Some(w),
                (None, Some(o)) if a == "amd64" || a == "arm64" => (o == 1 || o == 8).then_some(1),
                _ => None,
            },
            ("amd64", "386") => Some(50),
            ("arm64", "arm") => Some(60 + 8u32.saturating_sub(level(&offer.variant).unwrap_or(7))),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> Platform {
        Platform::parse(s).unwrap()
    }

    #[test]
    fn parses_and_normalises() {
        assert_eq!(p("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(p("linux/arm64/v8").to_string(), "linux/arm64");
        assert_eq!(p("armhf").to_string(), "linux/arm/v7");
        assert!(Platform::parse("a/b/c/d").is_err());
        assert!(Platform::parse("linux/").is_err());
    }

    #[test]
    fn ranks_what_runs() {
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64")), Some(0));
        assert_eq!(p("linux/amd64").rank(&p("linux/arm64")), None);
        assert!(p("linux/amd64").rank(&p("linux/386")) > p("linux/amd64").rank(&p("linux/amd64")));
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").rank(&p("linux/arm/v7")), None);
    }
}
