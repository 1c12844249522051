//! IPv4 addresses of interfaces (linux/if_addr.h).

use super::Rtnl;
use crate::netlink::{ACK, Batch, CREATE, REPLACE, attribute, read_u32};
use crate::{Result, Subnet};
use std::net::Ipv4Addr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
pub(super) const AF_INET: u8 = 2;

/// An IPv4 address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressInfo {
    /// The interface.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

/// `struct ifaddrmsg`.
fn header(prefix: u8, index: u32) -> [u8; 8] {
    let mut bytes = [AF_INET, prefix, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Appends the request that gives an interface an address in its subnet.
pub(super) fn push_address(batch: &mut Batch, index: u32, address: Ipv4Addr, subnet: Subnet) {
    batch.push("add address", RTM_NEWADDR, ACK | CREATE | REPLACE, &header(subnet.prefix(), index), |a| {
        a.bytes(IFA_LOCAL, &address.octets());
        a.bytes(IFA_ADDRESS, &address.octets());
        if subnet.prefix() < 31 {
            a.bytes(IFA_BROADCAST, &subnet.broadcast().octets());
        }
    });
}

impl Rtnl {
    /// Gives an interface an address; one that it has already is no error.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, subnet: Subnet) -> Result<()> {
        let mut batch = Batch::new();
        push_address(&mut batch, index, address, subnet);
        self.socket.send(batch).map_err(|e| e.about(&address.to_string()))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when the interface has no such address.
    pub fn delete_address(&mut self, address: &AddressInfo) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("delete address", RTM_DELADDR, ACK, &header(address.prefix, address.index), |a| {
            a.bytes(IFA_LOCAL, &address.address.octets());
        });
        self.socket.send(batch).map_err(|e| e.about(&address.address.to_string()))
    }

    /// The IPv4 addresses of all interfaces.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn addresses(&mut self) -> Result<Vec<AddressInfo>> {
        self.socket.dump("list addresses", RTM_GETADDR, &header(0, 0), read_address)
    }
}

fn read_address(payload: &[u8]) -> Option<AddressInfo> {
    let attributes = payload.get(8..)?;
    let local = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    (payload[0] == AF_INET).then_some(())?;
    Some(AddressInfo {
        index: read_u32(&payload[4..])?,
        address: Ipv4Addr::from(*local.first_chunk::<4>()?),
        prefix: payload[1],
    })
}
