//! Networks and endpoints as shown.

use super::time::rfc3339;
use naru_engine::types::{AddressPool, EndpointView, NetworkRequest, NetworkView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container's place on a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<IpamConfig>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

/// Addresses that were asked for.
#[derive(Debug, Serialize)]
struct IpamConfig {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    ipv6_address: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local_ips: Vec<String>,
}

impl EndpointSettings {
    pub(crate) fn of(view: &EndpointView) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let settings = &view.settings;
        let fixed = settings.ip.is_some() || settings.ip6.is_some() || !settings.link_local.is_empty();
        Self {
            ipam_config: fixed.then(|| IpamConfig {
                ipv4_address: settings.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                ipv6_address: settings.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
                link_local_ips: settings.link_local.iter().map(ToString::to_string).collect(),
            }),
            links: some(&settings.links),
            aliases: some(&settings.aliases),
            mac_address: view.mac.clone(),
            driver_opts: (!settings.driver_options.is_empty()).then(|| settings.driver_options.clone()),
            gw_priority: settings.gateway_priority,
            network_id: view.network_id.clone(),
            endpoint_id: view.endpoint_id.clone(),
            gateway: view.gateway.clone(),
            ip_address: view.ip.clone(),
            ip_prefix_len: if view.ip.is_empty() { 0 } else { view.prefix },
            ipv6_gateway: view.gateway6.clone(),
            global_ipv6_address: view.ip6.clone(),
            global_ipv6_prefix_len: if view.ip6.is_empty() { 0 } else { view.prefix6 },
            dns_names: some(&view.dns_names),
        }
    }
}

/// A network to be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "docker's shape")]
pub(crate) struct CreateBody {
    name: String,
    driver: String,
    scope: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<ConfigFromBody>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigFromBody {
    network: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct IpamBody {
    driver: String,
    options: BTreeMap<String, String>,
    config: Vec<PoolBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PoolBody {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    auxiliary_addresses: BTreeMap<String, String>,
}

impl CreateBody {
    pub(crate) fn into_request(self) -> NetworkRequest {
        let ipam = self.ipam.unwrap_or_default();
        let pool = |p: PoolBody| AddressPool {
            subnet: p.subnet,
            range: p.ip_range,
            gateway: p.gateway,
            auxiliary: p.auxiliary_addresses,
        };
        NetworkRequest {
            name: self.name,
            driver: self.driver,
            scope: self.scope,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.unwrap_or_default().network,
            ipv4: self.enable_ipv4,
            ipv6: self.enable_ipv6,
            ipam_driver: ipam.driver,
            ipam_options: ipam.options,
            pools: ipam.config.into_iter().map(pool).collect(),
            options: self.options,
            labels: self.labels,
        }
    }
}

/// A network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Network {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Member>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<BTreeMap<String, String>>,
    config: Vec<Pool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl Network {
    /// For an inspect; a list leaves the containers out.
    pub(crate) fn of(view: NetworkView, with_containers: bool) -> Self {
        let member = |(id, (name, endpoint)): (String, (String, EndpointView))| {
            let cidr = |ip: &str, prefix: u8| if ip.is_empty() { String::new() } else { format!("{ip}/{prefix}") };
            let member = Member {
                name,
                endpoint_id: endpoint.endpoint_id,
                mac_address: endpoint.mac,
                ipv4_address: cidr(&endpoint.ip, endpoint.prefix),
                ipv6_address: cidr(&endpoint.ip6, endpoint.prefix6),
            };
            (id, member)
        };
        let pool = |p: AddressPool| Pool {
            subnet: p.subnet,
            ip_range: p.range,
            gateway: p.gateway,
            auxiliary_addresses: p.auxiliary,
        };
        Self {
            name: view.name,
            id: view.id,
            created: rfc3339(view.created),
            scope: "local",
            driver: view.driver,
            enable_ipv4: view.ipv4,
            enable_ipv6: view.ipv6,
            ipam: Ipam { driver: "default", options: None, config: view.pools.into_iter().map(pool).collect() },
            internal: view.internal,
            attachable: view.attachable,
            ingress: false,
            config_from: ConfigFrom { network: view.config_from },
            config_only: view.config_only,
            containers: if with_containers {
                view.containers.into_iter().map(member).collect()
            } else {
                BTreeMap::new()
            },
            options: view.options,
            labels: view.labels,
        }
    }
}
