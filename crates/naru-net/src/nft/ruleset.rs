//! An engine's table: a fixed set of rules over sets and maps, so that a network or a published port is an element.
//!
//! ```text
//! guard        prerouting, raw      what comes out of a bridge for 127.0.0.0/8 is dropped (see `publish-host`); out of the gate: marked;
//!                                   out of a bridge: sources
//! sources                           what isn't behind the bridge it came by is dropped (a host's own rp_filter may be loose)
//! to-host      input, filter        out of an internal network: the host at its address there, and at no other
//! publish      prerouting, nat      what comes out of a bridge or out of the gate: to-container
//! publish-host output, nat          the host's own connections: to-container
//! to-container                      destination of published ports, by (address, protocol, port), then by (protocol, port)
//! masquerade   postrouting, nat     what leaves a network's subnet gets the host's address; IPv6 by the bridge it comes from
//! forward      forward, filter      answers; from-bridge, to-bridge, strangers; the gate's mark is taken off
//! from-bridge                       to another of our bridges: between; out of an internal network: dropped
//! between                           same network with ICC, a link, or a published port; all else is dropped
//! to-bridge                         published ports; all else is dropped
//! strangers                         other bridges; all else is dropped (only when the engine turned forwarding on)
//! ```
//!
//! and, in a table of the same name for each family alone, because `dup` is only there:
//!
//! ```text
//! gate         input, after all     a connection's first packet for a published port goes through the gate (see `host::gate`)
//! uncut        output, raw          a copy on its way into the gate may be cut into fragments, as its datagram was (IPv4)
//! ```
//!
//! A packet that another table drops stays dropped: nftables' accept only ends the chain that says it. So the host's own
//! rules hold, and [`Nft::forward_policy_blocks`] tells when they leave containers without a network.

use super::Nft;
use super::expression::{End, Interface, Rule, Verdict};
use super::transaction::{Element, Family, Hook, Set, Transaction, Type};
use crate::{Link, Published, Result, Subnet};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

// Behind the usual priorities (-100, 0, 100): the first rule that translates a connection wins, and that is the
// administrator's. The guard stands before connection tracking (-200), and before anybody's filter of sources (-300 and later).
const GUARD: Hook = Hook { kind: "filter", number: PREROUTING, priority: -310 };
const PUBLISH: Hook = Hook { kind: "nat", number: PREROUTING, priority: -99 };
const PUBLISH_HOST: Hook = Hook { kind: "nat", number: OUTPUT, priority: -99 };
const MASQUERADE: Hook = Hook { kind: "nat", number: POSTROUTING, priority: 101 };
const TO_HOST: Hook = Hook { kind: "filter", number: INPUT, priority: 1 };
const FORWARD_FILTER: Hook = Hook { kind: "filter", number: FORWARD, priority: 1 };

/// Behind every filter of the host (0, firewalld's 10, security 50, nat 100): what comes here has been let in.
const GATE: Hook = Hook { kind: "filter", number: INPUT, priority: 300 };
const UNCUT: Hook = Hook { kind: "filter", number: OUTPUT, priority: -300 };
/// An address that is nobody's (RFC 7600's range): the copy's next hop, which the gate's pair has no need to look for.
const BEHIND_THE_GATE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 9);
/// The same for IPv6, of the link only: the gate's way in has a route there.
const BEHIND_THE_GATE6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

/// The chain that drops packets between interfaces of which none is ours; it is there only when it shall.
pub(crate) const STRANGERS: &str = "strangers";

const NAME: &[Type] = &[Type::InterfaceName];
const BRIDGES: Set = Set { name: "bridges", key: NAME, data: None, interval: false };
const INTERNAL: Set = Set { name: "internal", key: NAME, data: None, interval: false };
const TALKING: Set =
    Set { name: "talking", key: &[Type::InterfaceName, Type::InterfaceName], data: None, interval: false };
const SUBNETS: Set = Set { name: "subnets", key: &[Type::Ipv4], data: None, interval: true };
/// Bridges of networks whose IPv6 packets get the host's address on the way out, whatever source they claim.
const MASQUERADED6: Set = Set { name: "masqueraded6", key: NAME, data: None, interval: false };
/// Containers with published ports, each with itself: how a packet looks that one of them sends to itself.
const SELVES: Set = Set { name: "selves", key: &[Type::Ipv4, Type::Ipv4], data: None, interval: false };
const PORTS: Set = Set {
    name: "ports",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    data: Some(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const PORTS_ANY: Set = Set {
    name: "ports-any",
    key: &[Type::Protocol, Type::Port],
    data: Some(&[Type::Ipv4, Type::Port]),
    interval: false,
};

const SELVES6: Set = Set { name: "selves6", key: &[Type::Ipv6, Type::Ipv6], data: None, interval: false };
const PORTS6: Set = Set {
    name: "ports6",
    key: &[Type::Ipv6, Type::Protocol, Type::Port],
    data: Some(&[Type::Ipv6, Type::Port]),
    interval: false,
};
const PORTS6_ANY: Set =
    Set { name: "ports6-any", key: PORTS_ANY.key, data: Some(&[Type::Ipv6, Type::Port]), interval: false };

/// Links between containers of a network without ICC.
const LINKS: Set =
    Set { name: "links", key: &[Type::Ipv4, Type::Ipv4, Type::Protocol, Type::Port], data: None, interval: false };
const LINKS6: Set =
    Set { name: "links6", key: &[Type::Ipv6, Type::Ipv6, Type::Protocol, Type::Port], data: None, interval: false };

/// The sets of one family.
struct Maps {
    by_address: Set,
    by_port: Set,
    selves: Set,
    links: Set,
}

const MAPS: Maps = Maps { by_address: PORTS, by_port: PORTS_ANY, selves: SELVES, links: LINKS };
const MAPS6: Maps = Maps { by_address: PORTS6, by_port: PORTS6_ANY, selves: SELVES6, links: LINKS6 };

fn maps(family: Family) -> &'static Maps {
    match family {
        Family::V4 => &MAPS,
        Family::V6 => &MAPS6,
    }
}

/// The gate, as the rules name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateRules {
    /// The interface on which packets come out of it.
    pub out: String,
    /// The interface by which they go in.
    pub way_in: String,
    /// The mark of what comes out (see `host::gate`).
    pub mark: u32,
    /// Its number; none as long as no port is published.
    pub into: Option<u32>,
}

/// What the rules must know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRules {
    /// Its bridge.
    pub bridge: String,
    /// Its IPv4 addresses, if it has any.
    pub subnet: Option<Subnet>,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// See [`crate::NetworkSpec::icc`].
    pub icc: bool,
    /// See [`crate::NetworkSpec::masquerade`].
    pub masquerade: bool,
    /// See [`crate::NetworkSpec::internal`].
    pub internal: bool,
}

/// All that a table holds.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The networks.
    pub networks: Vec<BridgeRules>,
    /// The published ports.
    pub ports: Vec<Published>,
    /// What may pass between containers of a network without ICC.
    pub links: Vec<Link>,
    /// The gate.
    pub gate: GateRules,
    /// Drop forwarded packets that have nothing to do with our bridges: for a host that forwarded nothing before the engine
    /// turned forwarding on.
    pub close_forwarding: bool,
    /// The kernel has IPv6.
    pub ipv6: bool,
}

impl Rules {
    fn families(&self) -> &'static [Family] {
        if self.ipv6 { &Family::BOTH } else { &[Family::V4] }
    }
}

impl Nft {
    /// Replaces the table by one with these rules, at once: no packet sees less or more.
    ///
    /// # Errors
    /// As the kernel says; then the old table stands.
    pub fn replace(&mut self, table: &str, rules: &Rules) -> Result<()> {
        let mut transaction = Transaction::new(table);
        transaction.add_table();
        transaction.delete_table();
        transaction.add_table();
        for set in [&BRIDGES, &INTERNAL, &TALKING, &SUBNETS, &MASQUERADED6] {
            transaction.add_set(set);
        }
        for maps in [&MAPS, &MAPS6] {
            [&maps.selves, &maps.by_address, &maps.by_port, &maps.links]
                .iter()
                .for_each(|set| transaction.add_set(set));
        }
        add_chains(&mut transaction, rules.close_forwarding);
        add_rules(&mut transaction, rules);
        for family in rules.families() {
            transaction.for_family(*family, |t| {
                t.add_table();
                t.delete_table();
                t.add_table();
                add_gate(t, *family, &rules.gate);
            });
        }
        for network in &rules.networks {
            network_elements(network).iter().for_each(|(set, e)| transaction.add_elements(set, e));
        }
        add_ports(&mut transaction, &rules.ports);
        for family in Family::BOTH {
            transaction.add_elements(maps(family).links.name, &link_elements(family, &rules.links));
        }
        transaction.commit(self)
    }

    /// Lets other links through, all or none.
    ///
    /// # Errors
    /// `ENOENT` when somebody has deleted the table.
    pub fn change_links(&mut self, table: &str, gone: &[Link], new: &[Link]) -> Result<()> {
        let mut transaction = Transaction::new(table);
        for family in Family::BOTH {
            transaction.delete_elements(maps(family).links.name, &link_elements(family, gone));
            transaction.add_elements(maps(family).links.name, &link_elements(family, new));
        }
        transaction.commit(self)
    }

    /// Adds a network to the table.
    ///
    /// # Errors
    /// `ENOENT` when somebody has deleted the table.
    pub fn add_network(&mut self, table: &str, network: &BridgeRules) -> Result<()> {
        let mut transaction = Transaction::new(table);
        network_elements(network).iter().for_each(|(set, e)| transaction.add_elements(set, e));
        transaction.commit(self)
    }

    /// Takes a network out of the table.
    ///
    /// # Errors
    /// `ENOENT` when somebody has deleted the table.
    pub fn remove_network(&mut self, table: &str, network: &BridgeRules) -> Result<()> {
        let mut transaction = Transaction::new(table);
        network_elements(network).iter().for_each(|(set, e)| transaction.delete_elements(set, e));
        transaction.commit(self)
    }

    /// Publishes ports, all or none.
    ///
    /// # Errors
    /// `EEXIST` when one of them leads elsewhere already, `ENOENT` when somebody has deleted the table.
    pub fn add_ports(&mut self, table: &str, ports: &[Published]) -> Result<()> {
        let mut transaction = Transaction::new(table);
        add_ports(&mut transaction, ports);
        transaction.commit(self)
    }

    /// Withdraws ports, all or none. `gone` are the containers of which none is left.
    ///
    /// # Errors
    /// `EEXIST` when one of them leads elsewhere, `ENOENT` when somebody has deleted the table.
    pub fn remove_ports(&mut self, table: &str, ports: &[Published], gone: &[IpAddr]) -> Result<()> {
        let mut transaction = Transaction::new(table);
        for family in Family::BOTH {
            transaction.delete_elements(maps(family).selves.name, &selves(family, gone.iter().copied()));
            for (set, elements) in port_elements(family, ports) {
                transaction.delete_elements(set, &elements);
                // An empty one is not sent: the family's own table may not be there.
                transaction.for_family(family, |t| t.delete_elements(set, &gated(elements)));
            }
        }
        transaction.commit(self)
    }

    /// Deletes the table; one that is not there is no error.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn delete_table(&mut self, table: &str) -> Result<()> {
        let mut transaction = Transaction::new(table);
        for family in Family::BOTH {
            transaction.for_family(family, |t| {
                t.add_table();
                t.delete_table();
            });
        }
        match transaction.commit_deletion(self) {
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}

fn add_chains(transaction: &mut Transaction<'_>, close_forwarding: bool) {
    let base = [
        ("guard", GUARD),
        ("publish", PUBLISH),
        ("publish-host", PUBLISH_HOST),
        ("masquerade", MASQUERADE),
        ("to-host", TO_HOST),
        ("forward", FORWARD_FILTER),
    ];
    base.into_iter().for_each(|(name, hook)| transaction.add_chain(name, Some(hook)));
    ["sources", "to-container", "from-bridge", "between", "to-bridge"]
        .into_iter()
        .for_each(|name| transaction.add_chain(name, None));
    if close_forwarding {
        transaction.add_chain(STRANGERS, None);
    }
}

/// The chain that hands over to the gate what the host has let in.
fn add_gate(transaction: &mut Transaction<'_>, family: Family, gate: &GateRules) {
    // The maps' keys.
    let by_address = Set { data: None, ..maps(family).by_address };
    let by_port = Set { data: None, ..maps(family).by_port };
    transaction.add_set(&by_address);
    transaction.add_set(&by_port);
    transaction.add_chain("gate", Some(GATE));
    let Some(into) = gate.into else { return };
    let behind = match family {
        Family::V4 => IpAddr::V4(BEHIND_THE_GATE),
        Family::V6 => IpAddr::V6(BEHIND_THE_GATE6),
    };
    // Nothing that has come out of it goes in again.
    transaction.add_rule("gate", &Rule::new().interface_is(Interface::Input, &gate.out).verdict(Verdict::Drop));
    if family == Family::V6 {
        // The host's own connections to ::1, and an address of the link only, are not forwarded: who holds the port serves them.
        transaction.add_rule("gate", &Rule::new().interface_is(Interface::Input, "lo").verdict(Verdict::Accept));
        for end in [End::Source, End::Destination] {
            transaction.add_rule("gate", &Rule::new().link_local6(end).verdict(Verdict::Accept));
        }
    }
    for rule in [
        Rule::new().new_connection().destination_in(family, by_address.name),
        Rule::new().new_connection().port_in(by_port.name),
    ] {
        transaction.add_rule("gate", &rule.copy_to(behind, into).verdict(Verdict::Drop));
    }
    if family == Family::V6 {
        return;
    }
    // `dup` forbids it, and a datagram that came in fragments would be refused.
    transaction.add_chain("uncut", Some(UNCUT));
    transaction.add_rule("uncut", &Rule::new().interface_is(Interface::Output, &gate.way_in).udp().may_fragment());
}

fn selves(family: Family, addresses: impl Iterator<Item = IpAddr>) -> Vec<Element> {
    let own = addresses.filter(|a| Family::of(*a) == family);
    own.map(|a| element([octets(a), octets(a)].concat())).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn add_ports(transaction: &mut Transaction<'_>, ports: &[Published]) {
    let containers: BTreeSet<IpAddr> = ports.iter().map(|p| p.container_ip).collect();
    for family in Family::BOTH {
        transaction.add_elements(maps(family).selves.name, &selves(family, containers.iter().copied()));
        for (set, elements) in port_elements(family, ports) {
            transaction.add_elements(set, &elements);
            transaction.for_family(family, |t| t.add_elements(set, &gated(elements)));
        }
    }
}

/// The keys of a map's elements.
fn gated(mut elements: Vec<Element>) -> Vec<Element> {
    elements.iter_mut().for_each(|e| e.data = None);
    elements
}

fn add_rules(transaction: &mut Transaction<'_>, all: &Rules) {
    use Interface::{Input, Output};
    use Verdict::{Accept, Drop, Jump};
    let bridges = BRIDGES.name;
    let gate = all.gate.out.as_str();
    let mut rules: Vec<(&str, Rule)> = vec![
        ("guard", Rule::new().ipv4().loopback(Family::V4, End::Destination).interface_in(Input, bridges).verdict(Drop)),
        // Somebody else's mark stays.
        ("guard", Rule::new().interface_is(Input, gate).marked(0).mark(all.gate.mark)),
        ("guard", Rule::new().interface_in(Input, bridges).verdict(Jump("sources"))),
        ("sources", Rule::new().ipv6().link_local6(End::Source).verdict(Accept)),
        ("sources", Rule::new().ipv6().no_source6().verdict(Accept)),
        ("sources", Rule::new().source_is_elsewhere().verdict(Drop)),
        ("to-host", Rule::new().established().verdict(Accept)),
        (
            "to-host",
            Rule::new().interface_in(Input, INTERNAL.name).destined_here().destined_beyond_interface().verdict(Drop),
        ),
        ("publish", Rule::new().interface_in(Input, bridges).verdict(Jump("to-container"))),
        ("publish", Rule::new().interface_is(Input, gate).verdict(Jump("to-container"))),
        // No kernel routes from ::1 to elsewhere: who holds the port answers there.
        ("publish-host", Rule::new().ipv6().loopback(Family::V6, End::Destination).verdict(Accept)),
        ("publish-host", Rule::new().verdict(Jump("to-container"))),
        ("to-container", Rule::new().ipv6().link_local6(End::Destination).verdict(Accept)),
        ("to-container", Rule::new().ipv4().destined_here().redirect_by_address(Family::V4, PORTS.name)),
        ("to-container", Rule::new().ipv4().destined_here().redirect_by_port(Family::V4, PORTS_ANY.name)),
        ("to-container", Rule::new().ipv6().destined_here().redirect_by_address(Family::V6, PORTS6.name)),
        ("to-container", Rule::new().ipv6().destined_here().redirect_by_port(Family::V6, PORTS6_ANY.name)),
        ("masquerade", Rule::new().interface_is(Output, "lo").verdict(Accept)),
        (
            "masquerade",
            Rule::new().ipv4().address_in(End::Source, SUBNETS.name).interface_not_in(Output, bridges).masquerade(),
        ),
        (
            "masquerade",
            Rule::new().ipv6().interface_in(Input, MASQUERADED6.name).interface_not_in(Output, bridges).masquerade(),
        ),
        // A container that reaches one of its own network by a published port must get its answers by way of the host.
        (
            "masquerade",
            Rule::new()
                .ipv4()
                .address_in(End::Source, SUBNETS.name)
                .published()
                .interfaces_in(TALKING.name)
                .masquerade(),
        ),
        // A bridge that shows its frames to the firewall (br_netfilter) sends such a packet back by itself, and the rule above does
        // not see where it came in.
        ("masquerade", Rule::new().ipv4().addresses_in(Family::V4, SELVES.name).masquerade()),
        ("masquerade", Rule::new().ipv6().published().interfaces_in(TALKING.name).masquerade()),
        ("masquerade", Rule::new().ipv6().addresses_in(Family::V6, SELVES6.name).masquerade()),
        // The host's own connections to 127.0.0.1 at a published port.
        ("masquerade", Rule::new().ipv4().loopback(Family::V4, End::Source).interface_in(Output, bridges).masquerade()),
        // Whoever is told to go on by a chain below this one is told so here, with less to ask of each packet.
        ("forward", Rule::new().established().verdict(Accept)),
        ("forward", Rule::new().interface_is(Input, gate).marked(all.gate.mark).mark(0)),
        ("forward", Rule::new().interface_in(Input, bridges).verdict(Jump("from-bridge"))),
        ("forward", Rule::new().interface_in(Output, bridges).verdict(Jump("to-bridge"))),
        ("forward", Rule::new().interface_is(Input, gate).interface_not_in(Output, bridges).verdict(Drop)),
        ("from-bridge", Rule::new().interface_in(Output, bridges).verdict(Jump("between"))),
        ("from-bridge", Rule::new().interface_in(Input, INTERNAL.name).verdict(Drop)),
        ("from-bridge", Rule::new().verdict(Accept)),
        ("between", Rule::new().interfaces_in(TALKING.name).verdict(Accept)),
        ("between", Rule::new().ipv4().flow_in(Family::V4, LINKS.name).verdict(Accept)),
        ("between", Rule::new().ipv6().flow_in(Family::V6, LINKS6.name).verdict(Accept)),
        ("between", Rule::new().interface_not_in(Input, INTERNAL.name).published().verdict(Accept)),
        ("between", Rule::new().verdict(Drop)),
        ("to-bridge", Rule::new().published().verdict(Accept)),
        ("to-bridge", Rule::new().verdict(Drop)),
    ];
    if all.close_forwarding {
        // Bridges are those of other engines and of virtual machines, which have their own rules.
        rules.push((STRANGERS, Rule::new().interface_kind(Input, "bridge").verdict(Accept)));
        rules.push((STRANGERS, Rule::new().interface_kind(Output, "bridge").verdict(Accept)));
        rules.push((STRANGERS, Rule::new().verdict(Drop)));
        rules.push(("forward", Rule::new().verdict(Jump(STRANGERS))));
    }
    rules.iter().for_each(|(chain, rule)| transaction.add_rule(chain, rule));
}

/// An interface's name as a key: 16 bytes, filled up with zeros.
pub(super) fn interface_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

fn element(key: Vec<u8>) -> Element {
    Element { key, data: None, end: false }
}

fn network_elements(network: &BridgeRules) -> Vec<(&'static str, Vec<Element>)> {
    let name = interface_key(&network.bridge);
    let mut all = vec![(BRIDGES.name, vec![element(name.clone())])];
    if network.internal {
        all.push((INTERNAL.name, vec![element(name.clone())]));
    }
    if network.icc {
        all.push((TALKING.name, vec![element([name.clone(), name].concat())]));
    }
    if network.masquerade && !network.internal {
        all.extend(network.subnet.map(|subnet| (SUBNETS.name, range(subnet))));
        if network.ipv6 {
            all.push((MASQUERADED6.name, vec![element(interface_key(&network.bridge))]));
        }
    }
    all
}

/// A subnet as an interval: its first address, and the first one behind it unless it reaches to the end of all addresses.
fn range(subnet: Subnet) -> Vec<Element> {
    let first = element(subnet.network().octets().to_vec());
    let behind = subnet.broadcast().to_bits().checked_add(1);
    let end = behind.map(|b| Element { key: b.to_be_bytes().to_vec(), data: None, end: true });
    std::iter::once(first).chain(end).collect()
}

fn port_elements(family: Family, ports: &[Published]) -> [(&'static str, Vec<Element>); 2] {
    let (mut exact, mut any) = (Vec::new(), Vec::new());
    for port in ports.iter().filter(|p| Family::of(p.host_ip) == family) {
        let mut key = [port.protocol.number(), 0, 0, 0].to_vec();
        key.extend_from_slice(&padded(port.host_port));
        let data = Some([octets(port.container_ip), padded(port.container_port).to_vec()].concat());
        if port.host_ip.is_unspecified() {
            any.push(Element { key, data, end: false });
        } else {
            let key = [octets(port.host_ip), key].concat();
            exact.push(Element { key, data, end: false });
        }
    }
    [(maps(family).by_address.name, exact), (maps(family).by_port.name, any)]
}

fn link_elements(family: Family, links: &[Link]) -> Vec<Element> {
    let own = links.iter().filter(|l| Family::of(l.to) == family);
    let key = |l: &Link| [octets(l.from), octets(l.to), vec![l.protocol.number(), 0, 0, 0], padded(l.port).to_vec()];
    own.map(|l| element(key(l).concat())).collect()
}

/// A port in network byte order, filled up to 4 bytes.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn elements_of_a_published_port() {
        let port = Published {
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port: 8080,
            container_ip: Ipv4Addr::new(172, 17, 0, 2).into(),
            container_port: 80,
        };
        let [(_, exact), (_, any)] = port_elements(Family::V4, std::slice::from_ref(&port));
        assert!(exact.is_empty());
        assert_eq!(any[0].key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(any[0].data.as_deref(), Some(&[172, 17, 0, 2, 0, 80, 0, 0][..]));
        let bound = Published { host_ip: Ipv4Addr::LOCALHOST.into(), ..port.clone() };
        let [(_, exact), (_, any)] = port_elements(Family::V4, &[bound]);
        assert!(any.is_empty());
        assert_eq!(exact[0].key, [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        let (host, container) = ("2001:db8::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let six = [Published { host_ip: host, container_ip: container, ..port }];
        assert!(port_elements(Family::V4, &six).iter().all(|(_, e)| e.is_empty()));
        let [(_, exact), (_, any)] = port_elements(Family::V6, &six);
        assert!(any.is_empty());
        assert_eq!((exact[0].key.len(), exact[0].data.as_ref().map(Vec::len)), (24, Some(20)));
    }

    #[test]
    fn a_range_at_the_end_of_all_addresses_has_no_end() {
        assert_eq!(range("10.0.0.0/8".parse().unwrap())[1].key, [11, 0, 0, 0]);
        assert_eq!(range("255.255.255.0/24".parse().unwrap()).len(), 1);
    }
}
