//! The `prune` commands.

use super::confirm;
use super::image::Removed;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::filters;
use crate::flag::Matches;
use crate::progress;
use naru_base::size;
use naru_client::{Query, Request};
use serde_json::{Map, Value};

/// What was removed.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Report {
    containers_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    images_deleted: Option<Vec<Removed>>,
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

const QUESTION: &str = "Are you sure you want to continue?";

fn ask(context: &mut Context, m: &Matches, warning: &str) -> Result<bool, Failure> {
    if m.bool("force") {
        return Ok(true);
    }
    confirm(context, &format!("{warning}\n{QUESTION}"))
}

fn request(context: &mut Context, family: &str, wanted: &Map<String, Value>) -> Result<Report, Failure> {
    let mut query = Query::new();
    if !wanted.is_empty() {
        query.push("filters", &Value::Object(wanted.clone()).to_string());
    }
    progress::answer(context, &format!("/{family}/prune"), query)
}

/// The part of the report before the total.
fn list(report: &Report) -> String {
    let mut out = String::new();
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("{title}\n{}\n\n", lines.join("\n")));
        }
    };
    let names = |l: &Option<Vec<String>>| l.clone().unwrap_or_default();
    section("Deleted Containers:", names(&report.containers_deleted));
    section("Deleted Networks:", names(&report.networks_deleted));
    section("Deleted Volumes:", names(&report.volumes_deleted));
    let images = report.images_deleted.iter().flatten().map(|i| {
        if i.untagged.is_empty() { format!("deleted: {}", i.deleted) } else { format!("untagged: {}", i.untagged) }
    });
    section("Deleted Images:", images.collect());
    section("Deleted build cache objects:", names(&report.caches_deleted));
    out
}

fn total(bytes: u64) -> String {
    format!("Total reclaimed space: {}", size::human_size(bytes as f64))
}

fn prune(context: &mut Context, family: &str, wanted: &Map<String, Value>) -> Outcome {
    let report = request(context, family, wanted)?;
    context.printer.raw(list(&report).as_bytes())?;
    if family != "networks" {
        context.printer.line(total(report.space_reclaimed))?;
    }
    Ok(0)
}

/// `container prune`.
pub fn containers(context: &mut Context, m: &Matches) -> Outcome {
    if !ask(context, m, "WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    prune(context, "containers", &filters::to_map(&m.list("filter")))
}

/// `image prune`.
pub fn images(context: &mut Context, m: &Matches) -> Outcome {
    let all = m.bool("all");
    let what = if all { "all images without at least one container associated to them" } else { "all dangling images" };
    if !ask(context, m, &format!("WARNING! This will remove {what}."))? {
        return Ok(0);
    }
    let mut wanted = filters::to_map(&m.list("filter"));
    filters::add(&mut wanted, "dangling", if all { "false" } else { "true" });
    prune(context, "images", &wanted)
}

/// `volume prune`.
pub fn volumes(context: &mut Context, m: &Matches) -> Outcome {
    let all = m.bool("all");
    let what = if all {
        "all local volumes not used by at least one container"
    } else {
        "anonymous local volumes not used by at least one container"
    };
    if !ask(context, m, &format!("WARNING! This will remove {what}."))? {
        return Ok(0);
    }
    let mut wanted = filters::to_map(&m.list("filter"));
    if all {
        filters::add(&mut wanted, "all", "true");
    }
    prune(context, "volumes", &wanted)
}

/// `network prune`.
pub fn networks(context: &mut Context, m: &Matches) -> Outcome {
    if !ask(context, m, "WARNING! This will remove all custom networks not used by at least one container.")? {
        return Ok(0);
    }
    prune(context, "networks", &filters::to_map(&m.list("filter")))
}

/// `system prune`.
pub fn system(context: &mut Context, m: &Matches) -> Outcome {
    let (all, volumes) = (m.bool("all"), m.bool("volumes"));
    let given = m.list("filter");
    if !m.bool("force") && !confirm(context, &format!("{}\n{QUESTION}", system_warning(all, volumes, &given)))? {
        return Ok(0);
    }
    let wanted = filters::to_map(&given);
    let mut images = wanted.clone();
    filters::add(&mut images, "dangling", if all { "false" } else { "true" });
    let mut families = vec![("containers", wanted.clone()), ("networks", wanted.clone())];
    if volumes {
        families.push(("volumes", wanted.clone()));
    }
    families.push(("images", images));
    let mut reclaimed = 0;
    for (family, wanted) in &families {
        let report = request(context, family, wanted)?;
        reclaimed += report.space_reclaimed;
        context.printer.raw(list(&report).as_bytes())?;
    }
    let mut query = Query::new().flag("all", all);
    if !wanted.is_empty() {
        query.push("filters", &Value::Object(wanted).to_string());
    }
    let report: Report = context.send(Request::post(format!("/build/prune{}", query.as_str())))?.json()?;
    reclaimed += report.space_reclaimed;
    context.printer.raw(list(&report).as_bytes())?;
    context.printer.line(total(reclaimed))?;
    Ok(0)
}

fn system_warning(all: bool, volumes: bool, given: &[&str]) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut out = String::from("WARNING! This will remove:\n");
    for line in lines {
        out.push_str(&format!("  - {line}\n"));
    }
    if !given.is_empty() {
        out.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in given {
            out.push_str(&format!("  - {filter}\n"));
        }
    }
    out
}
