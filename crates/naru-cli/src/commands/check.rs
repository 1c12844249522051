//! `system check`: what is damaged, missing or nobody's on the engine's disk.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use naru_client::{Query, Request};
use std::collections::BTreeMap;

/// The engine's answer.
#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Report {
    problems: Vec<Found>,
    checked: BTreeMap<String, usize>,
}

#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Found {
    kind: String,
    subject: String,
    problem: String,
    repaired: Option<String>,
}

/// Runs the command; exit code 1 when something is left as it should not be.
pub fn check(context: &mut Context, m: &Matches) -> Outcome {
    let format = m.str("format");
    if !matches!(format, "" | "table" | "json") {
        return Err(Failure::new(format!("invalid format {format:?}: it can be table or json")));
    }
    let query = Query::new().flag("repair", m.bool("repair"));
    let report: Report = context.send(Request::post(format!("/system/check{}", query.as_str())))?.json()?;
    let left = report.problems.iter().filter(|p| p.repaired.is_none()).count();
    if format == "json" {
        let text = serde_json::to_string(&report).map_err(|e| Failure::new(e.to_string()))?;
        context.printer.line(text)?;
        return Ok(i32::from(left > 0));
    }
    for found in &report.problems {
        let done = found.repaired.as_ref().map_or_else(String::new, |done| format!(" ({done})"));
        context.printer.line(format!("{} {}: {}{done}", found.kind, found.subject, found.problem))?;
    }
    let checked: Vec<String> = report.checked.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let verdict = match (report.problems.len(), left) {
        (0, _) => "no problem found".to_owned(),
        (all, 0) => format!("{all} problems found, all put right"),
        (all, left) if m.bool("repair") => format!("{all} problems found, {left} left"),
        (all, _) => format!("{all} problems found; --repair puts right what can be"),
    };
    context.printer.line(format!("Checked {}: {verdict}", checked.join(", ")))?;
    Ok(i32::from(left > 0))
}
