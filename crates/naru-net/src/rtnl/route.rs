//! IPv4 routes (linux/rtnetlink.h).

use super::Rtnl;
use super::address::{AF_INET, push_address};
use super::link::push_up;
use crate::netlink::{ACK, Batch, CREATE, EXCL, attribute, read_u32};
use crate::{Result, Subnet};
use std::net::Ipv4Addr;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u32 = 255;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const TYPE_UNICAST: u8 = 1;

/// An IPv4 route of any table but the local one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// Where it leads to; `0.0.0.0/0` for a default route.
    pub destination: Subnet,
    /// Over which router; none for an on-link route.
    pub gateway: Option<Ipv4Addr>,
    /// By which interface; 0 for none.
    pub index: u32,
    /// In which table.
    pub table: u32,
}

/// `struct rtmsg`.
fn header(prefix: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [AF_INET, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

fn push_default_route(batch: &mut Batch, index: u32, gateway: Ipv4Addr) {
    let header = header(0, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_UNIVERSE, TYPE_UNICAST);
    batch.push("add default route", RTM_NEWROUTE, ACK | CREATE | EXCL, &header, |a| {
        a.u32(RTA_OIF, index);
        a.bytes(RTA_GATEWAY, &gateway.octets());
    });
}

impl Rtnl {
    /// Gives a container's interface its address, sets it up and, with a gateway, adds the default route: one call to the
    /// kernel.
    ///
    /// # Errors
    /// `EEXIST` when there is a default route already, `ENETUNREACH` for a gateway outside the subnet.
    pub fn configure(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        subnet: Subnet,
        gateway: Option<Ipv4Addr>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        push_address(&mut batch, index, address, subnet);
        push_up(&mut batch, index, true);
        if let Some(gateway) = gateway {
            push_default_route(&mut batch, index, gateway);
        }
        self.socket.send(batch).map_err(|e| e.about(&address.to_string()))
    }

    /// All IPv4 routes but those of the local table.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn routes(&mut self) -> Result<Vec<RouteInfo>> {
        self.socket.dump("list routes", RTM_GETROUTE, &header(0, 0, 0, 0, 0), read_route)
    }
}

fn read_route(payload: &[u8]) -> Option<RouteInfo> {
    let attributes = payload.get(12..)?;
    let find = |kind| attribute(attributes, kind);
    let ip = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b));
    let table = find(RTA_TABLE).and_then(read_u32).unwrap_or(u32::from(payload[4]));
    (payload[0] == AF_INET && table != TABLE_LOCAL).then_some(())?;
    let destination = find(RTA_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), ip)?;
    Some(RouteInfo {
        destination: Subnet::containing(destination, payload[1])?,
        gateway: find(RTA_GATEWAY).and_then(ip),
        index: find(RTA_OIF).and_then(read_u32).unwrap_or(0),
        table,
    })
}
