//! Archives of images and containers, in and out.

use crate::call::Call;
use crate::decode::names;
use crate::progress;
use crate::reply::Reply;
use crate::streams;
use naru_base::{Error, Result};
use naru_engine::types::Progress;
use std::sync::Arc;

/// GET /images/get and /images/{name}/get
pub(crate) async fn save(call: Call) -> Result<Reply> {
    let mut wanted = call.query.all("names");
    if !call.name.is_empty() {
        wanted = vec![call.name.clone()];
    }
    // Old clients put several names, separated by commas, into one parameter.
    wanted = wanted.iter().flat_map(|n| n.split(',')).filter(|n| !n.is_empty()).map(ToOwned::to_owned).collect();
    if wanted.is_empty() {
        return Err(Error::invalid("no image to save was named"));
    }
    let platform = names::platform(call.query.text("platform"))?;
    let pieces = streams::started(call.engine.save(wanted, platform).await?).await?;
    Ok(Reply::stream("application/x-tar", pieces))
}

/// GET /containers/{id}/export
pub(crate) async fn export(call: Call) -> Result<Reply> {
    let pieces = streams::started(call.engine.export(&call.name).await?).await?;
    Ok(Reply::stream("application/octet-stream", pieces))
}

/// POST /images/load
pub(crate) async fn load(mut call: Call) -> Result<Reply> {
    let platform = names::platform(call.query.text("platform"))?;
    let body = call.stream_body();
    let quiet = call.query.flag_or("quiet", true);
    let engine = Arc::clone(&call.engine);
    Ok(progress::reply_in_stream(|sink| async move { engine.load(body, platform, quiet, sink).await }))
}

/// POST /images/create with `fromSrc`
pub(crate) async fn import(mut call: Call) -> Result<Reply> {
    match call.query.text("fromSrc") {
        "-" => {}
        "" => return Err(Error::invalid("neither fromImage nor fromSrc was given")),
        _ => return Err(Error::not_implemented("importing from an address is not available: send the archive itself")),
    }
    let repo = call.query.text("repo");
    let target =
        if repo.is_empty() { None } else { Some(names::repository(repo, call.query.text("tag"))?.with_default_tag()) };
    let message = call.query.text("message").to_owned();
    let changes = call.query.all("changes");
    let platform = names::platform(call.query.text("platform"))?;
    let body = call.stream_body();
    let engine = Arc::clone(&call.engine);
    progress::reply(|sink| async move {
        let id = engine.import(body, target, message, changes, platform).await?;
        let _ = sink.send(Progress::Status { id: None, status: id.to_string() });
        Ok(())
    })
    .await
}
