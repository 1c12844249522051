//! Where the engine listens, and the connection to it.

use crate::{Error, Result};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP: `host:port`.
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix:///run/x.sock`, `tcp://host:port`, `http://host:port`, or one without a scheme (TCP).
    ///
    /// # Errors
    /// For an unknown scheme and an empty address.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::Endpoint(format!("unable to parse docker host `{text}`"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if !rest.is_empty() => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Ok(Self::Unix(PathBuf::from("/var/run/docker.sock"))),
            "tcp" | "http" => {
                let authority = rest.split('/').next().unwrap_or_default();
                if authority.contains(|c: char| c.is_control() || c == ' ') {
                    return Err(bad());
                }
                Ok(Self::Tcp(with_port(authority)))
            }
            "https" | "ssh" | "npipe" | "fd" => {
                Err(Error::Endpoint(format!("docker host `{text}`: the scheme {scheme} is not supported")))
            }
            _ => Err(bad()),
        }
    }

    /// The socket's path, when it is one.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }

    /// What stands in the `Host` header.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "api.moby.localhost",
            Self::Tcp(address) => address,
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing listens, [`Error::Permission`] when the socket may not be opened.
    pub fn connect(&self) -> Result<Stream> {
        let opened = match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Self::Tcp(address) => TcpStream::connect(address).and_then(|s| {
                s.set_nodelay(true)?;
                Ok(Stream::Tcp(s))
            }),
        };
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission { endpoint: self.to_string() },
            _ => Error::Connect { endpoint: self.to_string(), source },
        })
    }
}

/// `authority` with docker's defaults: host `localhost`, port 2375.
fn with_port(authority: &str) -> String {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = if port.is_empty() { "2375" } else { port };
    format!("{host}:{port}")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Says that nothing more will be written; reading goes on.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.shutdown(Shutdown::Write),
            Self::Tcp(s) => s.shutdown(Shutdown::Write),
        }
    }

    /// A second handle on the same connection.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(s) => s.try_clone().map(Self::Unix),
            Self::Tcp(s) => s.try_clone().map(Self::Tcp),
        }
    }

    /// Makes reads and writes return at once.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.set_nonblocking(on),
            Self::Tcp(s) => s.set_nonblocking(on),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(s) => s.as_fd(),
            Self::Tcp(s) => s.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.read(buf),
            Self::Tcp(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.write(buf),
            Self::Tcp(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let p = |s: &str| Endpoint::parse(s).unwrap().to_string();
        assert_eq!(p("unix:///run/x.sock"), "unix:///run/x.sock");
        assert_eq!(p("tcp://10.0.0.1:2375"), "tcp://10.0.0.1:2375");
        assert_eq!(p("tcp://10.0.0.1"), "tcp://10.0.0.1:2375");
        assert_eq!(p("tcp://:99"), "tcp://localhost:99");
        assert_eq!(p("http://[::1]/x"), "tcp://[::1]:2375");
        assert_eq!(p("[::1]:1"), "tcp://[::1]:1");
        assert!(Endpoint::parse("ftp://x").is_err());
        assert!(Endpoint::parse("tcp://a b").is_err());
    }
}
