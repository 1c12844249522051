//! Addresses of one network.

use crate::{Error, Result, Subnet};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Which addresses of a subnet are taken. Kept in memory; after a restart the engine reserves what its records say.
#[derive(Debug, Clone)]
pub struct Leases {
    subnet: Subnet,
    /// First and last address that [`Leases::lease`] may give.
    range: (u32, u32),
    taken: BTreeSet<u32>,
    /// No address of the range below this one is free.
    hint: u32,
}

impl Leases {
    /// Those of `subnet`, given out from `range` within it if there is one; the gateway is taken.
    pub fn new(subnet: Subnet, range: Option<Subnet>, gateway: Ipv4Addr) -> Self {
        let (first, last) = subnet.hosts();
        let range =
            range.map_or((first, last), |r| (r.network().to_bits().max(first), r.broadcast().to_bits().min(last)));
        Self { subnet, range, taken: BTreeSet::from([gateway.to_bits()]), hint: range.0 }
    }

    /// The lowest free address of the range.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn lease(&mut self) -> Result<Ipv4Addr> {
        let mut candidate = self.hint;
        for taken in self.taken.range(self.hint..) {
            if *taken != candidate {
                break;
            }
            candidate = candidate.saturating_add(1);
        }
        if candidate > self.range.1 || self.taken.contains(&candidate) {
            self.hint = candidate;
            return Err(Error::Exhausted(self.subnet.to_string()));
        }
        self.taken.insert(candidate);
        self.hint = candidate.saturating_add(1);
        Ok(Ipv4Addr::from_bits(candidate))
    }

    /// This address, which may lie outside the range but not outside the subnet.
    ///
    /// # Errors
    /// [`Error::Taken`], or [`Error::Invalid`] for one that no container can have.
    pub fn reserve(&mut self, address: Ipv4Addr) -> Result<()> {
        let (first, last) = self.subnet.hosts();
        if !(first..=last).contains(&address.to_bits()) {
            return Err(Error::Invalid(format!("no configured subnet contains IP address {address}")));
        }
        if self.taken.insert(address.to_bits()) { Ok(()) } else { Err(Error::Taken(address)) }
    }

    /// Gives an address back; false when it was not taken.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        let address = address.to_bits();
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
        Leases::new("10.0.0.0/29".parse().unwrap(), None, Ipv4Addr::new(10, 0, 0, 1))
    }

    #[test]
    fn lowest_first_then_none_and_a_freed_one_again() {
        let mut leases = small();
        let got: Vec<String> = std::iter::from_fn(|| leases.lease().ok()).map(|a| a.to_string()).collect();
        assert_eq!(got, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert!(matches!(leases.lease(), Err(Error::Exhausted(_))));
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
        let mut leases = Leases::new("10.0.0.0/24".parse().unwrap(), range, Ipv4Addr::new(10, 0, 0, 1));
        leases.reserve(Ipv4Addr::new(10, 0, 0, 77)).unwrap();
        leases.release(Ipv4Addr::new(10, 0, 0, 77));
        let got: Vec<u8> = std::iter::from_fn(|| leases.lease().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(got, [128, 129, 130, 131]);
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
            let mut leases = Leases::new("10.0.0.0/27".parse().unwrap(), None, Ipv4Addr::new(10, 0, 0, 3));
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
