//! `logs`.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::types::Inspected;
use crate::{stream, when};
use naru_client::{Query, Request, Version, escape_path};

/// From this version on the answer says whether it has frames.
const SAYS_FRAMES: Version = Version { major: 1, minor: 42 };

/// Runs the command.
pub fn logs(context: &mut Context, m: &Matches) -> Outcome {
    let name = escape_path(m.arg(0));
    let time = |flag: &str, text: &str| match text {
        "" => Ok(String::new()),
        text => when::api_timestamp(text).map_err(|e| Failure::new(format!("invalid value for {flag:?}: {e}"))),
    };
    let query = Query::new()
        .flag("details", m.bool("details"))
        .flag("follow", m.bool("follow"))
        .with_some("since", &time("since", m.str("since"))?)
        .with("stderr", "1")
        .with("stdout", "1")
        .with("tail", m.str("tail"))
        .flag("timestamps", m.bool("timestamps"))
        .with_some("until", &time("until", m.str("until"))?);
    let response = context.send(Request::get(format!("/containers/{name}/logs{}", query.as_str())))?;
    let kind = response.header("content-type").unwrap_or_default();
    let tty = if kind.ends_with("multiplexed-stream") {
        false
    } else if context.client()?.version() >= SAYS_FRAMES && kind.ends_with("raw-stream") {
        true
    } else {
        context.get::<Inspected>(format!("/containers/{name}/json"))?.config.tty
    };
    stream::copy_output(response.into_body(), tty)?;
    Ok(0)
}
