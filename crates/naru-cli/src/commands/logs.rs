//! `logs`.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::positioned::{self, End};
use crate::types::Inspected;
use crate::{reconnect, stream, when};
use naru_client::{Query, Request, Response, Version, escape_path};

/// From this version on the answer says whether it has frames.
const SAYS_FRAMES: Version = Version { major: 1, minor: 42 };

/// Runs the command.
pub fn logs(context: &mut Context, m: &Matches) -> Outcome {
    let name = escape_path(m.arg(0));
    let time = |flag: &str, text: &str| match text {
        "" => Ok(String::new()),
        text => when::api_timestamp(text).map_err(|e| Failure::new(format!("invalid value for {flag:?}: {e}"))),
    };
    let follow = m.bool("follow");
    let general = Query::new()
        .flag("details", m.bool("details"))
        .flag("follow", follow)
        .with_some("since", &time("since", m.str("since"))?)
        .with("stderr", "1")
        .with("stdout", "1")
        .flag("timestamps", m.bool("timestamps"))
        .with_some("until", &time("until", m.str("until"))?)
        // docker's engine doesn't know it, and does without.
        .flag("positions", follow);
    let query = general.clone().with("tail", m.str("tail"));
    let response = context.send(Request::get(format!("/containers/{name}/logs{}", query.as_str())))?;
    let kind = response.header("content-type").unwrap_or_default();
    if kind == positioned::TYPE {
        return follow_on(context, response, &general, m.str("tail"));
    }
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

/// Follows the log also over the ends of engines: the next one is asked for what comes after the last line shown.
fn follow_on(context: &Context, mut response: Response, general: &Query, tail: &str) -> Outcome {
    let id = response.header("naru-container").unwrap_or_default().to_owned();
    let mut place = String::new();
    loop {
        if positioned::copy(response.into_body(), &mut place)? == End::Whole {
            return Ok(0);
        }
        let query = match place.as_str() {
            "" => general.clone().with("tail", tail),
            place => general.clone().with("after", place),
        };
        let request = || Request::get(format!("/containers/{id}/logs{}", query.as_str()));
        response = match reconnect::send_again(context, request) {
            Err(e) if e.status == Some(404) => {
                return Err(Failure::new("the container was removed while the engine was away"));
            }
            other => other?,
        };
    }
}
