//! A container's place on its networks: made before it starts, given back when it has ended.

use super::{Network, Networks};
use crate::Engine;
use crate::container::{Container, Record};
use crate::types::{EndpointSettings, NetworkMode};
use crate::user_spaces::UserSpace;
use naru_base::{Class, Error, Id, Result};
use naru_net::{Endpoint, EndpointRequest, Netns, Pooled};
use std::collections::BTreeMap;
use std::sync::Arc;

/// docker's option for the name of an interface, or the beginning of it.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";

/// `CAP_NET_ADMIN` (capabilities(7)).
const NET_ADMIN: u64 = 1 << 12;

/// A network namespace of a container's own, with its interfaces. It lives as long as a descriptor of it does: this one, the monitor's, or
/// a process in it.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub id: String,
    pub netns: Arc<Netns>,
    /// By network name.
    pub attached: BTreeMap<String, Endpoint>,
}

impl Sandbox {
    /// An interface name that nobody has: `eth` or another beginning, and the lowest number.
    fn free_interface(&self, prefix: &str) -> String {
        let taken = |name: &String| self.attached.values().any(|e| e.ifname == *name);
        let mut names = (0..).map(|n: u32| format!("{prefix}{n}"));
        names.find(|name| !taken(name)).unwrap_or_default()
    }
}

/// Networks that a container is to be on, in the order of its interfaces, with what it wants of them.
type Plan = Vec<(Arc<Network>, EndpointSettings)>;

/// Among a container's networks the way out: the highest priority, then both families over one, then the lowest name; a network
/// without a gateway is none.
pub(crate) fn way_out<'a>(
    record: &Record,
    attached: &'a BTreeMap<String, Endpoint>,
) -> Option<(&'a String, &'a Endpoint)> {
    let priority = |name: &String| record.networks.get(name).map_or(0, |s| s.gateway_priority);
    let candidates = attached.iter().filter(|(_, e)| !e.gateways().is_empty());
    // Of equal ones `min_by_key` takes the first, which has the lowest name.
    candidates.min_by_key(|(name, e)| (-i128::from(priority(name)), std::cmp::Reverse(e.gateways().len())))
}

impl Networks {
    /// A container's own namespace, on all its networks; with the user namespace that it belongs to, if it was made for it. `pooled` tells
    /// whether what is in the pool will do, `make` makes a namespace otherwise.
    ///
    /// # Errors
    /// When a network has gone, or an address can't be had; nothing is left then.
    pub(crate) fn sandbox(
        &self,
        container: &Container,
        pooled: bool,
        make: &dyn Fn() -> Result<(Netns, Option<UserSpace>)>,
    ) -> Result<(Sandbox, Option<UserSpace>)> {
        let record = container.read(Clone::clone);
        let plan = self.plan(&record)?;
        if pooled
            && let [(network, settings)] = plan.as_slice()
            && network.spec.id == self.default.spec.id
            && *settings == EndpointSettings::default()
            && let Some(Pooled { netns, endpoint, with: user }) = self.pool.take()
        {
            self.join(network, &container.id)?;
            if may_change_addresses(&record) {
                self.host.unlock(&endpoint)?;
            }
            // The default network has no names.
            let attached = BTreeMap::from([(network.spec.name.clone(), endpoint)]);
            return Ok((Sandbox { id: Id::random()?.to_string(), netns: Arc::new(netns), attached }, user));
        }
        let spare = if pooled { self.spares.take() } else { None };
        let (netns, user) = spare.map_or_else(make, Ok)?;
        let mut sandbox = Sandbox { id: Id::random()?.to_string(), netns: Arc::new(netns), attached: BTreeMap::new() };
        match self.fill(&mut sandbox, &record, &plan) {
            Ok(()) => Ok((sandbox, user)),
            Err(error) => {
                self.release(&container.id, sandbox);
                Err(error)
            }
        }
    }

    /// The network of its mode first, the others by name. One without interfaces has no part in it.
    fn plan(&self, record: &Record) -> Result<Plan> {
        if record.config.network_disabled {
            return Ok(Vec::new());
        }
        let first = self.mode_name(&record.host.network);
        let mut plan = Plan::new();
        for (name, settings) in &record.networks {
            let network = self.find(name)?;
            refuse_template(&network)?;
            if !network.has_endpoints() {
                continue;
            }
            let at = if Some(&network.spec.name) == first.as_ref() { 0 } else { plan.len() };
            plan.insert(at, (network, settings.clone()));
        }
        Ok(plan)
    }

    fn fill(&self, sandbox: &mut Sandbox, record: &Record, plan: &Plan) -> Result<()> {
        let alone = plan.len() == 1;
        for (network, settings) in plan {
            let endpoint = self.attach(sandbox, record, network, settings, alone)?;
            sandbox.attached.insert(network.spec.name.clone(), endpoint.clone());
            // Before the container runs: it may ask for itself.
            self.enter_name(record, network, &endpoint)?;
            self.make_way_for_names(record, &sandbox.netns, network)?;
        }
        if plan.len() > 1 {
            let way_out = way_out(record, &sandbox.attached).map(|(_, endpoint)| endpoint);
            self.host.set_gateway(&sandbox.netns, way_out)?;
        }
        Ok(())
    }

    /// Puts a sandbox on one more network; the caller enters it there.
    ///
    /// # Errors
    /// When the network has gone, or an address can't be had; nothing is left then.
    pub(super) fn attach(
        &self,
        sandbox: &Sandbox,
        record: &Record,
        network: &Network,
        settings: &EndpointSettings,
        default_route: bool,
    ) -> Result<Endpoint> {
        let own_name = settings.driver_options.get(INTERFACE_NAME).cloned();
        let prefix = network.spec.options.get(INTERFACE_PREFIX).map_or("eth", String::as_str);
        let wish = EndpointRequest {
            ip: settings.ip,
            ip6: settings.ip6,
            link_local: settings.link_local.clone(),
            mac: settings.mac.clone(),
            interface: Some(own_name.unwrap_or_else(|| sandbox.free_interface(prefix))),
            no_default_route: !default_route,
            unlocked: may_change_addresses(record),
        };
        self.join(network, &record.id)?;
        self.host.attach(&network.spec, &sandbox.netns, &wish).inspect_err(|_| self.leave(&network.spec.id, &record.id))
    }

    /// Gives the addresses back; the kernel removes the interfaces when the last descriptor is closed, in the background.
    pub(crate) fn release(&self, container: &Id, sandbox: Sandbox) {
        for (name, endpoint) in &sandbox.attached {
            if let Ok(network) = self.find(name) {
                self.remove_name(&network, container);
            }
            self.host.detach(endpoint);
            self.leave(&endpoint.network_id, container);
        }
    }

    /// The name of the network that a mode means; none for another container's.
    pub(crate) fn mode_name(&self, mode: &NetworkMode) -> Option<String> {
        match mode {
            NetworkMode::Container(_) => None,
            NetworkMode::Named(given) => Some(self.find(given).map_or_else(|_| given.clone(), |n| n.spec.name.clone())),
            other => Some(other.as_text()),
        }
    }
}

impl Engine {
    /// The networks of a container that is being made: those that were asked for under their own names, and that of its mode. One that is
    /// not there (yet) is found missing by the start, as docker has it: to a client "not found" at a create is about the image.
    ///
    /// # Errors
    /// With docker's texts: several that don't go together, settings that a network can't meet.
    pub(crate) fn resolve_networks(
        &self,
        mode: &NetworkMode,
        asked: BTreeMap<String, EndpointSettings>,
    ) -> Result<BTreeMap<String, EndpointSettings>> {
        let Some(main) = self.networks.mode_name(mode) else { return Ok(BTreeMap::new()) };
        let alone = matches!(mode, NetworkMode::Host | NetworkMode::None);
        let mut all = BTreeMap::from([(main.clone(), EndpointSettings::default())]);
        for (given, settings) in asked {
            let network = match self.networks.find(&given) {
                Err(e) if e.class() == Class::NotFound => {
                    all.insert(given, settings);
                    continue;
                }
                found => found?,
            };
            refuse_template(&network)?;
            let name = network.spec.name.clone();
            if name != main && (alone || !network.has_endpoints()) {
                return Err(Error::invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                ));
            }
            check_settings(&network, &settings).map_err(|why| {
                Error::invalid(format!("invalid config for network {name}: invalid endpoint settings:\n{why}"))
            })?;
            all.insert(name, settings);
        }
        Ok(all)
    }

    /// Gives back the networks of a container that has ended; those that it was on.
    pub(crate) fn release_sandbox(&self, container: &Container) -> Vec<Arc<Network>> {
        let Some(sandbox) = container.set_sandbox(None) else { return Vec::new() };
        let left = sandbox.attached.keys().filter_map(|name| self.networks.find(name).ok()).collect();
        self.networks.release(&container.id, sandbox);
        left
    }

    /// Tells that a container has left these networks.
    pub(crate) fn tell_left(&self, container: &Container, networks: &[Arc<Network>]) {
        for network in networks {
            self.network_event(network, "disconnect", Some(&container.id));
        }
    }
}

/// Whether a container may give its interfaces other addresses, or send for others: its frames are then let through as they are.
fn may_change_addresses(record: &Record) -> bool {
    let host = &record.host;
    let caps = naru_runtime::capabilities::effective_set(&host.cap_add, &host.cap_drop, host.privileged);
    caps.is_ok_and(|set| set & NET_ADMIN != 0)
}

/// Nobody is on a network that is a template for others; docker's text.
pub(super) fn refuse_template(network: &Network) -> Result<()> {
    match network.config_only {
        true => Err(super::forbidden(format!(
            "cannot create endpoint on configuration-only network {}: it is a template for others (--config-from)",
            network.spec.name
        ))),
        false => Ok(()),
    }
}

/// Whether a network can meet what a container wants of it; docker's texts.
pub(super) fn check_settings(network: &Network, settings: &EndpointSettings) -> std::result::Result<(), String> {
    let mut mistakes: Vec<String> = Vec::new();
    let spec = &network.spec;
    let fixed = settings.ip.is_some() || settings.ip6.is_some();
    if network.predefined {
        if fixed {
            mistakes.push("user specified IP address is supported on user defined networks only".into());
        }
        if !settings.aliases.is_empty() {
            mistakes.push("network-scoped alias is supported only for containers in user defined networks".into());
        }
    } else if fixed && !network.own_subnets {
        mistakes.push(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .into(),
        );
    } else {
        if let Some(ip) = settings.ip.filter(|ip| !spec.subnet.is_some_and(|s| s.contains(*ip))) {
            mistakes.push(format!("no configured subnet or ip-range contain the IP address {ip}"));
        }
        if let Some(ip) = settings.ip6.filter(|ip| !spec.subnet6.is_some_and(|s| s.contains(*ip))) {
            mistakes.push(format!("no configured subnet or ip-range contain the IP address {ip}"));
        }
    }
    for address in &settings.link_local {
        let fits = match address {
            std::net::IpAddr::V4(ip) => ip.is_link_local(),
            std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if !fits {
            mistakes.push(format!("{address} is no link-local address"));
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests_support::record;

    fn endpoint(gateway: Option<&str>, gateway6: Option<&str>) -> Endpoint {
        Endpoint {
            endpoint_id: Id::random().unwrap(),
            network_id: Id::random().unwrap(),
            ip: Some("10.0.0.2".parse().unwrap()),
            prefix: 24,
            gateway: gateway.map(|g| g.parse().unwrap()),
            ip6: None,
            prefix6: 0,
            gateway6: gateway6.map(|g| g.parse().unwrap()),
            mac: String::new(),
            host_ifname: String::new(),
            ifname: String::new(),
        }
    }

    #[test]
    fn the_way_out() {
        let mut record = record("abc", "web");
        let attached = BTreeMap::from([
            ("a".to_owned(), endpoint(None, None)),
            ("b".to_owned(), endpoint(Some("10.0.0.1"), None)),
            ("c".to_owned(), endpoint(Some("10.0.1.1"), None)),
            ("d".to_owned(), endpoint(Some("10.0.2.1"), Some("fd00::1"))),
        ]);
        let name = |record: &Record| way_out(record, &attached).map(|(n, _)| n.clone());
        assert_eq!(name(&record).as_deref(), Some("d"), "both families");
        let settings = EndpointSettings { gateway_priority: 1, ..EndpointSettings::default() };
        record.networks.insert("c".into(), settings.clone());
        assert_eq!(name(&record).as_deref(), Some("c"), "the highest priority");
        record.networks.insert("b".into(), settings.clone());
        assert_eq!(name(&record).as_deref(), Some("b"), "the lowest name");
        record.networks.insert("a".into(), EndpointSettings { gateway_priority: 9, ..settings });
        assert_eq!(name(&record).as_deref(), Some("b"), "never an internal one");
    }
}
