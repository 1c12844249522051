//! The engine's networks, and a container's place on them.
//!
//! [`Networks`] holds what exists; a network is in it from the moment its record is on disk until its removal has begun. Who uses a
//! network is noted under the same lock, so that one in use is never removed and nobody joins one that goes.

mod attach;
mod connect;
mod create;
mod link_rules;
mod links;
mod names;
mod options;
mod parents;
mod pools;
mod record;
mod remove;
mod spares;
mod template;
mod view;

pub(crate) use attach::{Sandbox, way_out};
pub(crate) use links::{LiveLink, link_target};
pub(crate) use record::Network;

use crate::container::Record;
use crate::user_spaces::{Space, UserSpace};
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::{Class, Error, Id, Result};
use naru_fs::{Durability, Records, Root, durable};
use naru_net::{HostNet, Instance, Subnet, Subnet6, WarmPool};
use record::{PREDEFINED_FILE, Predefined, RECORD_FILE, RECORD_VERSION};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Namespaces kept ready for the next containers.
const POOL: usize = 4;

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    host: HostNet,
    records: Records<Network>,
    known: Mutex<Known>,
    /// Held while a network is made: what its addresses must keep clear of must not change.
    making: Mutex<()>,
    names: names::Names,
    engine_id: String,
    name_servers: Vec<Ipv4Addr>,
    default: Arc<Network>,
    /// In namespaces as containers get them unless told otherwise.
    pool: WarmPool<Option<UserSpace>>,
    spares: spares::Spares,
    refilling: tokio::sync::Mutex<()>,
    /// Whose way to whom leads by the host; see [`link_rules`].
    led: Mutex<link_rules::Led>,
    /// The default network's setting is another one than before this engine began.
    icc_changed: bool,
}

/// What is there, and who uses it.
#[derive(Debug, Default)]
struct Known {
    networks: BTreeMap<Id, Arc<Network>>,
    /// Containers with an endpoint, by network.
    users: BTreeMap<Id, BTreeSet<Id>>,
}

/// Where networks keep what they keep, and whose they are.
#[derive(Debug)]
pub(crate) struct NetworksConfig<'a> {
    pub data_root: &'a Path,
    pub exec_root: &'a Path,
    pub instance: Instance,
    pub engine_id: String,
    pub name_servers: Vec<Ipv4Addr>,
    pub default_ipv6: &'a crate::DefaultIpv6,
    /// Containers on the default network may talk to each other.
    pub default_icc: bool,
}

impl Networks {
    /// Reads the records, or chooses; nothing is made yet.
    pub(crate) fn open(config: NetworksConfig<'_>) -> Result<Self> {
        let host = HostNet::open(config.instance.clone())?;
        let records: Records<Network> = Records::open(config.data_root.join("networks"), RECORD_FILE, RECORD_VERSION)
            .system("cannot open the networks")?;
        let mut known = Known::default();
        for (id, record) in records.load_all().system("cannot list the networks")? {
            match record {
                Ok(Some(network)) => {
                    known.networks.insert(network.spec.id.clone(), Arc::new(network));
                }
                // Its making was broken off before there was anything.
                Ok(None) => drop(records.remove(&id)),
                Err(error) => tracing::warn!(network = id, "its record can't be read: {error}"),
            }
        }
        let (taken, taken6) = taken(known.networks.values());
        let (predefined, icc_changed) = predefined(&config, &host, &taken, &taken6)?;
        let networks = predefined.networks().map(Arc::new);
        let [default, ..] = &networks;
        let default = Arc::clone(default);
        known.networks.extend(networks.into_iter().map(|n| (n.spec.id.clone(), n)));
        let pool = WarmPool::new(default.spec.clone(), POOL);
        Ok(Self {
            host,
            records,
            known: Mutex::new(known),
            making: Mutex::default(),
            names: names::Names::new(config.exec_root.join("names")),
            engine_id: config.engine_id,
            name_servers: config.name_servers,
            default,
            pool,
            spares: spares::Spares::default(),
            refilling: tokio::sync::Mutex::new(()),
            led: Mutex::default(),
            icc_changed,
        })
    }

    /// Sets up what is missing, takes up what runs, removes what nobody owns. `live` is who runs.
    pub(crate) fn reconcile(&self, live: &[Record]) -> Result<()> {
        let specs: Vec<_> = self.all().iter().filter(|n| n.has_endpoints()).map(|n| n.spec.clone()).collect();
        let endpoints: Vec<_> = live
            .iter()
            .flat_map(|record| {
                let ports =
                    std::iter::once(crate::ports::rules(&record.state.ports)).chain(std::iter::repeat(Vec::new()));
                record.state.attached.values().cloned().zip(ports)
            })
            .map(|(endpoint, ports)| naru_net::LiveEndpoint { endpoint, ports })
            .collect();
        let removed = self.host.reconcile(&specs, &endpoints)?;
        for failure in removed.failures {
            tracing::warn!("{failure}");
        }
        // Without the default network nothing works as expected; another one's failure has been told.
        self.host.ensure(&self.default.spec)?;
        {
            let mut known = crate::lock(&self.known);
            for record in live {
                for endpoint in record.state.attached.values() {
                    known.users.entry(endpoint.network_id.clone()).or_default().insert(record.id.clone());
                }
            }
        }
        if self.icc_changed {
            let on_default = live.iter().filter_map(|r| r.state.attached.get(&self.default.spec.name).cloned());
            if let Err(error) = self.host.set_icc(&on_default.collect::<Vec<_>>(), self.default.spec.icc) {
                tracing::warn!("cannot change who may talk to whom on the default network: {error}");
            }
        }
        self.write_all_names(live);
        if self.host.forward_policy_blocks() {
            tracing::warn!(
                "another firewall of this host drops forwarded packets: containers may reach nothing outside"
            );
        }
        Ok(())
    }

    /// The host's side.
    pub(crate) fn host(&self) -> &HostNet {
        &self.host
    }

    /// By whole id, name, or unique beginning of an id.
    ///
    /// # Errors
    /// docker's texts: none, several.
    pub(crate) fn find(&self, given: &str) -> Result<Arc<Network>> {
        let missing = || Error::not_found(format!("network {given} not found"));
        let given_name = if given == "default" { "bridge" } else { given };
        let known = crate::lock(&self.known);
        if let Some(network) = known.networks.get(given) {
            return Ok(Arc::clone(network));
        }
        if let Some(network) = known.networks.values().find(|n| n.spec.name == given_name) {
            return Ok(Arc::clone(network));
        }
        if given.is_empty() {
            return Err(missing());
        }
        let found: Vec<_> = known.networks.values().filter(|n| n.spec.id.as_str().starts_with(given)).collect();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(missing()),
            several => Err(Error::invalid(format!(
                "network {given} is ambiguous ({} matches found based on ID prefix)",
                several.len()
            ))),
        }
    }

    /// Every network, in no order that means anything.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        crate::lock(&self.known).networks.values().cloned().collect()
    }

    /// The addresses of the default network's gateway, which `host-gateway` means.
    pub(crate) fn default_gateways(&self) -> Vec<IpAddr> {
        let spec = &self.default.spec;
        spec.gateway.map(IpAddr::V4).into_iter().chain(spec.gateway6.map(IpAddr::V6)).collect()
    }

    /// Notes that a container is going to be on a network.
    ///
    /// # Errors
    /// Not found when the network has gone.
    fn join(&self, network: &Network, container: &Id) -> Result<()> {
        let mut known = crate::lock(&self.known);
        if !known.networks.contains_key(&network.spec.id) {
            return Err(Error::not_found(format!("network {} not found", network.spec.name)));
        }
        known.users.entry(network.spec.id.clone()).or_default().insert(container.clone());
        Ok(())
    }

    /// The container has left the network.
    fn leave(&self, network: &Id, container: &Id) {
        let mut known = crate::lock(&self.known);
        if let Some(users) = known.users.get_mut(network) {
            users.remove(container);
            if users.is_empty() {
                known.users.remove(network);
            }
        }
    }

    /// All IPv4 and IPv6 subnets that networks have.
    fn subnets(&self) -> (Vec<Subnet>, Vec<Subnet6>) {
        taken(self.all().iter())
    }

    /// Fills the pool on another thread, after requests have been answered.
    pub(crate) fn refill(engine: &Arc<Engine>) {
        // What runs has its addresses and ids first.
        if !engine.is_settled() {
            return;
        }
        let engine = Arc::clone(engine);
        tokio::spawn(async move {
            let Ok(_one) = engine.networks.refilling.try_lock() else { return };
            let filler = Arc::clone(&engine);
            let fill = move || {
                filler.spawner.fetch_template();
                let space = if filler.isolates_users() { Space::Own } else { Space::Host };
                let make = || filler.make_netns(&space);
                filler.networks.pool.refill_with(&filler.networks.host, make)?;
                filler.networks.spares.fill(make)
            };
            let filled = tokio::task::spawn_blocking(fill).await;
            if let Ok(Err(error)) = filled {
                tracing::warn!("cannot keep networks ready: {error}");
            }
        });
    }

    /// Lets go of what is kept ready.
    pub(crate) fn close(&self) {
        self.pool.close(&self.host);
        self.spares.close();
    }
}

/// The subnets of networks; a template has none.
fn taken<'a>(networks: impl Iterator<Item = &'a Arc<Network>>) -> (Vec<Subnet>, Vec<Subnet6>) {
    let real: Vec<_> = networks.filter(|n| !n.config_only).collect();
    (real.iter().filter_map(|n| n.spec.subnet).collect(), real.iter().filter_map(|n| n.spec.subnet6).collect())
}

/// The predefined networks: as recorded, or chosen now; and whether who may talk to whom is another setting than before.
fn predefined(
    config: &NetworksConfig<'_>,
    host: &HostNet,
    taken: &[Subnet],
    taken6: &[Subnet6],
) -> Result<(Predefined, bool)> {
    let folder = Root::open_host("/")
        .and_then(|r| r.create_dir_all(config.data_root.join("network"), 0o700.into()))
        .system("cannot make the folder of the networks")?;
    let before: Option<Predefined> = durable::read_json(&folder, PREDEFINED_FILE).system("cannot read the networks")?;
    let mut known = match before.clone() {
        Some(known) => known,
        None => Predefined {
            version: 1,
            created: clock::now(),
            bridge: host.default_network(Id::random()?, &config.name_servers, taken)?,
            host: naru_net::NetworkSpec::host(Id::random()?),
            none: naru_net::NetworkSpec::none(Id::random()?),
        },
    };
    set_ipv6(&mut known.bridge, config, host, taken6)?;
    known.bridge.icc = config.default_icc;
    let icc_changed = before.as_ref().is_some_and(|before| before.bridge.icc != known.bridge.icc);
    if before.is_some_and(|before| before.bridge == known.bridge) {
        return Ok((known, icc_changed));
    }
    durable::write_json(&folder, PREDEFINED_FILE, &known, Durability::Synced).system("cannot write the networks")?;
    Ok((known, icc_changed))
}

/// Gives the default network IPv6, or takes it away: as the engine's settings have it, in the subnet of an earlier run unless they name one.
fn set_ipv6(
    spec: &mut naru_net::NetworkSpec,
    config: &NetworksConfig<'_>,
    host: &HostNet,
    taken: &[Subnet6],
) -> Result<()> {
    spec.ipv6 = config.default_ipv6.enabled;
    let wanted = config.default_ipv6.subnet.as_deref().map(str::parse::<Subnet6>).transpose();
    let subnet = match (wanted.map_err(|e| e.context("fixed-cidr-v6"))?, spec.subnet6) {
        _ if !spec.ipv6 => return Ok(()),
        (Some(wanted), _) => match taken.iter().find(|t| t.overlaps(wanted)) {
            Some(other) => return Err(forbidden(format!("fixed-cidr-v6 {wanted} overlaps the network {other}"))),
            None => wanted,
        },
        (None, Some(before)) => before,
        (None, None) => host.choose_subnet6(&config.engine_id, taken)?,
    };
    spec.subnet6 = Some(subnet);
    spec.gateway6 = Some(std::net::Ipv6Addr::from_bits(subnet.hosts().0));
    Ok(())
}

/// A refusal that docker answers with 403.
fn forbidden(text: impl Into<String>) -> Error {
    Error::new(Class::Forbidden, text)
}

impl Engine {
    /// An event of a network, about a container if there is one.
    pub(crate) fn network_event(&self, network: &Network, action: &str, container: Option<&Id>) {
        let spec = &network.spec;
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), spec.name.clone()),
            ("type".to_owned(), spec.driver.name().to_owned()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_string())));
        self.events.publish("network", action, spec.id.as_str(), attributes);
    }
}
