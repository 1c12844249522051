//! The addresses that a caller wants for a network, checked in docker's words (its `ValidateIPAM`).

use crate::types::AddressPool;
use naru_base::{Error, Result};
use naru_net::{Subnet, Subnet6};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What was asked for, read: at most one subnet of each family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub v4: Option<Family<Subnet, Ipv4Addr>>,
    pub v6: Option<Family<Subnet6, Ipv6Addr>>,
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// One family's addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family<S, A> {
    pub subnet: S,
    pub range: Option<S>,
    pub gateway: Option<A>,
}

/// An address and a prefix length, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, prefix })
    }

    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(ip) => Subnet::containing(ip, self.prefix).map(|s| IpAddr::V4(s.network())),
            IpAddr::V6(ip) => Subnet6::containing(ip, self.prefix).map(|s| IpAddr::V6(s.network())),
        };
        Self { address: address.unwrap_or(self.address), ..self }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self { address, ..self }.masked() == self.masked()
    }

    fn family(self) -> u8 {
        if self.address.is_ipv4() { 4 } else { 6 }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads and checks; `ipv4` and `ipv6` tell which families the network has.
///
/// # Errors
/// Invalid parameter, with one line for each mistake.
pub(super) fn read(pools: &[AddressPool], ipv4: bool, ipv6: bool) -> Result<Wanted> {
    let mut mistakes = Vec::new();
    let mut wanted = Wanted::default();
    for pool in pools.iter().filter(|p| **p != AddressPool::default()) {
        let Some(subnet) = Cidr::parse(&pool.subnet) else {
            mistakes.push(format!("invalid subnet {}: invalid CIDR block notation", pool.subnet));
            continue;
        };
        if (subnet.family() == 4 && !ipv4) || (subnet.family() == 6 && !ipv6) {
            // docker ignores the addresses of a family that the network doesn't have.
            continue;
        }
        let before = mistakes.len();
        if subnet != subnet.masked() {
            mistakes.push(format!("invalid subnet {subnet}: it should be {}", subnet.masked()));
        }
        let range = range(&pool.range, subnet, &mut mistakes);
        let gateway = address(&pool.gateway, subnet)
            .unwrap_or_else(|why| note(&mut mistakes, format!("invalid gateway {}: {why}", pool.gateway)));
        for (name, text) in &pool.auxiliary {
            match address(text, subnet) {
                Ok(Some(ip)) => drop(wanted.auxiliary.insert(name.clone(), ip)),
                Ok(None) => {}
                Err(why) => mistakes.push(format!("invalid auxiliary address {name}: {why}")),
            }
        }
        if mistakes.len() == before {
            wanted.take(subnet, range, gateway).unwrap_or_else(|why| mistakes.push(why));
        }
    }
    if mistakes.is_empty() {
        return Ok(wanted);
    }
    Err(Error::invalid(format!("invalid network config:\n{}", mistakes.join("\n"))))
}

fn note<T>(mistakes: &mut Vec<String>, text: String) -> Option<T> {
    mistakes.push(text);
    None
}

fn range(text: &str, subnet: Cidr, mistakes: &mut Vec<String>) -> Option<Cidr> {
    if text.is_empty() {
        return None;
    }
    let Some(range) = Cidr::parse(text) else {
        return note(mistakes, format!("invalid ip-range {text}: invalid CIDR block notation"));
    };
    let family = subnet.family();
    let why = if range.family() != family {
        format!("parent subnet is an IPv{family} block")
    } else if range.prefix < subnet.prefix {
        "CIDR block is bigger than its parent subnet".into()
    } else if range != range.masked() {
        format!("it should be {}", range.masked())
    } else if !subnet.contains(range.address) {
        format!("parent subnet {subnet} doesn't contain ip-range")
    } else {
        return Some(range);
    };
    note(mistakes, format!("invalid ip-range {text}: {why}"))
}

fn address(text: &str, subnet: Cidr) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // docker takes a gateway with a prefix length, and leaves that away.
    let bare = text.split('/').next().unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| "invalid address".to_owned())?;
    let family = subnet.family();
    if address.is_ipv4() != subnet.address.is_ipv4() {
        return Err(format!("parent subnet is an IPv{family} block"));
    }
    if !subnet.contains(address) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(Some(address))
}

impl Wanted {
    fn take(&mut self, subnet: Cidr, range: Option<Cidr>, gateway: Option<IpAddr>) -> Result<(), String> {
        let several = "a network has one subnet of each family";
        match subnet.address {
            IpAddr::V4(ip) => {
                let block = |ip, prefix| Subnet::containing(ip, prefix).ok_or("a prefix has at most 32 bits");
                let v4 = |address| if let IpAddr::V4(ip) = address { Some(ip) } else { None };
                let range = range.and_then(|r| v4(r.address).and_then(|ip| Subnet::containing(ip, r.prefix)));
                let family = Family { subnet: block(ip, subnet.prefix)?, range, gateway: gateway.and_then(v4) };
                self.v4.replace(family).map_or(Ok(()), |_| Err(several.into()))
            }
            IpAddr::V6(ip) => {
                let block = |ip, prefix| Subnet6::containing(ip, prefix).ok_or("a prefix has at most 128 bits");
                let v6 = |address| if let IpAddr::V6(ip) = address { Some(ip) } else { None };
                let range = range.and_then(|r| v6(r.address).and_then(|ip| Subnet6::containing(ip, r.prefix)));
                let family = Family { subnet: block(ip, subnet.prefix)?, range, gateway: gateway.and_then(v6) };
                self.v6.replace(family).map_or(Ok(()), |_| Err(several.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: &str, gateway: &str) -> AddressPool {
        AddressPool { subnet: subnet.into(), range: range.into(), gateway: gateway.into(), auxiliary: BTreeMap::new() }
    }

    #[test]
    fn one_of_each_family() {
        let pools = [pool("10.1.0.0/16", "10.1.2.0/24", "10.1.0.9"), pool("fd00:1::/64", "", ""), pool("", "", "")];
        let wanted = read(&pools, true, true).unwrap();
        let v4 = wanted.v4.unwrap();
        assert_eq!(
            (v4.subnet.to_string(), v4.range.unwrap().to_string()),
            ("10.1.0.0/16".into(), "10.1.2.0/24".into())
        );
        assert_eq!(v4.gateway.unwrap().to_string(), "10.1.0.9");
        assert_eq!(wanted.v6.unwrap().subnet.to_string(), "fd00:1::/64");
        assert_eq!(read(&pools, true, false).unwrap().v6, None);
        assert!(read(&[pool("10.1.0.0/24", "", ""), pool("10.2.0.0/24", "", "")], true, true).is_err());
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        let said = |p: AddressPool| {
            let error = read(&[p], true, true).unwrap_err();
            error.message().strip_prefix("invalid network config:\n").unwrap().to_owned()
        };
        for (given, text) in [
            (pool("bad", "", ""), "invalid subnet bad: invalid CIDR block notation"),
            (pool("", "", "10.0.0.1"), "invalid subnet : invalid CIDR block notation"),
            (pool("10.1.2.3/24", "", ""), "invalid subnet 10.1.2.3/24: it should be 10.1.2.0/24"),
            (
                pool("10.1.2.0/24", "10.1.3.0/28", ""),
                "invalid ip-range 10.1.3.0/28: parent subnet 10.1.2.0/24 doesn't contain ip-range",
            ),
            (
                pool("10.1.2.0/24", "10.1.0.0/16", ""),
                "invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet",
            ),
            (pool("10.1.2.0/24", "", "zz"), "invalid gateway zz: invalid address"),
            (pool("10.1.2.0/24", "", "fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
            (
                pool("10.1.2.0/24", "", "10.1.3.1"),
                "invalid gateway 10.1.3.1: parent subnet 10.1.2.0/24 doesn't contain this address",
            ),
        ] {
            assert_eq!(said(given), text);
        }
    }
}
