//! `cp`: not there yet; its flags are read and the command says so.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;

/// Runs the command.
pub fn cp(context: &mut Context, _m: &Matches) -> Outcome {
    Err(Failure::new(format!("{} cp is not implemented yet", context.program)))
}
