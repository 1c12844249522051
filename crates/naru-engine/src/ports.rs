//! Published ports: chosen and held on the host, opened in the firewall, shown, and closed again.

use crate::Engine;
use crate::container::{Container, Record};
use crate::monitor_link::MonitorLink;
use crate::networks::{Sandbox, way_out};
use crate::types::{HostSettings, PortBinding};
use naru_base::{Error, Id, Result};
use naru_monitor::protocol::{FORWARD_VERSION, ForwardTo, Request, SERVE_VERSION, ServedPorts, Transport};
use naru_net::{Endpoint, ExposedPort, HeldPorts, Protocol, Published, bind_port, has_ipv6, port_user, serve_port};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// As the firewall has it; none where it would have to translate from one family to the other.
    fn rule(&self) -> Option<Published> {
        (self.host_ip.is_ipv4() == self.container_ip.is_ipv4()).then_some(Published {
            protocol: self.protocol,
            host_ip: self.host_ip,
            host_port: self.host_port,
            container_ip: self.container_ip,
            container_port: self.container_port,
        })
    }

    /// As the monitor serves it, for what no rule leads to the container: IPv6 to one that has IPv4 alone, and what comes from ::1 or
    /// from addresses of a link.
    fn forward(&self) -> Option<ForwardTo> {
        let transport = match self.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => return None,
        };
        let address = SocketAddr::new(self.container_ip, self.container_port);
        self.host_ip.is_ipv6().then_some(ForwardTo { transport, address })
    }

    /// As it is judged by the host's rules.
    pub(crate) fn exposed(&self) -> ExposedPort {
        ExposedPort {
            protocol: self.protocol,
            host_ip: self.host_ip,
            host_port: self.host_port,
            container_ip: self.container_ip,
            container_port: self.container_port,
        }
    }

    /// With the container at this endpoint; none when it has no address there that the port could lead to.
    fn at(&self, endpoint: &Endpoint) -> Option<Self> {
        Some(Self { container_ip: target(self.host_ip, endpoint)?, ..self.clone() })
    }
}

/// The address of a container that a port on `host_ip` leads to: of its family, or by way of the monitor from IPv6 to IPv4.
fn target(host_ip: IpAddr, endpoint: &Endpoint) -> Option<IpAddr> {
    let (v4, v6) = (endpoint.ip.map(IpAddr::V4), endpoint.ip6.map(IpAddr::V6));
    if host_ip.is_ipv4() { v4 } else { v6.or(v4) }
}

/// What the monitor serves, in order.
fn forwards(ports: &[PublishedPort]) -> Vec<ForwardTo> {
    ports.iter().filter_map(PublishedPort::forward).collect()
}

/// How many ports a container's monitor serves: half of the files that it may open.
fn most_served() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX))
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
    /// The same port on each.
    host_ips: Vec<IpAddr>,
    /// First and last; 0 is any.
    host_ports: (u16, u16),
}

/// The wishes in the order in which they are served: those that leave no choice come first.
fn wishes(host: &HostSettings, exposed: &BTreeSet<String>, on_any: &[IpAddr]) -> Result<Vec<Wish>> {
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
            let host_ips = addresses(binding, on_any)?;
            let wish = Wish { protocol, container_port, host_ips, host_ports: range(binding)? };
            if !all.contains(&wish) {
                all.push(wish);
            }
        }
    }
    all.sort_by_key(|w| if w.host_ports.1 == 0 { u32::MAX } else { u32::from(w.host_ports.1 - w.host_ports.0) });
    Ok(all)
}

/// `on_any` for a binding to no address in particular.
fn addresses(binding: &PortBinding, on_any: &[IpAddr]) -> Result<Vec<IpAddr>> {
    match binding.host_ip.as_str() {
        "" => Ok(on_any.to_vec()),
        text => text.parse().map(|ip| vec![ip]).map_err(|_| Error::invalid(format!("invalid IP address: {text}"))),
    }
}

/// Leaves out what leads to no address of the container: IPv4 to one that has none (as docker does), and, where no address was asked for,
/// IPv6 to one without it for SCTP, and for more ports than a monitor serves.
fn reachable(wishes: &mut Vec<Wish>, endpoint: &Endpoint, most: usize) {
    let served = wishes.iter().filter(|w| w.protocol != Protocol::Sctp).map(|w| &w.host_ips);
    let too_many = served.flatten().filter(|ip| ip.is_ipv6()).count() > most;
    for wish in wishes.iter_mut() {
        let by_default = wish.host_ips.len() > 1;
        wish.host_ips.retain(|ip| {
            let translated = ip.is_ipv6() && endpoint.ip6.is_none();
            target(*ip, endpoint).is_some()
                && !(by_default && translated && (too_many || wish.protocol == Protocol::Sctp))
        });
    }
    wishes.retain(|wish| !wish.host_ips.is_empty());
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
    held: Option<Held>,
    kept: bool,
}

/// What holds a container's ports.
#[derive(Debug)]
struct Held {
    /// The sockets that only hold a port, as one descriptor.
    bound: OwnedFd,
    /// Those that the monitor is to serve, and the sockets of them likewise.
    served: Option<(Vec<ServedPorts>, OwnedFd)>,
}

impl OpenPorts {
    /// The container runs: its monitor holds the ports from now on, and its end closes them.
    pub(crate) async fn keep(&mut self, monitor: &MonitorLink) {
        self.kept = true;
        let Some(held) = self.held.take() else { return };
        if let Err(error) = monitor.request(Request::Hold, vec![held.bound]).await {
            // They are open all the same; another program of the host may bind them.
            tracing::warn!(container = self.container.id.short(), "its published ports are not held: {error}");
        }
        let Some((ports, sockets)) = held.served else { return };
        let served = if monitor.version() < SERVE_VERSION {
            Err(Error::unavailable("its monitor is of an older build"))
        } else {
            monitor.request(Request::Serve(ports), vec![sockets]).await
        };
        if let Err(error) = served {
            tracing::warn!(container = self.container.id.short(), "its ports are not served for IPv6: {error}");
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
        if container.read(|r| r.host.port_bindings.is_empty() && !r.host.publish_all) {
            return Ok(None);
        }
        let on_any = match self.networks.find(endpoint.network_id.as_str()).ok().and_then(|n| n.port_address()) {
            Some(address) => vec![address],
            None if has_ipv6() => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        };
        let mut wishes = container.read(|r| wishes(&r.host, &r.config.exposed_ports, &on_any))?;
        reachable(&mut wishes, &endpoint, most_served());
        if wishes.is_empty() {
            return Ok(None);
        }
        self.networks.host().reflect(&endpoint)?;
        let mut open =
            OpenPorts { engine: Arc::clone(self), container: Arc::clone(container), held: None, kept: false };
        crate::image::blocking(move || {
            let opened = open.engine.publish_ports(&open.container, &wishes, &endpoint);
            open.held = Some(opened.map_err(|e| {
                let (name, id) = (open.container.name(), &endpoint.endpoint_id);
                let text = "driver failed programming external connectivity on endpoint";
                Error::new(e.class(), format!("{text} {name} ({id}): {}", e.message()))
            })?);
            Ok(Some(open))
        })
        .await
    }

    /// Chooses, holds, notes and opens; what was done before an error is undone by [`Engine::close_ports`].
    fn publish_ports(&self, container: &Container, wishes: &[Wish], endpoint: &Endpoint) -> Result<Held> {
        let mut ports = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let (host_port, sockets) = self.hold(wish)?;
            for (host_ip, socket) in wish.host_ips.iter().zip(sockets) {
                let Some(container_ip) = target(*host_ip, endpoint) else { continue };
                let (protocol, container_port) = (wish.protocol, wish.container_port);
                let port = PublishedPort { protocol, host_ip: *host_ip, host_port, container_ip, container_port };
                self.ports.take(&container.id, &port);
                ports.push((port, socket));
            }
        }
        ports.sort_by_key(|(p, _)| (p.container_port, p.protocol, p.host_ip, p.host_port));
        let mut bound = HeldPorts::new()?;
        let (mut served, mut to, most) = (HeldPorts::new()?, Vec::new(), most_served());
        let failed = |errno: Errno| Error::system(format!("cannot hold its ports: {errno}"));
        let mut kept = Vec::with_capacity(ports.len());
        for (port, socket) in ports {
            match (port.forward(), socket) {
                (Some(leads), Some(socket)) if to.len() < most => {
                    serve_port(port.protocol, &socket).map_err(failed)?;
                    served.keep(socket).map_err(failed)?;
                    to.push(leads);
                }
                (_, Some(socket)) => bound.keep(socket).map_err(failed)?,
                (_, None) => {}
            }
            kept.push(port);
        }
        let rules = rules(&kept);
        container.change(|r| r.state.ports = kept);
        self.networks.host().publish(&rules)?;
        let served = if to.is_empty() { None } else { Some((ServedPorts::of(to), served.into_descriptor()?)) };
        Ok(Held { bound: bound.into_descriptor()?, served })
    }

    /// Holds one of the host's ports that a wish allows, on each of its addresses: which one, and the sockets.
    fn hold(&self, wish: &Wish) -> Result<(u16, Vec<Option<OwnedFd>>)> {
        let (first, last) = wish.host_ports;
        let mut failure = None;
        for port in first..=last {
            // A port that is free on one address need not be on another: any other will do.
            for _ in 0..if port == 0 { TRIES } else { 1 } {
                match self.hold_everywhere(wish, port, first == last && port != 0) {
                    Ok(held) => return Ok(held),
                    Err(error) => failure = Some(error),
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::system("no port")))
    }

    fn hold_everywhere(&self, wish: &Wish, port: u16, only: bool) -> Result<(u16, Vec<Option<OwnedFd>>)> {
        let mut chosen = port;
        let mut sockets = Vec::with_capacity(wish.host_ips.len());
        for address in &wish.host_ips {
            let (bound, socket) = self.hold_one(wish.protocol, *address, chosen, only)?;
            chosen = bound;
            sockets.push(socket);
        }
        Ok((chosen, sockets))
    }

    fn hold_one(&self, protocol: Protocol, ip: IpAddr, port: u16, only: bool) -> Result<(u16, Option<OwnedFd>)> {
        let shown = SocketAddr::new(ip, port).to_string();
        let failed =
            |text: &str| Error::system(format!("failed to bind host port {shown}/{}: {text}", protocol.name()));
        if let Some(owner) = self.ports.owner(protocol, ip, port) {
            let who = self.containers.by_id(&owner).map_or_else(|| owner.short().to_owned(), |c| c.name());
            return Err(Error::system(format!(
                "Bind for {shown} failed: port is already allocated (container {who} has it)"
            )));
        }
        for _ in 0..TRIES {
            match bind_port(protocol, ip, port) {
                // One that another container has, which nobody holds: an engine found it so.
                Ok((bound, _)) if port == 0 && self.ports.owner(protocol, ip, bound).is_some() => {}
                Ok(held) => return Ok(held),
                Err(Errno::ADDRINUSE) if only => {
                    if let Some(user) = port_user(protocol, ip, port) {
                        return Err(failed(&format!("address already in use (by {user})")));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::ADDRINUSE) => return Err(failed("address already in use")),
                Err(Errno::ADDRNOTAVAIL) => {
                    let text = format!("cannot assign requested address: the host has no address {ip}");
                    return Err(failed(&text));
                }
                Err(errno) => return Err(failed(&errno.to_string())),
            }
        }
        Err(failed("address already in use"))
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
        let Some(endpoint) = port_endpoint(container, sandbox) else {
            if !before.is_empty() {
                self.close_ports(container);
                // Lets go of what it holds.
                monitor.request(Request::Hold, Vec::new()).await?;
                if monitor.version() >= FORWARD_VERSION {
                    monitor.request(Request::Forward(Vec::new()), Vec::new()).await?;
                }
            }
            return Ok(());
        };
        if before.is_empty() {
            if let Some(mut ports) = self.open_ports(container, Some(sandbox)).await? {
                ports.keep(&monitor).await;
            }
            return Ok(());
        }
        let after: Vec<_> = before.iter().filter_map(|p| p.at(&endpoint)).collect();
        if after != before {
            let host = self.networks.host();
            host.reflect(&endpoint)?;
            host.unpublish(&rules(&before))?;
            host.publish(&rules(&after))?;
            // The same ports in the same order: what leads to IPv6 leads to either family.
            let to = forwards(&after);
            if !to.is_empty() {
                let new = monitor.version() >= SERVE_VERSION;
                let turn = if new { Request::Serve(ServedPorts::of(to)) } else { Request::Forward(to) };
                monitor.request(turn, Vec::new()).await?;
            }
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
        let on_any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let all = wishes(&host, &exposed, &on_any).unwrap();
        assert_eq!((all[0].host_ips.len(), all[1].host_ips.len()), (1, 2));
        let short: Vec<_> = all.iter().map(|w| (w.container_port, w.host_ports)).collect();
        assert_eq!(short, [(80, (8080, 8080)), (81, (9000, 9010)), (80, (0, 0)), (443, (0, 0))]);
        let mut bad = HostSettings::default();
        bad.port_bindings.insert("80/tcp".into(), vec![binding("nowhere", "1")]);
        assert_eq!(wishes(&bad, &BTreeSet::new(), &on_any).unwrap_err().message(), "invalid IP address: nowhere");
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
