//! `update`: new limits for containers.

use crate::context::Context;
use crate::failure::{Failure, Outcome, joined};
use crate::flag::Matches;
use crate::run::body;
use naru_client::{Request, escape_path};

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Updated {
    warnings: Option<Vec<String>>,
}

/// Runs the command.
pub fn update(context: &mut Context, m: &Matches) -> Outcome {
    let any = context.command_flags().any(|flag| m.given(flag));
    if !any {
        return Err(Failure::new("you must provide one or more flags when using this command"));
    }
    let limits = body::update(m)?;
    let mut failures = Vec::new();
    let mut warnings = Vec::new();
    for name in &m.args {
        let request = Request::post(format!("/containers/{}/update", escape_path(name))).json(&limits);
        match context.send(request).and_then(|r| Ok(r.json::<Updated>()?)) {
            Ok(updated) => {
                context.printer.line(name)?;
                warnings.extend(updated.warnings.unwrap_or_default());
            }
            Err(e) => failures.push(e),
        }
    }
    if !warnings.is_empty() {
        context.printer.line(warnings.join("\n"))?;
    }
    joined(failures)
}
