//! Address ranges (`10.0.0.0/8`), for `insecure-registries` and `NO_PROXY`.

use std::net::IpAddr;

/// A network prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: u128,
    bits: u32,
    v4: bool,
}

impl Cidr {
    /// Reads `address/bits`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        let v4 = address.is_ipv4();
        (bits <= if v4 { 32 } else { 128 }).then(|| Self { address: widen(address), bits, v4 })
    }

    /// Whether `address` lies inside.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let unused = if self.v4 { 32 } else { 128 } - self.bits;
        let prefix = |a: u128| a.checked_shr(unused).unwrap_or(0);
        address.is_ipv4() == self.v4 && prefix(widen(address)) == prefix(self.address)
    }
}

fn widen(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "fe80::1", true),
        ] {
            assert_eq!(Cidr::parse(range).unwrap().contains(address.parse().unwrap()), inside, "{range} {address}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "/"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
