//! Addresses of one network, of one family.

use crate::{Error, Result, Subnet, Subnet6};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A subnet of either family, its addresses as numbers.
pub trait Block: Copy + Display {
    /// An address in it.
    type Address: Copy + Display + Into<std::net::IpAddr>;
    /// The family, as errors call it.
    const FAMILY: &'static str;

    /// An address's number.
    fn number(address: Self::Address) -> u128;
    /// The address with that number.
    fn address(number: u128) -> Self::Address;
    /// First and last address.
    fn bounds(self) -> (u128, u128);
    /// First and last address that a host may have.
    fn hosts(self) -> (u128, u128);
}

impl Block for Subnet {
    type Address = Ipv4Addr;
    const FAMILY: &'static str = "IPv4";

    fn number(address: Ipv4Addr) -> u128 {
        address.to_bits().into()
    }

    fn address(number: u128) -> Ipv4Addr {
        // Numbers of this family have 32 bits.
        Ipv4Addr::from_bits(number as u32)
    }

    fn bounds(self) -> (u128, u128) {
        (Self::number(self.network()), Self::number(self.broadcast()))
    }

    fn hosts(self) -> (u128, u128) {
        let (first, last) = Self::hosts(self);
        (first.into(), last.into())
    }
}

impl Block for Subnet6 {
    type Address = Ipv6Addr;
    const FAMILY: &'static str = "IPv6";

    fn number(address: Ipv6Addr) -> u128 {
        address.to_bits()
    }

    fn address(number: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(number)
    }

    fn bounds(self) -> (u128, u128) {
        (self.network().to_bits(), self.last().to_bits())
    }

    fn hosts(self) -> (u128, u128) {
        Self::hosts(self)
    }
}

/// Which addresses of a subnet are taken. Kept in memory; after a restart the engine reserves what its records say.
#[derive(Debug, Clone)]
pub struct Leases<B: Block = Subnet> {
    subnet: B,
    /// First and last address that [`Leases::lease`] may give.
    range: (u128, u128),
    taken: BTreeSet<u128>,
    /// No address of the range below this one is free.
    hint: u128,
}

impl<B: Block> Leases<B> {
    /// Those of `subnet`, given out from `range` within it if there is one; the gateway is taken, if there is one.
    pub fn new(subnet: B, range: Option<B>, gateway: Option<B::Address>) -> Self {
        let (first, last) = subnet.hosts();
        let range = range.map_or((first, last), |r| (r.bounds().0.max(first), r.bounds().1.min(last)));
        Self { subnet, range, taken: gateway.map(B::number).into_iter().collect(), hint: range.0 }
    }

    /// The lowest free address of the range.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn lease(&mut self) -> Result<B::Address> {
        let mut candidate = self.hint;
        for taken in self.taken.range(self.hint..) {
            if *taken != candidate {
                break;
            }
            candidate = candidate.saturating_add(1);
        }
        if candidate > self.range.1 || self.taken.contains(&candidate) {
            self.hint = candidate;
            return Err(Error::Exhausted { family: B::FAMILY, subnet: self.subnet.to_string() });
        }
        self.taken.insert(candidate);
        self.hint = candidate.saturating_add(1);
        Ok(B::address(candidate))
    }

    /// This address, which may lie outside the range but not outside the subnet.
    ///
    /// # Errors
    /// [`Error::Taken`], or [`Error::Invalid`] for one that no container can have.
    pub fn reserve(&mut self, address: B::Address) -> Result<()> {
        let (first, last) = self.subnet.hosts();
        if !(first..=last).contains(&B::number(address)) {
            return Err(Error::Invalid(format!("no configured subnet contains IP address {address}")));
        }
        if self.taken.insert(B::number(address)) { Ok(()) } else { Err(Error::Taken(address.into())) }
    }

    /// Gives an address back; false when it was not taken.
    pub fn release(&mut self, address: B::Address) -> bool {
        let address = B::number(address);
        if (self.range.0..=self.range.1).contains(&address) {
            self.hint = self.hint.min(address);
        }
        self.taken.remove(&address)
    }

    /// How many are taken, the gateway included.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether none is taken, not even a gateway.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small() -> Leases {
        Leases::new("10.0.0.0/29".parse::<Subnet>().unwrap(), None, Some(Ipv4Addr::new(10, 0, 0, 1)))
    }

    #[test]
    fn lowest_first_then_none_and_a_freed_one_again() {
        let mut leases = small();
        let got: Vec<String> = std::iter::from_fn(|| leases.lease().ok()).map(|a| a.to_string()).collect();
        assert_eq!(got, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert!(matches!(leases.lease(), Err(Error::Exhausted { .. })));
        assert!(leases.release(Ipv4Addr::new(10, 0, 0, 4)));
        assert!(!leases.release(Ipv4Addr::new(10, 0, 0, 4)));
        assert_eq!(leases.lease().unwrap(), Ipv4Addr::new(10, 0, 0, 4));
    }

    #[test]
    fn reserved_addresses() {
        let mut leases = small();
        leases.reserve(Ipv4Addr::new(10, 0, 0, 2)).unwrap();
        assert!(matches!(leases.reserve(Ipv4Addr::new(10, 0, 0, 2)), Err(Error::Taken(_))));
        assert!(matches!(leases.reserve(Ipv4Addr::new(10, 0, 0, 1)), Err(Error::Taken(_))), "the gateway");
        for outside in [[10, 0, 0, 0], [10, 0, 0, 7], [10, 0, 0, 8]] {
            assert!(matches!(leases.reserve(outside.into()), Err(Error::Invalid(_))));
        }
        assert_eq!(leases.lease().unwrap(), Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn a_range_limits_what_is_given_but_not_what_may_be_asked_for() {
        let range = Some("10.0.0.128/30".parse().unwrap());
        let mut leases = Leases::new("10.0.0.0/24".parse::<Subnet>().unwrap(), range, Some(Ipv4Addr::new(10, 0, 0, 1)));
        leases.reserve(Ipv4Addr::new(10, 0, 0, 77)).unwrap();
        leases.release(Ipv4Addr::new(10, 0, 0, 77));
        let got: Vec<u8> = std::iter::from_fn(|| leases.lease().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(got, [128, 129, 130, 131]);
    }

    #[test]
    fn the_other_family() {
        let subnet: Subnet6 = "fd00::/64".parse().unwrap();
        let mut leases = Leases::new(subnet, None, Some("fd00::1".parse().unwrap()));
        assert_eq!(leases.lease().unwrap().to_string(), "fd00::2");
        leases.reserve("fd00::ffff".parse().unwrap()).unwrap();
        assert!(leases.reserve("fd01::1".parse().unwrap()).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Lease,
        Reserve(u8),
        Release(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![Just(Step::Lease), (0u8..40).prop_map(Step::Reserve), (0u8..40).prop_map(Step::Release)]
    }

    proptest! {
        /// Against a model that searches from the start each time.
        #[test]
        fn always_the_lowest_free_address(steps in proptest::collection::vec(step(), 0..120)) {
            let mut leases = Leases::new("10.0.0.0/27".parse::<Subnet>().unwrap(), None, Some(Ipv4Addr::new(10, 0, 0, 3)));
            let mut model = BTreeSet::from([3u8]);
            for step in steps {
                match step {
                    Step::Lease => {
                        let expected = (1u8..=30).find(|a| !model.contains(a));
                        let got = leases.lease().ok().map(|a| a.octets()[3]);
                        prop_assert_eq!(got, expected);
                        model.extend(expected);
                    }
                    Step::Reserve(a) => {
                        let expected = (1..=30).contains(&a) && model.insert(a);
                        prop_assert_eq!(leases.reserve(Ipv4Addr::new(10, 0, 0, a)).is_ok(), expected);
                    }
                    Step::Release(a) => {
                        prop_assert_eq!(leases.release(Ipv4Addr::new(10, 0, 0, a)), model.remove(&a));
                    }
                }
                prop_assert_eq!(leases.len(), model.len());
            }
        }
    }
}
