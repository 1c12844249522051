//! Which ports of which containers other machines reach.

use crate::Engine;
use crate::image::blocking;
use naru_base::{Id, Result};
use std::net::IpAddr;
use std::sync::Arc;

/// A published port of a running container, as seen from outside.
#[derive(Debug, Clone)]
pub struct Exposed {
    /// The container's whole id.
    pub id: Id,
    /// The container's name.
    pub name: String,
    /// `80/tcp`: the container's.
    pub port: String,
    /// The host's address that it is bound to.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// What other machines get, by the host's addresses; nothing when the port is on a loopback address or the host has no other.
    pub at: Vec<ExposedAt>,
}

/// What other machines get at one of the host's addresses.
#[derive(Debug, Clone)]
pub struct ExposedAt {
    /// The address.
    pub address: IpAddr,
    /// The interface that has it.
    pub interface: String,
    /// `open`, `limited` (it depends on the client) or `closed`.
    pub reach: &'static str,
    /// The rules that decide, in the order in which they are met; none where no rule is about it.
    pub rules: Vec<String>,
}

impl Engine {
    /// All published ports, as the host's rules let other machines reach them now.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn exposed(self: &Arc<Self>) -> Result<Vec<Exposed>> {
        let engine = Arc::clone(self);
        blocking(move || {
            let outlook = engine.networks.host().outlook()?;
            let mut all = Vec::new();
            for container in engine.containers.all() {
                let (name, ports) = container.read(|r| (r.name.clone(), r.state.ports.clone()));
                all.extend(ports.iter().map(|port| {
                    let at = outlook.of(&port.exposed()).into_iter().map(|e| ExposedAt {
                        address: e.address,
                        interface: e.interface,
                        reach: e.judgement.reach.as_str(),
                        rules: e.judgement.rules,
                    });
                    Exposed {
                        id: container.id.clone(),
                        name: name.clone(),
                        port: format!("{}/{}", port.container_port, port.protocol.name()),
                        host_ip: port.host_ip,
                        host_port: port.host_port,
                        at: at.collect(),
                    }
                }));
            }
            all.sort_by(|a, b| (&a.name, a.host_port, a.host_ip).cmp(&(&b.name, b.host_port, b.host_ip)));
            Ok(all)
        })
        .await
    }
}
