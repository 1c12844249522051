//! What can be wrong with an archive, or with the folder that it is unpacked into.

/// A failure to read or unpack an archive.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The archive's bytes are no valid archive.
    #[error("invalid archive: {0}")]
    Malformed(String),
    /// The archive is valid but uses what is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// A budget is used up.
    #[error("archive refused: {0}")]
    Limit(String),
    /// An entry that must not be unpacked: it would leave the folder.
    #[error("archive entry {path:?} refused: {why}")]
    Refused {
        /// The entry's name in the archive, non-UTF-8 parts replaced.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The host failed.
    #[error(transparent)]
    Io(#[from] naru_fs::Error),
    /// The receiver of the entries failed.
    #[error("{0}")]
    Receiver(naru_base::Error),
}

/// The result of reading or unpacking.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the archive is at fault: trying again with the same bytes fails again.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Receiver(_))
    }

    pub(crate) fn refused(path: &[u8], why: &'static str) -> Self {
        Self::Refused { path: String::from_utf8_lossy(path).into_owned(), why }
    }
}

impl From<Error> for naru_base::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Io(e) => e.into(),
            Error::Receiver(e) => e,
            e => Self::invalid(e.to_string()),
        }
    }
}

impl From<naru_base::Error> for Error {
    fn from(e: naru_base::Error) -> Self {
        Self::Receiver(e)
    }
}
