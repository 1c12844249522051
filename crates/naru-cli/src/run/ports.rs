//! `--publish` and `--expose`.

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
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}: address {ip}:: missing ']' in address"))?,
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
    let (first, last) =
        range_of(port).map_err(|error| format!("invalid range format for --expose: {value}, error: {error}"))?;
    Ok((first..=last).map(|p| format!("{p}/{protocol}")).collect())
}

/// `target=80,published=8080,protocol=tcp` as `8080:80/tcp`.
fn short_form(value: &str) -> Result<String, String> {
    if !value.contains('=') {
        return Ok(value.to_owned());
    }
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in value.split(',') {
        match field.split_once('=') {
            Some(("target", v)) => target = v.to_owned(),
            Some(("published", v)) => published = v.to_owned(),
            Some(("protocol", v)) => protocol = v.to_owned(),
            // docker takes any other name, and does nothing with it.
            Some((name, _)) if !name.is_empty() => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{field}')")),
        }
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
    range_of(text).ok()
}

/// First and last; the errors are docker's.
fn range_of(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (first, last) = match text.split_once('-') {
        None => (number(text)?, number(text)?),
        Some((first, last)) => (number(first)?, number(last)?),
    };
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

/// A port's number.
///
/// # Errors
/// With the words that docker's clients have for what is none.
pub fn number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let failed = |why| format!("strconv.ParseUint: parsing {text:?}: {why}");
    if !digits {
        return Err(failed("invalid syntax"));
    }
    text.parse().map_err(|_| failed("value out of range"))
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
            ("mode=host,target=80,protocol=udp,other=1", "||80/udp"),
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
        assert_eq!(parse("published=8080").unwrap_err(), "no port specified: 8080:/tcp<empty>");
        let refused = |value: &str| expose(value).unwrap_err().rsplit_once(", error: ").map(|(_, e)| e.to_owned());
        assert_eq!(refused("x").as_deref(), Some("strconv.ParseUint: parsing \"x\": invalid syntax"));
        assert_eq!(refused("70000").as_deref(), Some("strconv.ParseUint: parsing \"70000\": value out of range"));
        assert_eq!(refused("9-8").as_deref(), Some("invalid range specified for port: 9-8"));
        assert!(expose("1:2").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(value in "[0-9a-z:,=/\\[\\]-]{0,24}") {
            let _ = parse(&value);
            let _ = expose(&value);
        }
    }
}
