//! The one error type that crosses crate borders, and its class.
//!
//! A class says what kind of failure it is, so that one table each maps it to an HTTP status (in the API) and an exit code
//! (in the client). Lower crates have their own `thiserror` enums, one variant per failing call, and turn into this at their
//! public border; the message is the whole text a user reads, lower case, without a full stop.

use std::fmt;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Class {
    /// The caller's input is wrong (HTTP 400).
    InvalidParameter,
    /// Credentials are missing or wrong (HTTP 401).
    Unauthorized,
    /// The operation is not allowed (HTTP 403).
    Forbidden,
    /// The named object does not exist (HTTP 404).
    NotFound,
    /// The object's state does not permit the operation (HTTP 409).
    Conflict,
    /// Nothing to do: already in the wanted state (HTTP 304).
    NotModified,
    /// This engine does not do that (HTTP 501).
    NotImplemented,
    /// A service that is needed is not there (HTTP 503).
    Unavailable,
    /// The operation was cancelled by its caller.
    Cancelled,
    /// Everything else: the host failed us, or we have a defect (HTTP 500).
    System,
}

/// An error with its class. The text does not repeat its cause's text.
#[derive(Debug, Clone)]
pub struct Error {
    class: Class,
    message: String,
    disk_full: bool,
}

/// The result of everything fallible across crates.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `class` with the whole text that a user reads.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), disk_full: false }
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error, marked as that of a full disk.
    #[must_use]
    pub fn disk_full(self) -> Self {
        Self { disk_full: true, ..self }
    }

    /// Whether the disk is full, or the user's share of it.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// The same error with `context: ` before its text.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }

    /// The same text under another class.
    #[must_use]
    pub fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// HTTP 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidParameter, message)
    }

    /// HTTP 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// HTTP 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Class::Conflict, message)
    }

    /// HTTP 500.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Class::System, message)
    }

    /// HTTP 501.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(Class::NotImplemented, message)
    }

    /// HTTP 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Class::Unavailable, message)
    }

    /// HTTP 304.
    pub fn not_modified(message: impl Into<String>) -> Self {
        Self::new(Class::NotModified, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to a failing call's error.
pub trait Context<T> {
    /// Turns the error into a [`Class::System`] one that reads `what: error`.
    fn system(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn system(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| failed(what, e))
    }
}

/// The error of a call that failed with `cause`: `what: cause`, of [`Class::System`].
pub fn failed(what: impl fmt::Display, cause: impl fmt::Display) -> Error {
    let text = cause.to_string();
    let error = Error::system(format!("{what}: {}", as_go_says(&text)));
    if FULL.iter().any(|number| text.ends_with(number)) { error.disk_full() } else { error }
}

/// How Rust's text of ENOSPC and of EDQUOT ends.
const FULL: [&str; 2] = ["(os error 28)", "(os error 122)"];

/// An error of the operating system in Go's words, which tools look for: Rust's `write x: No space left on device (os error 28)` becomes
/// `write x: no space left on device`. Any other text stays as it is.
pub fn as_go_says(text: &str) -> String {
    let Some((said, number)) = text.rsplit_once(" (os error ") else { return text.to_owned() };
    let after = number.split_once(')').map_or("", |(_, after)| after);
    let start = said.rfind(": ").map_or(0, |at| at + 2);
    let (before, cause) = said.split_at(start);
    let mut chars = cause.chars();
    let first = chars.next().map(char::to_lowercase).into_iter().flatten();
    before.chars().chain(first).chain(chars).chain(after.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answers_read_as_in_go() {
        for (rust, go) in [
            ("No space left on device (os error 28)", "no space left on device"),
            ("write A: No space left on device (os error 28)", "write A: no space left on device"),
            ("make x: File exists (os error 17) (name taken)", "make x: file exists (name taken)"),
            ("Nothing of the kind", "Nothing of the kind"),
            ("", ""),
        ] {
            assert_eq!(as_go_says(rust), go);
        }
        let full: std::result::Result<(), _> = Err("No space left on device (os error 28)");
        let full = full.system("write a blob").unwrap_err().context("pull");
        assert_eq!(full.message(), "pull: write a blob: no space left on device");
        assert!(full.is_disk_full() && !Error::system("no space left on device").is_disk_full());
    }
}
