//! IPv4 subnets.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 subnet: a network address and its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: u32,
    prefix: u8,
}

impl Subnet {
    /// The subnet with `prefix` bits that `address` is in; none for a prefix above 32.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { first: address.to_bits() & mask(prefix), prefix })
    }

    /// The network address.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first)
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first | !mask(self.prefix))
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first
    }

    /// Whether it shares an address with `other`.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.first ^ other.first) & mask(shorter) == 0
    }

    /// The addresses that hosts may have, first and last: without the network and broadcast addresses, except in a subnet of
    /// one or two addresses.
    pub fn hosts(self) -> (u32, u32) {
        let last = self.broadcast().to_bits();
        if self.prefix >= 31 { (self.first, last) } else { (self.first + 1, last - 1) }
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = naru_base::Error;

    /// Reads `a.b.c.d/n`; bits behind the prefix are cleared, as docker does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(ip, prefix)| Self::containing(ip.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| naru_base::Error::invalid(format!("invalid CIDR address: {text}")))
    }
}

impl TryFrom<String> for Subnet {
    type Error = naru_base::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        let all: Subnet = "1.2.3.4/0".parse().unwrap();
        assert_eq!((all.to_string(), all.broadcast()), ("0.0.0.0/0".into(), Ipv4Addr::BROADCAST));
        let one: Subnet = "1.2.3.4/32".parse().unwrap();
        assert_eq!(one.hosts(), (one.network().to_bits(), one.network().to_bits()));
        for bad in ["1.2.3.4", "1.2.3.4/33", "1.2.3/24", "/24", "1.2.3.4/-1", ""] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn overlap_is_what_containment_says(a in any::<u32>(), b in any::<u32>(), pa in 0u8..=32, pb in 0u8..=32) {
            let x = Subnet::containing(Ipv4Addr::from_bits(a), pa).unwrap();
            let y = Subnet::containing(Ipv4Addr::from_bits(b), pb).unwrap();
            prop_assert_eq!(x.overlaps(y), x.contains(y.network()) || y.contains(x.network()));
            prop_assert_eq!(x.to_string().parse::<Subnet>().unwrap(), x);
            prop_assert!(x.contains(x.broadcast()) && x.contains(Ipv4Addr::from_bits(a)));
        }
    }
}
