//! The files that the engine writes for a container: its host name, hosts and resolver.

use super::Container;
use crate::Engine;
use crate::networks::Sandbox;
use crate::types::{NamespaceMode, NetworkMode};
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::{Durability, Root, durable};
use naru_net::etc::{HostsFile, Overrides, hostname, parse_extra_host};
use std::net::IpAddr;

impl Engine {
    /// Writes them, for this start.
    pub(crate) fn write_files(&self, container: &Container, sandbox: Option<&Sandbox>) -> Result<()> {
        let record = container.read(Clone::clone);
        let host = &record.host;
        if matches!(host.network, NetworkMode::Container(_)) {
            return Ok(());
        }
        let folder =
            Root::open_host(self.config.container_dir(&record.id)).system("cannot open the container's folder")?;
        let name = match host.uts {
            NamespaceMode::Host => crate::info::hostname(),
            _ => record.config.hostname.clone(),
        };
        let gateways: Vec<IpAddr> = self.networks.gateway().map(IpAddr::V4).into_iter().collect();
        let mut extra = Vec::new();
        for entry in &host.extra_hosts {
            extra.extend(parse_extra_host(entry, &gateways).map_err(|e| Error::invalid(e.to_string()))?);
        }
        let own: Vec<IpAddr> =
            sandbox.and_then(|s| s.endpoint.as_ref()).map(|e| IpAddr::V4(e.ip)).into_iter().collect();
        let hosts = if host.network == NetworkMode::Host && extra.is_empty() {
            std::fs::read_to_string("/etc/hosts").unwrap_or_default()
        } else {
            HostsFile { ipv6: false, extra: &extra, own: &own, hostname: &name, domainname: &record.config.domainname }
                .render()
        };
        let overrides = Overrides { servers: &host.dns, search: &host.dns_search, options: &host.dns_options };
        let resolver = crate::info::host_resolver();
        let resolver = match host.network {
            NetworkMode::Host => resolver.for_host_network(&overrides),
            _ => resolver.for_container(&overrides, false),
        };
        let resolver = resolver.map_err(|e| Error::invalid(e.to_string()))?.render();
        for (file, content) in [("hostname", hostname(&name)), ("hosts", hosts), ("resolv.conf", resolver)] {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            durable::write_with_mode(&folder, file, content.as_bytes(), Durability::Volatile, mode)
                .system(format!("cannot write the container's {file}"))?;
        }
        Ok(())
    }
}
