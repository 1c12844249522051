//! What a container wants of a network: docker's `EndpointSettings`.

use crate::dto::config::EndpointConfig;
use naru_base::{Error, Result};
use naru_engine::types::EndpointSettings;
use std::net::IpAddr;

/// The engine's form of it, checked as far as one endpoint goes.
///
/// # Errors
/// With docker's texts: an address that is none, of the wrong family or of no host, a malformed MAC address.
pub(crate) fn decode(endpoint: EndpointConfig) -> Result<EndpointSettings> {
    let mut mistakes = Vec::new();
    let ipam = endpoint.ipam_config;
    let ip = parse(&ipam.ipv4_address).unwrap_or_else(|()| note(&mut mistakes, "IPv4", &ipam.ipv4_address));
    let ip6 = parse(&ipam.ipv6_address).unwrap_or_else(|()| note(&mut mistakes, "IPv6", &ipam.ipv6_address));
    let mut link_local = Vec::new();
    for text in ipam.link_local_ips.iter().filter(|t| !t.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address) => link_local.push(address),
            Err(_) => mistakes.push(format!("invalid link-local IP address: {text}")),
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::invalid(format!("invalid endpoint settings:\n{}", mistakes.join("\n"))));
    }
    Ok(EndpointSettings {
        aliases: endpoint.aliases.into_iter().filter(|a| !a.is_empty()).collect(),
        links: endpoint.links.into_iter().filter(|l| !l.is_empty()).collect(),
        ip,
        ip6,
        link_local,
        mac: mac(&endpoint.mac_address)?,
        driver_options: endpoint.driver_opts,
        gateway_priority: endpoint.gw_priority,
    })
}

/// An address; none for an empty text.
fn parse<A: std::str::FromStr>(text: &str) -> Result<Option<A>, ()> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| ()) }
}

fn note<A>(mistakes: &mut Vec<String>, family: &str, text: &str) -> Option<A> {
    mistakes.push(format!("invalid {family} address: {text}"));
    None
}

/// A MAC address (`02:42:ac:11:00:02`); none for an empty text.
///
/// # Errors
/// For anything else.
pub(crate) fn mac(text: &str) -> Result<Option<String>> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let well_formed =
        parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    match text {
        "" => Ok(None),
        _ if well_formed => Ok(Some(text.replace('-', ":").to_lowercase())),
        _ => Err(Error::invalid(format!("invalid MAC address: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tolerant;

    fn read(json: &str) -> Result<EndpointSettings> {
        decode(tolerant::from_slice(json.as_bytes()).unwrap())
    }

    #[test]
    fn what_the_client_sends() {
        let got = read(
            r#"{"IPAMConfig":{"IPv4Address":"10.0.0.9","IPv6Address":"fd00::9","LinkLocalIPs":["169.254.1.1"]},"Links":null,
            "Aliases":["a",""],"DriverOpts":{"k":"v"},"GwPriority":-3,"MacAddress":"02-42-AC-11-00-02"}"#,
        )
        .unwrap();
        assert_eq!((got.ip.unwrap().to_string(), got.ip6.unwrap().to_string()), ("10.0.0.9".into(), "fd00::9".into()));
        assert_eq!((got.aliases, got.gateway_priority), (vec!["a".to_owned()], -3));
        assert_eq!(got.mac.as_deref(), Some("02:42:ac:11:00:02"));
        assert_eq!(read("{}").unwrap(), EndpointSettings::default());
        assert_eq!(read(r#"{"IPAMConfig":null}"#).unwrap(), EndpointSettings::default());
    }

    #[test]
    fn mistakes() {
        let said = |json: &str| read(json).unwrap_err().message().to_owned();
        assert_eq!(
            said(r#"{"IPAMConfig":{"IPv4Address":"fd00::1","IPv6Address":"x"}}"#),
            "invalid endpoint settings:\ninvalid IPv4 address: fd00::1\ninvalid IPv6 address: x"
        );
        assert_eq!(said(r#"{"MacAddress":"zz"}"#), "invalid MAC address: zz");
    }
}
