//! The files that the engine writes for a container: its host name, hosts and resolver.

use super::{Container, Record};
use crate::Engine;
use crate::networks::{Sandbox, way_out};
use crate::types::{NamespaceMode, NetworkMode};
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::{Durability, Root, durable};
use naru_net::etc::{ExtraHost, HostsFile, Overrides, hostname, parse_extra_host};
use rustix::fs::{Mode, OFlags};
use std::net::IpAddr;

/// The host's name for containers, as on docker's desktops.
const HOST_NAME: &str = "host.docker.internal";
/// What a container may have made of a file before it is left alone.
const FILE_LIMIT: usize = 1 << 20;

impl Engine {
    /// Writes them, for this start.
    pub(crate) fn write_files(&self, container: &Container, sandbox: Option<&Sandbox>) -> Result<()> {
        let record = container.read(Clone::clone);
        if matches!(record.host.network, NetworkMode::Container(_)) {
            return Ok(());
        }
        let folder = self.container_folder(&record)?;
        let name = own_name(&record);
        let hosts = self.hosts(&record, sandbox, &name)?;
        let named = sandbox.is_some_and(|s| self.networks.any_has_names(s.attached.keys()));
        let resolver = resolver_file(&record, named)?;
        for (file, content) in [("hostname", hostname(&name)), ("hosts", hosts), ("resolv.conf", resolver)] {
            let mode = Mode::from_raw_mode(0o644);
            durable::write_with_mode(&folder, file, content.as_bytes(), Durability::Volatile, mode)
                .system(format!("cannot write the container's {file}"))?;
        }
        Ok(())
    }

    fn container_folder(&self, record: &Record) -> Result<Root> {
        Root::open_host(self.config.container_dir(&record.id)).system("cannot open the container's folder")
    }

    fn hosts(&self, record: &Record, sandbox: Option<&Sandbox>, name: &str) -> Result<String> {
        let host = &record.host;
        let gateways = self.networks.default_gateways();
        let mut extra = Vec::new();
        for entry in &host.extra_hosts {
            extra.extend(parse_extra_host(entry, &gateways).map_err(|e| Error::invalid(e.to_string()))?);
        }
        if host.network == NetworkMode::Host && extra.is_empty() {
            return Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        }
        if let Some(sandbox) = sandbox
            && !extra.iter().any(|h| h.name == HOST_NAME)
            && let Some((_, endpoint)) = way_out(record, &sandbox.attached)
        {
            // By the container's own gateway: that address is the host's on a network that the container is on.
            let entry = |address| ExtraHost { name: HOST_NAME.into(), address };
            extra.extend(endpoint.host_addresses().into_iter().map(entry));
        }
        extra.extend(self.live_links(record)?.iter().map(crate::networks::LiveLink::host));
        let own: Vec<IpAddr> = sandbox.map(own_addresses).unwrap_or_default();
        let ipv6 = own.iter().any(IpAddr::is_ipv6);
        let domainname = &record.config.domainname;
        Ok(HostsFile { ipv6, extra: &extra, own: &own, hostname: name, domainname }.render())
    }

    /// Brings the files of a running container in line with another set of networks. They are mounted in the container, so they are
    /// written in place; and since it may have changed them, only our own lines are.
    pub(crate) fn rewrite_files(&self, container: &Container, sandbox: &Sandbox) -> Result<()> {
        let record = container.read(Clone::clone);
        let folder = self.container_folder(&record)?;
        let names =
            HostsFile { hostname: &own_name(&record), domainname: &record.config.domainname, ..HostsFile::default() }
                .names();
        let current = folder.read_to_string("hosts", FILE_LIMIT).system("cannot read the container's hosts")?;
        let mut changed = with_own_addresses(&current, &own_addresses(sandbox), &names);
        if !record.host.extra_hosts.iter().any(|entry| entry.starts_with(HOST_NAME)) {
            let host = way_out(&record, &sandbox.attached).map(|(_, e)| e.host_addresses()).unwrap_or_default();
            changed = with_own_addresses(&changed, &host, HOST_NAME);
        }
        if changed != current {
            write_in_place(&folder, "hosts", &changed)?;
        }
        let named = self.networks.any_has_names(sandbox.attached.keys());
        let current =
            folder.read_to_string("resolv.conf", FILE_LIMIT).system("cannot read the container's resolv.conf")?;
        // One that the container has made its own stays.
        if current == resolver_file(&record, !named)? {
            write_in_place(&folder, "resolv.conf", &resolver_file(&record, named)?)?;
        }
        Ok(())
    }
}

/// A container's resolv.conf; `named`: it is on a network where containers have names.
fn resolver_file(record: &Record, named: bool) -> Result<String> {
    let host = &record.host;
    let overrides = Overrides { servers: &host.dns, search: &host.dns_search, options: &host.dns_options };
    let resolver = match host.network {
        NetworkMode::Host => crate::info::host_resolver().for_host_network(&overrides),
        _ if named => crate::info::own_resolver().for_name_server(naru_dns::ADDRESS.ip(), &overrides),
        _ => crate::info::host_resolver().for_container(&overrides, false),
    };
    Ok(resolver.map_err(|e| Error::invalid(e.to_string()))?.render())
}

/// The name of the host that the container believes to be on.
fn own_name(record: &Record) -> String {
    match record.host.uts {
        NamespaceMode::Host => crate::info::hostname(),
        _ => record.config.hostname.clone(),
    }
}

fn own_addresses(sandbox: &Sandbox) -> Vec<IpAddr> {
    sandbox.attached.values().flat_map(naru_net::Endpoint::addresses).collect()
}

/// A hosts file in which the records of `names` have exactly these addresses.
fn with_own_addresses(current: &str, addresses: &[IpAddr], names: &str) -> String {
    let own = |line: &str| {
        let (address, rest) = line.split_once('\t')?;
        (rest == names).then(|| address.parse::<IpAddr>().ok()).flatten()
    };
    let mut text: String = current
        .split_inclusive('\n')
        .filter(|line| own(line.trim_end_matches('\n')).is_none_or(|address| addresses.contains(&address)))
        .collect();
    for address in addresses {
        if !current.lines().any(|line| own(line) == Some(*address)) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{address}\t{names}\n"));
        }
    }
    text
}

/// Writes a file that is mounted in a container: another one in its place would not be seen there.
fn write_in_place(folder: &Root, name: &str, text: &str) -> Result<()> {
    let failed = || format!("cannot write the container's {name}");
    let file = folder.open(name, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).system(failed())?;
    let mut written = 0;
    while written < text.len() {
        written += rustix::io::pwrite(&file, &text.as_bytes()[written..], written as u64).system(failed())?;
    }
    rustix::fs::ftruncate(&file, text.len() as u64).system(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_records_are_changed() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let file = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n10.0.0.9\tother\n# by hand\n";
        let both = with_own_addresses(file, &[ip("10.0.0.2"), ip("10.1.0.3")], "web");
        assert_eq!(both, format!("{file}10.1.0.3\tweb\n"));
        assert_eq!(with_own_addresses(&both, &[ip("10.0.0.2")], "web"), file);
        let none = with_own_addresses(file, &[], "web");
        assert_eq!(none, "127.0.0.1\tlocalhost\n10.0.0.9\tother\n# by hand\n");
        assert_eq!(with_own_addresses("x", &[ip("::1")], "web"), "x\n::1\tweb\n");
    }
}
