//! The engine's networks: the default bridge, the host's and none; and a container's place on them.

use crate::container::Container;
use crate::types::{EndpointView, NetworkMode, NetworkView};
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::{Durability, Root, durable};
use naru_net::{
    Driver, Endpoint, EndpointRequest, HostNet, Instance, Netns, NetnsSetup, NetworkSpec, Pooled, WarmPool,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

const RECORD_FILE: &str = "networks.json";
/// Namespaces kept ready for the next containers.
const POOL: usize = 4;

/// A network namespace of a container's own. It lives as long as a descriptor of it does: this one, the monitor's, or a process in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub id: String,
    pub netns: Netns,
    pub endpoint: Option<Endpoint>,
    /// By network name.
    pub endpoints: BTreeMap<String, EndpointView>,
}

/// The predefined networks, as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Predefined {
    version: u32,
    created: i64,
    bridge: NetworkSpec,
    host: NetworkSpec,
    none: NetworkSpec,
}

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    host: HostNet,
    known: Predefined,
    pool: WarmPool,
    refilling: tokio::sync::Mutex<()>,
}

impl Networks {
    /// Reads the records, or chooses; nothing is made yet.
    pub(crate) fn open(data_root: &Path, instance: Instance, name_servers: &[Ipv4Addr]) -> Result<Self> {
        let host = HostNet::open(instance)?;
        let folder = Root::open_host("/")
            .and_then(|r| r.create_dir_all(data_root.join("network"), 0o700.into()))
            .system("cannot make the folder of the networks")?;
        let kept: Option<Predefined> = durable::read_json(&folder, RECORD_FILE).system("cannot read the networks")?;
        let known = match kept {
            Some(known) => known,
            None => {
                let known = Predefined {
                    version: 1,
                    created: clock::now(),
                    bridge: host.default_network(Id::random()?, name_servers, &[])?,
                    host: NetworkSpec::host(Id::random()?),
                    none: NetworkSpec::none(Id::random()?),
                };
                durable::write_json(&folder, RECORD_FILE, &known, Durability::Synced)
                    .system("cannot write the networks")?;
                known
            }
        };
        let pool = WarmPool::new(known.bridge.clone(), POOL);
        Ok(Self { host, known, pool, refilling: tokio::sync::Mutex::new(()) })
    }

    /// Sets up what is missing, takes up what runs, removes what nobody owns.
    pub(crate) fn reconcile(&self, live: Vec<Endpoint>) -> Result<()> {
        let live: Vec<_> =
            live.into_iter().map(|endpoint| naru_net::LiveEndpoint { endpoint, ports: Vec::new() }).collect();
        let removed = self.host.reconcile(std::slice::from_ref(&self.known.bridge), &live)?;
        for failure in removed.failures {
            tracing::warn!("{failure}");
        }
        self.host.ensure(&self.known.bridge)?;
        if self.host.forward_policy_blocks() {
            tracing::warn!(
                "another firewall of this host drops forwarded packets: containers may reach nothing outside"
            );
        }
        Ok(())
    }

    /// By name, id or unique beginning of an id.
    pub(crate) fn find(&self, given: &str) -> Option<&NetworkSpec> {
        let all = [&self.known.bridge, &self.known.host, &self.known.none];
        all.into_iter()
            .find(|n| n.name == given || n.id.as_str() == given)
            .or_else(|| all.into_iter().find(|n| !given.is_empty() && n.id.as_str().starts_with(given)))
    }

    pub(crate) fn specs(&self) -> [&NetworkSpec; 3] {
        [&self.known.bridge, &self.known.host, &self.known.none]
    }

    /// The gateway of the default network, which `host-gateway` means.
    pub(crate) fn gateway(&self) -> Option<Ipv4Addr> {
        self.known.bridge.gateway
    }

    /// A container's own namespace, on its network.
    pub(crate) fn sandbox(&self, container: &Container, mode: &NetworkMode) -> Result<Sandbox> {
        let id = Id::random()?.to_string();
        let spec = match mode {
            NetworkMode::None => &self.known.none,
            NetworkMode::Default => &self.known.bridge,
            NetworkMode::Named(name) => {
                self.find(name).ok_or_else(|| Error::not_found(format!("network {name} not found")))?
            }
            NetworkMode::Host | NetworkMode::Container(_) => {
                return Err(Error::system("a container on another's network has no namespace of its own"));
            }
        };
        if spec.driver != Driver::Bridge {
            let netns = Netns::create(&NetnsSetup::container())?;
            let view = EndpointView { network_id: spec.id.to_string(), ..EndpointView::default() };
            return Ok(Sandbox { id, netns, endpoint: None, endpoints: BTreeMap::from([(spec.name.clone(), view)]) });
        }
        let (ip, mac) = container.read(|r| (r.host.ip, r.host.mac.clone()));
        let plain = ip.is_none() && mac.is_none();
        let Pooled { netns, endpoint } = match self.pool.take().filter(|_| plain) {
            Some(ready) => ready,
            None => {
                let ip = match ip {
                    Some(IpAddr::V4(ip)) => Some(ip),
                    Some(ip) => return Err(Error::invalid(format!("the network bridge has no IPv6 addresses: {ip}"))),
                    None => None,
                };
                let netns = Netns::create(&NetnsSetup::container())?;
                let wish = EndpointRequest { ip, mac, ..EndpointRequest::default() };
                let endpoint = self.host.attach(spec, &netns, &wish)?;
                Pooled { netns, endpoint }
            }
        };
        let endpoints = BTreeMap::from([(spec.name.clone(), view(&endpoint))]);
        Ok(Sandbox { id, netns, endpoint: Some(endpoint), endpoints })
    }

    /// Gives the address back; the kernel removes the interfaces when the last descriptor is closed, in the background.
    pub(crate) fn release(&self, sandbox: Sandbox) {
        if let Some(endpoint) = &sandbox.endpoint {
            self.host.detach(endpoint);
        }
    }

    /// Fills the pool on another thread, after requests have been answered.
    pub(crate) fn refill(engine: &Arc<Engine>) {
        let engine = Arc::clone(engine);
        tokio::spawn(async move {
            let Ok(_one) = engine.networks.refilling.try_lock() else { return };
            let filler = Arc::clone(&engine);
            let filled = tokio::task::spawn_blocking(move || filler.networks.pool.refill(&filler.networks.host)).await;
            if let Ok(Err(error)) = filled {
                tracing::warn!("cannot keep networks ready: {error}");
            }
        });
    }

    /// Lets go of what is kept ready.
    pub(crate) fn close(&self) {
        self.pool.close(&self.host);
    }
}

/// docker's names for a bridge's settings, with those that were given.
fn options(spec: &NetworkSpec) -> BTreeMap<String, String> {
    let mut all = spec.options.clone();
    if spec.driver == Driver::Bridge {
        for (key, value) in [
            ("com.docker.network.bridge.default_bridge", (spec.name == "bridge").to_string()),
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

fn view(endpoint: &Endpoint) -> EndpointView {
    EndpointView {
        network_id: endpoint.network_id.to_string(),
        endpoint_id: endpoint.endpoint_id.to_string(),
        gateway: endpoint.gateway.map(|g| g.to_string()).unwrap_or_default(),
        ip: endpoint.ip.to_string(),
        prefix: endpoint.prefix,
        mac: endpoint.mac.clone(),
        ..EndpointView::default()
    }
}

impl Engine {
    /// All networks.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.networks.specs().into_iter().map(|spec| self.network_view(spec)).collect()
    }

    /// One network.
    ///
    /// # Errors
    /// When there is none of that name or id.
    pub fn network(&self, name_or_id: &str) -> Result<NetworkView> {
        let spec = self.networks.find(name_or_id);
        spec.map(|s| self.network_view(s)).ok_or_else(|| Error::not_found(format!("network {name_or_id} not found")))
    }

    fn network_view(&self, spec: &NetworkSpec) -> NetworkView {
        let mut containers = BTreeMap::new();
        for container in self.containers.all() {
            container.read(|r| {
                let on = r.state.endpoints.get(&spec.name).filter(|_| r.state.status.is_running());
                if let Some(endpoint) = on {
                    containers.insert(container.id.to_string(), (r.name.clone(), endpoint.clone()));
                }
            });
        }
        NetworkView {
            id: spec.id.to_string(),
            name: spec.name.clone(),
            driver: spec.driver.name().to_owned(),
            created: self.networks.known.created,
            subnet: spec.subnet.map(|s| s.to_string()).unwrap_or_default(),
            gateway: spec.gateway.map(|g| g.to_string()).unwrap_or_default(),
            options: options(spec),
            labels: spec.labels.clone(),
            containers,
        }
    }
}
