//! Links between containers of a network whose containers don't talk to each other: what may pass goes by way of the host, which forwards it.

use super::{HostNet, lock};
use crate::{Endpoint, Link, Netns};
use naru_base::Id;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl HostNet {
    /// Notes which links there are, for the table that the next reconcile makes.
    pub fn note_links(&self, links: BTreeSet<Link>) {
        lock(&self.firewall).links = links;
    }

    /// Lets these links through, and no others. Connections that are open stay open.
    ///
    /// # Errors
    /// As the kernel says; then those of before stand.
    pub fn set_links(&self, links: BTreeSet<Link>) -> naru_base::Result<()> {
        let mut firewall = lock(&self.firewall);
        if firewall.links == links {
            return Ok(());
        }
        let gone: Vec<Link> = firewall.links.difference(&links).cloned().collect();
        let new: Vec<Link> = links.difference(&firewall.links).cloned().collect();
        let before = std::mem::replace(&mut firewall.links, links);
        let changed = self.change_rules(&mut firewall, |nft, table| nft.change_links(table, &gone, &new));
        if changed.is_err() {
            firewall.links = before;
        }
        Ok(changed?)
    }

    /// Sends what an endpoint has for others of its network to the host, which forwards what may pass: their ports of the bridge don't
    /// talk to each other.
    ///
    /// # Errors
    /// As the kernel says; not found for a network that is not set up.
    pub fn lead_by_host(&self, netns: &Netns, endpoint: &Endpoint, others: &[IpAddr]) -> naru_base::Result<()> {
        let Some(mac) = self.bridge_mac(&endpoint.network_id)? else { return Ok(()) };
        let mut rtnl = netns.rtnl()?;
        match rtnl.link(&endpoint.ifname)? {
            Some(link) => Ok(rtnl.pin_neighbours(link.index, others, mac)?),
            None => Ok(()),
        }
    }

    /// Takes that back.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn lead_directly(&self, netns: &Netns, endpoint: &Endpoint, others: &[IpAddr]) -> naru_base::Result<()> {
        let mut rtnl = netns.rtnl()?;
        match rtnl.link(&endpoint.ifname)? {
            Some(link) => Ok(rtnl.forget_neighbours(link.index, others)?),
            None => Ok(()),
        }
    }

    /// Lets the ports of these endpoints talk to each other on their bridge, or not: after another setting of their network.
    ///
    /// # Errors
    /// The first refusal; the others have been changed.
    pub fn set_icc(&self, endpoints: &[Endpoint], icc: bool) -> naru_base::Result<()> {
        let mut rtnl = lock(&self.rtnl);
        let mut result = Ok(());
        for endpoint in endpoints.iter().filter(|e| !e.host_ifname.is_empty()) {
            result = result.and(rtnl.isolate_port(&endpoint.host_ifname, !icc));
        }
        Ok(result?)
    }

    /// The Ethernet address of a network's bridge.
    fn bridge_mac(&self, network: &Id) -> crate::Result<Option<crate::Mac>> {
        let index = lock(&self.live).get(network).map_or(0, |live| live.index);
        Ok(lock(&self.rtnl).link_by_index(index)?.and_then(|link| link.mac))
    }
}
