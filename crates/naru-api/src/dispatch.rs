//! From a request to its handler.

use crate::call::{Call, RequestBody};
use crate::query::{Query, decode};
use crate::reply::Reply;
use crate::router;
use crate::routes::ROUTES;
use crate::version::{self, ApiVersion, NEWEST, OLDEST};
use http::{HeaderMap, Method, StatusCode, header};
use naru_base::{Error, Result};
use naru_engine::Engine;
use std::sync::Arc;

/// What a request line asks for.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) method: Method,
    /// As sent, with version and percent signs.
    pub(crate) path: &'a str,
    /// As sent, without its `?`.
    pub(crate) query: &'a str,
    /// Whether the connection can be taken over.
    pub(crate) raw: bool,
}

/// What is answered while an engine that has just begun takes up what runs.
const AT_ONCE: [&str; 4] = ["/_ping", "/version", "/events", "/containers/json"];

/// Finds the handler and runs it.
///
/// # Errors
/// The handler's, and docker's for what has no route or another version.
pub(crate) async fn handle(
    engine: &Arc<Engine>,
    target: Target<'_>,
    headers: HeaderMap,
    mut body: RequestBody,
) -> Result<Reply> {
    if target.method == Method::OPTIONS {
        return Ok(Reply::status(StatusCode::OK));
    }
    let path = decode(target.path, false);
    let (asked, path) = version::split(&path);
    let (route, name) =
        router::find(&ROUTES, &target.method, path).ok_or_else(|| Error::not_found("page not found"))?;
    let version = match asked {
        None => NEWEST,
        Some(text) => ApiVersion::parse(text).ok_or_else(|| Error::not_found("page not found"))?,
    };
    if let Err(error) = version.check() {
        return too_old_for_json(version, error);
    }
    if version < route.since {
        return Err(Error::invalid(format!("{} {path} requires minimum API version {}", target.method, route.since)));
    }
    if route.takes_over && !target.raw {
        return Err(Error::invalid(
            "a request that takes the connection over must not be sent before the last one is answered",
        ));
    }
    let mut query = Query::parse(target.query);
    if is_form(&headers) {
        query.merge_form(&String::from_utf8_lossy(&body.read().await?));
    }
    let call = Call { engine: Arc::clone(engine), version, name: name.to_owned(), query, headers, body };
    if !AT_ONCE.contains(&route.pattern) {
        engine.settled().await;
    }
    if matches!(target.method, Method::GET | Method::HEAD) {
        return (route.handler)(call).await;
    }
    // What changes something is done whole, also when the client goes away in the middle of it: its connection and this future go with it.
    let whole = tokio::spawn((route.handler)(call));
    whole.await.unwrap_or_else(|_| Err(Error::system(format!("{} {path} broke off", target.method))))
}

/// Clients of that age read an error's body as plain text.
fn too_old_for_json(version: ApiVersion, error: Error) -> Result<Reply> {
    if version >= OLDEST {
        return Err(error);
    }
    Ok(Reply::bytes(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{error}\n")))
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
