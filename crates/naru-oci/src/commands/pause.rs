//! `pause` and `resume`.

use crate::args::Parsed;
use crate::container::load_in;
use crate::global::Global;
use crate::state::Status;
use naru_base::{Error, Result};

pub(super) fn pause(global: &Global, parsed: &Parsed) -> Result<i32> {
    let (state, ..) = load_in(global, parsed.id()?, &[Status::Running, Status::Created])?;
    state.cgroup()?.freeze()?;
    Ok(0)
}

pub(super) fn resume(global: &Global, parsed: &Parsed) -> Result<i32> {
    let all = [Status::Created, Status::Running, Status::Paused];
    let (state, _, status) = load_in(global, parsed.id()?, &all)?;
    // One that is frozen before its start counts as created.
    if status == Status::Running {
        return Err(Error::conflict("container not paused"));
    }
    state.cgroup()?.thaw()?;
    Ok(0)
}
