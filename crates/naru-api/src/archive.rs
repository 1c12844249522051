//! Files in and out of a container.

use crate::call::Call;
use crate::dto::time::rfc3339;
use crate::reply::Reply;
use crate::streams;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::{ArchiveStat, UnpackOptions};
use serde::Serialize;

/// Header with what the path is.
const STAT_HEADER: &str = "x-docker-container-path-stat";

/// The path, which must be given.
fn path(call: &Call) -> Result<&str> {
    match call.query.text("path") {
        "" => Err(Error::invalid("bad parameter: 'path' cannot be empty")),
        path => Ok(path),
    }
}

/// docker's `PathStat` as a header's value.
fn stat_header(stat: &ArchiveStat) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct PathStat<'a> {
        name: &'a str,
        size: i64,
        mode: u32,
        mtime: String,
        link_target: &'a str,
    }
    let shown = PathStat {
        name: &stat.name,
        size: stat.size,
        mode: stat.mode_go,
        mtime: rfc3339(stat.mtime),
        link_target: &stat.link_target,
    };
    let mut json = crate::reply::json_line(&shown);
    json.pop();
    STANDARD.encode(json)
}

/// HEAD /containers/{id}/archive
pub(crate) async fn stat(call: Call) -> Result<Reply> {
    let stat = call.engine.archive_stat(&call.name, path(&call)?).await?;
    Ok(Reply::status(StatusCode::OK).with_header(STAT_HEADER, &stat_header(&stat)))
}

/// GET /containers/{id}/archive
pub(crate) async fn get(call: Call) -> Result<Reply> {
    let (stat, archive) = call.engine.archive_get(&call.name, path(&call)?).await?;
    let pieces = streams::started(archive).await?;
    Ok(Reply::stream("application/x-tar", pieces).with_header(STAT_HEADER, &stat_header(&stat)))
}

/// PUT /containers/{id}/archive
pub(crate) async fn put(mut call: Call) -> Result<Reply> {
    let path = path(&call)?.to_owned();
    let options = UnpackOptions {
        keep_kind: call.query.flag("noOverwriteDirNonDir"),
        as_container_user: call.query.flag("copyUIDGID"),
    };
    let body = call.stream_body();
    call.engine.archive_put(&call.name, &path, body, options).await?;
    Ok(Reply::status(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_base64_of_json() {
        let stat = ArchiveStat {
            name: "a".into(),
            size: 3,
            mode_go: 0o644,
            mtime: 1_700_000_000_000_000_000,
            link_target: String::new(),
        };
        let json = STANDARD.decode(stat_header(&stat)).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "{\"name\":\"a\",\"size\":3,\"mode\":420,\"mtime\":\"2023-11-14T22:13:20Z\",\"linkTarget\":\"\"}"
        );
    }
}
