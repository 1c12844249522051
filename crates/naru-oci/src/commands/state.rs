//! `state`: the document of runtime.md, and what runc adds to it.

use super::print_json;
use crate::args::Parsed;
use crate::global::Global;
use crate::state::{State, Status, Store};
use naru_base::Result;
use serde_json::json;

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let (state, folder) = Store::new(&global.root).load(parsed.id()?)?;
    let status = folder.status(&state);
    print_json(&document(&state, status))
}

/// With what runc tells beside the specification's properties.
pub(super) fn document(state: &State, status: Status) -> serde_json::Value {
    let pid = if status == Status::Stopped { 0 } else { state.pid };
    let mut document = state.document(pid, status.name());
    document["rootfs"] = json!(state.rootfs);
    document["created"] = json!(state.created);
    document["owner"] = json!(if state.owner == 0 { "root".to_owned() } else { state.owner.to_string() });
    document
}
