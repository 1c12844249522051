//! Setting a network up and removing it: bridge, address, settings, rules.

use super::{HostNet, Live, lock};
use crate::ipam::Leases;
use crate::rtnl::{BridgeOptions, LinkInfo, Rtnl};
use crate::{Driver, Error, Mac, NetworkSpec, Result, Subnet, sysctl};
use rustix::io::Errno;
use std::net::Ipv4Addr;

/// Deletes a new bridge unless the rest of the set-up succeeds.
struct NewBridge<'a> {
    rtnl: &'a mut Rtnl,
    index: u32,
    armed: bool,
}

impl Drop for NewBridge<'_> {
    fn drop(&mut self) {
        if self.armed {
            // The error that led here is the one to tell; a reconcile finds what is left.
            let _ = self.rtnl.delete_links(&[self.index]);
        }
    }
}

impl HostNet {
    /// Sets a network up, or takes it up as it is after a restart: bridge with address, kernel settings, firewall. Networks
    /// without a bridge need nothing.
    ///
    /// # Errors
    /// Invalid parameter for a specification that makes no sense, conflict when the bridge's name belongs to something else,
    /// forbidden when its subnet overlaps another network's.
    pub fn ensure(&self, spec: &NetworkSpec) -> naru_base::Result<()> {
        if spec.driver != Driver::Bridge {
            return Ok(());
        }
        let (subnet, gateway) = spec.validated()?;
        let mut all = lock(&self.live);
        if all.get(&spec.id).is_some_and(|l| l.spec == *spec && self.is_there(l)) {
            return Ok(());
        }
        if let Some(other) = all.values().find(|l| l.spec.id != spec.id && l.subnet.overlaps(subnet)) {
            let text =
                format!("Pool overlaps with other one on this address space: {subnet}, network {}", other.spec.name);
            return Err(naru_base::Error::new(naru_base::Class::Forbidden, text));
        }
        let index = self.make_bridge(spec, subnet, gateway)?;
        let leases = match all.remove(&spec.id) {
            Some(old) if old.subnet == subnet && old.gateway == gateway && old.spec.ip_range == spec.ip_range => {
                old.leases
            }
            _ => Leases::new(subnet, spec.ip_range, gateway),
        };
        all.insert(spec.id.clone(), Live { spec: spec.clone(), index, subnet, gateway, leases });
        Ok(())
    }

    /// Removes a network that no container is on: firewall first, then the bridge. A network that is not there is no error.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove(&self, spec: &NetworkSpec) -> naru_base::Result<()> {
        let live = lock(&self.live).remove(&spec.id);
        {
            let mut firewall = lock(&self.firewall);
            if let Some(rules) = firewall.networks.remove(&spec.id) {
                self.change_rules(&mut firewall, |nft, table| nft.remove_network(table, &rules))?;
            }
        }
        if live.is_some() {
            let mut rtnl = lock(&self.rtnl);
            if let Some(link) = rtnl.link(&spec.bridge_name)?.filter(|l| l.kind == "bridge") {
                rtnl.delete_links(&[link.index])?;
            }
        }
        Ok(())
    }

    /// Whether nobody has deleted the bridge.
    fn is_there(&self, live: &Live) -> bool {
        let link = lock(&self.rtnl).link_by_index(live.index);
        link.is_ok_and(|l| l.is_some_and(|l| l.name == live.spec.bridge_name))
    }

    /// Bridge, address, settings and rules, all or none.
    fn make_bridge(&self, spec: &NetworkSpec, subnet: Subnet, gateway: Ipv4Addr) -> Result<u32> {
        let mut rtnl = lock(&self.rtnl);
        let (index, new) = match rtnl.link(&spec.bridge_name)? {
            Some(link) => (self.adopt(&mut rtnl, &link, spec)?, false),
            None => {
                (rtnl.create_bridge(&self.bridge_options(spec, gateway, &self.instance.alias(spec.id.as_str())))?, true)
            }
        };
        let mut guard = NewBridge { rtnl: &mut rtnl, index, armed: new };
        set_address(guard.rtnl, index, subnet, gateway)?;
        self.set_up_kernel(spec)?;
        self.set_up_rules(spec)?;
        guard.armed = false;
        Ok(index)
    }

    fn bridge_options<'a>(&self, spec: &'a NetworkSpec, gateway: Ipv4Addr, alias: &'a str) -> BridgeOptions<'a> {
        let mac = Mac::of_endpoint(spec.id.as_str(), gateway);
        BridgeOptions { name: &spec.bridge_name, mac, mtu: spec.mtu, alias, no_ipv6_address: self.ipv6 }
    }

    /// Takes up a bridge of an earlier run, or one that the user made for this network.
    fn adopt(&self, rtnl: &mut Rtnl, link: &LinkInfo, spec: &NetworkSpec) -> Result<u32> {
        if link.kind != "bridge" {
            let kind = if link.kind.is_empty() { "device".to_owned() } else { link.kind.clone() };
            return Err(Error::ForeignLink { name: link.name.clone(), kind });
        }
        if link.alias.starts_with("naru:") && !link.alias.starts_with(&self.instance.alias_prefix()) {
            return Err(Error::ForeignLink { name: link.name.clone(), kind: "bridge of another engine".into() });
        }
        // A user's own bridge keeps its alias, so that a reconcile never deletes it.
        let own = link.alias.starts_with(&self.instance.alias_prefix());
        let alias = if own { self.instance.alias(spec.id.as_str()) } else { link.alias.clone() };
        rtnl.adjust(link.index, spec.mtu, &alias).map_err(|e| e.about(&link.name))?;
        Ok(link.index)
    }

    /// Settings of the bridge, and forwarding.
    fn set_up_kernel(&self, spec: &NetworkSpec) -> Result<()> {
        if self.ipv6 {
            sysctl::ensure(&format!("ipv6/conf/{}/disable_ipv6", spec.bridge_name), "1")?;
        }
        if spec.internal || sysctl::read("ipv4/ip_forward")? != "0" {
            return Ok(());
        }
        // The table closes the host to other hosts' packets before forwarding opens it.
        let mut firewall = lock(&self.firewall);
        firewall.close_forwarding = true;
        firewall.made = false;
        self.change_rules(&mut firewall, |_, _| Ok(()))?;
        sysctl::write("ipv4/ip_forward", "1")
    }

    fn set_up_rules(&self, spec: &NetworkSpec) -> Result<()> {
        let Some(rules) = spec.rules() else { return Ok(()) };
        let mut firewall = lock(&self.firewall);
        let old = firewall.networks.insert(spec.id.clone(), rules.clone());
        if old.is_some_and(|o| o != rules) {
            firewall.made = false;
        }
        let result = self.change_rules(&mut firewall, |nft, table| nft.add_network(table, &rules));
        if result.is_err() {
            firewall.networks.remove(&spec.id);
        }
        result
    }
}

/// Gives the bridge its address, and takes away what an earlier run with another subnet left.
fn set_address(rtnl: &mut Rtnl, index: u32, subnet: Subnet, gateway: Ipv4Addr) -> Result<()> {
    let addresses = rtnl.addresses()?;
    for old in addresses.iter().filter(|a| a.index == index && (a.address != gateway || a.prefix != subnet.prefix())) {
        match rtnl.delete_address(old) {
            Err(e) if e.errno() != Some(Errno::ADDRNOTAVAIL) => return Err(e),
            _ => {}
        }
    }
    rtnl.add_address(index, gateway, subnet)
}
