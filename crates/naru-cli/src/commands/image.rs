//! `rmi` and `tag`.

use crate::context::Context;
use crate::failure::{Outcome, joined};
use crate::flag::Matches;
use naru_base::Reference;
use naru_client::{Query, Request, escape_path};

/// What a removal did.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Removed {
    /// A name that is gone.
    pub untagged: String,
    /// A layer or image that is gone.
    pub deleted: String,
}

/// `rmi`.
pub fn rm(context: &mut Context, m: &Matches) -> Outcome {
    let force = m.bool("force");
    let mut query = Query::new().flag("force", force).flag("noprune", m.bool("no-prune"));
    for platform in m.strings("platform") {
        query.push("platforms", &super::archive::platform_json(&platform)?);
    }
    let mut failures = Vec::new();
    let mut fatal = false;
    for name in &m.args {
        let request = Request::delete(format!("/images/{}{}", escape_path(name), query.as_str()));
        match context.send(request).and_then(|r| Ok(r.json::<Vec<Removed>>()?)) {
            Ok(removed) => {
                for item in removed {
                    let line = if item.deleted.is_empty() {
                        format!("Untagged: {}", item.untagged)
                    } else {
                        format!("Deleted: {}", item.deleted)
                    };
                    context.printer.line(line)?;
                }
            }
            Err(e) => {
                fatal |= e.status != Some(404);
                failures.push(e);
            }
        }
    }
    if force && !fatal {
        for failure in failures {
            context.printer.err(failure.message);
        }
        return Ok(0);
    }
    joined(failures)
}

/// `tag`.
pub fn tag(context: &mut Context, m: &Matches) -> Outcome {
    let target = Reference::parse(m.arg(1)).map_err(|e| {
        crate::failure::Failure::new(format!(
            "Error parsing reference: {} is not a valid repository/tag: {}",
            naru_base::human::go_quote(m.arg(1)),
            e.message()
        ))
    })?;
    if target.digest().is_some() {
        return Err(crate::failure::Failure::new("refusing to create a tag with a digest reference"));
    }
    let target = target.with_default_tag();
    let query =
        Query::new().with("repo", &target.repository().to_string()).with("tag", target.tag().unwrap_or_default());
    context.call(Request::post(format!("/images/{}/tag{}", escape_path(m.arg(0)), query.as_str())))?;
    Ok(0)
}
