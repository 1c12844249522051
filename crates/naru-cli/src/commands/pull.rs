//! `pull`.

use crate::config::{HUB, encode_auth};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::progress::Display;
use crate::{printer, term};
use naru_base::Reference;
use naru_client::{Query, Request};
use std::io::Write;

/// Runs the command.
pub fn pull(context: &mut Context, m: &Matches) -> Outcome {
    let given = Reference::parse(m.arg(0))?;
    let all = m.bool("all-tags");
    if all && !given.is_name_only() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let quiet = m.bool("quiet");
    let reference = if all { given.clone() } else { given.clone().with_default_tag() };
    if given.is_name_only() && !all && !quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let platform = match m.str("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    context.printer.flush()?;
    let mut nothing = std::io::sink();
    let mut stdout = std::io::stdout();
    let out: &mut dyn Write = if quiet { &mut nothing } else { &mut stdout };
    pull_image(context, &reference, &platform, out, if quiet { None } else { terminal() })?;
    context.printer.line(reference.to_string())?;
    Ok(0)
}

/// The width of standard output's terminal, if it is one.
pub fn terminal() -> Option<usize> {
    printer::stdout_is_terminal().then(|| term::size().map_or(200, |(_, columns)| usize::from(columns)))
}

/// Pulls one reference, with the progress on `out`.
pub fn pull_image(
    context: &Context,
    reference: &Reference,
    platform: &str,
    out: &mut dyn Write,
    terminal: Option<usize>,
) -> Result<(), Failure> {
    let tag = reference.digest().map(|d| d.as_str()).or_else(|| reference.tag()).unwrap_or_default();
    let query = Query::new()
        .with("fromImage", &reference.repository().to_string())
        .with_some("platform", &platform.to_lowercase())
        .with_some("tag", tag);
    let request = Request::post(format!("/images/create{}", query.as_str()))
        .header("X-Registry-Auth", auth_for(context, reference));
    let body = context.send(request)?.into_body();
    Display { out, terminal, aux: &mut |_| {} }.run(body)
}

/// The `X-Registry-Auth` header for a reference's registry.
pub fn auth_for(context: &Context, reference: &Reference) -> String {
    let registry = if reference.domain() == "docker.io" { HUB } else { reference.domain() };
    encode_auth(registry, context.config().credentials(registry).as_ref())
}
