//! A create's body as a whole.

use super::{config, host, resources};
use crate::dto::config::{CreateBody, EndpointConfig};
use naru_base::{Error, Platform, Result};
use naru_engine::types::{CreateRequest, HostSettings};

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
    let endpoints = std::mem::take(&mut body.networking_config.endpoints_config);
    let config = config::decode(&mut body)?;
    let mut settings = host::decode(&mut document, &config, facts, &mut warnings)?;
    // docker's own names for the default network are all the same one.
    let own = |name: &str| name == document.network_mode || (document.network_mode == "bridge" && name == "default");
    let endpoint = endpoints.into_iter().find(|(name, _)| own(name)).and_then(|(_, e)| e).unwrap_or_default();
    addresses(&mut settings, endpoint, mac)?;
    let document = serde_json::to_value(&document)
        .map_err(|e| Error::system(format!("the host configuration cannot be kept: {e}")))?;
    Ok((CreateRequest { name, config, host: settings, document, platform }, warnings))
}

fn addresses(settings: &mut HostSettings, endpoint: EndpointConfig, mac: String) -> Result<()> {
    if !endpoint.links.is_empty() {
        return Err(Error::not_implemented(
            "links between containers are not available: use their addresses or a shared network",
        ));
    }
    let address = endpoint.ipam_config.ipv4_address;
    if !address.is_empty() {
        let parsed = address.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {address}")))?;
        settings.ip = Some(std::net::IpAddr::V4(parsed));
    }
    if !endpoint.ipam_config.ipv6_address.is_empty() {
        return Err(Error::not_implemented("fixed IPv6 addresses are not available"));
    }
    let mac = if endpoint.mac_address.is_empty() { mac } else { endpoint.mac_address };
    if !mac.is_empty() {
        if !is_mac(&mac) {
            return Err(Error::invalid(format!("invalid MAC address: {mac}")));
        }
        settings.mac = Some(mac);
    }
    Ok(())
}

/// `02:42:ac:11:00:02`.
fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
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
    fn fixed_addresses_are_those_of_the_main_network() {
        let body = |network: &str, ip: &str| {
            format!(
                r#"{{"Image":"x","HostConfig":{{"NetworkMode":"default"}},"NetworkingConfig":{{"EndpointsConfig":{{"{network}":{{"IPAMConfig":{{"IPv4Address":"{ip}"}},"MacAddress":"02:42:ac:11:00:02"}}}}}}}}"#
            )
        };
        let got = read(&body("default", "172.17.0.9")).unwrap();
        assert_eq!(got.host.ip, Some("172.17.0.9".parse().unwrap()));
        assert_eq!(got.host.mac.as_deref(), Some("02:42:ac:11:00:02"));
        assert_eq!(read(&body("other", "172.17.0.9")).unwrap().host.ip, None);
        assert_eq!(read(&body("bridge", "x")).unwrap_err().message(), "invalid IPv4 address: x");
        assert!(read(r#"{"Image":"x","MacAddress":"zz"}"#).is_err());
    }
}
