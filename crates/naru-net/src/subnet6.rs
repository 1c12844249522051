//! IPv6 subnets.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An IPv6 subnet: a network address and its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet6 {
    first: u128,
    prefix: u8,
}

impl Subnet6 {
    /// The subnet with `prefix` bits that `address` is in; none for a prefix above 128.
    pub fn containing(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        (prefix <= 128).then(|| Self { first: address.to_bits() & mask(prefix), prefix })
    }

    /// The network address.
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.first)
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address.
    pub fn last(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.first | !mask(self.prefix))
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first
    }

    /// Whether it shares an address with `other`.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.first ^ other.first) & mask(shorter) == 0
    }

    /// The addresses that hosts may have, first and last: without the subnet-router anycast address (RFC 4291 section 2.6.1),
    /// except in a subnet of one or two addresses.
    pub fn hosts(self) -> (u128, u128) {
        let last = self.last().to_bits();
        if self.prefix >= 127 { (self.first, last) } else { (self.first + 1, last) }
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet6 {
    type Err = naru_base::Error;

    /// Reads `a::b/n`; bits behind the prefix are cleared, as docker does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(ip, prefix)| Self::containing(ip.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| naru_base::Error::invalid(format!("invalid CIDR address: {text}")))
    }
}

impl TryFrom<String> for Subnet6 {
    type Error = naru_base::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        let all: Subnet6 = "fd00::1/0".parse().unwrap();
        assert_eq!((all.to_string(), all.last().to_bits()), ("::/0".into(), u128::MAX));
        let net: Subnet6 = "fd00::5/64".parse().unwrap();
        assert_eq!(net.to_string(), "fd00::/64");
        assert_eq!(net.hosts().0, net.network().to_bits() + 1);
        for bad in ["fd00::", "fd00::/129", "1.2.3.4/8", "/64", ""] {
            assert!(bad.parse::<Subnet6>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn overlap_is_what_containment_says(a in any::<u128>(), b in any::<u128>(), pa in 0u8..=128, pb in 0u8..=128) {
            let x = Subnet6::containing(Ipv6Addr::from_bits(a), pa).unwrap();
            let y = Subnet6::containing(Ipv6Addr::from_bits(b), pb).unwrap();
            prop_assert_eq!(x.overlaps(y), x.contains(y.network()) || y.contains(x.network()));
            prop_assert_eq!(x.to_string().parse::<Subnet6>().unwrap(), x);
        }
    }
}
