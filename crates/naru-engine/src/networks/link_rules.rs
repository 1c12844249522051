//! Links on a default network whose containers don't talk to each other (`--icc=false`): the linked container's exposed ports are open to
//! the one that is linked to it, for as long as both run.

use super::Sandbox;
use super::links::parse;
use crate::Engine;
use crate::container::{Container, Record};
use crate::types::NetworkMode;
use naru_base::{Id, Result};
use naru_net::{Endpoint, Link, Netns, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The network that has such links.
const NETWORK: &str = "bridge";

/// Who is led to whom by way of the host: a container, and another's addresses.
pub(super) type Led = BTreeSet<(Id, Vec<IpAddr>)>;

/// A container that has a place on the network now.
struct Place {
    record: Record,
    netns: Arc<Netns>,
    endpoint: Endpoint,
}

impl Place {
    fn of(container: &Container, sandbox: &Sandbox) -> Option<Self> {
        let endpoint = sandbox.attached.get(NETWORK)?.clone();
        Some(Self { record: container.read(Clone::clone), netns: Arc::clone(&sandbox.netns), endpoint })
    }
}

/// Exposed ports out of their texts, such as `53/udp`.
pub(super) fn exposed(record: &Record) -> BTreeSet<(u16, Protocol)> {
    let read = |text: &String| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.name() == protocol)?;
        Some((number.parse().ok()?, protocol))
    };
    record.config.exposed_ports.iter().filter_map(read).collect()
}

/// What may pass from one endpoint to another's ports.
fn links(from: &Endpoint, to: &Endpoint, ports: &BTreeSet<(u16, Protocol)>) -> Vec<Link> {
    let pairs = from.addresses().into_iter().flat_map(|a| to.addresses().into_iter().map(move |b| (a, b)));
    pairs
        .filter(|(a, b)| a.is_ipv4() == b.is_ipv4())
        .flat_map(|(from, to)| {
            ports.iter().map(move |(port, protocol)| Link { from, to, protocol: *protocol, port: *port })
        })
        .collect()
}

impl Engine {
    /// Brings what passes between containers in line with the links of those that run, and of one that is being started; one that leaves
    /// has none any more. Call it before a leaving one's addresses are given back.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn apply_links(&self, starting: Option<(&Container, &Sandbox)>, leaving: Option<&Id>) -> Result<()> {
        if self.networks.default.spec.icc {
            return Ok(());
        }
        let mut led = crate::lock(&self.networks.led);
        let places = self.places(starting, leaving);
        let (wanted, wanted_led) = self.wanted(&places);
        self.networks.host().set_links(wanted)?;
        for (id, addresses) in led.difference(&wanted_led) {
            if let Some(place) = places.get(id) {
                self.networks.host().lead_directly(&place.netns, &place.endpoint, addresses)?;
            }
        }
        for (id, addresses) in wanted_led.difference(&led) {
            if let Some(place) = places.get(id) {
                self.networks.host().lead_by_host(&place.netns, &place.endpoint, addresses)?;
            }
        }
        *led = wanted_led;
        Ok(())
    }

    /// [`Engine::apply_links`] where a failure is to be told, and nothing can be done about it.
    pub(crate) fn follow_links(&self, leaving: Option<&Id>) {
        if let Err(error) = self.apply_links(None, leaving) {
            tracing::warn!("cannot open and close links: {error}");
        }
    }

    /// Lets the links of running containers into the table that the networks' reconcile makes.
    pub(crate) fn note_links(&self) {
        if !self.networks.default.spec.icc {
            self.networks.host().note_links(self.wanted(&self.places(None, None)).0);
        }
    }

    fn places(&self, starting: Option<(&Container, &Sandbox)>, leaving: Option<&Id>) -> BTreeMap<Id, Place> {
        let all = self.containers.all();
        let running = all.iter().filter_map(|c| Some((c.id.clone(), Place::of(c, &c.sandbox()?)?)));
        let new = starting.and_then(|(c, sandbox)| Some((c.id.clone(), Place::of(c, sandbox)?)));
        running.chain(new).filter(|(id, _)| Some(id) != leaving).collect()
    }

    fn wanted(&self, places: &BTreeMap<Id, Place>) -> (BTreeSet<Link>, Led) {
        let (mut wanted, mut led) = (BTreeSet::new(), Led::new());
        for (id, place) in places.iter().filter(|(_, p)| p.record.host.network == NetworkMode::Default) {
            for link in &place.record.host.links {
                let Ok(target) = self.containers.find(parse(link).0) else { continue };
                let Some(other) = places.get(&target.id) else { continue };
                wanted.extend(links(&place.endpoint, &other.endpoint, &exposed(&other.record)));
                led.insert((id.clone(), other.endpoint.addresses()));
                led.insert((target.id.clone(), place.endpoint.addresses()));
            }
        }
        (wanted, led)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests_support::record;

    #[test]
    fn ports_that_are_exposed() {
        let mut record = record("abc", "db");
        record.config.exposed_ports = ["5432/tcp", "53/udp", "80", "x/tcp", "9/icmp"].map(str::to_owned).into();
        let found: Vec<_> = exposed(&record).into_iter().collect();
        assert_eq!(found, [(53, Protocol::Udp), (80, Protocol::Tcp), (5432, Protocol::Tcp)]);
    }
}
