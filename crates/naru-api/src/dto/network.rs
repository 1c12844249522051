//! Networks and endpoints as shown.

use super::time::rfc3339;
use naru_engine::types::{EndpointView, NetworkView};
use serde::Serialize;
use std::collections::BTreeMap;

/// A container's place on a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<BTreeMap<String, String>>,
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

impl EndpointSettings {
    pub(crate) fn of(view: &EndpointView) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Self {
            ipam_config: None,
            links: None,
            aliases: some(&view.aliases),
            mac_address: view.mac.clone(),
            driver_opts: None,
            gw_priority: 0,
            network_id: view.network_id.clone(),
            endpoint_id: view.endpoint_id.clone(),
            gateway: view.gateway.clone(),
            ip_address: view.ip.clone(),
            ip_prefix_len: if view.ip.is_empty() { 0 } else { view.prefix },
            ipv6_gateway: String::new(),
            global_ipv6_address: String::new(),
            global_ipv6_prefix_len: 0,
            dns_names: some(&view.dns_names),
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
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
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
            let address =
                if endpoint.ip.is_empty() { String::new() } else { format!("{}/{}", endpoint.ip, endpoint.prefix) };
            let member = Member {
                name,
                endpoint_id: endpoint.endpoint_id,
                mac_address: endpoint.mac,
                ipv4_address: address,
                ipv6_address: String::new(),
            };
            (id, member)
        };
        let pool = Pool { subnet: view.subnet, gateway: view.gateway };
        Self {
            name: view.name,
            id: view.id,
            created: rfc3339(view.created),
            scope: "local",
            driver: view.driver,
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam {
                driver: "default",
                options: None,
                config: if pool.subnet.is_empty() { Vec::new() } else { vec![pool] },
            },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigFrom { network: "" },
            config_only: false,
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
