//! Notices when somebody else deletes rules of ours: `nft flush ruleset`, or a firewall that is loaded anew.

use super::SUBSYSTEM;
use super::sources::{SourceFilters, asks, is_engines};
use crate::netlink::{attribute, read_u16, read_u32, text};
use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << 6;
/// Table, chain, rule, set, element: the message kinds that tell of a deletion.
const DELETIONS: [u16; 5] = [SUBSYSTEM | 2, SUBSYSTEM | 5, SUBSYSTEM | 8, SUBSYSTEM | 11, SUBSYSTEM | 14];
const NEWRULE: u16 = SUBSYSTEM | 6;
/// `NLMSG_GOODSIZE` is a page at most; several messages share a datagram.
const DATAGRAM: usize = 64 * 1024;
/// Bytes of news that may wait; taken only while they do.
const ROOM: usize = 8 << 20;
/// Length of `struct nlmsghdr`, and of `struct nfgenmsg` behind it.
const HEADERS: usize = 16 + 4;

/// What the news tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Nobody else has deleted anything.
    None,
    /// News got lost on the way, among which may have been such.
    Possible,
    /// Somebody has.
    Certain,
}

/// What has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    pub loss: Loss,
    /// Somebody has a rule now that asks for sources.
    pub sources: SourceFilters,
}

/// A socket that hears of every change of nftables in one network namespace.
#[derive(Debug)]
pub struct RuleWatch {
    socket: OwnedFd,
}

impl RuleWatch {
    /// Hears from now on.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(crate) fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(rustix::net::netlink::NETFILTER);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(|errno| Error::Socket { operation: "open", errno })?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUP))
            .map_err(|errno| Error::Socket { operation: "subscribe", errno })?;
        // A thousand ports that are withdrawn are 1 MiB of news. A host that doesn't permit it loses some (see `Loss::Possible`).
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM);
        Ok(Self { socket })
    }

    /// Reads all that has come: what anybody but the socket numbered `own` has deleted of the table, or added to others.
    pub(crate) fn news(&self, table: &str, own: u32) -> News {
        let mut news = News { loss: Loss::None, sources: SourceFilters::default() };
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            buffer.clear();
            let space = rustix::buffer::spare_capacity(&mut buffer);
            match rustix::net::recv(&self.socket, space, RecvFlags::DONTWAIT) {
                Ok(_) => read_news(&buffer, table, own, &mut news),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => news.loss = news.loss.max(Loss::Possible),
                Err(_) => return news,
            }
        }
    }
}

impl AsFd for RuleWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read_news(datagram: &[u8], table: &str, own: u32, news: &mut News) {
    let mut rest = datagram;
    while let (Some(length), Some(kind), Some(from)) =
        (read_u32(rest), rest.get(4..).and_then(read_u16), rest.get(12..).and_then(read_u32))
    {
        let length = length as usize;
        let Some(message) = rest.get(..length).filter(|m| m.len() >= HEADERS) else { return };
        // The table's name is the first attribute of every one of these messages.
        let about = attribute(&message[HEADERS..], 1).map(text);
        let ours = about.as_deref() == Some(table);
        if DELETIONS.contains(&kind) && from != own && ours {
            news.loss = Loss::Certain;
        }
        if kind == NEWRULE && !about.as_deref().is_some_and(is_engines) && asks(&message[HEADERS..]) {
            news.sources = news.sources.and(SourceFilters::of(message[HEADERS - 4]));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tells_of_loss(datagram: &[u8], table: &str, own: u32) -> bool {
        let mut news = News { loss: Loss::None, sources: SourceFilters::default() };
        read_news(datagram, table, own, &mut news);
        news.loss == Loss::Certain
    }

    fn message(kind: u16, from: u32, table: &str) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&(4 + table.len() as u16 + 1).to_ne_bytes());
        body.extend_from_slice(&1u16.to_ne_bytes());
        body.extend_from_slice(table.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
        let mut all = (16 + body.len() as u32).to_ne_bytes().to_vec();
        all.extend_from_slice(&kind.to_ne_bytes());
        all.extend_from_slice(&[0; 6]);
        all.extend_from_slice(&from.to_ne_bytes());
        all.extend_from_slice(&body);
        all
    }

    #[test]
    fn only_what_others_delete_of_ours_is_a_loss() {
        let deletion = SUBSYSTEM | 8;
        assert!(tells_of_loss(&message(deletion, 7, "naru"), "naru", 3));
        assert!(!tells_of_loss(&message(deletion, 3, "naru"), "naru", 3), "our own");
        assert!(!tells_of_loss(&message(deletion, 7, "other"), "naru", 3), "another table's");
        assert!(!tells_of_loss(&message(SUBSYSTEM | 6, 7, "naru"), "naru", 3), "an addition");
        let two = [message(deletion, 7, "other"), message(SUBSYSTEM | 2, 7, "naru")].concat();
        assert!(tells_of_loss(&two, "naru", 3));
        assert!(!tells_of_loss(&two[..30], "naru", 3));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = tells_of_loss(&bytes, "naru", 1);
        }
    }
}
