//! `why`: why a container is as it is, on one screen.

use super::short_id;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use naru_client::escape_path;
use serde_json::Value;

/// Runs the command.
pub fn why(context: &mut Context, m: &Matches) -> Outcome {
    let format = m.str("format");
    if !matches!(format, "" | "json") {
        return Err(Failure::new(format!("unknown format {format:?}: it can be json")));
    }
    let why: Value = context.get(format!("/naru/containers/{}/why", escape_path(m.arg(0))))?;
    if format == "json" {
        context.printer.line(why.to_string())?;
        return Ok(0);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    context.printer.line(format!(
        "{} ({}): {}",
        text(&why["Name"]),
        short_id(&text(&why["Id"])),
        text(&why["Status"])
    ))?;
    for reason in why["Reasons"].as_array().into_iter().flatten() {
        context.printer.line(line(&text(&reason["Time"]), &text(&reason["Topic"]), &text(&reason["Text"])))?;
    }
    let history = why["History"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !history.is_empty() {
        context.printer.line("what happened, newest last:")?;
    }
    for fact in history {
        context.printer.line(line(&text(&fact["Time"]), &text(&fact["Topic"]), &text(&fact["Text"])))?;
    }
    Ok(0)
}

/// Times to the second: `2026-01-02T03:04:05`.
fn line(time: &str, topic: &str, text: &str) -> String {
    format!("  {:<19}  {topic:<7}  {}", time.get(..19).unwrap_or(time), plain(text)).trim_end().to_owned()
}

/// Names and messages in it are a container's: none of them moves the cursor or makes a line of its own.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let said = line("2026-01-02T03:04:05.678Z", "start", "stat /x\u{1b}[31m\ny: no such file");
        assert_eq!(said, "  2026-01-02T03:04:05  start    stat /x\\u{1b}[31m\\ny: no such file");
    }
}
