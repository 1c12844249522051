//! Names of units, and where systemd puts their groups (systemd.slice(5), systemd.unit(5)).

use naru_base::{Error, Result};
use serde::{Deserialize, Serialize};

const SUFFIX: &str = ".slice";
/// The longest name of a unit (systemd's `UNIT_NAME_MAX`).
const NAME_LIMIT: usize = 255;

/// A scope in a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `system.slice`, or `a-b.slice`, which is within `a.slice`.
    pub slice: String,
    /// `naru-<id>.scope`.
    pub name: String,
}

impl Scope {
    /// The scope `name` (without `.scope`) in `slice`.
    ///
    /// # Errors
    /// One of them is no name of a unit.
    pub fn new(slice: &str, name: &str) -> Result<Self> {
        check_slice(slice)?;
        let name = format!("{name}.scope");
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\');
        if name.len() > NAME_LIMIT || !name.bytes().all(valid) || name.starts_with('.') {
            return Err(Error::invalid(format!("{name:?} is not a valid name of a systemd unit")));
        }
        Ok(Self { slice: slice.to_owned(), name })
    }

    /// Its group's path below the root of the hierarchy.
    pub fn path(&self) -> String {
        format!("{}/{}", slice_path(&self.slice), self.name)
    }

    /// The group of its slice.
    pub fn parent(&self) -> String {
        slice_path(&self.slice)
    }
}

/// # Errors
/// `slice` is no name of a slice; the text is dockerd's.
pub fn check_slice(slice: &str) -> Result<()> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'\\');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(valid);
    let stem = slice.strip_suffix(SUFFIX).filter(|_| slice.len() <= NAME_LIMIT);
    match stem {
        Some("-") => Ok(()),
        Some(stem) if stem.split('-').all(part) => Ok(()),
        _ => Err(Error::invalid(format!(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\": {slice:?} is none"
        ))),
    }
}

/// `/a.slice/a-b.slice` for `a-b.slice`: a dash is a step down.
fn slice_path(slice: &str) -> String {
    let stem = slice.strip_suffix(SUFFIX).unwrap_or(slice);
    let mut path = String::new();
    if stem == "-" {
        return path;
    }
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push('/');
        path.push_str(stem.get(..at).unwrap_or(stem));
        path.push_str(SUFFIX);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_is_a_step_down() {
        let path = |slice| Scope::new(slice, "naru-x").unwrap().path();
        assert_eq!(path("system.slice"), "/system.slice/naru-x.scope");
        assert_eq!(path("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice/naru-x.scope");
        assert_eq!(path("-.slice"), "/naru-x.scope");
    }

    #[test]
    fn names_are_units_names() {
        for bad in [
            "",
            ".slice",
            "a",
            "/a.slice",
            "a/b.slice",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "..slice",
            "a.scope",
            "a b.slice",
        ] {
            let error = Scope::new(bad, "x").unwrap_err();
            assert!(error.message().contains("should be a valid slice named as \"xxx.slice\""), "{bad}: {error}");
        }
        for bad in ["a/b", "a b", "é", &"x".repeat(255), ".."] {
            assert!(Scope::new("system.slice", bad).is_err(), "{bad}");
        }
    }
}
