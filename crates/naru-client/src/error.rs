//! What can go wrong between a command and the engine.

use std::io;

/// The result of every call here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens at the endpoint.
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    Connect {
        /// The endpoint as the user gave it.
        endpoint: String,
        /// Why not.
        source: io::Error,
    },
    /// The socket exists, but this user may not use it.
    #[error("permission denied while trying to connect to the docker API at {endpoint}")]
    Permission {
        /// The endpoint as the user gave it.
        endpoint: String,
    },
    /// The endpoint cannot be understood.
    #[error("{0}")]
    Endpoint(String),
    /// The connection broke.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The failure.
        source: io::Error,
    },
    /// The other side does not speak HTTP as it should.
    #[error("malformed answer from the engine: {0}")]
    Protocol(String),
    /// The engine said no.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl Error {
    /// The HTTP status, when the engine answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether there was no engine to talk to.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Whether the engine went away, or isn't there: another one may answer.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Io { .. })
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
