//! The engine itself.

use crate::call::Call;
use crate::dto::auth::AuthConfig;
use crate::dto::disk_usage::DiskUsage;
use crate::dto::info::Info;
use crate::dto::version::Version;
use crate::dto::volume::{UsageData, Volume};
use crate::dto::{container_list, image};
use crate::reply::Reply;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::{DiskUsageOf, Problem};
use serde::Serialize;
use std::collections::BTreeMap;

/// Kinds of objects of the disk usage.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

fn with_ping_headers(reply: Reply) -> Reply {
    // The classic builder: BuildKit's sessions are not available.
    reply
        .with_header("builder-version", "1")
        .with_header("swarm", "inactive")
        .with_header("cache-control", "no-cache, no-store, must-revalidate")
        .with_header("pragma", "no-cache")
}

/// GET /_ping
pub(crate) async fn ping(_call: Call) -> Result<Reply> {
    Ok(with_ping_headers(Reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "OK")))
}

/// HEAD /_ping
pub(crate) async fn ping_head(_call: Call) -> Result<Reply> {
    let reply = Reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "");
    Ok(with_ping_headers(reply).with_header("content-length", "0"))
}

/// GET /version
pub(crate) async fn version(call: Call) -> Result<Reply> {
    Reply::ok(&Version::of(&call.engine.info()))
}

/// GET /info
pub(crate) async fn info(call: Call) -> Result<Reply> {
    Reply::ok(&Info::of(call.engine.info(), call.version))
}

/// POST /auth
pub(crate) async fn login(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        identity_token: String,
        status: String,
    }
    let auth: AuthConfig = call.json().await?.ok_or_else(|| Error::invalid("no credentials were given"))?;
    let result = call.engine.login(auth.into_engine()).await?;
    Reply::ok(&Answer { identity_token: result.identity_token, status: result.status })
}

/// GET /system/df
pub(crate) async fn disk_usage(call: Call) -> Result<Reply> {
    let asked = call.query.all("type");
    if let Some(unknown) = asked.iter().find(|t| !KINDS.contains(&t.as_str())) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| asked.is_empty() || asked.iter().any(|t| t == kind);
    let of = DiskUsageOf { images: wanted("image"), containers: wanted("container"), volumes: wanted("volume") };
    let found = call.engine.disk_usage(of).await?;
    let mut usage = DiskUsage { layers_size: found.images_total, ..DiskUsage::default() };
    if of.images {
        let summary = |(image, shared)| image::Summary::counted(image, call.version, shared);
        usage.images = Some(found.images.into_iter().map(summary).collect());
    }
    if of.containers {
        usage.containers = Some(found.containers.into_iter().map(container_list::Summary::of).collect());
    }
    if of.volumes {
        // docker's own word for what is not measured is -1.
        let size = |bytes: Option<u64>| bytes.map_or(-1, |b| i64::try_from(b).unwrap_or(i64::MAX));
        let volume = |(view, ref_count, bytes)| Volume::of(view).with_usage(UsageData { ref_count, size: size(bytes) });
        usage.volumes = Some(found.volumes.into_iter().map(volume).collect());
    }
    if wanted("build-cache") {
        usage.build_cache = Some(Vec::new());
        usage.builder_size = (call.version < crate::version::v1(42)).then_some(0);
    }
    Reply::ok(&usage)
}

/// POST /build/prune: there is no build cache yet.
pub(crate) async fn prune_builds(_call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        caches_deleted: [String; 0],
        space_reclaimed: u64,
    }
    Reply::ok(&Answer { caches_deleted: [], space_reclaimed: 0 })
}

/// POST /system/check, which docker doesn't have.
pub(crate) async fn check(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Found {
        kind: &'static str,
        subject: String,
        problem: String,
        repaired: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        problems: Vec<Found>,
        checked: BTreeMap<&'static str, usize>,
    }
    let report = call.engine.check_disk(call.query.flag("repair")).await?;
    let found = |p: Problem| Found { kind: p.kind, subject: p.subject, problem: p.problem, repaired: p.repaired };
    let problems = report.problems.into_iter().map(found).collect();
    Reply::ok(&Answer { problems, checked: report.checked.into_iter().collect() })
}
