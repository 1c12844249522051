//! Networks and endpoints as shown.

use super::Network;
use super::names::dns_names;
use crate::Engine;
use crate::container::Record;
use crate::types::{AddressPool, EndpointSettings, EndpointView, NetworkView};
use naru_base::Result;
use naru_net::{Driver, Endpoint, NetworkSpec};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// docker's names for a bridge's settings: all of the default network's, and of others those that were given.
fn options(network: &Network) -> BTreeMap<String, String> {
    let spec = &network.spec;
    let mut all = spec.options.clone();
    if network.predefined && spec.driver == Driver::Bridge {
        for (key, value) in [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", spec.icc.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", spec.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("com.docker.network.bridge.name", spec.bridge_name.clone()),
            ("com.docker.network.driver.mtu", spec.mtu.to_string()),
        ] {
            all.entry(key.to_owned()).or_insert(value);
        }
    }
    all
}

/// Its addresses, as they are asked for and shown.
pub(super) fn pools(spec: &NetworkSpec) -> Vec<AddressPool> {
    let auxiliary = |v4: bool| {
        let of_family = spec.auxiliary.iter().filter(|(_, ip)| ip.is_ipv4() == v4);
        of_family.map(|(name, ip)| (name.clone(), ip.to_string())).collect()
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    let v4 = spec.subnet.map(|subnet| AddressPool {
        subnet: subnet.to_string(),
        range: text(spec.ip_range.map(|r| r.to_string())),
        gateway: text(spec.gateway.map(|g| g.to_string())),
        auxiliary: auxiliary(true),
    });
    let v6 = spec.subnet6.map(|subnet| AddressPool {
        subnet: subnet.to_string(),
        range: text(spec.ip_range6.map(|r| r.to_string())),
        gateway: text(spec.gateway6.map(|g| g.to_string())),
        auxiliary: auxiliary(false),
    });
    v4.into_iter().chain(v6).collect()
}

fn live_view(record: &Record, name: &str, endpoint: &Endpoint) -> EndpointView {
    // Where the interface itself is the way out, there is no gateway to show.
    let text = |a: Option<IpAddr>| a.filter(|a| !a.is_unspecified()).map(|a| a.to_string()).unwrap_or_default();
    EndpointView {
        network_id: endpoint.network_id.to_string(),
        endpoint_id: endpoint.endpoint_id.to_string(),
        gateway: text(endpoint.gateway.map(IpAddr::V4)),
        ip: text(endpoint.ip.map(IpAddr::V4)),
        prefix: endpoint.prefix,
        gateway6: text(endpoint.gateway6.map(IpAddr::V6)),
        ip6: text(endpoint.ip6.map(IpAddr::V6)),
        prefix6: endpoint.prefix6,
        mac: endpoint.mac.clone(),
        dns_names: if name == "bridge" { Vec::new() } else { dns_names(record, name) },
        settings: EndpointSettings::default(),
    }
}

impl Engine {
    /// A container's endpoints by network name.
    pub(crate) fn endpoint_views(&self, record: &Record) -> BTreeMap<String, EndpointView> {
        let view = |(name, settings): (&String, &EndpointSettings)| {
            let mut view = match record.state.attached.get(name) {
                Some(endpoint) => live_view(record, name, endpoint),
                None => EndpointView { mac: settings.mac.clone().unwrap_or_default(), ..EndpointView::default() },
            };
            // On `host` and `none` there is no endpoint, but the network is one.
            if view.network_id.is_empty() && record.state.status.is_running() {
                view.network_id = self.networks.find(name).map(|n| n.spec.id.to_string()).unwrap_or_default();
            }
            view.settings = settings.clone();
            (name.clone(), view)
        };
        record.networks.iter().map(view).collect()
    }

    /// All networks.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.networks.all().iter().map(|network| self.network_view(network)).collect()
    }

    /// One network.
    ///
    /// # Errors
    /// When there is none of that name or id, or several.
    pub fn network(&self, name_or_id: &str) -> Result<NetworkView> {
        Ok(self.network_view(&*self.networks.find(name_or_id)?))
    }

    fn network_view(&self, network: &Network) -> NetworkView {
        let spec = &network.spec;
        let mut containers = BTreeMap::new();
        for container in self.containers.all() {
            container.read(|r| {
                if let Some(endpoint) = r.state.attached.get(&spec.name).filter(|_| r.state.status.is_running()) {
                    containers.insert(r.id.to_string(), (r.name.clone(), live_view(r, &spec.name, endpoint)));
                }
            });
        }
        NetworkView {
            id: spec.id.to_string(),
            name: spec.name.clone(),
            driver: spec.driver.name().to_owned(),
            predefined: network.predefined,
            created: network.created,
            ipv4: spec.ipv4,
            ipv6: spec.ipv6,
            pools: pools(spec),
            internal: spec.internal,
            attachable: network.attachable,
            config_only: network.config_only,
            config_from: network.config_from.clone(),
            options: options(network),
            labels: spec.labels.clone(),
            containers,
        }
    }
}
