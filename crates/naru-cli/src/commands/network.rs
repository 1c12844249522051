//! `network create`, `connect`, `disconnect`, `ls` and `rm`.

use super::volume::natural;
use super::{join_labels, short_id};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::filters;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::run::{environment, networks};
use crate::types::{Created, Network};
use crate::when;
use naru_client::{Query, Request, escape_path};
use serde_json::{Map, Value, json};

const LISTING: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    quiet: "{{.ID}}",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    row_type: "*network.networkContext",
};

/// `network ls`.
pub fn ls(context: &mut Context, m: &Matches) -> Outcome {
    let quiet = m.bool("quiet");
    let text = context.format(m.str("format"), "networksFormat");
    let format = Format::new(&LISTING, if quiet { "" } else { &text }, quiet)?;
    let query = Query::new().with_some("filters", &filters::to_json(&m.list("filter")));
    let mut list: Vec<Network> = context.get(format!("/networks{}", query.as_str()))?;
    list.sort_by(|a, b| natural(&a.name, &b.name));
    let full = m.bool("no-trunc");
    let rows: Vec<_> = list.iter().map(|n| row(n, full)).collect();
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

fn row(n: &Network, full: bool) -> Row {
    let created =
        when::parse_rfc3339(&n.created).map(|t| when::go_time(t, &jiff::tz::TimeZone::UTC)).unwrap_or_default();
    Row::new()
        .with("ID", if full { &n.id } else { short_id(&n.id) })
        .with("Name", &*n.name)
        .with("Driver", &*n.driver)
        .with("Scope", &*n.scope)
        .with("IPv4", n.enable_ipv4.to_string())
        .with("IPv6", n.enable_ipv6.to_string())
        .with("Internal", n.internal.to_string())
        .with("Labels", join_labels(&n.labels))
        .with("CreatedAt", created)
        .with_labels(n.labels.clone())
}

/// `network create`.
pub fn create(context: &mut Context, m: &Matches) -> Outcome {
    let labels = environment::pairs(&m.list("label"));
    let mut body = json!({
        "Name": m.arg(0),
        "Driver": m.str("driver"),
        "Scope": m.str("scope"),
        "IPAM": {"Driver": m.str("ipam-driver"), "Options": environment::pairs(&m.list("ipam-opt")), "Config": ipam(m)?},
        "Internal": m.bool("internal"),
        "Attachable": m.bool("attachable"),
        "Ingress": m.bool("ingress"),
        "ConfigOnly": m.bool("config-only"),
        "ConfigFrom": null,
        "Options": environment::pairs(&m.list("opt")),
        "Labels": labels,
    });
    if let Some(object) = body.as_object_mut() {
        if m.given("ipv4") {
            object.insert("EnableIPv4".into(), m.bool("ipv4").into());
        }
        if m.given("ipv6") {
            object.insert("EnableIPv6".into(), m.bool("ipv6").into());
        }
        if !m.str("config-from").is_empty() {
            object.insert("ConfigFrom".into(), json!({"Network": m.str("config-from")}));
        }
    }
    let created: Created = context.send(Request::post("/networks/create").json(&body))?.json()?;
    context.printer.line(created.id)?;
    Ok(0)
}

/// A network address in CIDR form.
#[derive(Clone, Copy)]
struct Cidr {
    address: std::net::IpAddr,
    bits: u32,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid CIDR address: {text}");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: std::net::IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        if bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { address, bits })
    }

    fn contains(&self, other: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.address, other) {
            (V4(a), V4(b)) => self.bits == 0 || (a.to_bits() ^ b.to_bits()) >> (32 - self.bits) == 0,
            (V6(a), V6(b)) => self.bits == 0 || (a.to_bits() ^ b.to_bits()) >> (128 - self.bits) == 0,
            _ => false,
        }
    }
}

/// The address pools: each gateway, range and auxiliary address goes to the subnet that holds it.
fn ipam(m: &Matches) -> Result<Vec<Value>, Failure> {
    let subnets = m.strings("subnet");
    let (ranges, gateways) = (m.strings("ip-range"), m.strings("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Failure::new("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<(Cidr, Map<String, Value>)> = Vec::new();
    for subnet in &subnets {
        let cidr = Cidr::parse(subnet)?;
        if pools.iter().any(|(c, _)| c.contains(cidr.address) || cidr.contains(c.address)) {
            return Err(Failure::new("multiple overlapping subnet configuration is not supported"));
        }
        pools.push((cidr, Map::from_iter([("Subnet".to_owned(), Value::from(subnet.as_str()))])));
    }
    for range in &ranges {
        let pool = pool_of(&mut pools, Cidr::parse(range)?.address)
            .ok_or_else(|| Failure::new(format!("no matching subnet for range {range}")))?;
        pool.insert("IPRange".into(), range.as_str().into());
    }
    for gateway in &gateways {
        let none = || Failure::new(format!("no matching subnet for gateway {gateway}"));
        let pool = pool_of(&mut pools, gateway.parse().map_err(|_| none())?).ok_or_else(none)?;
        if pool.contains_key("Gateway") {
            return Err(Failure::new(format!("cannot configure multiple gateways ({gateway}) for the same subnet")));
        }
        pool.insert("Gateway".into(), gateway.as_str().into());
    }
    for (name, address) in environment::pairs(&m.list("aux-address")) {
        let none = || Failure::new(format!("no matching subnet for aux-address {address}"));
        let pool = pool_of(&mut pools, address.parse().map_err(|_| none())?).ok_or_else(none)?;
        let slot = pool.entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
        if let Some(map) = slot.as_object_mut() {
            map.insert(name, address.into());
        }
    }
    Ok(pools.into_iter().map(|(_, pool)| Value::Object(pool)).collect())
}

fn pool_of(pools: &mut [(Cidr, Map<String, Value>)], address: std::net::IpAddr) -> Option<&mut Map<String, Value>> {
    pools.iter_mut().find(|(cidr, _)| cidr.contains(address)).map(|(_, pool)| pool)
}

/// `network connect`.
pub fn connect(context: &mut Context, m: &Matches) -> Outcome {
    let body = json!({"Container": m.arg(1), "EndpointConfig": networks::connect_endpoint(m)?});
    context.call(Request::post(format!("/networks/{}/connect", escape_path(m.arg(0)))).json(&body))?;
    Ok(0)
}

/// `network disconnect`.
pub fn disconnect(context: &mut Context, m: &Matches) -> Outcome {
    let body = json!({"Container": m.arg(1), "Force": m.bool("force")});
    context.call(Request::post(format!("/networks/{}/disconnect", escape_path(m.arg(0)))).json(&body))?;
    Ok(0)
}

/// `network rm`.
pub fn rm(context: &mut Context, m: &Matches) -> Outcome {
    let force = m.bool("force");
    let mut code = 0;
    for name in &m.args {
        match context.call(Request::delete(format!("/networks/{}", escape_path(name)))) {
            Ok(_) => context.printer.line(name)?,
            Err(e) if force && e.status == Some(404) => {}
            Err(e) => {
                context.printer.err(e.message);
                code = 1;
            }
        }
    }
    if code == 0 { Ok(0) } else { Err(Failure::new(format!("exit status {code}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_contains() {
        let c = Cidr::parse("10.1.0.0/16").unwrap();
        assert!(c.contains("10.1.2.3".parse().unwrap()) && !c.contains("10.2.0.0".parse().unwrap()));
        assert!(!c.contains("::1".parse().unwrap()));
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Cidr::parse("10.0.0.0/33").is_err() && Cidr::parse("x/8").is_err() && Cidr::parse("10.0.0.0").is_err());
    }
}
