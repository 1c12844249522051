//! `ps`: a container's processes, by their numbers here.

use super::print;
use crate::args::{Flag, Parsed, value};
use crate::global::Global;
use crate::state::Store;
use naru_base::{Error, Result};
use std::process::Command;

pub(super) const FLAGS: &[Flag] = &[value("format", "table or json").or("f")];

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let (state, _) = Store::new(&global.root).load(parsed.id()?)?;
    let pids = state.cgroup()?.pids()?;
    match parsed.get("format") {
        Some("json") => print(&format!("{}\n", serde_json::json!(pids))),
        None | Some("" | "table") => table(&pids, parsed.rest.get(1..).unwrap_or_default()),
        Some(other) => Err(Error::invalid(format!("invalid format option {other:?}: table or json"))),
    }
}

/// The lines of ps(1) that are about them, as runc does it.
fn table(pids: &[i32], options: &[String]) -> Result<i32> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = Command::new("ps").args(options).output().map_err(|e| Error::system(format!("ps: {e}")))?;
    if !output.status.success() {
        return Err(Error::system(format!(
            "ps: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::invalid("couldn't find PID field in ps output"))?;
    let own = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    });
    print(&std::iter::once(head).chain(own).map(|line| format!("{line}\n")).collect::<String>())
}
