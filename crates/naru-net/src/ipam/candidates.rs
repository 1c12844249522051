//! The pools that networks without a subnet of their own come from.

use crate::rtnl::{AddressInfo, RouteInfo};
use crate::{Error, Result, Subnet, Subnet6};
use sha2::{Digest as _, Sha256};
use std::net::{Ipv4Addr, Ipv6Addr};

/// docker's default pools: (network, its prefix, prefix of each subnet in it).
const POOLS: [(Ipv4Addr, u8, u8); 7] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 28, 0, 0), 14, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

/// Every default candidate, in docker's order.
pub fn default_pools() -> impl Iterator<Item = Subnet> {
    POOLS.iter().flat_map(|&(base, prefix, size)| {
        (0..1u32 << (size - prefix))
            .filter_map(move |n| Subnet::containing(Ipv4Addr::from_bits(base.to_bits() + (n << (32 - size))), size))
    })
}

/// What a new subnet must keep clear of.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    /// Other networks, addresses of the host's interfaces, name servers and on-link routes: never overlapped.
    pub hard: Vec<Subnet>,
    /// Networks behind routers: overlapped only if every candidate would be (a VPN may claim all private addresses).
    pub soft: Vec<Subnet>,
}

impl InUse {
    /// Of the host's `routes` and `addresses`, and its name servers. Default routes claim nothing.
    pub fn of_host(routes: &[RouteInfo], addresses: &[AddressInfo], name_servers: &[Ipv4Addr]) -> Self {
        let mut all = Self::default();
        for route in routes.iter().filter(|r| r.destination.prefix() > 0) {
            if route.gateway.is_some() { all.soft.push(route.destination) } else { all.hard.push(route.destination) }
        }
        all.hard.extend(addresses.iter().filter_map(|a| Subnet::containing(a.address, a.prefix)));
        all.hard.extend(name_servers.iter().filter_map(|ip| Subnet::containing(*ip, 32)));
        all
    }
}

/// The first candidate that overlaps nothing in use.
///
/// # Errors
/// [`Error::NoPool`] when each overlaps something.
pub fn choose(candidates: impl Iterator<Item = Subnet>, in_use: &InUse) -> Result<Subnet> {
    let mut second_best = None;
    for candidate in candidates {
        let clashes = |taken: &[Subnet]| taken.iter().any(|s| s.overlaps(candidate));
        if clashes(&in_use.hard) {
            continue;
        }
        if !clashes(&in_use.soft) {
            return Ok(candidate);
        }
        second_best = second_best.or(Some(candidate));
    }
    second_best.ok_or(Error::NoPool)
}

/// docker's default pool for IPv6: the /64 subnets of a unique local prefix (RFC 4193) that belongs to the engine `id`. The first
/// one that overlaps none of `taken`.
///
/// # Errors
/// [`Error::NoPool`] when all 65536 are taken.
pub fn unique_local(id: &str, taken: &[Subnet6]) -> Result<Subnet6> {
    let digest = Sha256::digest(id.as_bytes());
    // fd, then 40 bits of the engine's own, then 16 bits of subnet.
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest[3..8]);
    (0..=u16::MAX)
        .filter_map(|n| {
            octets[6..8].copy_from_slice(&n.to_be_bytes());
            Subnet6::containing(Ipv6Addr::from(octets), 64)
        })
        .find(|candidate| !taken.iter().any(|t| t.overlaps(*candidate)))
        .ok_or(Error::NoPool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn dockers_candidates_in_dockers_order() {
        let all: Vec<String> = default_pools().map(|s| s.to_string()).collect();
        assert_eq!(all.len(), 15 + 16);
        assert_eq!(all[..4], ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/16"]);
        assert_eq!(all[14], "172.31.0.0/16");
        assert_eq!(all[15..17], ["192.168.0.0/20", "192.168.16.0/20"]);
        assert_eq!(all[30], "192.168.240.0/20");
    }

    #[test]
    fn on_link_is_never_overlapped_and_routed_only_at_last() {
        let mut in_use = InUse { hard: vec![subnet("172.17.3.0/24")], soft: vec![subnet("172.16.0.0/12")] };
        assert_eq!(choose(default_pools(), &in_use).unwrap(), subnet("192.168.0.0/20"));
        in_use.soft.push(subnet("192.168.0.0/16"));
        assert_eq!(choose(default_pools(), &in_use).unwrap(), subnet("172.18.0.0/16"));
        in_use.hard.push(subnet("0.0.0.0/0"));
        assert!(matches!(choose(default_pools(), &in_use), Err(Error::NoPool)));
    }

    #[test]
    fn unique_local_subnets_follow_each_other() {
        let first = unique_local("an engine", &[]).unwrap();
        assert_eq!((first.prefix(), first.network().octets()[0]), (64, 0xfd));
        let second = unique_local("an engine", &[first]).unwrap();
        assert_eq!(second.network().to_bits() - first.network().to_bits(), 1 << 64);
        assert!(!unique_local("another", &[]).unwrap().overlaps(first));
    }

    #[test]
    fn a_default_route_claims_nothing_and_a_name_server_does() {
        let route =
            |destination: &str, gateway| RouteInfo { destination: subnet(destination), gateway, index: 2, table: 254 };
        let routes = [route("0.0.0.0/0", Some(Ipv4Addr::new(10, 0, 0, 1))), route("10.0.0.0/24", None)];
        let in_use = InUse::of_host(&routes, &[], &[Ipv4Addr::new(172, 17, 9, 9)]);
        assert_eq!(in_use.soft, []);
        assert_eq!(choose(default_pools(), &in_use).unwrap(), subnet("172.18.0.0/16"));
    }

    proptest! {
        #[test]
        fn what_is_chosen_overlaps_nothing_hard(taken in proptest::collection::vec((any::<u32>(), 8u8..=28), 0..40)) {
            let hard: Vec<Subnet> =
                taken.iter().map(|(a, p)| Subnet::containing(Ipv4Addr::from_bits(*a), *p).unwrap()).collect();
            if let Ok(found) = choose(default_pools(), &InUse { hard: hard.clone(), soft: vec![] }) {
                prop_assert!(!hard.iter().any(|s| s.overlaps(found)));
            }
        }

        #[test]
        fn networks_made_one_after_the_other_never_overlap(count in 1usize..=31) {
            let mut in_use = InUse::default();
            for _ in 0..count {
                let next = choose(default_pools(), &in_use).unwrap();
                prop_assert!(!in_use.hard.iter().any(|s| s.overlaps(next)));
                in_use.hard.push(next);
            }
        }
    }
}
