//! What callers say and get: networks, endpoints, ports.

use crate::nft::BridgeRules;
use crate::rtnl;
use crate::{Error, Result, Subnet};
use naru_base::Id;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

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
}

impl Driver {
    /// docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
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
            bridge_name,
            subnet: Some(subnet),
            gateway: Some(Ipv4Addr::from_bits(subnet.hosts().0)),
            icc: true,
            masquerade: true,
            ..Self::bare(id, name, Driver::Bridge)
        }
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
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    /// What the firewall must know of a bridge network.
    pub(crate) fn rules(&self) -> Option<BridgeRules> {
        let subnet = self.subnet.filter(|_| self.driver == Driver::Bridge)?;
        let bridge = self.bridge_name.clone();
        Some(BridgeRules { bridge, subnet, icc: self.icc, masquerade: self.masquerade, internal: self.internal })
    }

    /// The subnet and gateway of a bridge network whose settings make sense.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which setting does not.
    pub(crate) fn validated(&self) -> Result<(Subnet, Ipv4Addr)> {
        let invalid = |why: String| Err(Error::Invalid(format!("network {}: {why}", self.name)));
        if self.driver != Driver::Bridge {
            return invalid(format!("driver {} has no bridge", self.driver.name()));
        }
        if !rtnl::is_valid_name(&self.bridge_name) {
            return invalid(format!("invalid bridge name {:?}", self.bridge_name));
        }
        if !(68..=65535).contains(&self.mtu) {
            return invalid(format!("invalid MTU {}", self.mtu));
        }
        let (Some(subnet), Some(gateway)) = (self.subnet, self.gateway) else {
            return invalid("a subnet and a gateway are needed".into());
        };
        if subnet.prefix() > 30 || subnet.prefix() == 0 {
            return invalid(format!("subnet {subnet} has no room for a gateway and a container"));
        }
        let (first, last) = subnet.hosts();
        if !(first..=last).contains(&gateway.to_bits()) {
            return invalid(format!("no matching subnet for gateway {gateway}"));
        }
        match self.ip_range {
            Some(range) if !subnet.contains(range.network()) || range.prefix() < subnet.prefix() => {
                invalid(format!("no matching subnet for range {range}"))
            }
            _ => Ok((subnet, gateway)),
        }
    }
}

/// What a container wants of its endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// This address.
    pub ip: Option<Ipv4Addr>,
    /// This Ethernet address.
    pub mac: Option<String>,
    /// The interface's name inside; `None` for `eth0`.
    pub interface: Option<String>,
    /// Without a default route (a further network of a container that has one).
    pub no_default_route: bool,
}

/// A container's place on a network, as it is kept in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub endpoint_id: Id,
    /// The network's id.
    pub network_id: Id,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The default gateway; none on an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// The container's Ethernet address.
    pub mac: String,
    /// The host's end of the veth pair.
    pub host_ifname: String,
    /// The container's end.
    pub ifname: String,
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
    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` for all of them.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: Ipv4Addr,
    /// The container's port.
    pub container_port: u16,
}
