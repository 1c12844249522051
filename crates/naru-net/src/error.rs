//! What can fail, one variant per kind of call.

use naru_base::Class;
use rustix::io::Errno;

/// The result of this crate's lower modules; the public border gives [`naru_base::Result`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed step, with its subject.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a netlink socket failed.
    #[error("netlink socket: cannot {operation}: {errno}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {operation}{}: {errno}{}", subject_text(subject), detail_text(detail))]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of which object; empty when the operation says it all.
        subject: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's own words (extended acknowledgement).
        detail: Option<String>,
    },
    /// An answer of the kernel can't be read.
    #[error("netlink: malformed answer: {0}")]
    Malformed(&'static str),
    /// A request does not fit into its length field.
    #[error("netlink: request to {0} is too long")]
    TooLong(&'static str),
    /// A network namespace can't be made or entered.
    #[error("network namespace: cannot {operation}: {errno}")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// A file under /proc/sys/net can't be read or written.
    #[error("cannot set {path}: {source}")]
    Sysctl {
        /// The file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No more addresses.
    #[error("no available {family} addresses on this network's address pools: {subnet}")]
    Exhausted {
        /// IPv4 or IPv6.
        family: &'static str,
        /// Of which subnet.
        subnet: String,
    },
    /// An address that is taken.
    #[error("Address already in use")]
    Taken(std::net::IpAddr),
    /// Every default pool overlaps something.
    #[error("all predefined address pools have been fully subnetted")]
    NoPool,
    /// The network is not known.
    #[error("network {0} is not set up")]
    UnknownNetwork(String),
    /// The caller's wish can't be met.
    #[error("{0}")]
    Invalid(String),
    /// A link has the name that is wanted, and is not ours.
    #[error("interface {name} exists and is a {kind}, not a bridge")]
    ForeignLink {
        /// The interface.
        name: String,
        /// What it is.
        kind: String,
    },
}

fn subject_text(subject: &str) -> String {
    if subject.is_empty() { String::new() } else { format!(" {subject}") }
}

fn detail_text(detail: &Option<String>) -> String {
    detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default()
}

impl Error {
    /// The error number, when there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } | Self::Namespace { errno, .. } => Some(*errno),
            Self::Sysctl { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }

    /// Names the object that a refused request was about.
    #[must_use]
    pub(crate) fn about(self, name: &str) -> Self {
        match self {
            Self::Refused { operation, subject, errno, detail } if subject.is_empty() => {
                Self::Refused { operation, subject: name.to_owned(), errno, detail }
            }
            other => other,
        }
    }
}

impl From<Error> for naru_base::Error {
    fn from(error: Error) -> Self {
        let class = match &error {
            Error::Invalid(_) | Error::NoPool => Class::InvalidParameter,
            Error::UnknownNetwork(_) => Class::NotFound,
            Error::Taken(_) => Class::Forbidden,
            Error::ForeignLink { .. } => Class::Conflict,
            _ => Class::System,
        };
        Self::new(class, error.to_string())
    }
}
