//! `push`.

use super::pull::{auth_for, terminal};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::progress::Display;
use naru_base::Reference;
use naru_client::{Query, Request, escape_path};
use std::io::Write;

/// Runs the command.
pub fn push(context: &mut Context, m: &Matches) -> Outcome {
    let given = Reference::parse(m.arg(0))?;
    let all = m.bool("all-tags");
    let quiet = m.bool("quiet");
    if all && !given.is_name_only() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let reference = if all { given.clone() } else { given.clone().with_default_tag() };
    if given.is_name_only() && !all && !quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let query = Query::new().with_some("tag", reference.tag().unwrap_or_default());
    let path = format!("/images/{}/push{}", escape_path(&reference.familiar_name()), query.as_str());
    let request = Request::post(path).header("X-Registry-Auth", auth_for(context, &reference));
    context.printer.flush()?;
    let body = context.send(request)?.into_body();
    let mut nothing = std::io::sink();
    let mut stdout = std::io::stdout();
    let out: &mut dyn Write = if quiet { &mut nothing } else { &mut stdout };
    Display { out, terminal: if quiet { None } else { terminal() }, aux: &mut |_| {} }.run(body)?;
    if quiet {
        context.printer.line(reference.to_string())?;
    }
    Ok(0)
}
