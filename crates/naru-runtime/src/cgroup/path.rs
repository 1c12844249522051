//! A cgroup's path below the root of its hierarchy.

use naru_base::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// `path` without its leading `/`, if it is one that stays below the root and isn't the root.
pub(super) fn relative(path: &str) -> Result<PathBuf> {
    let invalid = || Error::invalid(format!("invalid cgroup path {path:?}"));
    if path.contains(['\0', '\n']) {
        return Err(invalid());
    }
    let mut relative = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(invalid()),
        }
    }
    if relative.as_os_str().is_empty() { Err(invalid()) } else { Ok(relative) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root() {
        assert_eq!(relative("/docker/abc").unwrap(), Path::new("docker/abc"));
        assert_eq!(relative("a//./b/").unwrap(), Path::new("a/b"));
        for bad in ["", "/", ".", "..", "/a/../b", "/..", "a\nb", "a\0"] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
    }
}
