//! Which published ports other machines reach, as the host's rules have it.

use super::{HostNet, lock};
use crate::nft::{Judge, Judgement, Packet, Reach};
use crate::{Protocol, Result};
use std::net::{IpAddr, Ipv6Addr};

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
/// `IFA_F_*` scope of a global address in /proc/net/if_inet6.
const GLOBAL: &str = "00";

/// A published port, whichever way it leads to its container.
#[derive(Debug, Clone)]
pub struct ExposedPort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The host's address; unspecified for all of its family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
}

/// What another machine gets at one of the host's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The address.
    pub address: IpAddr,
    /// The interface that has it, by which other machines come.
    pub interface: String,
    /// What the rules say.
    pub judgement: Judgement,
}

/// The rules as they are now, and the addresses at which other machines see the host.
#[derive(Debug)]
pub struct Outlook {
    judge: Judge,
    addresses: Vec<(IpAddr, String)>,
    gate: String,
    /// Bridges with their addresses.
    bridges: Vec<(String, crate::spec::Addresses)>,
}

impl HostNet {
    /// Reads the rules of all other tables, and the host's addresses.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn outlook(&self) -> naru_base::Result<Outlook> {
        let judge = lock(&self.firewall).nft.judge(&self.instance.table())?;
        let bridges = lock(&self.live).values().map(|l| (l.spec.bridge_name.clone(), l.addresses)).collect();
        Ok(Outlook { judge, addresses: self.outer_addresses()?, gate: self.instance.gate(), bridges })
    }

    /// The host's addresses on interfaces that are neither its loopback nor an engine's own.
    fn outer_addresses(&self) -> Result<Vec<(IpAddr, String)>> {
        let (links, v4) = {
            let mut rtnl = lock(&self.rtnl);
            (rtnl.links()?, rtnl.addresses()?)
        };
        let outer = |name: &str| {
            let link = links.iter().find(|l| l.name == name);
            name != "lo" && link.is_some_and(|l| !l.alias.starts_with("naru:"))
        };
        let mut all = Vec::new();
        for address in v4 {
            if let Some(link) = links.iter().find(|l| l.index == address.index) {
                all.push((IpAddr::V4(address.address), link.name.clone()));
            }
        }
        // Of a kernel without IPv6 there is no such file.
        let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        all.extend(text.lines().filter_map(read_if_inet6));
        all.retain(|(_, name)| outer(name));
        Ok(all)
    }
}

/// A line of /proc/net/if_inet6: address, interface's number, prefix, scope, flags, interface.
pub(super) fn read_if_inet6(line: &str) -> Option<(IpAddr, String)> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let scope = fields.nth(2)?;
    let name = fields.nth(1)?;
    (scope == GLOBAL).then(|| (Ipv6Addr::from_bits(address).into(), name.to_owned()))
}

impl Outlook {
    /// What other machines get at each address of the host where the port is; nothing for one on a loopback address.
    pub fn of(&self, port: &ExposedPort) -> Vec<Exposure> {
        let meant = |ip: &IpAddr| {
            ip.is_ipv4() == port.host_ip.is_ipv4() && (port.host_ip.is_unspecified() || port.host_ip == *ip)
        };
        let here = self.addresses.iter().filter(|(ip, _)| meant(ip));
        here.map(|(address, interface)| Exposure {
            address: *address,
            interface: interface.clone(),
            judgement: self.judge.judge(&self.packets(port, *address, interface)),
        })
        .collect()
    }

    fn packets(&self, port: &ExposedPort, address: IpAddr, interface: &str) -> Vec<Packet> {
        let incoming = |hook| Packet {
            hook,
            protocol: port.protocol,
            destination: address,
            port: port.host_port,
            input: interface.to_owned(),
            output: None,
            rewritten: false,
        };
        let mut all = vec![incoming(PREROUTING), incoming(INPUT)];
        // From one family to the other it is not forwarded, but passed on.
        if port.host_ip.is_ipv4() == port.container_ip.is_ipv4() {
            all.push(Packet {
                hook: FORWARD,
                destination: port.container_ip,
                port: port.container_port,
                input: self.gate.clone(),
                output: Some(self.bridge(port.container_ip)),
                rewritten: true,
                ..incoming(FORWARD)
            });
        }
        all
    }

    fn bridge(&self, address: IpAddr) -> String {
        let has = |addresses: &crate::spec::Addresses| match address {
            IpAddr::V4(ip) => addresses.v4.is_some_and(|v4| v4.subnet.contains(ip)),
            IpAddr::V6(ip) => addresses.v6.is_some_and(|v6| v6.subnet.contains(ip)),
        };
        self.bridges.iter().find(|(_, a)| has(a)).map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

impl Reach {
    /// In a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Limited => "limited",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_if_inet6() {
        let line = "20010db8000900000000000000000001 02 40 00 80     out0";
        assert_eq!(read_if_inet6(line), Some(("2001:db8:9::1".parse().unwrap(), "out0".into())));
        assert_eq!(read_if_inet6("fe800000000000000000000000000001 02 40 20 80 out0"), None);
        assert_eq!(read_if_inet6(""), None);
    }
}
