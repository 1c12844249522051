//! `--network` with its long form, the options that belong to the first network, `--add-host` and `--link`.

use crate::flag::{Matches, csv};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One network to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The network, or a mode such as `host`.
    pub target: String,
    aliases: Vec<String>,
    driver_opts: BTreeMap<String, String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    gateway_priority: i64,
}

/// The API's endpoint settings: what a client may ask for, and the fields that only answers fill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<Ipam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: i64,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: i64,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Ipam {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    ipv4: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    ipv6: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local: Vec<String>,
}

/// Reads a `--network` value: a name, or `name=…,alias=…,ip=…`.
///
/// # Errors
/// With docker's words.
pub fn parse(value: &str) -> Result<Attachment, String> {
    let mut out = Attachment::default();
    if !is_long(value) {
        out.target = value.to_owned();
        return Ok(out);
    }
    for field in csv(value)? {
        let (key, v) =
            field.split_once('=').filter(|(k, _)| !k.is_empty()).ok_or_else(|| format!("invalid field {field}"))?;
        let key = key.trim().to_lowercase();
        let v = v.trim();
        match key.as_str() {
            "name" => out.target = v.to_owned(),
            "alias" => out.aliases.push(v.to_owned()),
            "ip" => out.ipv4 = v.to_owned(),
            "ip6" => out.ipv6 = v.to_owned(),
            "mac-address" => out.mac = v.to_lowercase(),
            "link-local-ip" => out.link_local.push(v.to_owned()),
            "driver-opt" => {
                let (k, v) = v
                    .split_once('=')
                    .filter(|(k, _)| !k.trim().is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                out.driver_opts.insert(k.trim().to_lowercase(), v.trim().to_lowercase());
            }
            "gw-priority" => {
                out.gateway_priority = v
                    .parse()
                    .map_err(|_| format!("invalid gw-priority (strconv.Atoi: parsing {v:?}: invalid syntax)"))?;
            }
            _ => return Err("invalid field key ".to_owned() + &key),
        }
    }
    if out.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(out)
}

/// Whether there is `word=word` somewhere, docker's test for the long form.
fn is_long(value: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    value.match_indices('=').any(|(i, _)| word(value[..i].chars().next_back()) && word(value[i + 1..].chars().next()))
}

/// Whether the network is one that users make, rather than a mode.
fn is_user_defined(target: &str) -> bool {
    !matches!(target, "default" | "bridge" | "host" | "none" | "nat") && !target.starts_with("container:")
}

/// The networks of a container: its mode, and the endpoints to send.
///
/// # Errors
/// With docker's words, for options that don't go together.
pub fn endpoints(m: &Matches) -> Result<(String, BTreeMap<String, Endpoint>), String> {
    let given = m.list("network");
    let mut attachments = given.iter().map(|v| parse(v)).collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".into(), ..Attachment::default() });
    }
    let count = given.len();
    let user_defined = attachments.iter().filter(|a| is_user_defined(&a.target)).count();
    apply_options(&mut attachments[0], m)?;
    let mode = attachments[0].target.clone();
    let mut out = BTreeMap::new();
    for (i, attachment) in attachments.into_iter().enumerate() {
        let target = attachment.target.clone();
        let endpoint = attachment.into_endpoint()?;
        if out.contains_key(&target) {
            return Err(format!("network {target:?} is specified multiple times"));
        }
        if i == 0 && count == 1 && endpoint == Endpoint::default() {
            continue;
        }
        out.insert(target, endpoint);
    }
    if user_defined > 0 && user_defined < count {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
    }
    Ok((mode, out))
}

/// `--network-alias`, `--ip` and their like are the first network's.
fn apply_options(first: &mut Attachment, m: &Matches) -> Result<(), String> {
    let conflict = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    let list = |name: &str| m.list(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let aliases = list("network-alias");
    if !aliases.is_empty() {
        if !first.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        first.aliases = aliases;
    }
    let links = list("link");
    if !links.is_empty() && is_user_defined(&first.target) {
        first.links = links;
    }
    for (flag, slot, what) in [
        ("ip", &mut first.ipv4, "IPv4 address"),
        ("ip6", &mut first.ipv6, "IPv6 address"),
        ("mac-address", &mut first.mac, "MAC address"),
    ] {
        let value = m.str(flag);
        if !value.is_empty() {
            if !slot.is_empty() {
                return conflict(flag, what);
            }
            *slot = value.to_owned();
        }
    }
    let link_local = list("link-local-ip");
    if !link_local.is_empty() {
        if !first.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        first.link_local = link_local;
    }
    Ok(())
}

impl Attachment {
    fn into_endpoint(self) -> Result<Endpoint, String> {
        if self.target.trim().is_empty() {
            return Err("no name set for network".into());
        }
        if !is_user_defined(&self.target) && !self.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".into());
        }
        let some = |v: Vec<String>| (!v.is_empty()).then_some(v);
        let ipam = Ipam { ipv4: self.ipv4, ipv6: self.ipv6, link_local: self.link_local };
        if !self.mac.is_empty() && !is_mac(&self.mac) {
            return Err(format!("{} is not a valid mac address", self.mac.trim()));
        }
        Ok(Endpoint {
            ipam_config: (ipam != Ipam::default()).then_some(ipam),
            links: some(self.links),
            aliases: some(self.aliases),
            mac_address: self.mac,
            driver_opts: (!self.driver_opts.is_empty()).then_some(self.driver_opts),
            gw_priority: self.gateway_priority,
            ..Endpoint::default()
        })
    }
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<_> = text.trim().split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The endpoint that `network connect` asks for.
///
/// # Errors
/// When a driver option is no `key=value`.
pub fn connect_endpoint(m: &Matches) -> Result<Endpoint, String> {
    let mut driver_opts = BTreeMap::new();
    for option in m.strings("driver-opt") {
        let (k, v) = option.split_once('=').ok_or("invalid key/value pair format in driver options")?;
        driver_opts.insert(k.trim().to_lowercase(), v.trim().to_lowercase());
    }
    let links: Vec<_> = m.list("link").into_iter().map(str::to_owned).collect();
    let aliases = m.strings("alias");
    Ok(Endpoint {
        ipam_config: Some(Ipam {
            ipv4: m.str("ip").to_owned(),
            ipv6: m.str("ip6").to_owned(),
            link_local: m.strings("link-local-ip"),
        }),
        links: Some(links),
        aliases: Some(aliases),
        driver_opts: Some(driver_opts),
        gw_priority: m.int("gw-priority"),
        ..Endpoint::default()
    })
}

/// Reads an `--add-host` value, `name:ip` or `name=ip`, into the API's `name:ip`.
///
/// # Errors
/// With docker's words.
pub fn extra_host(value: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", naru_base::human::go_quote(value));
    let (name, ip) = value.split_once(['=', ':']).ok_or_else(bad)?;
    if name.is_empty() || ip.is_empty() {
        return Err(bad());
    }
    if ip == "host-gateway" {
        return Ok(format!("{name}:{ip}"));
    }
    let bare = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).filter(|i| i.contains(':')).unwrap_or(ip);
    if bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {}", naru_base::human::go_quote(ip)));
    }
    Ok(format!("{name}:{bare}"))
}

/// Checks a `--link` value, `name[:alias]`.
///
/// # Errors
/// With docker's words.
pub fn check_link(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("empty string specified for links".into());
    }
    match value.split(':').count() {
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form() {
        let a = parse("name=n,alias=a,\"driver-opt=k=V\",ip=10.0.0.2,gw-priority=-3").unwrap();
        assert_eq!((a.target.as_str(), a.ipv4.as_str(), a.gateway_priority), ("n", "10.0.0.2", -3));
        assert_eq!(a.driver_opts["k"], "v");
        assert_eq!(parse("container:x").unwrap().target, "container:x");
        assert!(parse("alias=x").is_err() && parse("name=x,foo=y").is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(extra_host("h:1.2.3.4").unwrap(), "h:1.2.3.4");
        assert_eq!(extra_host("h=[::1]").unwrap(), "h:::1");
        assert_eq!(extra_host("h:host-gateway").unwrap(), "h:host-gateway");
        assert!(extra_host("h").is_err() && extra_host("h:x").is_err());
    }
}
