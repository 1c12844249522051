//! The host's side of all networks of one engine.

mod attach;
mod bridge;
mod exposure;
mod gate;
mod links;
mod on_link;
mod ports;
mod reconcile;

pub use exposure::{ExposedPort, Exposure, Outlook};
pub use reconcile::{LiveEndpoint, Removed};

use crate::ipam::{self, InUse, Leases};
use crate::nft::{BridgeRules, GateRules, Nft, Rules, STRANGERS, SourceFilters};
use crate::rtnl::Rtnl;
use crate::spec::Addresses;
use crate::{Endpoint, Error, Instance, Link, Mac, NetworkSpec, Published, Result, Subnet, Subnet6, sysctl};
use naru_base::Id;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A bridge network that is set up.
#[derive(Debug)]
struct Live {
    spec: NetworkSpec,
    /// The bridge's number; 0 for none.
    index: u32,
    /// The bridge's own Ethernet address, when that is ours to say.
    mac: Option<Mac>,
    addresses: Addresses,
    leases: Option<Leases>,
    leases6: Option<Leases<Subnet6>>,
}

impl Live {
    fn subnet(&self) -> Option<Subnet> {
        self.addresses.v4.map(|v4| v4.subnet)
    }

    fn subnet6(&self) -> Option<Subnet6> {
        self.addresses.v6.map(|v6| v6.subnet)
    }
}

/// The firewall's side: its socket, and what the table should hold, from which it is made anew when somebody deletes it.
#[derive(Debug)]
struct Firewall {
    nft: Nft,
    networks: BTreeMap<Id, BridgeRules>,
    ports: BTreeSet<Published>,
    links: BTreeSet<Link>,
    gate: GateRules,
    close_forwarding: bool,
    /// Who asks where a packet's source is; none until that has been looked for.
    sources: Option<SourceFilters>,
    /// The table has been made by this process.
    made: bool,
}

/// The host's side of all networks of one engine: sockets in the host's network namespace, and what is set up there.
///
/// Its methods block for as long as the kernel works, mostly well under a millisecond, and may be called from any thread of the
/// namespace that it was opened in. It keeps no thread. Nothing is removed when it is dropped: containers outlive an engine.
#[derive(Debug)]
pub struct HostNet {
    instance: Instance,
    ipv6: bool,
    rtnl: Mutex<Rtnl>,
    firewall: Mutex<Firewall>,
    live: Mutex<BTreeMap<Id, Live>>,
}

impl HostNet {
    /// Opens the sockets in the calling thread's network namespace. Nothing is changed yet.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(instance: Instance) -> naru_base::Result<Self> {
        let mut nft = Nft::open()?;
        let close_forwarding = nft.has_chain(&instance.table(), STRANGERS).unwrap_or(false);
        let gate =
            GateRules { out: instance.gate(), way_in: instance.gate_in(), mark: instance.gate_mark(), into: None };
        let firewall = Firewall {
            nft,
            networks: BTreeMap::new(),
            ports: BTreeSet::new(),
            links: BTreeSet::new(),
            gate,
            close_forwarding,
            sources: None,
            made: false,
        };
        Ok(Self {
            instance,
            ipv6: sysctl::has_ipv6(),
            rtnl: Mutex::new(Rtnl::open()?),
            firewall: Mutex::new(firewall),
            live: Mutex::new(BTreeMap::new()),
        })
    }

    /// Whose names these are.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// A subnet for a new network: the first of docker's default pools that overlaps no route or address of the host, no name
    /// server of `name_servers`, and none of `others` (networks that are recorded but perhaps not set up).
    ///
    /// # Errors
    /// When each candidate overlaps something.
    pub fn choose_subnet(&self, name_servers: &[Ipv4Addr], others: &[Subnet]) -> naru_base::Result<Subnet> {
        let (routes, addresses) = {
            let mut rtnl = lock(&self.rtnl);
            (rtnl.routes()?, rtnl.addresses()?)
        };
        let mut in_use = InUse::of_host(&routes, &addresses, name_servers);
        in_use.hard.extend_from_slice(others);
        in_use.hard.extend(lock(&self.live).values().filter_map(Live::subnet));
        Ok(ipam::choose(ipam::default_pools(), &in_use)?)
    }

    /// The default network, for an engine that has none recorded: it takes up the subnet of a bridge that is there already, or
    /// chooses one.
    ///
    /// # Errors
    /// When each candidate overlaps something.
    pub fn default_network(
        &self,
        id: Id,
        name_servers: &[Ipv4Addr],
        others: &[Subnet],
    ) -> naru_base::Result<NetworkSpec> {
        let bridge = self.instance.default_bridge();
        let existing = self.bridge_subnet(&bridge)?;
        let subnet = match existing {
            Some(subnet) => subnet,
            None => self.choose_subnet(name_servers, others)?,
        };
        Ok(NetworkSpec::bridge(id, "bridge", bridge, subnet))
    }

    /// The subnet on a bridge of an earlier run.
    fn bridge_subnet(&self, bridge: &str) -> Result<Option<Subnet>> {
        let mut rtnl = lock(&self.rtnl);
        let Some(link) = rtnl.link(bridge)?.filter(|l| l.kind == "bridge") else { return Ok(None) };
        let addresses = rtnl.addresses()?;
        Ok(addresses.iter().find(|a| a.index == link.index).and_then(|a| Subnet::containing(a.address, a.prefix)))
    }

    /// Whether `subnet` overlaps that of a network that is set up.
    pub fn overlaps(&self, subnet: Subnet) -> bool {
        lock(&self.live).values().filter_map(Live::subnet).any(|s| s.overlaps(subnet))
    }

    /// Whether `subnet` overlaps that of a network that is set up.
    pub fn overlaps6(&self, subnet: Subnet6) -> bool {
        lock(&self.live).values().filter_map(Live::subnet6).any(|s| s.overlaps(subnet))
    }

    /// A subnet for a new network with IPv6: the first /64 of the engine's own unique local prefix that no network has, neither one that
    /// is set up nor one of `others`.
    ///
    /// # Errors
    /// When all are taken.
    pub fn choose_subnet6(&self, engine_id: &str, others: &[Subnet6]) -> naru_base::Result<Subnet6> {
        let mut taken: Vec<Subnet6> = lock(&self.live).values().filter_map(Live::subnet6).collect();
        taken.extend_from_slice(others);
        Ok(ipam::unique_local(engine_id, &taken)?)
    }

    /// Takes the addresses of a container that runs already (after a restart of the engine).
    ///
    /// # Errors
    /// Not found for a network that is not set up, forbidden for an address that is taken.
    pub fn reserve(&self, endpoint: &Endpoint) -> naru_base::Result<()> {
        Ok(with_live(&mut lock(&self.live), &endpoint.network_id, |live| {
            if let (Some(leases), Some(ip)) = (&mut live.leases, endpoint.ip) {
                leases.reserve(ip)?;
            }
            if let (Some(leases), Some(ip6)) = (&mut live.leases6, endpoint.ip6) {
                leases.reserve(ip6)?;
            }
            Ok(())
        })?)
    }

    /// Whether another table of the host drops forwarded packets by policy (docker's, ufw's): then containers reach nothing
    /// until that table lets our bridges through. Best effort.
    pub fn forward_policy_blocks(&self) -> bool {
        lock(&self.firewall).nft.forward_policy_blocks(&self.instance.table()).unwrap_or(false)
    }

    /// Runs `change` on the table, or makes the whole table when this process has not yet done so or somebody has deleted it.
    /// What the table should hold must have been noted before.
    fn change_rules(&self, firewall: &mut Firewall, change: impl FnOnce(&mut Nft, &str) -> Result<()>) -> Result<()> {
        let table = self.instance.table();
        if firewall.made {
            match change(&mut firewall.nft, &table) {
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                other => return other,
            }
        }
        let rules = Rules {
            networks: firewall.networks.values().cloned().collect(),
            ports: firewall.ports.iter().cloned().collect(),
            links: firewall.links.iter().cloned().collect(),
            gate: firewall.gate.clone(),
            close_forwarding: firewall.close_forwarding,
            ipv6: self.ipv6,
        };
        firewall.nft.replace(&table, &rules)?;
        firewall.made = true;
        Ok(())
    }
}

/// The set-up network `id`, for `work`.
fn with_live<T>(live: &mut BTreeMap<Id, Live>, id: &Id, work: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
    work(live.get_mut(id).ok_or_else(|| Error::UnknownNetwork(id.to_string()))?)
}

/// A lock whose holder panicked is taken all the same: what it guards is changed only after the kernel agreed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
