//! Ports of the host, held so that nobody else binds them while they lead to a container.
//!
//! A held port is a socket that is bound and does nothing. The sockets lie in the queue of one unix socket (SCM_RIGHTS,
//! unix(7)): whoever keeps that one descriptor keeps them all, whatever its limit of open files is. A container's monitor does,
//! so that the ports are held for as long as the container runs, whether or not an engine does.

use crate::{Error, Protocol};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socket_with,
    socketpair,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Descriptors of one message (`SCM_MAX_FD` is 253).
const TOGETHER: usize = 128;
/// Bytes of messages that may wait in the queue; taken only by those that do.
const QUEUE: usize = 8 << 20;
/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;
/// Bytes of datagrams that may wait; the kernel caps it.
const ROOM: usize = 256 << 10;
/// `TCP_LISTEN` in /proc/net/tcp.
const LISTENS: &str = "0A";

/// Ports that are held. Dropping it, or the descriptor that it becomes, lets go of them.
#[derive(Debug)]
pub struct HeldPorts {
    sender: OwnedFd,
    keeper: OwnedFd,
    new: Vec<OwnedFd>,
}

impl HeldPorts {
    /// None yet.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn new() -> naru_base::Result<Self> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (sender, keeper) = pair.map_err(|errno| Error::Socket { operation: "make a pair", errno })?;
        // Enough for every port that there is; where it isn't permitted, for tens of thousands.
        let _ = sockopt::set_socket_send_buffer_size_force(&sender, QUEUE);
        Ok(Self { sender, keeper, new: Vec::new() })
    }

    /// Holds a port, or any that is free for 0; which one. As [`bind_port`] and [`HeldPorts::keep`].
    ///
    /// # Errors
    /// As [`bind_port`].
    pub fn hold(&mut self, protocol: Protocol, address: IpAddr, port: u16) -> std::result::Result<u16, Errno> {
        let (port, socket) = bind_port(protocol, address, port)?;
        socket.map_or(Ok(()), |socket| self.keep(socket))?;
        Ok(port)
    }

    /// Holds the port of a socket.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn keep(&mut self, socket: OwnedFd) -> std::result::Result<(), Errno> {
        self.new.push(socket);
        if self.new.len() == TOGETHER {
            self.put_away()?;
        }
        Ok(())
    }

    fn put_away(&mut self) -> std::result::Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = self.new.iter().map(|s| s.as_fd()).collect();
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::MSGSIZE);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.sender, &[IoSlice::new(&[0])], &mut control, flags)?;
        self.new.clear();
        Ok(())
    }

    /// The one descriptor that holds them all.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn into_descriptor(mut self) -> naru_base::Result<OwnedFd> {
        if !self.new.is_empty() {
            self.put_away().map_err(|errno| Error::Socket { operation: "put a port away", errno })?;
        }
        Ok(self.keeper)
    }
}

/// Binds a port, or any that is free for 0; which one, and its socket, which does nothing. On a kernel without SCTP its ports have no
/// socket, and are taken for free.
///
/// # Errors
/// As bind(2): `EADDRINUSE` for a port that somebody has, `EADDRNOTAVAIL` for an address that is not the host's.
pub fn bind_port(protocol: Protocol, address: IpAddr, port: u16) -> std::result::Result<(u16, Option<OwnedFd>), Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, number) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp && port != 0 => {
            return Ok((port, None));
        }
        other => other?,
    };
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match protocol {
        // What a server that has ended left behind is no hindrance; but nobody may share the port afterwards.
        Protocol::Tcp => sockopt::set_socket_reuseaddr(&socket, true)?,
        // What arrives while the rules are gone is not kept.
        _ => sockopt::set_socket_recv_buffer_size(&socket, 0)?,
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, false)?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?.port();
    Ok((bound, Some(socket)))
}

/// Makes a bound socket of TCP or UDP one that is answered at: it listens, takes datagrams, and never blocks.
///
/// # Errors
/// As listen(2).
pub fn serve_port(protocol: Protocol, socket: &OwnedFd) -> std::result::Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    match protocol {
        Protocol::Tcp => rustix::net::listen(socket, BACKLOG),
        // Bound without room for datagrams.
        _ => sockopt::set_socket_recv_buffer_size(socket, ROOM),
    }
}

/// Whether this host has IPv6 for us: whether its loopback address can be bound.
pub fn has_ipv6() -> bool {
    bind_port(Protocol::Udp, Ipv6Addr::LOCALHOST.into(), 0).is_ok()
}

/// Who listens on a port, as `name, process 123`. None when that can't be seen.
pub fn port_user(protocol: Protocol, address: IpAddr, port: u16) -> Option<String> {
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return None,
    };
    let inode = [name.to_owned(), format!("{name}6")].iter().find_map(|table| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        text.lines().skip(1).find_map(|line| listening(line, protocol, address, port))
    })?;
    let target = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let has = descriptors.flatten().any(|d| std::fs::read_link(d.path()).is_ok_and(|t| t.as_os_str() == &*target));
        if has {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{}, process {pid}", comm.trim()));
        }
    }
    None
}

/// The inode of a line of /proc/net/tcp or udp (proc_net_tcp(5)) that stands in the way of the port.
fn listening(line: &str, protocol: Protocol, address: IpAddr, port: u16) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let (local, number) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let own = parse_address(local)?;
    let matches = own.is_unspecified() || address.is_unspecified() || own == address;
    let is_it = u16::from_str_radix(number, 16).ok()? == port && matches;
    (is_it && (protocol != Protocol::Tcp || state == LISTENS)).then(|| inode.to_owned())
}

/// Words of 32 bits in the host's byte order, in hexadecimal digits.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| text.get(at * 8..at * 8 + 8).and_then(|w| u32::from_str_radix(w, 16).ok());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            for (part, word) in bytes.chunks_exact_mut(4).zip(words) {
                part.copy_from_slice(&word.to_ne_bytes());
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_nobody_elses_until_it_is_let_go() {
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut held = HeldPorts::new().unwrap();
            let port = held.hold(protocol, here, 0).unwrap();
            assert_ne!(port, 0);
            let keeper = held.into_descriptor().unwrap();
            let mut other = HeldPorts::new().unwrap();
            assert_eq!(other.hold(protocol, here, port), Err(Errno::ADDRINUSE));
            if protocol == Protocol::Tcp {
                assert!(std::net::TcpListener::bind((here, port)).is_err(), "also for one that sets SO_REUSEADDR");
            }
            drop(keeper);
            assert_eq!(other.hold(protocol, here, port), Ok(port));
        }
    }

    #[test]
    fn many_ports_are_one_descriptor() {
        let here = IpAddr::from(Ipv4Addr::new(127, 77, 1, 2));
        let mut held = HeldPorts::new().unwrap();
        let ports: Vec<u16> = (20_000..20_500).map(|p| held.hold(Protocol::Udp, here, p).unwrap()).collect();
        assert_eq!(ports.len(), 500);
        let keeper = held.into_descriptor().unwrap();
        assert!(std::net::UdpSocket::bind((here, 20_499)).is_err());
        drop(keeper);
    }

    #[test]
    fn whoever_listens_is_named() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let user = port_user(Protocol::Tcp, Ipv4Addr::UNSPECIFIED.into(), port).unwrap();
        assert!(user.ends_with(&format!(", process {}", std::process::id())), "{user}");
        assert_eq!(port_user(Protocol::Tcp, Ipv4Addr::new(127, 0, 0, 9).into(), port), None);
        assert_eq!(parse_address("0100007F"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parse_address("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_address("zz"), None);
    }
}
