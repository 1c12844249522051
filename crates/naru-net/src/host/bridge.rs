//! Setting a network up and removing it: bridge, address, settings, rules.

use super::{HostNet, Live, lock};
use crate::ipam::Leases;
use crate::rtnl::{BridgeOptions, LinkInfo, Rtnl};
use crate::spec::Addresses;
use crate::{Driver, Error, Mac, NetworkSpec, Result, Subnet, sysctl};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        if matches!(spec.driver, Driver::Host | Driver::Null) {
            return Ok(());
        }
        let addresses = spec.validated()?;
        let mut all = lock(&self.live);
        if all.get(&spec.id).is_some_and(|l| l.spec == *spec && self.is_there(l)) {
            return Ok(());
        }
        let clash = |l: &&Live| {
            let v4 = l.subnet().zip(addresses.v4).is_some_and(|(s, plan)| s.overlaps(plan.subnet));
            l.spec.id != spec.id
                && (v4 || l.subnet6().zip(addresses.v6).is_some_and(|(s, plan)| s.overlaps(plan.subnet)))
        };
        if all.values().any(|l| clash(&l)) {
            let text = "invalid pool request: Pool overlaps with other one on this address space";
            return Err(naru_base::Error::new(naru_base::Class::Forbidden, text));
        }
        let (index, mac) = match spec.driver {
            Driver::Bridge => {
                let index = self.make_bridge(spec, &addresses)?;
                let link = lock(&self.rtnl).link_by_index(index)?;
                // A bridge that the user made may change its address at any time.
                (index, link.and_then(|l| l.mac).filter(|mac| *mac == bridge_mac(spec, &addresses)))
            }
            _ => {
                self.make_parent(spec)?;
                (0, None)
            }
        };
        let live = match all.remove(&spec.id) {
            Some(old) if old.addresses == addresses => Live { spec: spec.clone(), index, mac, ..old },
            _ => Live { mac, ..new_live(spec, index, addresses)? },
        };
        all.insert(spec.id.clone(), live);
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
        if spec.driver.is_on_link() {
            self.remove_parent(spec)?;
        }
        if live.is_some() && spec.driver == Driver::Bridge {
            let mut rtnl = lock(&self.rtnl);
            // A bridge that the user made stays.
            let ours = |l: &LinkInfo| l.kind == "bridge" && l.alias.starts_with(&self.instance.alias_prefix());
            if let Some(link) = rtnl.link(&spec.bridge_name)?.filter(ours) {
                rtnl.delete_links(&[link.index])?;
            }
        }
        Ok(())
    }

    /// Whether nobody has deleted what the network is on.
    fn is_there(&self, live: &Live) -> bool {
        if live.spec.own_parent {
            return lock(&self.rtnl).link(&live.spec.parent).is_ok_and(|l| l.is_some());
        }
        if live.spec.driver != Driver::Bridge {
            return true;
        }
        let link = lock(&self.rtnl).link_by_index(live.index);
        link.is_ok_and(|l| l.is_some_and(|l| l.name == live.spec.bridge_name))
    }

    /// Bridge, address, settings and rules, all or none.
    fn make_bridge(&self, spec: &NetworkSpec, addresses: &Addresses) -> Result<u32> {
        let mut rtnl = lock(&self.rtnl);
        let (index, new) = match rtnl.link(&spec.bridge_name)? {
            Some(link) => (self.adopt(&mut rtnl, &link, spec)?, false),
            None => {
                let alias = self.instance.alias(spec.id.as_str());
                (rtnl.create_bridge(&self.bridge_options(spec, addresses, &alias))?, true)
            }
        };
        let mut guard = NewBridge { rtnl: &mut rtnl, index, armed: new };
        self.set_up_kernel(spec)?;
        if let Some((subnet, gateway)) = addresses.v4.and_then(|v4| Some((v4.subnet, v4.gateway?))) {
            set_address(guard.rtnl, index, subnet, gateway)?;
        }
        if let Some((subnet, gateway)) = addresses.v6.and_then(|v6| Some((v6.subnet, v6.gateway?))) {
            if !new && has_other_address6(&spec.bridge_name, gateway) {
                // The kernel forgets all of them.
                sysctl::write(&format!("ipv6/conf/{}/disable_ipv6", spec.bridge_name), "1")?;
                sysctl::write(&format!("ipv6/conf/{}/disable_ipv6", spec.bridge_name), "0")?;
            }
            guard.rtnl.add_address6(index, gateway, subnet)?;
        }
        self.set_up_rules(spec)?;
        guard.armed = false;
        Ok(index)
    }

    fn bridge_options<'a>(&self, spec: &'a NetworkSpec, addresses: &Addresses, alias: &'a str) -> BridgeOptions<'a> {
        let mac = bridge_mac(spec, addresses);
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
        // No packet comes out of a container by this bridge whose source doesn't live there (RFC 3704's strict filter).
        sysctl::ensure(&format!("ipv4/conf/{}/rp_filter", spec.bridge_name), "1")?;
        if self.ipv6 {
            let keys = format!("ipv6/conf/{}", spec.bridge_name);
            sysctl::ensure(&format!("{keys}/accept_ra"), "0")?;
            sysctl::ensure(&format!("{keys}/disable_ipv6"), if spec.ipv6 { "0" } else { "1" })?;
        }
        if spec.ipv6 && !spec.internal {
            self.forward_ipv6()?;
        }
        if spec.internal || !spec.ipv4 || sysctl::read("ipv4/ip_forward")? != "0" {
            return Ok(());
        }
        // The table closes the host to other hosts' packets before forwarding opens it.
        let mut firewall = lock(&self.firewall);
        firewall.close_forwarding = true;
        firewall.made = false;
        self.change_rules(&mut firewall, |_, _| Ok(()))?;
        sysctl::write("ipv4/ip_forward", "1")
    }

    /// Turns forwarding of IPv6 on, which the kernel has for all interfaces or none. An interface that learns its routes from
    /// router advertisements goes on to do so (`accept_ra` 2), else the host would lose its way out.
    fn forward_ipv6(&self) -> Result<()> {
        if !self.ipv6 {
            return Err(Error::Invalid("this kernel has no IPv6".into()));
        }
        if sysctl::read("ipv6/conf/all/forwarding")? != "0" {
            return Ok(());
        }
        for link in sysctl::ipv6_interfaces()? {
            let key = format!("ipv6/conf/{link}/accept_ra");
            // An interface that has just gone has no settings.
            if sysctl::read(&key).is_ok_and(|v| v == "1") {
                let _ = sysctl::write(&key, "2");
            }
        }
        let mut firewall = lock(&self.firewall);
        firewall.close_forwarding = true;
        firewall.made = false;
        self.change_rules(&mut firewall, |_, _| Ok(()))?;
        sysctl::write("ipv6/conf/all/forwarding", "1")
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

/// The Ethernet address of a network's bridge.
fn bridge_mac(spec: &NetworkSpec, addresses: &Addresses) -> Mac {
    let v4 = addresses.v4.and_then(|v4| v4.gateway).map(IpAddr::V4);
    let v6 = addresses.v6.and_then(|v6| v6.gateway).map(IpAddr::V6);
    Mac::of_endpoint(spec.id.as_str(), v4.or(v6).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// A network of which nothing is leased but what its specification says.
fn new_live(spec: &NetworkSpec, index: u32, addresses: Addresses) -> Result<Live> {
    let mut leases = addresses.v4.map(|v4| Leases::new(v4.subnet, v4.range, v4.gateway));
    let mut leases6 = addresses.v6.map(|v6| Leases::new(v6.subnet, v6.range, v6.gateway));
    for address in spec.auxiliary.values() {
        let taken = match (address, &mut leases, &mut leases6) {
            (IpAddr::V4(ip), Some(leases), _) => leases.reserve(*ip),
            (IpAddr::V6(ip), _, Some(leases)) => leases.reserve(*ip),
            _ => Err(Error::Invalid(format!("no matching subnet for aux-address {address}"))),
        };
        taken?;
    }
    Ok(Live { spec: spec.clone(), index, mac: None, addresses, leases, leases6 })
}

/// Whether a bridge of an earlier run has an IPv6 address of another subnet.
fn has_other_address6(bridge: &str, gateway: Ipv6Addr) -> bool {
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    let own = text.lines().filter_map(super::exposure::read_if_inet6).filter(|(_, name)| name == bridge);
    own.into_iter().any(|(address, _)| address != IpAddr::V6(gateway))
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
