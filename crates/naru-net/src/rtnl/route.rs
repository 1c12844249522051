//! Routes (linux/rtnetlink.h).

use super::Rtnl;
use super::address::{AF_INET, AF_INET6, push_address, push_address6, push_link_local};
use super::link::push_up;
use crate::netlink::{ACK, Batch, CREATE, EXCL, REPLACE, attribute, read_u32};
use crate::{Result, Subnet, Subnet6};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u32 = 255;
pub(super) const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
pub(super) const SCOPE_LINK: u8 = 253;
/// In a deletion: of any scope.
const SCOPE_NOWHERE: u8 = 255;
pub(super) const TYPE_UNICAST: u8 = 1;

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

/// What a container's interface gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Configuration<'a> {
    /// IPv4 address and its subnet.
    pub v4: Option<(Ipv4Addr, Subnet)>,
    /// IPv6 address and its subnet.
    pub v6: Option<(Ipv6Addr, Subnet6)>,
    /// Further addresses, of the link only.
    pub link_local: &'a [IpAddr],
    /// Default routes over these; an unspecified address means the interface itself.
    pub gateways: &'a [IpAddr],
}

/// `struct rtmsg`.
pub(super) fn header(family: u8, prefix: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [family, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

fn push_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) {
    let family = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
    let scope = if gateway.is_unspecified() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let header = header(family, 0, TABLE_MAIN, PROTOCOL_BOOT, scope, TYPE_UNICAST);
    batch.push("add default route", RTM_NEWROUTE, ACK | CREATE | EXCL, &header, |a| {
        a.u32(RTA_OIF, index);
        match gateway {
            _ if gateway.is_unspecified() => {}
            IpAddr::V4(gateway) => a.bytes(RTA_GATEWAY, &gateway.octets()),
            IpAddr::V6(gateway) => a.bytes(RTA_GATEWAY, &gateway.octets()),
        }
    });
}

impl Rtnl {
    /// A route to the addresses of the link (fe80::/64) by an interface that has no address itself; one that is there is no error.
    pub(crate) fn add_link_local_route(&mut self, index: u32) -> Result<()> {
        const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        let mut batch = Batch::new();
        let header = header(AF_INET6, 64, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_UNIVERSE, TYPE_UNICAST);
        batch.push("add route", RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |a| {
            a.bytes(RTA_DST, &LINK_LOCAL.octets());
            a.u32(RTA_OIF, index);
        });
        self.socket.send(batch)
    }

    /// Gives a container's interface its addresses, sets it up and adds the default routes: one call to the kernel.
    ///
    /// # Errors
    /// `EEXIST` when there is a default route already, `ENETUNREACH` for a gateway outside the subnet.
    pub fn configure(&mut self, index: u32, wanted: &Configuration<'_>) -> Result<()> {
        let mut batch = Batch::new();
        if let Some((address, subnet)) = wanted.v4 {
            push_address(&mut batch, index, address, subnet);
        }
        if let Some((address, subnet)) = wanted.v6 {
            push_address6(&mut batch, index, address, subnet.prefix());
        }
        wanted.link_local.iter().for_each(|address| push_link_local(&mut batch, index, *address));
        push_up(&mut batch, index, true);
        wanted.gateways.iter().for_each(|gateway| push_default_route(&mut batch, index, *gateway));
        let subject = wanted.v4.map(|(a, _)| IpAddr::V4(a)).or(wanted.v6.map(|(a, _)| IpAddr::V6(a)));
        self.socket.send(batch).map_err(|e| e.about(&subject.map(|a| a.to_string()).unwrap_or_default()))
    }

    /// Replaces the default routes of both families: those over `gateways` by the interface `index`, and no other.
    ///
    /// # Errors
    /// `ENETUNREACH` for a gateway outside the interface's subnets.
    pub fn set_default_routes(&mut self, index: u32, gateways: &[IpAddr]) -> Result<()> {
        for family in [AF_INET, AF_INET6] {
            self.delete_default_routes(family)?;
        }
        let mut batch = Batch::new();
        if gateways.is_empty() {
            return Ok(());
        }
        gateways.iter().for_each(|gateway| push_default_route(&mut batch, index, *gateway));
        self.socket.send(batch)
    }

    /// All of one family; a kernel without IPv6 has none.
    fn delete_default_routes(&mut self, family: u8) -> Result<()> {
        // A namespace with more default routes than this has another owner than us.
        for _ in 0..16 {
            let mut batch = Batch::new();
            // Of any protocol and kind: 0 is "not said".
            let header = header(family, 0, TABLE_MAIN, 0, SCOPE_NOWHERE, 0);
            batch.push("delete default route", RTM_DELROUTE, ACK, &header, |_| {});
            match self.socket.send(batch) {
                Ok(()) => {}
                Err(e)
                    if matches!(
                        e.errno(),
                        Some(Errno::SRCH | Errno::NOENT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP)
                    ) =>
                {
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// All IPv4 routes but those of the local table.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn routes(&mut self) -> Result<Vec<RouteInfo>> {
        self.socket.dump("list routes", RTM_GETROUTE, &header(AF_INET, 0, 0, 0, 0, 0), read_route)
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
