//! Addresses of interfaces (linux/if_addr.h).

use super::Rtnl;
use crate::netlink::{ACK, Batch, CREATE, REPLACE, attribute, read_u32};
use crate::{Result, Subnet, Subnet6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
/// Used at once: nobody else can have an address that we lease.
const IFA_F_NODAD: u8 = 0x02;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;

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
fn header(family: u8, prefix: u8, flags: u8, scope: u8, index: u32) -> [u8; 8] {
    let mut bytes = [family, prefix, flags, scope, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Appends the request that gives an interface an address in its subnet.
pub(super) fn push_address(batch: &mut Batch, index: u32, address: Ipv4Addr, subnet: Subnet) {
    let header = header(AF_INET, subnet.prefix(), 0, 0, index);
    batch.push("add address", RTM_NEWADDR, ACK | CREATE | REPLACE, &header, |a| {
        a.bytes(IFA_LOCAL, &address.octets());
        a.bytes(IFA_ADDRESS, &address.octets());
        if subnet.prefix() < 31 {
            a.bytes(IFA_BROADCAST, &subnet.broadcast().octets());
        }
    });
}

/// Appends the request that gives an interface an IPv6 address, usable at once.
pub(super) fn push_address6(batch: &mut Batch, index: u32, address: Ipv6Addr, prefix: u8) {
    let header = header(AF_INET6, prefix, IFA_F_NODAD, 0, index);
    batch.push("add address", RTM_NEWADDR, ACK | CREATE | REPLACE, &header, |a| {
        a.bytes(IFA_LOCAL, &address.octets());
        a.bytes(IFA_ADDRESS, &address.octets());
    });
}

/// Appends the request that gives an interface a further address, of its link only.
pub(super) fn push_link_local(batch: &mut Batch, index: u32, address: IpAddr) {
    match address {
        IpAddr::V6(address) => push_address6(batch, index, address, 64),
        IpAddr::V4(address) => {
            let header = header(AF_INET, 16, 0, SCOPE_LINK, index);
            batch.push("add address", RTM_NEWADDR, ACK | CREATE | REPLACE, &header, |a| {
                a.bytes(IFA_LOCAL, &address.octets());
                a.bytes(IFA_ADDRESS, &address.octets());
            });
        }
    }
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

    /// Gives an interface an IPv6 address, without looking for another holder; one that it has already is no error.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone, `EACCES` when IPv6 is off there.
    pub fn add_address6(&mut self, index: u32, address: Ipv6Addr, subnet: Subnet6) -> Result<()> {
        let mut batch = Batch::new();
        push_address6(&mut batch, index, address, subnet.prefix());
        self.socket.send(batch).map_err(|e| e.about(&address.to_string()))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when the interface has no such address.
    pub fn delete_address(&mut self, address: &AddressInfo) -> Result<()> {
        let mut batch = Batch::new();
        let header = header(AF_INET, address.prefix, 0, 0, address.index);
        batch.push("delete address", RTM_DELADDR, ACK, &header, |a| {
            a.bytes(IFA_LOCAL, &address.address.octets());
        });
        self.socket.send(batch).map_err(|e| e.about(&address.address.to_string()))
    }

    /// The IPv4 addresses of all interfaces.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn addresses(&mut self) -> Result<Vec<AddressInfo>> {
        self.socket.dump("list addresses", RTM_GETADDR, &header(AF_INET, 0, 0, 0, 0), read_address)
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
