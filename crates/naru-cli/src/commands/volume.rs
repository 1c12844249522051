//! `volume create`, `ls` and `rm`.

use super::join_labels;
use crate::context::Context;
use crate::failure::{Failure, Outcome, joined};
use crate::filters;
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::run::environment;
use crate::types::{Volume, Volumes};
use naru_base::size;
use naru_client::{Query, Request, escape_path};
use serde_json::json;

/// The placeholders' headers.
pub const HEADERS: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

const LISTING: Listing<'_> = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    quiet: "{{.Name}}",
    headers: HEADERS,
    row_type: "*formatter.volumeContext",
};

/// What only volumes of a cluster have; an engine without one says so.
const OF_CLUSTERS: [&str; 10] = [
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
];

/// `volume create`.
pub fn create(context: &mut Context, m: &Matches) -> Outcome {
    let mut body = json!({
        "Driver": m.str("driver"),
        "DriverOpts": environment::pairs(&m.list("opt")),
        "Labels": environment::pairs(&m.list("label")),
        "Name": m.arg(0),
    });
    if OF_CLUSTERS.iter().any(|flag| m.given(flag)) {
        body["ClusterVolumeSpec"] = json!({});
    }
    let volume: Volume = context.send(Request::post("/volumes/create").json(&body))?.json()?;
    context.printer.line(volume.name)?;
    Ok(0)
}

/// `volume ls`.
pub fn ls(context: &mut Context, m: &Matches) -> Outcome {
    let quiet = m.bool("quiet");
    let text = context.format(m.str("format"), "volumesFormat");
    let format = Format::new(&LISTING, if quiet { "" } else { &text }, quiet)?;
    let query = Query::new().with_some("filters", &filters::to_json(&m.list("filter")));
    let mut list: Volumes = context.get(format!("/volumes{}", query.as_str()))?;
    list.volumes.sort_by(|a, b| natural(&a.name, &b.name));
    for warning in &list.warnings {
        context.printer.err(format!("WARNING: {warning}"));
    }
    let rows: Vec<_> = list.volumes.iter().map(row).collect();
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

/// One volume's placeholders.
pub fn row(v: &Volume) -> Row {
    let usage = v.usage_data.as_ref();
    Row::new()
        .with("Name", &*v.name)
        .with("Driver", &*v.driver)
        .with("Scope", &*v.scope)
        .with("Mountpoint", &*v.mountpoint)
        .with("Labels", join_labels(&v.labels))
        .with("Links", usage.map_or_else(|| "N/A".to_owned(), |u| u.ref_count.to_string()))
        .with("Size", usage.map_or_else(|| "N/A".to_owned(), |u| size::human_size(u.size as f64)))
        .with("Group", "N/A")
        .with("Availability", "N/A")
        .with("Status", "N/A")
        .with_labels(v.labels.clone())
}

/// `volume rm`.
pub fn rm(context: &mut Context, m: &Matches) -> Outcome {
    let query = Query::new().flag("force", m.bool("force"));
    let mut failures = Vec::new();
    for name in &m.args {
        match context.call(Request::delete(format!("/volumes/{}{}", escape_path(name), query.as_str()))) {
            Ok(_) => context.printer.line(name)?,
            Err(e) => failures.push(e),
        }
    }
    joined(failures)
}

/// `volume update`: there are no volumes that can be.
pub fn update(context: &mut Context, m: &Matches) -> Outcome {
    let _: Volume = context.get(format!("/volumes/{}", escape_path(m.arg(0))))?;
    Err(Failure::new("can only update cluster volumes"))
}

/// The order in which numbers inside names count as numbers: `a2` before `a10`.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&x), Some(&y)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let number = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
            let (na, nb) = (number(a), number(b));
            let bare = |s: &[u8]| s.iter().skip_while(|c| **c == b'0').copied().collect::<Vec<u8>>();
            let (da, db) = (bare(&a[..na]), bare(&b[..nb]));
            let order = da.len().cmp(&db.len()).then_with(|| da.cmp(&db)).then_with(|| na.cmp(&nb));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[na..], &b[nb..]);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let mut names = ["a10", "a2", "b", "a", "a02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "a2", "a02", "a10", "b"]);
    }
}
