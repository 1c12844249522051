//! nftables over nfnetlink: one table per engine, changed in transactions.
//!
//! Nothing outside that table is read or changed, except that [`Nft::forward_policy_blocks`] looks at other base chains.

mod expression;
mod inspect;
mod judge;
mod legacy;
mod listing;
mod names;
mod ruleset;
mod sources;
mod transaction;
mod watch;

pub use judge::{Judgement, Reach};
pub use ruleset::{BridgeRules, GateRules, Rules};

pub(crate) use sources::SourceFilters;
pub(crate) use watch::Loss;
pub use watch::RuleWatch;

pub(crate) use judge::{Judge, Packet};
pub(crate) use ruleset::STRANGERS;

use crate::Result;
use crate::netlink::Socket;

/// `NFPROTO_INET`: both IPv4 and IPv6.
const FAMILY_INET: u8 = 1;
/// `NFPROTO_IPV4`.
const FAMILY_IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
const FAMILY_IPV6: u8 = 10;
/// `NFNL_SUBSYS_NFTABLES` in a message kind.
const SUBSYSTEM: u16 = 10 << 8;

/// A netfilter socket in one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2); `EPROTONOSUPPORT` when the kernel has no nfnetlink.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Some(rustix::net::netlink::NETFILTER))? })
    }

    /// The number by which the kernel tells this socket's changes from others'.
    ///
    /// # Errors
    /// As getsockname(2).
    pub(crate) fn port_id(&self) -> Result<u32> {
        self.socket.port_id()
    }
}
