//! Why a call failed.

use rustix::io::Errno;

/// A call that failed, or a message that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer's answer: an error name such as `org.freedesktop.systemd1.NoSuchUnit`, and what it says to people.
    #[error("{text}")]
    Answer {
        /// The error's name.
        name: String,
        /// The text; the name again where there is none.
        text: String,
    },
    /// A system call on the socket.
    #[error("{operation}: {}", std::io::Error::from(*errno))]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The peer has closed the connection.
    #[error("the peer has closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// Something that is no D-Bus, or that this crate can't say.
    #[error("not a valid D-Bus message: {0}")]
    Malformed(&'static str),
    /// The peer doesn't take us for who we are.
    #[error("authentication refused: {0}")]
    Refused(String),
}

impl Error {
    /// Whether the peer answered with the error `name`.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == wanted)
    }
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
