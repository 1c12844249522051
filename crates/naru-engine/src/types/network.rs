//! Networks and what belongs to one.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UnixNanos;

/// What a container wants of a network; kept in its record for as long as it belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Further names there.
    pub aliases: Vec<String>,
    /// `container:alias`: names of others that only this container knows.
    pub links: Vec<String>,
    /// This address.
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Further addresses, of the link only.
    pub link_local: Vec<IpAddr>,
    /// This Ethernet address.
    pub mac: Option<String>,
    /// Options for the driver.
    pub driver_options: BTreeMap<String, String>,
    /// The network with the highest one is the way out.
    pub gateway_priority: i64,
}

/// An endpoint as shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointView {
    /// What was asked for.
    pub settings: EndpointSettings,
    /// Network id, empty when the container has not been on it.
    pub network_id: String,
    /// Endpoint id, empty when not running.
    pub endpoint_id: String,
    /// Gateway address.
    pub gateway: String,
    /// Address.
    pub ip: String,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Gateway's IPv6 address.
    pub gateway6: String,
    /// IPv6 address.
    pub ip6: String,
    /// Prefix length in bits.
    pub prefix6: u8,
    /// MAC address.
    pub mac: String,
    /// DNS names.
    pub dns_names: Vec<String>,
}

/// Addresses of a network, of one family, as asked for and as shown; texts, since a wrong one is told by docker's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPool {
    /// CIDR.
    pub subnet: String,
    /// CIDR; containers get addresses of this part.
    pub range: String,
    /// The bridge's own address.
    pub gateway: String,
    /// Addresses that something else has, by its name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A network to be made.
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Driver; empty for bridge.
    pub driver: String,
    /// `local`, or empty.
    pub scope: String,
    /// No way out or in.
    pub internal: bool,
    /// Shown only: every network of one machine is.
    pub attachable: bool,
    /// A swarm's; refused.
    pub ingress: bool,
    /// Only a template for others.
    pub config_only: bool,
    /// The name of the template that it is made from; empty for none.
    pub config_from: String,
    /// IPv4; `None` for yes.
    pub ipv4: Option<bool>,
    /// IPv6; `None` for no.
    pub ipv6: Option<bool>,
    /// Address management; empty or `default`.
    pub ipam_driver: String,
    /// Its options.
    pub ipam_options: BTreeMap<String, String>,
    /// Addresses; without any of a family, the engine chooses.
    pub pools: Vec<AddressPool>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network as shown.
#[derive(Debug, Clone, Default)]
pub struct NetworkView {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `bridge`, `host`, `null`, `macvlan`, `ipvlan`.
    pub driver: String,
    /// One of the three that are always there.
    pub predefined: bool,
    /// When made.
    pub created: UnixNanos,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Its addresses.
    pub pools: Vec<AddressPool>,
    /// No way out or in.
    pub internal: bool,
    /// As asked for.
    pub attachable: bool,
    /// It is a template for others.
    pub config_only: bool,
    /// The template that it was made from.
    pub config_from: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Running containers on it: container id to (name, endpoint).
    pub containers: BTreeMap<String, (String, EndpointView)>,
}
