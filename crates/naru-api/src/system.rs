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
use naru_engine::types::{ContainerView, Filters, ListOptions};
use serde::Serialize;

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
    let mut usage = DiskUsage::default();
    if wanted("image") {
        let images = call.engine.images(true, &Filters::new())?;
        usage.layers_size = images.iter().map(|i| i.size).sum();
        usage.images = Some(images.into_iter().map(|i| image::Summary::counted(i, call.version)).collect());
    }
    let containers = if wanted("container") || wanted("volume") {
        call.engine.list(&ListOptions { all: true, size: wanted("container"), ..ListOptions::default() })?
    } else {
        Vec::new()
    };
    if wanted("volume") {
        let volumes = call.engine.volumes().into_iter();
        usage.volumes = Some(volumes.map(|v| with_usage(v, &containers)).collect());
    }
    if wanted("container") {
        usage.containers = Some(containers.into_iter().map(container_list::Summary::of).collect());
    }
    if wanted("build-cache") {
        usage.build_cache = Some(Vec::new());
        usage.builder_size = (call.version < crate::version::v1(42)).then_some(0);
    }
    Reply::ok(&usage)
}

fn with_usage(volume: naru_engine::types::VolumeView, containers: &[ContainerView]) -> Volume {
    let has = |c: &&ContainerView| c.mounts.iter().any(|m| m.name == volume.name);
    let ref_count = containers.iter().filter(has).count();
    // Not measured: a volume may be as large as the host's disk. docker's own word for that is -1.
    Volume::of(volume).with_usage(UsageData { ref_count, size: -1 })
}
