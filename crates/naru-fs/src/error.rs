//! The error of a failed file operation: what was tried, on what, and the kernel's answer.

use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    cause: Cause,
}

/// The result of every operation in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
enum Cause {
    Errno(Errno),
    Text(String),
}

impl Error {
    /// `operation` on `path` was answered with `errno`.
    pub fn new(operation: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self { operation, path: path.as_ref().to_owned(), cause: Cause::Errno(errno) }
    }

    /// `operation` on `path` failed for a reason that is not the kernel's.
    pub fn text(operation: &'static str, path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self { operation, path: path.as_ref().to_owned(), cause: Cause::Text(why.into()) }
    }

    /// The kernel's answer, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Errno(errno) => Some(errno),
            Cause::Text(_) => None,
        }
    }

    /// Whether the kernel's answer was `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }

    /// Whether the path, or a part of it, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is(Errno::NOENT)
    }

    /// The path that the operation was tried on.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.operation, self.path.display())?;
        match &self.cause {
            Cause::Errno(errno) => f.write_str(&errno_text(*errno)),
            Cause::Text(why) => f.write_str(why),
        }
    }
}

impl From<Error> for naru_base::Error {
    fn from(e: Error) -> Self {
        let full = e.is(Errno::NOSPC) || e.is(Errno::DQUOT);
        let error = Self::system(e.to_string());
        if full { error.disk_full() } else { error }
    }
}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        match e.errno() {
            Some(errno) => std::io::Error::new(std::io::Error::from(errno).kind(), e),
            None => std::io::Error::other(e),
        }
    }
}

/// The kernel's message for `errno`, in lower case and without its number: `no such file or directory`.
pub(crate) fn errno_text(errno: Errno) -> String {
    naru_base::error::as_go_says(&std::io::Error::from(errno).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_go() {
        let e = Error::new("open", "/a b", Errno::NOENT);
        assert_eq!(e.to_string(), "open /a b: no such file or directory");
        assert!(e.is_not_found());
    }
}
