//! Ethernet addresses.

use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// From its bytes.
    pub fn from_octets(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Its bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The locally administered unicast address of `ip` on the network `network`.
    ///
    /// It looks random, and differs between networks and hosts as docker's random ones do. But an address that goes from one
    /// container to the next keeps its Ethernet address, so neighbours that remember the old pair (for 30 s and more) are right.
    pub fn of_endpoint(network: &str, ip: impl Into<IpAddr>) -> Self {
        let mut hash = Sha256::new();
        hash.update(network.as_bytes());
        match ip.into() {
            IpAddr::V4(ip) => hash.update(ip.octets()),
            IpAddr::V6(ip) => hash.update(ip.octets()),
        }
        let digest = hash.finalize();
        let mut octets = [0; 6];
        octets.copy_from_slice(&digest[..6]);
        octets[0] = octets[0] & 0xfc | 0x02;
        Self(octets)
    }

    /// Reads `aa:bb:cc:dd:ee:ff`, also with `-` between the bytes, of a unicast address.
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *octet = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && octets[0] & 1 == 0).then_some(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_endpoints_address_is_local_unicast_and_its_own() {
        let ip = Ipv4Addr::new(172, 17, 0, 2);
        let one = Mac::of_endpoint("a", ip);
        assert_eq!(one.octets()[0] & 3, 2);
        assert_eq!(one, Mac::of_endpoint("a", ip));
        assert_ne!(one, Mac::of_endpoint("b", ip));
        assert_ne!(one, Mac::of_endpoint("a", Ipv4Addr::new(172, 17, 0, 3)));
    }

    #[test]
    fn text_there_and_back() {
        let mac = Mac::parse("02:42:AC-11-00-02").unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        for bad in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:g2", "2:42:ac:11:00:02", "01:00:00:00:00:00"]
        {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
