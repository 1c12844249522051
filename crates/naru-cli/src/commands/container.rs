//! `commit`, `diff`, `port` and `top`.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::progress;
use crate::tabwriter::Tabs;
use crate::types::{Created, HostPort, Inspected};
use naru_base::Reference;
use naru_client::{Query, escape_path};

/// `commit`.
pub fn commit(context: &mut Context, m: &Matches) -> Outcome {
    let mut query = Query::new().with_some("author", m.str("author"));
    for change in m.list("change") {
        query.push("changes", change);
    }
    query = query.with_some("comment", m.str("message")).with("container", m.arg(0));
    if !m.bool("pause") {
        query = query.with("pause", "0");
    }
    if !m.arg(1).is_empty() {
        let target = Reference::parse(m.arg(1))?;
        if target.digest().is_some() {
            return Err(Failure::new("refusing to create a tag with a digest reference"));
        }
        let target = target.with_default_tag();
        query = query.with("repo", &target.repository().familiar_name()).with("tag", target.tag().unwrap_or_default());
    }
    let created: Created = progress::answer(context, "/commit", query)?;
    context.printer.line(created.id)?;
    Ok(0)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: u8,
}

/// `diff`.
pub fn diff(context: &mut Context, m: &Matches) -> Outcome {
    if m.arg(0).is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let changes: Option<Vec<Change>> = context.get(format!("/containers/{}/changes", escape_path(m.arg(0))))?;
    for change in changes.unwrap_or_default() {
        let letter = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        context.printer.line(format!("{letter} {}", change.path))?;
    }
    Ok(0)
}

/// `port`.
pub fn port(context: &mut Context, m: &Matches) -> Outcome {
    let inspected: Inspected = context.get(format!("/containers/{}/json", escape_path(m.arg(0))))?;
    let ports = inspected.network_settings.ports;
    let wanted = m.arg(1);
    if !wanted.is_empty() {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        crate::run::ports::number(number)
            .map_err(|error| Failure::new(format!("Error: invalid port ({number}): {error}")))?;
        let published = ports.get(&format!("{number}/{protocol}")).and_then(Option::as_ref).filter(|l| !l.is_empty());
        let Some(published) = published else {
            return Err(Failure::new(format!("Error: No public port '{wanted}' published for {}", m.arg(0))));
        };
        let mut lines: Vec<_> = published.iter().map(address).collect();
        lines.sort();
        for line in lines {
            context.printer.line(line)?;
        }
        return Ok(0);
    }
    let mut lines: Vec<(u16, String)> = Vec::new();
    for (port, published) in &ports {
        let number = port.split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        lines.extend(published.iter().flatten().map(|p| (number, format!("{port} -> {}", address(p)))));
    }
    lines.sort();
    for (_, line) in lines {
        context.printer.line(line)?;
    }
    Ok(0)
}

fn address(p: &HostPort) -> String {
    if p.host_ip.contains(':') {
        format!("[{}]:{}", p.host_ip, p.host_port)
    } else {
        format!("{}:{}", p.host_ip, p.host_port)
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Processes {
    titles: Vec<String>,
    processes: Option<Vec<Vec<String>>>,
}

/// `top`.
pub fn top(context: &mut Context, m: &Matches) -> Outcome {
    let query = Query::new().with_some("ps_args", &m.args[1..].join(" "));
    let top: Processes = context.get(format!("/containers/{}/top{}", escape_path(m.arg(0)), query.as_str()))?;
    let mut text = format!("{}\n", top.titles.join("\t"));
    for process in top.processes.unwrap_or_default() {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    context.printer.raw(Tabs { min_width: 20, padding: 3 }.align(&text).as_bytes())?;
    Ok(0)
}
