//! `images --tree`: each image with the platforms that its name stands for.

use super::short_id;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::types::Image;
use crate::{filters, printer};
use naru_base::size;
use naru_client::Query;
use serde_json::Value;

const SPACING: &str = "   ";
/// What the letters say.
const LEGEND: &str = "Info ->  U In Use ";
const IN_USE: &str = "U";
/// What docker says above its own.
const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
/// Of a row: id, disk usage, content size, and whether containers use it.
type Details = (String, String, String, bool);

struct Line {
    name: String,
    /// None for a further name of the same image.
    details: Option<Details>,
    top: bool,
}

/// Runs the command.
pub(super) fn tree(context: &mut Context, m: &Matches) -> Outcome {
    for (flag, text) in [("quiet", "--quiet"), ("no-trunc", "--no-trunc"), ("digests", "--show-digest")] {
        if m.bool(flag) {
            return Err(Failure::new(format!("{text} is not yet supported with --tree")));
        }
    }
    if !m.str("format").is_empty() {
        return Err(Failure::new("--format is not yet supported with --tree"));
    }
    let mut wanted = filters::to_map(&m.list("filter"));
    if !m.arg(0).is_empty() {
        filters::add(&mut wanted, "reference", m.arg(0));
    }
    let mut query = Query::new().flag("all", m.bool("all")).with("manifests", "true");
    if !wanted.is_empty() {
        query = query.with("filters", &Value::Object(wanted).to_string());
    }
    let images: Vec<Image> = context.get(format!("/images/json{}", query.as_str()))?;
    let blocks: Vec<Vec<Line>> = images.iter().map(block).collect();
    let spaced = blocks.iter().flatten().any(|line| !line.top);
    let text = layout(&blocks, spaced);
    let bold = printer::stdout_is_terminal();
    context.printer.line(if bold { format!("\x1b[93m{WARNING}\x1b[0m") } else { WARNING.to_owned() })?;
    context.printer.raw(text.as_bytes())?;
    Ok(0)
}

fn block(image: &Image) -> Vec<Line> {
    let human = |n: f64| size::human_size_with_precision(n, 3);
    let number = |manifest: &Value, at: &str| manifest.pointer(at).and_then(Value::as_f64).unwrap_or(0.0);
    let (mut children, mut content, mut used) = (Vec::new(), 0.0, image.containers > 0);
    for manifest in image.manifests.iter().filter(|m| m["Kind"] == "image") {
        let own = manifest.pointer("/ImageData/Containers").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
        used |= own;
        content += number(manifest, "/Size/Content");
        let id = manifest["ID"].as_str().unwrap_or_default();
        children.push((
            platform(manifest),
            (
                short_id(id).to_owned(),
                human(number(manifest, "/Size/Total")),
                human(number(manifest, "/Size/Content")),
                own,
            ),
        ));
    }
    let details = (short_id(&image.id).to_owned(), human(image.size as f64), human(content), used);
    let mut names: Vec<String> = image.repo_tags.iter().filter(|t| *t != "<none>:<none>").cloned().collect();
    if names.is_empty() {
        names.push("<untagged>".into());
    }
    let last = names.len() - 1;
    let mut lines: Vec<Line> = names
        .into_iter()
        .enumerate()
        .map(|(at, name)| Line { name, details: (at == last).then(|| details.clone()), top: true })
        .collect();
    let end = children.len();
    lines.extend(children.into_iter().enumerate().map(|(at, (platform, details))| {
        let branch = if at + 1 == end { "└─ " } else { "├─ " };
        Line { name: format!("{branch}{platform}"), details: Some(details), top: false }
    }));
    lines
}

fn platform(manifest: &Value) -> String {
    let part = |key: &str| manifest.pointer(&format!("/ImageData/Platform/{key}")).and_then(Value::as_str);
    let parts: Vec<&str> = ["os", "architecture", "variant"].iter().filter_map(|key| part(key)).collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join("/") }
}

fn layout(blocks: &[Vec<Line>], spaced: bool) -> String {
    let width = blocks.iter().flatten().map(|l| l.name.chars().count()).max().unwrap_or(0).max(5);
    let mut out = String::new();
    let full = width + 4 * SPACING.len() + 12 + 10 + 12 + 5;
    let row = |name: &str, id: &str, disk: &str, content: &str, extra: &str| {
        let pad = " ".repeat(width.saturating_sub(name.chars().count()));
        let line = format!("{name}{pad}{SPACING}{id:<12}{SPACING}{disk:>10}{SPACING}{content:>12}{SPACING}{extra}");
        format!("{line:<full$}\n")
    };
    out.push_str(&format!("{LEGEND:>80}\n\n"));
    out.push_str(&row("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"));
    for (at, block) in blocks.iter().enumerate() {
        if at > 0 && spaced {
            out.push('\n');
        }
        for line in block {
            match &line.details {
                None => out.push_str(&format!("{}\n", line.name)),
                Some((id, disk, content, used)) => {
                    out.push_str(&row(&line.name, id, disk, content, if *used { IN_USE } else { "" }));
                }
            }
        }
    }
    out
}
