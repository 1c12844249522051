//! Sockets to listen on.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use rustix::fs::Mode;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use tokio::net::{TcpListener, UnixListener};

/// First descriptor that systemd hands over (sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;
/// Who may speak to the engine: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    /// unix(7).
    Unix(UnixListener),
    /// tcp(7), without TLS.
    Tcp(TcpListener),
}

/// Listens on `unix:///path`, `/path`, `tcp://host:port` or `fd://` (all sockets that systemd passed, see [`activated`]).
///
/// A unix socket gets mode 0660 and, where it exists, the group `docker`. A socket that is left over from an engine that is gone
/// is replaced.
///
/// # Errors
/// For another form, when an engine answers there already, and when the system refuses; the text names the address.
pub fn bind(url: &str) -> Result<Vec<Listener>> {
    match url.split_once("://") {
        Some(("unix", path)) => Ok(vec![bind_unix(Path::new(path))?]),
        None if url.starts_with('/') => Ok(vec![bind_unix(Path::new(url))?]),
        Some(("tcp", address)) => Ok(vec![bind_tcp(address)?]),
        Some(("fd", _)) => activated(),
        _ => Err(Error::invalid(format!("unable to parse listen address {url:?}: unix://, tcp:// or fd:// is needed"))),
    }
}

fn bind_unix(path: &Path) -> Result<Listener> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(Error::invalid(format!("socket path {shown} is not absolute")));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).system(format!("cannot make the folder of socket {shown}"))?;
    }
    remove_stale(path)?;
    // The mode is in force before anyone can connect: the mask covers the moment until chmod.
    let old = rustix::process::umask(Mode::from_raw_mode(0o777 & !SOCKET_MODE));
    let bound = UnixListener::bind(path);
    rustix::process::umask(old);
    let listener = bound.system(format!("cannot listen on {shown}"))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(SOCKET_MODE))
        .system(format!("cannot set the mode of socket {shown}"))?;
    if let Some(group) = docker_group() {
        rustix::fs::chown(path, None, Some(group)).system(format!("cannot give socket {shown} to the group docker"))?;
    }
    Ok(Listener::Unix(listener))
}

/// Removes a socket that nobody answers at.
fn remove_stale(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let shown = path.display();
    let metadata = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.system(format!("cannot look at socket {shown}"))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::conflict(format!("cannot listen on {shown}: it exists and is no socket")));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Error::conflict(format!("cannot listen on {shown}: another engine answers there"))),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).system(format!("cannot remove the stale socket {shown}"))
        }
        Err(e) => Err(Error::system(format!("cannot tell whether anyone answers at socket {shown}: {e}"))),
    }
}

/// The group that docker's clients are members of.
fn docker_group() -> Option<rustix::fs::Gid> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|l| l.starts_with("docker:"))?;
    line.split(':').nth(2)?.parse().ok().map(rustix::fs::Gid::from_raw)
}

fn bind_tcp(address: &str) -> Result<Listener> {
    let address = address.trim_end_matches('/');
    let with_port = if address.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) {
        address.to_owned()
    } else {
        format!("{address}:2375")
    };
    let with_port = if with_port.starts_with(':') { format!("127.0.0.1{with_port}") } else { with_port };
    let resolved: std::net::SocketAddr = match with_port.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse(),
        None => with_port.parse(),
    }
    .map_err(|_| Error::invalid(format!("listen address tcp://{address} is no numeric address with a port")))?;
    if !resolved.ip().is_loopback() {
        tracing::warn!(%resolved, "anyone who reaches this port is root on this host: there is no authentication");
    }
    let listener = std::net::TcpListener::bind(resolved).system(format!("cannot listen on tcp://{resolved}"))?;
    listener.set_nonblocking(true).system(format!("cannot listen on tcp://{resolved}"))?;
    TcpListener::from_std(listener).system(format!("cannot listen on tcp://{resolved}")).map(Listener::Tcp)
}

/// The sockets that systemd passed (sd_listen_fds(3): `LISTEN_PID`, `LISTEN_FDS`), unix or TCP.
///
/// They are duplicated out of the numbers that they came under (pidfd_getfd(2)), since nobody here owns those.
///
/// # Errors
/// When none was passed to this process, or one is no listening stream socket.
pub fn activated() -> Result<Vec<Listener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<i32>().ok());
    let own = rustix::process::getpid();
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == own.as_raw_nonzero().get() && count > 0 => count,
        _ => return Err(Error::invalid("no sockets were passed by systemd (LISTEN_PID, LISTEN_FDS)")),
    };
    let this = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())
        .system("cannot open a descriptor of this process")?;
    (FIRST_PASSED..FIRST_PASSED.saturating_add(count))
        .map(|fd| {
            let socket = rustix::process::pidfd_getfd(&this, fd, rustix::process::PidfdGetfdFlags::empty())
                .system(format!("cannot take over passed socket {fd}"))?;
            adopt(socket).map_err(|e| e.context(format!("passed socket {fd}")))
        })
        .collect()
}

fn adopt(socket: OwnedFd) -> Result<Listener> {
    use rustix::net::{AddressFamily, sockopt};
    if !sockopt::socket_acceptconn(&socket).system("cannot look at it")? {
        return Err(Error::invalid("it does not listen"));
    }
    rustix::io::ioctl_fionbio(&socket, true).system("cannot make it non-blocking")?;
    match sockopt::socket_domain(&socket).system("cannot look at it")? {
        AddressFamily::UNIX => UnixListener::from_std(socket.into()).system("cannot watch it").map(Listener::Unix),
        AddressFamily::INET | AddressFamily::INET6 => {
            TcpListener::from_std(socket.into()).system("cannot watch it").map(Listener::Tcp)
        }
        _ => Err(Error::invalid("it is neither unix nor TCP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("naru-api-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stale_socket_is_replaced_and_a_live_one_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder("stale");
        let path = folder.join("sub/n.sock");
        let url = format!("unix://{}", path.display());
        let first = bind(&url).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(bind(&url).unwrap_err().message().ends_with("another engine answers there"));
        drop(first);
        assert_eq!(bind(&url).unwrap().len(), 1);
        std::fs::write(folder.join("file"), "").unwrap();
        assert!(bind(&format!("unix://{}/file", folder.display())).unwrap_err().message().ends_with("is no socket"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn addresses_are_numeric_with_a_default_port() {
        assert!(matches!(bind("tcp://127.0.0.1:0").unwrap()[..], [Listener::Tcp(_)]));
        for bad in ["http://x", "tcp://example.org:1", "relative", "unix://relative"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }
}
