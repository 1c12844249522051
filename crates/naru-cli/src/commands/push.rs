//! `push`.

use super::pull::{auth_for, terminal};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::progress::Display;
use naru_base::Reference;
use naru_client::{Query, Request, escape_path};
use serde_json::Value;
use std::io::Write;

const ONE_PLATFORM: &str = "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n\
    Other components, like attestations, will not be included.\n\
    To push the complete multi-platform image, remove the --platform flag.\n";

/// docker's note, below an empty line; its further lines stand below its first.
fn note(context: &mut Context, text: &str) -> Outcome {
    let head = " Info -> ";
    context.printer.line(format!("\n{head}{}", text.replace('\n', &format!("\n{}", " ".repeat(head.len())))))?;
    Ok(0)
}

/// What was pushed where not all of an index was there.
fn instead_of_index(aux: &Value) -> Option<String> {
    let digest = |key: &str| aux[key]["digest"].as_str();
    (aux["manifestPushedInsteadOfIndex"] == true).then(|| {
        format!(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
            digest("originalIndex").unwrap_or_default(),
            digest("selectedManifest").unwrap_or_default()
        )
    })
}

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
    let mut query = Query::new().with_some("tag", reference.tag().unwrap_or_default());
    if !m.str("platform").is_empty() {
        note(context, ONE_PLATFORM)?;
        query.push("platform", &super::archive::platform_json(m.str("platform"))?);
    }
    let path = format!("/images/{}/push{}", escape_path(&reference.familiar_name()), query.as_str());
    let request = Request::post(path).header("X-Registry-Auth", auth_for(context, &reference));
    context.printer.flush()?;
    let body = context.send(request)?.into_body();
    let mut nothing = std::io::sink();
    let mut stdout = std::io::stdout();
    let out: &mut dyn Write = if quiet { &mut nothing } else { &mut stdout };
    let mut notes = Vec::new();
    let mut aux = |value: &Value| notes.extend(instead_of_index(value));
    let done = Display { out, terminal: if quiet { None } else { terminal() }, aux: &mut aux }.run(body);
    for text in notes {
        note(context, &text)?;
    }
    done?;
    if quiet {
        context.printer.line(reference.to_string())?;
    }
    Ok(0)
}
