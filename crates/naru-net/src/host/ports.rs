//! Published ports: elements of maps.

use super::{HostNet, lock};
use crate::{Published, Result, Subnet, sysctl};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl HostNet {
    /// Publishes ports of an endpoint, all or none: the host's ports lead to the container, for other hosts, for the host
    /// itself (127.0.0.1 included, where the bind address covers it) and for containers.
    ///
    /// For other hosts they are open as far as the host's own rules for incoming packets let them in (see `host::gate`).
    /// The ports are not held against other processes of the host: bind them before.
    ///
    /// # Errors
    /// Conflict when one of them is published already.
    pub fn publish(&self, ports: &[Published]) -> naru_base::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        if ports.iter().any(|p| p.host_ip.is_ipv4() && (p.host_ip.is_unspecified() || p.host_ip.is_loopback())) {
            self.route_loopback(ports)?;
        }
        let gate = self.ensure_gate(ports)?;
        let mut firewall = lock(&self.firewall);
        if let Some(taken) = ports.iter().find(|p| firewall.ports.iter().any(|o| clash(o, p))) {
            let address = std::net::SocketAddr::new(taken.host_ip, taken.host_port);
            let text = format!("Bind for {address} failed: port is already allocated");
            return Err(naru_base::Error::conflict(text));
        }
        if firewall.gate.into != Some(gate) {
            firewall.gate.into = Some(gate);
            firewall.made = false;
        }
        firewall.ports.extend(ports.iter().cloned());
        let result = self.change_rules(&mut firewall, |nft, table| nft.add_ports(table, ports));
        if result.is_err() {
            firewall.ports.retain(|p| !ports.contains(p));
        }
        Ok(result?)
    }

    /// Lets the container at this endpoint reach itself by a published port, which goes out of its bridge where it came in when
    /// br_netfilter is on.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn reflect(&self, endpoint: &crate::Endpoint) -> naru_base::Result<()> {
        Ok(lock(&self.rtnl).set_hairpin(&endpoint.host_ifname)?)
    }

    /// Withdraws ports. One that is not published is no error. Connections that are open stay open.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn unpublish(&self, ports: &[Published]) -> naru_base::Result<()> {
        let mut firewall = lock(&self.firewall);
        let known: Vec<Published> = ports.iter().filter(|p| firewall.ports.remove(*p)).cloned().collect();
        if known.is_empty() {
            return Ok(());
        }
        let left = |ip: &IpAddr| firewall.ports.iter().any(|p| p.container_ip == *ip);
        let gone: BTreeSet<IpAddr> = known.iter().map(|p| p.container_ip).filter(|ip| !left(ip)).collect();
        let gone: Vec<IpAddr> = gone.into_iter().collect();
        Ok(self.change_rules(&mut firewall, |nft, table| nft.remove_ports(table, &known, &gone))?)
    }

    /// Lets the host's own connections to 127.0.0.1 leave by the bridges of these ports. The table's guard drops what comes
    /// from a container for 127.0.0.0/8, which this setting would else let in (as CVE-2020-8558 did).
    fn route_loopback(&self, ports: &[Published]) -> Result<()> {
        let bridges: Vec<String> = {
            let live = lock(&self.live);
            live.values()
                .filter(|l| l.subnet().is_some_and(|s| ports.iter().any(|p| is_in(s, p.container_ip))))
                .map(|l| l.spec.bridge_name.clone())
                .collect()
        };
        bridges.iter().try_for_each(|b| sysctl::ensure(&format!("ipv4/conf/{b}/route_localnet"), "1").map(drop))
    }
}

fn is_in(subnet: Subnet, address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(ip) if subnet.contains(ip))
}

/// Whether two published ports would take the same packets.
fn clash(a: &Published, b: &Published) -> bool {
    (a.protocol, a.host_port, a.host_ip.is_ipv4()) == (b.protocol, b.host_port, b.host_ip.is_ipv4())
        && (a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn which_ports_clash() {
        let port = |host_ip: [u8; 4], host_port, protocol| Published {
            protocol,
            host_ip: host_ip.into(),
            host_port,
            container_ip: [172, 17, 0, 2].into(),
            container_port: 80,
        };
        let any = port([0, 0, 0, 0], 80, Protocol::Tcp);
        assert!(clash(&any, &port([127, 0, 0, 1], 80, Protocol::Tcp)));
        assert!(clash(&any, &any));
        assert!(!clash(&any, &port([0, 0, 0, 0], 81, Protocol::Tcp)));
        assert!(!clash(&any, &port([0, 0, 0, 0], 80, Protocol::Udp)));
        assert!(!clash(&port([127, 0, 0, 1], 80, Protocol::Tcp), &port([127, 0, 0, 2], 80, Protocol::Tcp)));
    }
}
