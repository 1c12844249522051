//! Links on the default network (`--link`): records in the hosts file and variables in the environment, as they were before networks had
//! names. On a network with names a link is a name; see [`super::names`].

use crate::Engine;
use crate::container::{Container, Record};
use crate::types::NetworkMode;
use naru_base::{Error, Result};
use naru_net::etc::ExtraHost;
use std::net::IpAddr;
use std::sync::Arc;

/// Variables of the other that are nobody else's.
const OWN_VARIABLES: [&str; 2] = ["HOME", "PATH"];

/// A link to a running container.
pub(crate) struct LiveLink {
    alias: String,
    target: Arc<Container>,
    address: IpAddr,
}

/// `name[:alias]`, with or without slashes.
pub(super) fn parse(text: &str) -> (&str, &str) {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    (name.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias))
}

/// The container that a link leads to, as it was named.
pub(crate) fn link_target(link: &str) -> &str {
    parse(link).0
}

impl Engine {
    /// Refuses links to containers that are not there.
    ///
    /// # Errors
    /// docker's texts.
    pub(crate) fn check_links(&self, links: &[String]) -> Result<()> {
        for link in links {
            let (name, _) = parse(link);
            let target = self
                .containers
                .find(name)
                .map_err(|e| Error::invalid(format!("could not get container for {name}: {}", e.message())))?;
            if target.read(|r| r.host.network == NetworkMode::Host) {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
        }
        Ok(())
    }

    /// The links of a container that is being started; only on the default network are there such.
    ///
    /// # Errors
    /// docker's text for one to a container that doesn't run.
    pub(crate) fn live_links(&self, record: &Record) -> Result<Vec<LiveLink>> {
        if record.host.network != NetworkMode::Default {
            return Ok(Vec::new());
        }
        let live = |link: &String| {
            let (name, alias) = parse(link);
            let target = self.containers.find(name)?;
            let address = target.read(|r| r.state.attached.get("bridge").and_then(|e| e.addresses().first().copied()));
            let address = address.ok_or_else(|| {
                Error::system(format!("Cannot link to a non running container: /{name} AS /{}/{alias}", record.name))
            })?;
            Ok(LiveLink { alias: alias.to_owned(), target, address })
        };
        record.host.links.iter().map(live).collect()
    }
}

impl LiveLink {
    /// Its record in the hosts file.
    pub(crate) fn host(&self) -> ExtraHost {
        let names = self.target.read(|r| format!("{} {} {}", self.alias, r.config.hostname, r.name));
        ExtraHost { name: names, address: self.address }
    }

    /// Its variables.
    pub(crate) fn environment(&self, own_name: &str) -> Vec<String> {
        let prefix = self.alias.replace('-', "_").to_uppercase();
        let (ports, env) = self.target.read(|r| (r.config.exposed_ports.clone(), r.config.env.clone()));
        let mut ports: Vec<(u16, String)> = ports
            .iter()
            .filter_map(|text| {
                let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                Some((number.parse().ok()?, protocol.to_owned()))
            })
            .collect();
        ports.sort();
        let address = self.address;
        let mut out = Vec::new();
        if let Some((number, protocol)) = ports.first() {
            out.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
        }
        for (number, protocol) in &ports {
            let name = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            out.push(format!("{name}={protocol}://{address}:{number}"));
            out.push(format!("{name}_ADDR={address}"));
            out.push(format!("{name}_PORT={number}"));
            out.push(format!("{name}_PROTO={protocol}"));
        }
        out.push(format!("{prefix}_NAME=/{own_name}/{}", self.alias));
        for entry in &env {
            if let Some((key, value)) = entry.split_once('=').filter(|(key, _)| !OWN_VARIABLES.contains(key)) {
                out.push(format!("{prefix}_ENV_{key}={value}"));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests_support::record;

    #[test]
    fn dockers_variables() {
        let mut target = record("db", "db");
        target.config.exposed_ports = ["8080/tcp", "53/udp"].map(str::to_owned).into();
        target.config.env = vec!["A=1".into(), "PATH=/bin".into()];
        target.config.hostname = "dbhost".into();
        let address = "172.17.0.5".parse().unwrap();
        let link = LiveLink { alias: "my-db".into(), target: Arc::new(Container::new(target)), address };
        assert_eq!(
            link.environment("web"),
            [
                "MY_DB_PORT=udp://172.17.0.5:53",
                "MY_DB_PORT_53_UDP=udp://172.17.0.5:53",
                "MY_DB_PORT_53_UDP_ADDR=172.17.0.5",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_8080_TCP=tcp://172.17.0.5:8080",
                "MY_DB_PORT_8080_TCP_ADDR=172.17.0.5",
                "MY_DB_PORT_8080_TCP_PORT=8080",
                "MY_DB_PORT_8080_TCP_PROTO=tcp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_A=1",
            ]
        );
        assert_eq!(link.host().name, "my-db dbhost db");
        assert_eq!(parse("/db:/web/store"), ("db", "store"));
        assert_eq!(parse("db"), ("db", "db"));
    }
}
