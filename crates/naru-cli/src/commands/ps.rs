//! `ps`: the list of containers.

use super::{join_labels, short_id};
use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::tabwriter::ellipsis;
use crate::types::{Container, MountPoint, Port};
use crate::{filters, when};
use gotmpl::Value;
use naru_base::human::{go_quote, human_since};
use naru_base::{Reference, size};
use naru_client::Query;
use std::collections::BTreeMap;

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n";
const RAW_SIZE: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\nsize: {{.Size}}\n";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

/// Runs the command.
pub fn ps(context: &mut Context, m: &Matches) -> Outcome {
    let with_size = m.bool("size");
    let listing = Listing {
        table: if with_size { TABLE_SIZE } else { TABLE },
        raw: if with_size { RAW_SIZE } else { RAW },
        quiet: "{{.ID}}",
        headers: HEADERS,
        row_type: "*formatter.ContainerContext",
    };
    let text = context.format(m.str("format"), "psFormat");
    let quiet = m.bool("quiet");
    if quiet && !m.str("format").is_empty() {
        context.printer.err("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let text = if quiet { String::new() } else { text };
    let format = Format::new(&listing, &text, quiet)?;
    let last = if m.bool("latest") { 1 } else { m.int("last") };
    let size = with_size
        || (!quiet && text != "json" && format.mentions(".Size"))
        || format.mentions("{{json .}}") && text != "json" && !text.is_empty();
    let mut query = Query::new().flag("all", m.bool("all") || last > 0);
    query = query.with_some("filters", &filters::to_json(&m.list("filter")));
    if last > 0 {
        query = query.with("limit", &last.to_string());
    }
    // No other engine knows the word: it tells everything then.
    let wants_more = ["Label", "Mounts", "LocalVolumes", "Networks", "Size"].iter().any(|name| format.may_use(name));
    let query = query.flag("size", size).flag("brief", !size && !wants_more && m.list("filter").is_empty());
    let containers: Vec<Container> = context.get(format!("/containers/json{}", query.as_str()))?;
    let full = m.bool("no-trunc");
    let now = when::now();
    let rows: Vec<_> = containers.iter().map(|c| row(c, &format, full, now)).collect();
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

/// One container's placeholders, as far as `format` has a use for them.
pub fn row(c: &Container, format: &Format<'_>, full: bool, now: i64) -> Row {
    Row::new()
        .with_wanted(format, "ID", || if full { &c.id } else { short_id(&c.id) })
        .with_wanted(format, "Names", || names(&c.names, full))
        .with_wanted(format, "Image", || image(c, full))
        .with_wanted(format, "Command", || go_quote(&if full { c.command.clone() } else { ellipsis(&c.command, 20) }))
        .with_wanted(format, "CreatedAt", || when::go_time_of_seconds(c.created))
        .with_wanted(format, "RunningFor", || format!("{} ago", human_since(now, c.created)))
        .with_wanted(format, "Ports", || ports(&c.ports))
        .with_wanted(format, "State", || &*c.state)
        .with_wanted(format, "Status", || &*c.status)
        .with_wanted(format, "Size", || size_text(c))
        .with_wanted(format, "Labels", || join_labels(&c.labels))
        .with_wanted(format, "Mounts", || mounts(c, full))
        .with_wanted(format, "LocalVolumes", || c.mounts.iter().filter(|m| m.driver == "local").count().to_string())
        .with_wanted(format, "Networks", || {
            c.network_settings.networks.keys().map(String::as_str).collect::<Vec<_>>().join(",")
        })
        .with_value("Platform", Value::Nil)
        .with_labels(if format.may_use("Label") { c.labels.clone() } else { BTreeMap::new() })
}

/// Names of volumes and sources of binds.
fn mounts(c: &Container, full: bool) -> String {
    let name = |m: &MountPoint| -> String {
        let name = if m.name.is_empty() { &m.source } else { &m.name };
        if full { name.clone() } else { ellipsis(name, 15) }
    };
    c.mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

/// `0B (virtual 7.05MB)`.
fn size_text(c: &Container) -> String {
    let own = size::human_size_with_precision(c.size_rw as f64, 3);
    if c.size_root_fs <= 0 {
        return own;
    }
    format!("{own} (virtual {})", size::human_size_with_precision(c.size_root_fs as f64, 3))
}

/// A container's own name; with `full` the names that links give it too.
pub fn names(names: &[String], full: bool) -> String {
    let bare: Vec<&str> = names.iter().map(|n| n.strip_prefix('/').unwrap_or(n)).collect();
    if !full && let Some(own) = bare.iter().find(|n| !n.contains('/')) {
        return (*own).to_owned();
    }
    bare.join(",")
}

/// The image as it was named; its id when it was named by id, and without the digest when it was named by tag too.
fn image(c: &Container, full: bool) -> String {
    if c.image.is_empty() {
        return "<no image>".into();
    }
    if full {
        return c.image.clone();
    }
    if short_id(&c.image_id) == short_id(&c.image) {
        return short_id(&c.image_id).to_owned();
    }
    match Reference::parse(&c.image) {
        Ok(r) if r.digest().is_some() => {
            let name = r.repository().familiar_name();
            r.tag().map_or(name.clone(), |tag| format!("{name}:{tag}"))
        }
        _ => c.image.clone(),
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`: consecutive ports that are published under their own number are joined.
pub fn ports(ports: &[Port]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.protocol).cmp(&(b.private_port, &b.ip, b.public_port, &b.protocol))
    });
    let mut groups: BTreeMap<String, (u16, u16)> = BTreeMap::new();
    let mut out = Vec::new();
    let mut order: Vec<String> = Vec::new();
    let mut apart = Vec::new();
    for port in &sorted {
        let current = port.private_port;
        let mut key = port.protocol.clone();
        if !port.ip.is_empty() {
            if port.public_port != current {
                let host = host_port(&port.ip, &port.public_port.to_string());
                apart.push(format!("{host}->{current}/{}", port.protocol));
                continue;
            }
            key = format!("{}/{}", port.ip, port.protocol);
        }
        match groups.get_mut(&key) {
            None => {
                groups.insert(key.clone(), (current, current));
                order.push(key);
            }
            Some((_, last)) if current == last.wrapping_add(1) => *last = current,
            Some((_, last)) if current == *last => {}
            Some(range) => {
                out.push(group(&key, range.0, range.1));
                *range = (current, current);
            }
        }
    }
    out.extend(order.iter().map(|key| group(key, groups[key].0, groups[key].1)));
    out.extend(apart);
    out.join(", ")
}

fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn group(key: &str, first: u16, last: u16) -> String {
    let (ip, protocol) = key.split_once('/').map_or(("", key), |(ip, p)| (ip, p));
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{range}/{protocol}") } else { format!("{}->{range}/{protocol}", host_port(ip, &range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16, protocol: &str) -> Port {
        Port { ip: ip.into(), private_port: private, public_port: public, protocol: protocol.into() }
    }

    #[test]
    fn ports_are_grouped() {
        for (list, text) in [
            (vec![], ""),
            (vec![port("", 0, 80, "tcp")], "80/tcp"),
            (
                vec![port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (vec![port("", 0, 81, "tcp"), port("", 0, 80, "tcp"), port("", 0, 82, "tcp")], "80-82/tcp"),
            (
                vec![port("0.0.0.0", 8000, 8000, "tcp"), port("0.0.0.0", 8001, 8001, "tcp"), port("", 0, 9, "udp")],
                "9/udp, 0.0.0.0:8000-8001->8000-8001/tcp",
            ),
            (vec![port("", 0, 1, "tcp"), port("", 0, 3, "tcp")], "1/tcp, 3/tcp"),
        ] {
            assert_eq!(ports(&list), text);
        }
    }

    #[test]
    fn own_name_first() {
        let all = ["/a/alias".to_owned(), "/own".to_owned()];
        assert_eq!(names(&all, false), "own");
        assert_eq!(names(&all, true), "a/alias,own");
    }

    #[test]
    fn images_are_shown_as_named() {
        let of = |image: &str| {
            let c =
                Container { image: image.into(), image_id: "sha256:0123456789abcdef".into(), ..Container::default() };
            super::image(&c, false)
        };
        assert_eq!(of("busybox"), "busybox");
        assert_eq!(of("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(of(&format!("x:1@sha256:{}", "a".repeat(64))), "x:1");
        assert_eq!(of(""), "<no image>");
    }
}
