//! Datagrams over IPv6 together with the address of the host's own that they came to or are sent from (`IPV6_PKTINFO`, RFC 3542): rustix
//! has no words for it. A host has many addresses, and who asks at one takes an answer from that one alone.

use crate::call::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::{Errno, Result};
use std::mem::{size_of, zeroed};
use std::net::{Ipv6Addr, SocketAddrV6};

/// Room for one control message, aligned as `struct cmsghdr` must be; `CMSG_SPACE` of 20 bytes is 40.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// One of the host's own addresses, with the interface by which a datagram came there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// The interface's number.
    pub interface: u32,
}

/// Has the socket tell where each datagram came to.
///
/// # Errors
/// As setsockopt(2).
pub fn tell_own_address(socket: impl AsFd) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which lives through the call, and its size is told.
    check(libc::c_long::from(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    }))
    .map(drop)
}

/// Takes a datagram, if one is there: its length, who sent it, and where it came to (none unless [`tell_own_address`] was asked for).
/// What doesn't fit is cut off.
///
/// # Errors
/// As recvmsg(2): `EAGAIN` when there is none; `EAFNOSUPPORT` for one of another family.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, SocketAddrV6, Option<OwnAddress>)> {
    // SAFETY: a sockaddr_in6 of zeros is valid.
    let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is valid: it has no parts.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: every pointer in the message is to something that lives through the call and is as long as is said beside it.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = check(received as libc::c_long)? as usize;
    if libc::c_int::from(name.sin6_family) != libc::AF_INET6 {
        return Err(Errno::AFNOSUPPORT);
    }
    let from = SocketAddrV6::new(
        Ipv6Addr::from(name.sin6_addr.s6_addr),
        u16::from_be(name.sin6_port),
        name.sin6_flowinfo,
        name.sin6_scope_id,
    );
    let mut own = None;
    // SAFETY: the kernel has set msg_controllen to what it wrote into `control`; the macros stay within that.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: `next` is a whole header within `control`, as the macros give it.
        let header = unsafe { next.read_unaligned() };
        if (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
            // SAFETY: the data of such a message is an in6_pktinfo.
            let info: libc::in6_pktinfo = unsafe { libc::CMSG_DATA(next).cast::<libc::in6_pktinfo>().read_unaligned() };
            own = Some(OwnAddress { address: Ipv6Addr::from(info.ipi6_addr.s6_addr), interface: info.ipi6_ifindex });
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok((length, from, own))
}

/// Sends a datagram, without waiting for room, from one of the host's own addresses where one is said; by which interface is the routing
/// table's to say, except for an address of a link.
///
/// # Errors
/// As sendmsg(2).
pub fn send(socket: impl AsFd, bytes: &[u8], to: &SocketAddrV6, from: Option<OwnAddress>) -> Result<()> {
    // SAFETY: a sockaddr_in6 of zeros is valid.
    let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
    name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    name.sin6_port = to.port().to_be();
    name.sin6_addr.s6_addr = to.ip().octets();
    name.sin6_scope_id = to.scope_id();
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeros is valid: it has no parts.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(from) = from {
        let interface = if from.address.is_unicast_link_local() { from.interface } else { 0 };
        let info =
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.address.octets() }, ipi6_ifindex: interface };
        let length = size_of::<libc::in6_pktinfo>() as libc::c_uint;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: a computation; `control` is longer than what it gives (40).
        message.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as _;
        // SAFETY: `control` has room for one header and its data, which is what msg_controllen says.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::IPPROTO_IPV6;
            (*header).cmsg_type = libc::IPV6_PKTINFO;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().write_unaligned(info);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: every pointer in the message is to something that lives through the call, and is only read.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
    check(sent as libc::c_long).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_answer_comes_from_where_it_was_asked() {
        let server = UdpSocket::bind("[::]:0").unwrap();
        tell_own_address(&server).unwrap();
        let port = server.local_addr().unwrap().port();
        assert_eq!(receive(&server, &mut [0; 8]).unwrap_err(), Errno::AGAIN);
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(("::1", port)).unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 16];
        let (length, from, own) = receive(&server, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.port()), (&b"question"[..], client.local_addr().unwrap().port()));
        let own = own.unwrap();
        assert_eq!((own.address, own.interface), (Ipv6Addr::LOCALHOST, 1));
        send(&server, b"answer", &from, Some(own)).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
        // Not from an address that is somebody else's.
        let strange = OwnAddress { address: "2001:db8::1".parse().unwrap(), interface: 0 };
        assert!(send(&server, b"answer", &from, Some(strange)).is_err());
        send(&server, b"more", &from, None).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }
}
