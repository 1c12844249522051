//! Who is called what: the files that the name servers of containers read, and what each of those servers is told.
//!
//! A network's names are in one file, written anew with each change; the server in a container's monitor reads it for each question. So a
//! change costs one file and no talk with monitors, and names go on being answered while no engine runs.

use super::attach::way_out;
use super::{Network, Networks};
use crate::Engine;
use crate::container::{Container, Record};
use naru_base::error::Context as _;
use naru_base::{Class, Id, Result};
use naru_dns::names::Entry;
use naru_dns::{Link, Resolver, Upstream};
use naru_fs::{Durability, Root, durable};
use naru_monitor::protocol::{RESOLVE_VERSION, Request};
use naru_net::{Endpoint, Netns};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;

const DNS_PORT: u16 = 53;
/// Where the name server of a container listens that serves names itself: beyond the ports that the kernel gives out
/// (net.ipv4.ip_local_port_range).
const OTHER_PORT: u16 = 62053;

/// The names of all networks, in memory and in files.
#[derive(Debug)]
pub(super) struct Names {
    folder: PathBuf,
    /// By network, then by container. Held while a file is written, so that what is written last is the newest.
    entries: Mutex<BTreeMap<Id, BTreeMap<Id, Entry>>>,
}

impl Names {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, entries: Mutex::default() }
    }

    /// The file of a network.
    fn path(&self, network: &Id) -> PathBuf {
        self.folder.join(network.as_str())
    }

    fn change(&self, network: &Network, change: impl FnOnce(&mut BTreeMap<Id, Entry>)) -> Result<()> {
        let mut all = crate::lock(&self.entries);
        let entries = all.entry(network.spec.id.clone()).or_default();
        change(entries);
        let entries: Vec<Entry> = entries.values().cloned().collect();
        let text = naru_dns::names::write(&network.spec.name, &entries);
        Root::open_host("/")
            .and_then(|root| root.create_dir_all(&self.folder, 0o700.into()))
            .and_then(|folder| durable::write(&folder, network.spec.id.as_str(), text.as_bytes(), Durability::Volatile))
            .system(format!("cannot write the names of network {}", network.spec.name))
    }

    /// A network is gone, and its file with it.
    pub(super) fn forget(&self, network: &Id) {
        crate::lock(&self.entries).remove(network);
        if let Ok(folder) = Root::open_host(&self.folder)
            && let Err(error) = durable::remove(folder.into_fd(), network.as_str(), Durability::Volatile)
        {
            tracing::warn!("cannot remove the names of a network: {error}");
        }
    }
}

/// The names that a container has on a network where containers have names: the first one is its own.
pub(super) fn dns_names(record: &Record, network: &str) -> Vec<String> {
    let aliases = record.networks.get(network).map(|s| s.aliases.as_slice()).unwrap_or_default();
    let short = record.id.short().to_owned();
    let mut all = vec![record.name.clone()];
    for name in aliases.iter().chain([&short, &record.config.hostname]) {
        if !name.is_empty() && !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// Whether a container says that it serves names: by a port that it exposes or publishes. Its own server then has to have port 53 at every
/// address, which it can't when ours has it at one.
fn serves_names(record: &Record) -> bool {
    let is_dns = |port: &String| port.split('/').next() == Some("53");
    record.config.exposed_ports.iter().chain(record.host.port_bindings.keys()).any(is_dns)
}

impl Networks {
    /// Leads the questions of a container that serves names itself to where our server is. On a network without names there is none.
    pub(super) fn make_way_for_names(&self, record: &Record, netns: &Netns, network: &Network) -> Result<()> {
        match naru_dns::ADDRESS.ip() {
            IpAddr::V4(server) if network.has_names() && serves_names(record) => {
                netns.redirect_names(server, OTHER_PORT)
            }
            _ => Ok(()),
        }
    }

    /// From now on a container is found by its names on a network.
    pub(super) fn enter_name(&self, record: &Record, network: &Network, endpoint: &Endpoint) -> Result<()> {
        if !network.has_names() {
            return Ok(());
        }
        let entry = Entry { addresses: endpoint.addresses(), names: dns_names(record, &network.spec.name) };
        self.names.change(network, |entries| drop(entries.insert(record.id.clone(), entry)))
    }

    /// A container has left a network.
    pub(super) fn remove_name(&self, network: &Network, container: &Id) {
        if network.has_names()
            && let Err(error) = self.names.change(network, |entries| drop(entries.remove(container)))
        {
            tracing::warn!("{error}");
        }
    }

    /// Writes the names of every network, for the containers that run, after a start of the engine.
    pub(super) fn write_all_names(&self, live: &[Record]) {
        for network in self.all().iter().filter(|n| n.has_names()) {
            let name = &network.spec.name;
            let entry = |r: &Record| {
                let endpoint = r.state.attached.get(name)?;
                Some((r.id.clone(), Entry { addresses: endpoint.addresses(), names: dns_names(r, name) }))
            };
            if let Err(error) = self.names.change(network, |entries| *entries = live.iter().filter_map(entry).collect())
            {
                tracing::warn!("{error}");
            }
        }
    }

    /// Whether one of these networks is one where containers have names.
    pub(crate) fn any_has_names<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.any(|name| self.find(name).is_ok_and(|n| n.has_names()))
    }
}

impl Network {
    /// Whether containers on it find each other by name: on every network that users make.
    pub(crate) fn has_names(&self) -> bool {
        !self.predefined && self.has_endpoints()
    }
}

impl Engine {
    /// What the name server of a container is to know; none when it needs none.
    pub(crate) fn resolver(&self, record: &Record, attached: &BTreeMap<String, Endpoint>) -> Option<Resolver> {
        let mut named: Vec<(&String, &Endpoint)> =
            attached.iter().filter(|(name, _)| self.networks.any_has_names(std::iter::once(*name))).collect();
        if named.is_empty() {
            return None;
        }
        // A name that several networks have is that of the first interface's.
        named.sort_by(|a, b| a.1.ifname.cmp(&b.1.ifname));
        let networks = named.iter().map(|(_, endpoint)| self.networks.names.path(&endpoint.network_id)).collect();
        let links = named.iter().flat_map(|(name, _)| self.links_on(record, name)).collect();
        let upstreams = self.upstreams(record, way_out(record, attached).is_some());
        let words_are_local = record.host.dns_options.iter().any(|o| o.starts_with("ndots:"));
        let port = serves_names(record).then_some(OTHER_PORT);
        Some(Resolver { networks, links, upstreams, words_are_local, port })
    }

    fn links_on(&self, record: &Record, network: &str) -> Vec<Link> {
        let links = record.networks.get(network).map(|s| s.links.as_slice()).unwrap_or_default();
        let link = |text: &String| {
            let (target, alias) = text.split_once(':').unwrap_or((text, text));
            // By whatever it was called: its name is what the network knows.
            let target = self.containers.find(target).map_or_else(|_| target.to_owned(), |c| c.name());
            Link { alias: alias.to_owned(), target }
        };
        links.iter().map(link).collect()
    }

    /// The caller's servers, asked as the container would; else the host's, asked as the host does, which a container without a way out
    /// has no part in (CVE-2024-29018).
    fn upstreams(&self, record: &Record, way_out: bool) -> Vec<Upstream> {
        if !record.host.dns.is_empty() {
            let own = record.host.dns.iter().filter_map(|text| text.parse().ok());
            return own.map(|ip| Upstream { address: SocketAddr::new(ip, DNS_PORT), inside: true }).collect();
        }
        if !way_out {
            return Vec::new();
        }
        let host = crate::info::own_resolver().servers.into_iter();
        host.map(|ip| Upstream { address: SocketAddr::new(ip, DNS_PORT), inside: false }).collect()
    }

    /// Tells the name server of a running container what it is to know now.
    pub(super) async fn tell_resolver(&self, container: &Container) -> Result<()> {
        let (Some(monitor), Some(sandbox)) = (container.monitor(), container.sandbox()) else { return Ok(()) };
        let record = container.read(Clone::clone);
        // One that is on no such network any more knows nobody, and forwards.
        let resolver = self.resolver(&record, &sandbox.attached).unwrap_or_else(|| Resolver {
            upstreams: self.upstreams(&record, way_out(&record, &sandbox.attached).is_some()),
            ..Resolver::default()
        });
        if monitor.version() < RESOLVE_VERSION {
            tracing::warn!(container = container.id.short(), "an older version's monitor has no name server");
            return Ok(());
        }
        match monitor.request(Request::Resolve(Box::new(resolver)), Vec::new()).await {
            Ok((answer, _)) => crate::container::done(answer),
            // It has just ended, and has no use for names.
            Err(error) if error.class() == Class::Unavailable => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a running container that has got another name that name on its networks, too.
    pub(crate) fn rename_on_networks(&self, container: &Container) {
        let record = container.read(Clone::clone);
        for (name, endpoint) in &record.state.attached {
            if let Ok(network) = self.networks.find(name)
                && let Err(error) = self.networks.enter_name(&record, &network, endpoint)
            {
                tracing::warn!("{error}");
            }
        }
    }
}
