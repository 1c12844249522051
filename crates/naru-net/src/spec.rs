//! What callers say and get: networks, endpoints, ports.

use crate::ipam::Block;
use crate::nft::BridgeRules;
use crate::rtnl;
use crate::{Error, IpvlanFlag, IpvlanMode, MacvlanMode, Result, Subnet, Subnet6};
use naru_base::Id;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a network is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge on the host and a veth pair per container.
    Bridge,
    /// The host's own namespace: nothing to make.
    Host,
    /// A namespace of its own with `lo` alone.
    Null,
    /// An interface per container on the link of one of the host's interfaces, with an Ethernet address of its own.
    Macvlan,
    /// The same with the Ethernet address of the host's interface.
    Ipvlan,
}

impl Driver {
    /// docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }

    /// Whether containers have an interface on such a network.
    pub fn has_endpoints(self) -> bool {
        !matches!(self, Self::Host | Self::Null)
    }

    /// Whether such a network is on the link of one of the host's interfaces.
    pub fn is_on_link(self) -> bool {
        matches!(self, Self::Macvlan | Self::Ipvlan)
    }
}

/// A network, as it is kept in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// How it is built.
    pub driver: Driver,
    /// The bridge, for [`Driver::Bridge`].
    pub bridge_name: String,
    /// Its addresses, for [`Driver::Bridge`].
    pub subnet: Option<Subnet>,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    /// Containers get addresses of this part of the subnet.
    #[serde(default)]
    pub ip_range: Option<Subnet>,
    /// MTU of its interfaces.
    pub mtu: u32,
    /// Containers on it may talk to each other.
    pub icc: bool,
    /// Its containers reach other networks under the host's address.
    pub masquerade: bool,
    /// Its containers reach nothing else.
    pub internal: bool,
    /// Its containers get IPv4 addresses.
    #[serde(default = "yes")]
    pub ipv4: bool,
    /// Its containers get IPv6 addresses.
    #[serde(default)]
    pub ipv6: bool,
    /// Its IPv6 addresses.
    #[serde(default)]
    pub subnet6: Option<Subnet6>,
    /// The bridge's own IPv6 address.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Containers get IPv6 addresses of this part of the subnet.
    #[serde(default)]
    pub ip_range6: Option<Subnet6>,
    /// Addresses that something else on the network has, by its name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// The host's interface, for [`Driver::Macvlan`] and [`Driver::Ipvlan`].
    #[serde(default)]
    pub parent: String,
    /// That interface is there for such networks only: it is made and removed with them.
    #[serde(default)]
    pub own_parent: bool,
    /// How its interfaces go together, for [`Driver::Macvlan`].
    #[serde(default)]
    pub macvlan_mode: MacvlanMode,
    /// Who decides about a packet's way, for [`Driver::Ipvlan`].
    #[serde(default)]
    pub ipvlan_mode: IpvlanMode,
    /// Whom its containers reach on the host, for [`Driver::Ipvlan`].
    #[serde(default)]
    pub ipvlan_flag: IpvlanFlag,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Driver options as the user gave them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// The `host` network.
    pub fn host(id: Id) -> Self {
        Self::bare(id, "host", Driver::Host)
    }

    /// The `none` network.
    pub fn none(id: Id) -> Self {
        Self::bare(id, "none", Driver::Null)
    }

    /// A bridge network with docker's defaults. Its gateway is the first address that a host may have.
    pub fn bridge(id: Id, name: &str, bridge_name: String, subnet: Subnet) -> Self {
        Self {
            subnet: Some(subnet),
            gateway: Some(Ipv4Addr::from_bits(subnet.hosts().0)),
            ..Self::unaddressed_bridge(id, name, bridge_name)
        }
    }

    /// A bridge network with docker's defaults that has no addresses yet.
    pub fn unaddressed_bridge(id: Id, name: &str, bridge_name: String) -> Self {
        Self { bridge_name, icc: true, masquerade: true, ..Self::bare(id, name, Driver::Bridge) }
    }

    fn bare(id: Id, name: &str, driver: Driver) -> Self {
        Self {
            id,
            name: name.to_owned(),
            driver,
            bridge_name: String::new(),
            subnet: None,
            gateway: None,
            ip_range: None,
            mtu: 1500,
            icc: false,
            masquerade: false,
            internal: false,
            ipv4: true,
            ipv6: false,
            subnet6: None,
            gateway6: None,
            ip_range6: None,
            auxiliary: BTreeMap::new(),
            parent: String::new(),
            own_parent: false,
            macvlan_mode: MacvlanMode::Bridge,
            ipvlan_mode: IpvlanMode::L2,
            ipvlan_flag: IpvlanFlag::Bridge,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    /// A network on the link of one of the host's interfaces, which is not said yet; it has no addresses.
    pub fn on_link(id: Id, name: &str, driver: Driver) -> Self {
        // No MTU of its own: the parent's.
        Self { icc: true, mtu: 0, ..Self::bare(id, name, driver) }
    }

    /// What the firewall must know of a bridge network.
    pub(crate) fn rules(&self) -> Option<BridgeRules> {
        let rules = BridgeRules {
            bridge: self.bridge_name.clone(),
            subnet: self.subnet.filter(|_| self.ipv4),
            ipv6: self.ipv6,
            icc: self.icc,
            masquerade: self.masquerade,
            internal: self.internal,
        };
        (self.driver == Driver::Bridge).then_some(rules)
    }

    /// The address plan of a network whose settings make sense.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which setting does not.
    pub(crate) fn validated(&self) -> Result<Addresses> {
        let invalid = |why: String| Err(Error::Invalid(format!("network {}: {why}", self.name)));
        match self.driver {
            Driver::Host | Driver::Null => return invalid(format!("driver {} has no addresses", self.driver.name())),
            Driver::Bridge if !rtnl::is_valid_name(&self.bridge_name) => {
                return invalid(format!("invalid bridge name {:?}", self.bridge_name));
            }
            Driver::Bridge if !(68..=65535).contains(&self.mtu) => return invalid(format!("invalid MTU {}", self.mtu)),
            Driver::Bridge | Driver::Macvlan | Driver::Ipvlan => {}
        }
        let v4 = self.plan("", self.ipv4, self.subnet, self.gateway, self.ip_range)?;
        let v6 = self.plan("IPv6 ", self.ipv6, self.subnet6, self.gateway6, self.ip_range6)?;
        if v4.is_none() && v6.is_none() {
            return invalid("IPv4 or IPv6 must be enabled".into());
        }
        Ok(Addresses { v4, v6 })
    }

    /// The plan of one family; none when the network hasn't it.
    fn plan<B: Block>(
        &self,
        family: &str,
        enabled: bool,
        subnet: Option<B>,
        gateway: Option<B::Address>,
        range: Option<B>,
    ) -> Result<Option<Plan<B>>> {
        let invalid = |why: String| Err(Error::Invalid(format!("network {}: {why}", self.name)));
        if !enabled {
            return Ok(None);
        }
        let Some(subnet) = subnet.filter(|_| gateway.is_some() || self.driver.is_on_link()) else {
            return invalid(format!("an {family}subnet and a gateway are needed"));
        };
        let (first, last) = subnet.hosts();
        if last <= first || subnet.bounds().0 == 0 {
            return invalid(format!("subnet {subnet} has no room for a gateway and a container"));
        }
        if let Some(gateway) = gateway.filter(|g| !(first..=last).contains(&B::number(*g))) {
            return invalid(format!("no matching subnet for gateway {gateway}"));
        }
        let inside = |r: B| r.bounds().0 >= subnet.bounds().0 && r.bounds().1 <= subnet.bounds().1;
        match range {
            Some(range) if !inside(range) => invalid(format!("no matching subnet for range {range}")),
            _ => Ok(Some(Plan { subnet, gateway, range })),
        }
    }
}

fn yes() -> bool {
    true
}

/// The addresses of a network: at least one family's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub v4: Option<Plan<Subnet>>,
    pub v6: Option<Plan<Subnet6>>,
}

/// The addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan<B: Block> {
    pub subnet: B,
    /// None on a link without a router.
    pub gateway: Option<B::Address>,
    pub range: Option<B>,
}

/// What a container wants of its endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// This address.
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Further addresses, of the link only.
    pub link_local: Vec<IpAddr>,
    /// This Ethernet address.
    pub mac: Option<String>,
    /// The interface's name inside; `None` for `eth0`.
    pub interface: Option<String>,
    /// Without a default route (a further network of a container that has one).
    pub no_default_route: bool,
    /// It may be others on its bridge: it may change its own addresses anyway (CAP_NET_ADMIN).
    pub unlocked: bool,
}

/// A container's place on a network, as it is kept in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub endpoint_id: Id,
    /// The network's id.
    pub network_id: Id,
    /// The container's IPv4 address; none on a network without IPv4.
    pub ip: Option<Ipv4Addr>,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The default gateway; none on an internal network, `0.0.0.0` where the interface itself is the way.
    pub gateway: Option<Ipv4Addr>,
    /// The container's IPv6 address; none on a network without IPv6.
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// The IPv6 subnet's prefix length.
    #[serde(default)]
    pub prefix6: u8,
    /// The default gateway of IPv6; none on an internal network, `::` where the interface itself is the way.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// The container's Ethernet address; empty when that is the parent's (ipvlan).
    pub mac: String,
    /// The host's end of the veth pair; empty for one on a link of the host's.
    pub host_ifname: String,
    /// The container's end.
    pub ifname: String,
}

impl Endpoint {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.ip.map(IpAddr::V4).into_iter().chain(self.ip6.map(IpAddr::V6)).collect()
    }

    /// Its gateways, IPv4 first; none on an internal network, and unspecified where the interface itself is the way.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.gateway.map(IpAddr::V4).into_iter().chain(self.gateway6.map(IpAddr::V6)).collect()
    }

    /// The host's own addresses on the network, as far as the container has a way out there; on a link of the host's there are none.
    pub fn host_addresses(&self) -> Vec<IpAddr> {
        if self.host_ifname.is_empty() { Vec::new() } else { self.gateways() }
    }
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As docker writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port of a container that another one may reach, although its network is without ICC; both addresses are of one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who may.
    pub from: IpAddr,
    /// The container with the port.
    pub to: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A port of the host that leads to a port of a container, of the same family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` or `::` for all of the family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
}
