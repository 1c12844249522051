//! `--publish` and `--expose`.

use crate::flag::csv;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where a container's port appears on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Binding {
    /// The host's address; empty for all.
    pub host_ip: String,
    /// The host's port, or a range to choose from, or empty for any.
    pub host_port: String,
}

/// `80/tcp` with where it is published.
pub type Bindings = BTreeMap<String, Vec<Binding>>;

/// Adds what one `--publish` value says.
///
/// # Errors
/// With docker's words.
pub fn publish(bindings: &mut Bindings, value: &str) -> Result<(), String> {
    let value = short_form(value)?;
    let (ip, host, container) = split(&value);
    let (port, protocol) = protocol_of(container);
    let ip = match ip.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("invalid IP address {ip}"))?,
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if port.is_empty() {
        return Err(format!("no port specified: {value}<empty>"));
    }
    let (first, last) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    let hosts = match host {
        "" => None,
        _ => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = hosts
        && last - first != host_last - host_first
        && first != last
    {
        return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
    }
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for offset in 0..=last - first {
        let host_port = match hosts {
            None => String::new(),
            Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
            Some((from, _)) => (from + offset).to_string(),
        };
        let key = format!("{}/{protocol}", first + offset);
        bindings.entry(key).or_default().push(Binding { host_ip: ip.to_owned(), host_port });
    }
    Ok(())
}

/// The ports of one `--expose` value: `80/tcp`, ….
///
/// # Errors
/// With docker's words.
pub fn expose(value: &str) -> Result<Vec<String>, String> {
    if value.contains(':') {
        return Err(format!("invalid port format for --expose: {value}"));
    }
    let (port, protocol) = protocol_of(value);
    let (first, last) = range(port).ok_or_else(|| match port {
        "" => format!("invalid range format for --expose: {value}, error: empty string specified for ports"),
        _ => format!("invalid range format for --expose: {value}, error: invalid syntax"),
    })?;
    Ok((first..=last).map(|p| format!("{p}/{protocol}")).collect())
}

/// `target=80,published=8080,protocol=tcp` as `8080:80/tcp`.
fn short_form(value: &str) -> Result<String, String> {
    if !value.contains('=') {
        return Ok(value.to_owned());
    }
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv(value)? {
        match field.split_once('=') {
            Some(("target", v)) => target = v.to_owned(),
            Some(("published", v)) => published = v.to_owned(),
            Some(("protocol", v)) => protocol = v.to_owned(),
            Some(("mode", _)) => {}
            _ => return Err(format!("invalid port format: {value}")),
        }
    }
    if target.is_empty() {
        return Err(format!("invalid publish opts format (should be name=value but got '{value}')"));
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Address, host port, container port.
fn split(value: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = value.rsplit_once(':') else { return ("", "", value) };
    match rest.rsplit_once(':') {
        Some((ip, host)) => (ip, host, container),
        None => ("", rest, container),
    }
}

fn protocol_of(port: &str) -> (&str, &str) {
    match port.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol),
        Some((port, _)) => (port, "tcp"),
        None => (port, "tcp"),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u16>().ok()).flatten();
    match text.split_once('-') {
        None => number(text).map(|p| (p, p)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<String, String> {
        let mut bindings = Bindings::new();
        publish(&mut bindings, value)?;
        let show = |(port, list): (&String, &Vec<Binding>)| format!("{}|{}|{port}", list[0].host_ip, list[0].host_port);
        Ok(bindings.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn forms() {
        for (value, read) in [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080|80/udp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:1:2/SCTP", "::1|1|2/sctp"),
            ("::1:1:2", "::1|1|2/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("published=8080,target=80", "|8080|80/tcp"),
        ] {
            assert_eq!(parse(value).as_deref(), Ok(read), "{value}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(parse("x").unwrap_err(), "invalid containerPort: x");
        assert_eq!(parse("x:80").unwrap_err(), "invalid hostPort: x");
        assert_eq!(parse("1.2.3:1:2").unwrap_err(), "invalid IP address: 1.2.3");
        assert_eq!(parse("1-3:1-2").unwrap_err(), "invalid ranges specified for container and host Ports: 1-2 and 1-3");
        assert_eq!(parse("80/x").unwrap_err(), "invalid proto: x");
        assert_eq!(expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(expose("1:2").is_err() && expose("x").is_err() && expose("70000").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(value in "[0-9a-z:,=/\\[\\]-]{0,24}") {
            let _ = parse(&value);
            let _ = expose(&value);
        }
    }
}
