//! A create's body as a whole.

use super::{config, endpoint, host, resources};
use crate::dto::config::{CreateBody, EndpointConfig};
use naru_base::{Error, Platform, Result};
use naru_engine::types::{CreateRequest, EndpointSettings, HostSettings, NetworkMode};
use std::collections::BTreeMap;

/// A create, checked; and what its caller should know.
///
/// # Errors
/// With docker's texts.
pub(crate) fn decode(
    mut body: CreateBody,
    name: Option<String>,
    platform: Option<Platform>,
    facts: impl FnOnce() -> resources::Facts,
) -> Result<(CreateRequest, Vec<String>)> {
    let mut warnings = Vec::new();
    let mac = std::mem::take(&mut body.mac_address);
    let mut document = body.host_config.take().unwrap_or_default();
    let asked = std::mem::take(&mut body.networking_config.endpoints_config);
    let config = config::decode(&mut body)?;
    let settings = host::decode(&mut document, &config, facts, &mut warnings)?;
    let endpoints = endpoints(&settings, asked, &mac)?;
    let document = serde_json::to_value(&document)
        .map_err(|e| Error::system(format!("the host configuration cannot be kept: {e}")))?;
    Ok((CreateRequest { name, config, host: settings, endpoints, document, platform }, warnings))
}

/// The networks asked for, by name. The container's own MAC address (of clients before 1.44) is the main network's.
fn endpoints(
    settings: &HostSettings,
    asked: BTreeMap<String, Option<EndpointConfig>>,
    mac: &str,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mut all = BTreeMap::new();
    for (name, config) in asked {
        // docker's own names for the default network are all the same one.
        let name = if name == "default" { "bridge".to_owned() } else { name };
        let endpoint = endpoint::decode(config.unwrap_or_default()).map_err(|e| match settings.network {
            NetworkMode::Container(_) => e,
            _ => e.context(format!("invalid config for network {name}")),
        })?;
        all.insert(name, endpoint);
    }
    if matches!(settings.network, NetworkMode::Container(_))
        && (!mac.is_empty() || all.values().any(|endpoint| endpoint.mac.is_some()))
    {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    if let Some(mac) = endpoint::mac(mac)?
        && !matches!(settings.network, NetworkMode::Host | NetworkMode::Container(_))
    {
        let own = all.entry(settings.network.as_text()).or_default();
        if own.mac.as_ref().is_some_and(|other| *other != mac) {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
        own.mac = Some(mac);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tolerant;

    fn read(json: &str) -> Result<CreateRequest> {
        let facts = || resources::Facts { cpus: 2, limits: resources::all_limits() };
        decode(tolerant::from_slice(json.as_bytes()).unwrap(), None, None, facts).map(|(r, _)| r)
    }

    #[test]
    fn what_the_real_client_sends_is_read() {
        let sent = include_str!("../../tests/data/docker-28-create.json");
        let got = read(sent).unwrap();
        assert_eq!(got.config.image, "bb");
        assert_eq!(got.config.cmd.unwrap(), ["sleep", "1000"]);
        assert_eq!(got.host.mounts.len(), 3);
        assert_eq!(got.document["NetworkMode"], "host");
        assert_eq!(got.document["Binds"][1], "/tmp:/i:ro");
        assert_eq!(got.document["ConsoleSize"], serde_json::json!([0, 0]));
    }

    #[test]
    fn what_is_wanted_of_networks() {
        let body = |network: &str, ip: &str| {
            format!(
                r#"{{"Image":"x","HostConfig":{{"NetworkMode":"default"}},"NetworkingConfig":{{"EndpointsConfig":{{"{network}":{{"IPAMConfig":{{"IPv4Address":"{ip}"}},"MacAddress":"02:42:ac:11:00:02"}}}}}}}}"#
            )
        };
        let got = read(&body("default", "172.17.0.9")).unwrap();
        assert_eq!(got.endpoints["bridge"].ip, Some("172.17.0.9".parse().unwrap()));
        assert_eq!(got.endpoints["bridge"].mac.as_deref(), Some("02:42:ac:11:00:02"));
        assert_eq!(read(&body("other", "172.17.0.9")).unwrap().endpoints["other"].ip, got.endpoints["bridge"].ip);
        assert_eq!(
            read(&body("bridge", "x")).unwrap_err().message(),
            "invalid config for network bridge: invalid endpoint settings:\ninvalid IPv4 address: x"
        );
        let own = read(r#"{"Image":"x","MacAddress":"02:42:ac:11:00:02","HostConfig":{"NetworkMode":"n"}}"#).unwrap();
        assert_eq!(own.endpoints["n"].mac.as_deref(), Some("02:42:ac:11:00:02"));
        assert!(read(r#"{"Image":"x","MacAddress":"zz"}"#).is_err());
        let other = r#"{"Image":"x","MacAddress":"02:42:ac:11:00:02","HostConfig":{"NetworkMode":"container:n"}}"#;
        assert_eq!(read(other).unwrap_err().message(), "conflicting options: mac-address and the network mode");
    }
}
