//! Published ports: chosen and held on the host, opened in the firewall, shown, and closed again.

use crate::Engine;
use crate::container::{Container, Record};
use crate::monitor_link::MonitorLink;
use crate::networks::{Sandbox, way_out};
use crate::types::{HostSettings, PortBinding};
use naru_base::{Error, Id, Result};
use naru_monitor::protocol::Request;
use naru_net::{Endpoint, HeldPorts, Protocol, Published, port_user};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a port is tried that somebody has of whom nothing can be seen: a container that is just ending.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// A port of the host that leads to a container, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_ip: IpAddr,
    pub container_port: u16,
}

impl PublishedPort {
    /// As the firewall has it.
    fn rule(&self) -> Option<Published> {
        match (self.host_ip, self.container_ip) {
            (IpAddr::V4(host_ip), IpAddr::V4(container_ip)) => Some(Published {
                protocol: self.protocol,
                host_ip,
                host_port: self.host_port,
                container_ip,
                container_port: self.container_port,
            }),
            _ => None,
        }
    }
}

/// The addresses that a port is taken on, and the containers that have it there.
type Owners = Vec<(IpAddr, Id)>;

/// Which of the host's ports are whose, over all containers.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    taken: Mutex<BTreeMap<(Protocol, u16), Owners>>,
}

impl Ports {
    /// Who has a port in the way of this one.
    fn owner(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<Id> {
        let taken = crate::lock(&self.taken);
        let all = taken.get(&(protocol, port))?;
        all.iter().find(|(own, _)| clash(*own, address)).map(|(_, owner)| owner.clone())
    }

    fn take(&self, owner: &Id, port: &PublishedPort) {
        let mut taken = crate::lock(&self.taken);
        taken.entry((port.protocol, port.host_port)).or_default().push((port.host_ip, owner.clone()));
    }

    fn release(&self, owner: &Id) {
        crate::lock(&self.taken).retain(|_, all| {
            all.retain(|(_, o)| o != owner);
            !all.is_empty()
        });
    }
}

/// Whether two addresses take the same packets.
fn clash(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    protocol: Protocol,
    container_port: u16,
    host_ip: IpAddr,
    /// First and last; 0 is any.
    host_ports: (u16, u16),
}

/// The wishes in the order in which they are served: those that leave no choice come first.
fn wishes(host: &HostSettings, exposed: &BTreeSet<String>) -> Result<Vec<Wish>> {
    let any = [PortBinding::default()];
    let bound = host.port_bindings.iter().map(|(port, bindings)| (port, bindings.as_slice()));
    let more = exposed.iter().filter(|port| host.publish_all && !host.port_bindings.contains_key(*port));
    let mut all = Vec::new();
    for (port, bindings) in bound.chain(more.map(|port| (port, any.as_slice()))) {
        let invalid = || Error::invalid(format!("invalid port specification: {port:?}"));
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid()),
        };
        let container_port = number.parse().map_err(|_| invalid())?;
        for binding in bindings {
            let wish = Wish { protocol, container_port, host_ip: address(binding)?, host_ports: range(binding)? };
            if !all.contains(&wish) {
                all.push(wish);
            }
        }
    }
    all.sort_by_key(|w| if w.host_ports.1 == 0 { u32::MAX } else { u32::from(w.host_ports.1 - w.host_ports.0) });
    Ok(all)
}

fn address(binding: &PortBinding) -> Result<IpAddr> {
    match binding.host_ip.as_str() {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        text => text.parse().map_err(|_| Error::invalid(format!("invalid IP address: {text}"))),
    }
}

fn range(binding: &PortBinding) -> Result<(u16, u16)> {
    let text = binding.host_port.as_str();
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err(Error::invalid(format!("invalid port specification: {text:?}"))),
    }
}

/// Ports as shown: by the container's port, in docker's order.
pub(crate) fn shown(ports: &[PublishedPort]) -> BTreeMap<String, Vec<PortBinding>> {
    let mut all: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports {
        all.entry(format!("{}/{}", port.container_port, port.protocol.name()))
            .or_default()
            .push(PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() });
    }
    all
}

/// Ports that are open; closed when this is dropped before [`OpenPorts::keep`].
#[derive(Debug)]
pub(crate) struct OpenPorts {
    engine: Arc<Engine>,
    container: Arc<Container>,
    held: Option<OwnedFd>,
    kept: bool,
}

impl OpenPorts {
    /// The container runs: its monitor holds the ports from now on, and its end closes them.
    pub(crate) async fn keep(&mut self, monitor: &MonitorLink) {
        self.kept = true;
        let Some(held) = self.held.take() else { return };
        if let Err(error) = monitor.request(Request::Hold, vec![held]).await {
            // They are open all the same; another program of the host may bind them.
            tracing::warn!(container = self.container.id.short(), "its published ports are not held: {error}");
        }
    }
}

impl Drop for OpenPorts {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.close_ports(&self.container);
        }
    }
}

impl Engine {
    /// Opens the ports of a container that is being started; none for one that publishes nothing.
    ///
    /// # Errors
    /// docker's texts: a port is allocated already, or an address in use; each names who has it.
    pub(crate) async fn open_ports(
        self: &Arc<Self>,
        container: &Arc<Container>,
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<OpenPorts>> {
        let Some(endpoint) = sandbox.and_then(|s| port_endpoint(container, s)) else { return Ok(None) };
        let wishes = container.read(|r| wishes(&r.host, &r.config.exposed_ports))?;
        if wishes.is_empty() {
            return Ok(None);
        }
        let Some(ip) = endpoint.ip else { return Ok(None) };
        self.networks.host().reflect(&endpoint)?;
        let endpoint = endpoint.endpoint_id.to_string();
        let mut open =
            OpenPorts { engine: Arc::clone(self), container: Arc::clone(container), held: None, kept: false };
        crate::image::blocking(move || {
            open.engine.publish_ports(&open.container, &wishes, ip).map(|held| open.held = Some(held)).map_err(
                |e| {
                    let name = open.container.name();
                    Error::new(
                        e.class(),
                        format!(
                            "driver failed programming external connectivity on endpoint {name} ({endpoint}): {}",
                            e.message()
                        ),
                    )
                },
            )?;
            Ok(Some(open))
        })
        .await
    }

    /// Chooses, holds, notes and opens; what was done before an error is undone by [`Engine::close_ports`].
    fn publish_ports(&self, container: &Container, wishes: &[Wish], ip: Ipv4Addr) -> Result<OwnedFd> {
        let mut held = HeldPorts::new()?;
        let mut ports = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let host_port = self.hold(&mut held, wish)?;
            let port = PublishedPort {
                protocol: wish.protocol,
                host_ip: wish.host_ip,
                host_port,
                container_ip: ip.into(),
                container_port: wish.container_port,
            };
            self.ports.take(&container.id, &port);
            ports.push(port);
        }
        ports.sort_by_key(|p| (p.container_port, p.protocol, p.host_ip, p.host_port));
        let rules = rules(&ports);
        container.change(|r| r.state.ports = ports);
        self.networks.host().publish(&rules)?;
        held.into_descriptor()
    }

    /// Holds one of the host's ports that a wish allows.
    fn hold(&self, held: &mut HeldPorts, wish: &Wish) -> Result<u16> {
        if wish.host_ip.is_ipv6() {
            let text = "ports are published on IPv4 addresses only yet: give one of the host's, or none";
            return Err(Error::invalid(format!("Bind for {} failed: {text}", shown_address(wish, wish.host_ports.0))));
        }
        let (first, last) = wish.host_ports;
        let mut failure = None;
        for port in first..=last {
            match self.hold_one(held, wish, port, first == last) {
                Ok(port) => return Ok(port),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::system("no port")))
    }

    fn hold_one(&self, held: &mut HeldPorts, wish: &Wish, port: u16, only: bool) -> Result<u16> {
        let shown = shown_address(wish, port);
        if let Some(owner) = self.ports.owner(wish.protocol, wish.host_ip, port) {
            let who = self.containers.by_id(&owner).map_or_else(|| owner.short().to_owned(), |c| c.name());
            return Err(Error::system(format!(
                "Bind for {shown} failed: port is already allocated (container {who} has it)"
            )));
        }
        for _ in 0..TRIES {
            match held.hold(wish.protocol, wish.host_ip, port) {
                // One that another container has, which nobody holds: an engine found it so.
                Ok(bound) if port == 0 && self.ports.owner(wish.protocol, wish.host_ip, bound).is_some() => {}
                Ok(bound) => return Ok(bound),
                Err(Errno::ADDRINUSE) if port != 0 && only => {
                    if let Some(user) = port_user(wish.protocol, wish.host_ip, port) {
                        return Err(in_use(wish, &shown, &format!(" (by {user})")));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::ADDRINUSE) => return Err(in_use(wish, &shown, "")),
                Err(Errno::ADDRNOTAVAIL) => {
                    let text = format!(
                        "failed to bind host port {shown}/{}: cannot assign requested address: the host has no address {}",
                        wish.protocol.name(),
                        wish.host_ip
                    );
                    return Err(Error::system(text));
                }
                Err(errno) => {
                    let text = format!("failed to bind host port {shown}/{}: {errno}", wish.protocol.name());
                    return Err(Error::system(text));
                }
            }
        }
        Err(in_use(wish, &shown, ""))
    }

    /// Closes all ports of a container.
    pub(crate) fn close_ports(&self, container: &Container) {
        let ports = container.change(|r| std::mem::take(&mut r.state.ports));
        self.ports.release(&container.id);
        if let Err(error) = self.networks.host().unpublish(&rules(&ports)) {
            tracing::warn!(container = container.id.short(), "cannot close its published ports: {error}");
        }
    }

    /// What follows from another way out: the ports lead there; without one they are closed.
    ///
    /// # Errors
    /// As [`Engine::open_ports`], for a container that had no way out before.
    pub(crate) async fn move_ports(self: &Arc<Self>, container: &Arc<Container>, sandbox: &Sandbox) -> Result<()> {
        let Ok(monitor) = container.running_monitor() else { return Ok(()) };
        let before = container.read(|r| r.state.ports.clone());
        let Some((ip, endpoint)) = port_endpoint(container, sandbox).and_then(|e| e.ip.map(|ip| (ip, e))) else {
            if !before.is_empty() {
                self.close_ports(container);
                // Lets go of what it holds.
                monitor.request(Request::Hold, Vec::new()).await?;
            }
            return Ok(());
        };
        if before.is_empty() {
            if let Some(mut ports) = self.open_ports(container, Some(sandbox)).await? {
                ports.keep(&monitor).await;
            }
            return Ok(());
        }
        let after: Vec<_> = before.iter().map(|p| PublishedPort { container_ip: ip.into(), ..p.clone() }).collect();
        if after != before {
            let host = self.networks.host();
            host.reflect(&endpoint)?;
            host.unpublish(&rules(&before))?;
            host.publish(&rules(&after))?;
            container.change(|r| r.state.ports = after);
        }
        Ok(())
    }

    /// Notes the ports of a container that an earlier engine started, which are still open.
    pub(crate) fn take_up_ports(&self, record: &Record) {
        record.state.ports.iter().for_each(|port| self.ports.take(&record.id, port));
    }
}

/// As the firewall has them.
pub(crate) fn rules(ports: &[PublishedPort]) -> Vec<Published> {
    ports.iter().filter_map(PublishedPort::rule).collect()
}

/// The endpoint that ports lead to: that of the way out.
fn port_endpoint(container: &Container, sandbox: &Sandbox) -> Option<Endpoint> {
    let endpoint = container.read(|r| way_out(r, &sandbox.attached).map(|(_, e)| e.clone()));
    // A macvlan's is a machine of its own on the host's network.
    endpoint.filter(|e| !e.host_ifname.is_empty())
}

fn in_use(wish: &Wish, shown: &str, by: &str) -> Error {
    Error::system(format!("failed to bind host port {shown}/{}: address already in use{by}", wish.protocol.name()))
}

fn shown_address(wish: &Wish, port: u16) -> String {
    std::net::SocketAddr::new(wish.host_ip, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(ip: &str, port: &str) -> PortBinding {
        PortBinding { host_ip: ip.into(), host_port: port.into() }
    }

    #[test]
    fn wishes_without_a_choice_come_first() {
        let host = HostSettings {
            port_bindings: BTreeMap::from([
                ("80/tcp".into(), vec![binding("", ""), binding("127.0.0.1", "8080"), binding("127.0.0.1", "8080")]),
                ("81/udp".into(), vec![binding("", "9000-9010")]),
            ]),
            publish_all: true,
            ..HostSettings::default()
        };
        let exposed = ["80/tcp".to_owned(), "443/tcp".to_owned()].into();
        let all = wishes(&host, &exposed).unwrap();
        let short: Vec<_> = all.iter().map(|w| (w.container_port, w.host_ports)).collect();
        assert_eq!(short, [(80, (8080, 8080)), (81, (9000, 9010)), (80, (0, 0)), (443, (0, 0))]);
        let mut bad = HostSettings::default();
        bad.port_bindings.insert("80/tcp".into(), vec![binding("nowhere", "1")]);
        assert_eq!(wishes(&bad, &BTreeSet::new()).unwrap_err().message(), "invalid IP address: nowhere");
    }

    #[test]
    fn a_port_is_taken_for_all_addresses_that_overlap() {
        let ports = Ports::default();
        let owner = Id::parse(&"ab".repeat(32)).unwrap();
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let local: IpAddr = Ipv4Addr::LOCALHOST.into();
        let port = PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: local,
            host_port: 80,
            container_ip: any,
            container_port: 80,
        };
        ports.take(&owner, &port);
        assert_eq!(ports.owner(Protocol::Tcp, any, 80).as_ref(), Some(&owner));
        assert_eq!(ports.owner(Protocol::Tcp, "10.0.0.1".parse().unwrap(), 80), None);
        assert_eq!(ports.owner(Protocol::Udp, any, 80), None);
        assert_eq!(ports.owner(Protocol::Tcp, "::".parse().unwrap(), 80), None);
        ports.release(&owner);
        assert_eq!(ports.owner(Protocol::Tcp, any, 80), None);
    }

    #[test]
    fn ports_are_shown_by_the_containers() {
        let port = |host_ip: IpAddr, host_port| PublishedPort {
            protocol: Protocol::Udp,
            host_ip,
            host_port,
            container_ip: host_ip,
            container_port: 53,
        };
        let all = shown(&[port(Ipv4Addr::UNSPECIFIED.into(), 53), port("::1".parse().unwrap(), 54)]);
        assert_eq!(all["53/udp"], [binding("0.0.0.0", "53"), binding("::1", "54")]);
    }
}
