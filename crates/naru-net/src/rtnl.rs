//! Links, addresses and routes of one network namespace (rtnetlink(7)).

mod address;
mod gate;
mod hairpin;
mod link;
mod lock;
mod on_link;
mod route;
mod rule;

pub use address::AddressInfo;
pub use link::{BridgeOptions, LinkInfo, LinkStats, VethPair};
pub use on_link::{LinkKind, OnLink, ParentOptions};
pub use route::{Configuration, RouteInfo};

pub(crate) use link::is_valid_name;

use crate::Result;
use crate::netlink::{Batch, Socket};

/// A routing socket in one network namespace, which it keeps alive.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(None)? })
    }

    /// Sends prepared requests.
    ///
    /// # Errors
    /// The first refusal.
    pub fn send(&mut self, batch: Batch) -> Result<()> {
        self.socket.send(batch)
    }
}
