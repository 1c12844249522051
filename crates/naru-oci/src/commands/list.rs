//! `list`: all containers below the root folder.

use super::{print, state::document};
use crate::args::{Flag, Parsed, switch, value};
use crate::global::Global;
use crate::state::{State, Status, Store};
use naru_base::{Error, Result};

pub(super) const FLAGS: &[Flag] =
    &[value("format", "table or json").or("f"), switch("quiet", "print ids only").or("q")];

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let store = Store::new(&global.root);
    // One that vanishes meanwhile, or is being made, is not listed.
    let known = store.ids()?.into_iter().filter_map(|id| store.load(&id).ok());
    let all: Vec<(State, Status)> =
        known.map(|(state, folder)| (folder.status(&state), state)).map(|(a, b)| (b, a)).collect();
    if parsed.has("quiet") {
        return print(&all.iter().map(|(state, _)| format!("{}\n", state.id)).collect::<String>());
    }
    match parsed.get("format") {
        Some("json") => {
            let list: Vec<_> = all.iter().map(|(state, status)| document(state, *status)).collect();
            print(&format!("{}\n", serde_json::Value::Array(list)))
        }
        None | Some("" | "table") => print(&table(&all)),
        Some(other) => Err(Error::invalid(format!("invalid format option {other:?}: table or json"))),
    }
}

fn table(all: &[(State, Status)]) -> String {
    let row = |(state, status): &(State, Status)| {
        let pid = if *status == Status::Stopped { 0 } else { state.pid };
        let owner = if state.owner == 0 { "root".to_owned() } else { state.owner.to_string() };
        [
            state.id.clone(),
            pid.to_string(),
            status.name().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            owner,
        ]
    };
    let heads = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heads).chain(all.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column).map(String::len)).max().unwrap_or(0).max(11);
    let line = |row: &[String; 6]| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(at, cell)| if at == 5 { cell.clone() } else { format!("{cell:<0$} ", width(at)) });
        format!("{}\n", cells.collect::<String>())
    };
    rows.iter().map(line).collect()
}
