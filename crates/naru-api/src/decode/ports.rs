//! Exposed and published ports.

use crate::dto::host_config::HostConfig;
use naru_base::{Error, Result};
use naru_engine::types::PortBinding;
use std::collections::{BTreeMap, BTreeSet};

/// `80`, `80/tcp`, `8000-8010/udp` in normal form, each port of a range on its own.
///
/// # Errors
/// For anything else.
pub(crate) fn expand(text: &str) -> Result<Vec<String>> {
    let bad = || Error::invalid(format!("invalid port specification: {text:?}"));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!(
            "invalid port specification: {text:?}: protocol {protocol:?} is none of tcp, udp and sctp"
        )));
    }
    let (first, last) = range(numbers).ok_or_else(bad)?;
    Ok((first..=last).map(|n| format!("{n}/{protocol}")).collect())
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Exposed ports in normal form.
///
/// # Errors
/// For what is no port.
pub(crate) fn exposed(ports: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for port in ports {
        all.extend(expand(port)?);
    }
    Ok(all)
}

/// Published ports; the normal form is written back.
///
/// # Errors
/// With docker's texts.
pub(crate) fn bindings(host: &mut HostConfig) -> Result<BTreeMap<String, Vec<PortBinding>>> {
    let Some(given) = host.port_bindings.take() else { return Ok(BTreeMap::new()) };
    let mut shown = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (port, bindings) in given {
        for port in expand(&port)? {
            let bindings = bindings.clone().unwrap_or_default();
            for binding in &bindings {
                if !binding.host_port.is_empty() && range(&binding.host_port).is_none() {
                    return Err(Error::invalid(format!("invalid port specification: {:?}", binding.host_port)));
                }
                if !binding.host_ip.is_empty() && binding.host_ip.parse::<std::net::IpAddr>().is_err() {
                    return Err(Error::invalid(format!("invalid IP address: {}", binding.host_ip)));
                }
            }
            let engines = |b: &crate::dto::host_config::PortBinding| PortBinding {
                host_ip: b.host_ip.clone(),
                host_port: b.host_port.clone(),
            };
            // No binding at all is one to any port (docker's rule).
            let decided =
                if bindings.is_empty() { vec![PortBinding::default()] } else { bindings.iter().map(engines).collect() };
            all.insert(port.clone(), decided);
            shown.insert(port, Some(bindings));
        }
    }
    host.port_bindings = Some(shown);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::host_config;

    #[test]
    fn ports_are_normalised() {
        assert_eq!(expand("80").unwrap(), ["80/tcp"]);
        assert_eq!(expand("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(expand("1-3/tcp").unwrap(), ["1/tcp", "2/tcp", "3/tcp"]);
        for bad in ["", "x", "80/foo", "3-1", "70000", "-1", "+1", "1-", "/tcp"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bindings_are_checked() {
        let bind = |ip: &str, port: &str| {
            let binding = host_config::PortBinding { host_ip: ip.into(), host_port: port.into() };
            let map = BTreeMap::from([("80".to_owned(), Some(vec![binding]))]);
            let mut host = HostConfig { port_bindings: Some(map), ..HostConfig::default() };
            bindings(&mut host)
        };
        assert_eq!(bind("", "8000-8010").unwrap()["80/tcp"][0].host_port, "8000-8010");
        assert_eq!(bind("", "x").unwrap_err().message(), "invalid port specification: \"x\"");
        assert_eq!(bind("nope", "1").unwrap_err().message(), "invalid IP address: nope");
        let mut host =
            HostConfig { port_bindings: Some(BTreeMap::from([("1".to_owned(), None)])), ..HostConfig::default() };
        assert_eq!(bindings(&mut host).unwrap()["1/tcp"], [PortBinding::default()]);
        assert_eq!(host.port_bindings.unwrap()["1/tcp"], Some(vec![]));
    }
}
