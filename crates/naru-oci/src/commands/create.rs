//! `create`: everything of a container but its program.

use crate::args::{Flag, Parsed};
use crate::container::{self, Request, make};
use crate::global::Global;
use naru_base::Result;

pub(super) const FLAGS: &[Flag] = &container::FLAGS;

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let request = Request { gated: true, ..Request::new(parsed)? };
    make(global, request)?;
    Ok(0)
}
