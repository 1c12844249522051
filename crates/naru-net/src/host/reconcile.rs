//! After a start of the engine: what is recorded is taken up, what has no owner is removed.

use super::{HostNet, lock};
use crate::rtnl::LinkInfo;
use crate::{Endpoint, NetworkSpec, Published};
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

/// An endpoint of a container that runs, from its record.
#[derive(Debug, Clone)]
pub struct LiveEndpoint {
    /// Its place on its network.
    pub endpoint: Endpoint,
    /// Its published ports.
    pub ports: Vec<Published>,
}

/// What a reconcile has removed, and what it could not do.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// Bridges without a network, and other interfaces that were made for one.
    pub bridges: Vec<String>,
    /// Ports of our bridges without a container.
    pub veths: Vec<String>,
    /// What failed; all else was done.
    pub failures: Vec<String>,
}

impl HostNet {
    /// Takes up the recorded `networks` and the endpoints of running containers, makes the firewall table anew in one
    /// transaction (published ports stay open throughout), and removes bridges of this instance that belong to no network and
    /// veths on its bridges that belong to no running container.
    ///
    /// Removing takes the kernel 20 ms and more per interface; a start that left nothing behind costs nothing.
    ///
    /// # Errors
    /// Only when the kernel can't be asked at all; failures of single steps are in [`Removed::failures`].
    pub fn reconcile(&self, networks: &[NetworkSpec], endpoints: &[LiveEndpoint]) -> naru_base::Result<Removed> {
        let mut removed = Removed::default();
        let published = || endpoints.iter().flat_map(|e| &e.ports);
        let gate = match published().next().map(|_| self.ensure_gate(published())) {
            Some(Err(e)) => {
                removed.failures.push(e.to_string());
                None
            }
            other => other.and_then(crate::Result::ok),
        };
        {
            let mut firewall = lock(&self.firewall);
            firewall.gate.into = gate;
            firewall.ports = endpoints.iter().flat_map(|e| e.ports.iter().cloned()).collect::<BTreeSet<_>>();
            firewall.networks.retain(|id, _| networks.iter().any(|n| n.id == *id));
            firewall.networks.extend(networks.iter().filter_map(|n| n.rules().map(|r| (n.id.clone(), r))));
            firewall.made = false;
            if let Err(e) = self.change_rules(&mut firewall, |_, _| Ok(())) {
                removed.failures.push(e.to_string());
            }
        }
        for network in networks {
            if let Err(e) = self.ensure(network) {
                removed.failures.push(e.to_string());
            }
        }
        for live in endpoints {
            if let Err(e) = self.reserve(&live.endpoint) {
                removed.failures.push(e.to_string());
            }
        }
        self.remove_orphans(networks, endpoints, &mut removed)?;
        Ok(removed)
    }

    fn remove_orphans(
        &self,
        networks: &[NetworkSpec],
        endpoints: &[LiveEndpoint],
        removed: &mut Removed,
    ) -> naru_base::Result<()> {
        let mut rtnl = lock(&self.rtnl);
        let links = rtnl.links()?;
        let ours = self.instance.alias_prefix();
        let bridges: Vec<&LinkInfo> =
            links.iter().filter(|l| l.kind == "bridge" && l.alias.starts_with(&ours)).collect();
        let alive: HashSet<&str> = endpoints.iter().map(|e| e.endpoint.host_ifname.as_str()).collect();
        let is_port = |l: &LinkInfo| bridges.iter().any(|b| b.index == l.master);
        let veths = links.iter().filter(|l| l.kind == "veth" && is_port(l) && !alive.contains(l.name.as_str()));
        let holds = |index: u32, ip: IpAddr| {
            let on = bridges.iter().find(|b| b.index == index).map(|b| &b.name);
            let network = networks.iter().find(|n| Some(&n.bridge_name) == on);
            endpoints
                .iter()
                .map(|e| &e.endpoint)
                .any(|e| network.is_some_and(|n| n.id == e.network_id) && e.addresses().contains(&ip))
        };
        for (index, address) in rtnl.pinned_neighbours()? {
            if bridges.iter().any(|b| b.index == index)
                && !holds(index, address)
                && let Err(e) = rtnl.forget_neighbours(index, &[address])
            {
                removed.failures.push(e.to_string());
            }
        }
        let owned: HashSet<&str> = networks.iter().map(|n| n.bridge_name.as_str()).collect();
        let orphans = bridges.iter().copied().filter(|b| !owned.contains(b.name.as_str()));
        let parents = links.iter().filter(|l| self.is_ours(l) && !networks.iter().any(|n| n.parent == l.name));
        for link in veths.chain(orphans).chain(parents) {
            if let Err(e) = rtnl.delete_links(&[link.index]) {
                removed.failures.push(e.about(&link.name).to_string());
                continue;
            }
            let list = if link.kind == "veth" { &mut removed.veths } else { &mut removed.bridges };
            list.push(link.name.clone());
        }
        Ok(())
    }

    /// Removes everything of this instance from the host: its bridges with their veths, and its table. For an engine that is
    /// taken off the host, and for tests.
    ///
    /// # Errors
    /// The first failure; all else was done.
    pub fn remove_all(&self) -> naru_base::Result<()> {
        lock(&self.live).clear();
        let mut removed = Removed::default();
        self.remove_orphans(&[], &[], &mut removed)?;
        self.remove_gate()?;
        let mut firewall = lock(&self.firewall);
        firewall.gate.into = None;
        firewall.networks.clear();
        firewall.ports.clear();
        firewall.links.clear();
        firewall.made = false;
        firewall.nft.delete_table(&self.instance.table())?;
        removed.failures.into_iter().next().map_or(Ok(()), |text| Err(naru_base::Error::system(text)))
    }
}
