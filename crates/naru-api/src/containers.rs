//! Containers, but for their streams.

use crate::call::Call;
use crate::decode::{self, names, resources::Facts, tolerant};
use crate::dto::config::CreateBody;
use crate::dto::container::Container;
use crate::dto::container_list::{BriefSummary, Summary};
use crate::dto::host_config::HostConfig;
use crate::progress;
use crate::reply::Reply;
use crate::version::v1;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::types::{ChangeKind, ContainerView, ListOptions, RemoveOptions};
use naru_engine::{CONTAINER_FILTERS, Engine};
use serde::Serialize;
use std::sync::Arc;

/// Filters of a prune.
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];
/// A start's body may be that long, for old clients that send `{}` or `null`.
const START_BODY_LIMIT: usize = 7;

/// GET /containers/json
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let limit = call.query.integer("limit")?.unwrap_or(0);
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.query.filters(CONTAINER_FILTERS)?,
    };
    if call.query.flag("brief") && options.filters.is_empty() && !options.size {
        let briefly = call.engine.list_briefly(options.all, options.limit);
        return Reply::ok(&briefly.into_iter().map(BriefSummary::of).collect::<Vec<_>>());
    }
    let shown: Vec<Summary> = call.engine.list(&options)?.into_iter().map(Summary::of).collect();
    Reply::ok(&shown)
}

/// GET /containers/{id}/json
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let view = call.engine.inspect(&call.name, call.query.flag("size"))?;
    Reply::ok(&Container::of(view))
}

/// POST /containers/create
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        id: String,
        warnings: Vec<String>,
    }
    let mut body: CreateBody =
        call.json().await?.ok_or_else(|| Error::invalid("config cannot be empty in order to create a container"))?;
    let platform = if call.version >= v1(41) { names::platform(call.query.text("platform"))? } else { None };
    let name = names::container(call.query.text("name"));
    let host = body.host_config.get_or_insert_default();
    // By its id, as docker does: the other one may get another name.
    if let Some(("container", other)) = host.network_mode.split_once(':')
        && let Some(id) = call.engine.container_id(other)
    {
        host.network_mode = format!("container:{id}");
    }
    let log = &mut host.log_config;
    call.engine.complete_log(&mut log.r#type, log.config.get_or_insert_default());
    if call.version < v1(44) && body.networking_config.endpoints_config.len() > 1 {
        let names: Vec<&str> = body.networking_config.endpoints_config.keys().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let (request, mut warnings) = decode::create::decode(body, name, platform, || facts(&call.engine))?;
    let created = call.engine.create(request).await?;
    warnings.extend(created.warnings);
    Reply::json(StatusCode::CREATED, &Answer { id: created.id.to_string(), warnings })
}

fn facts(engine: &Engine) -> Facts {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Facts { cpus, limits: engine.limit_support() }
}

/// POST /containers/{id}/start
pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    if !call.body.is_empty() && call.body.read().await?.len() > START_BODY_LIMIT {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !call.query.text("checkpoint").is_empty() {
        return Err(Error::not_implemented(
            "checkpoints are only supported on a daemon with experimental features enabled",
        ));
    }
    let keys = call.query.given("detachKeys");
    call.engine.start(&call.name, keys).await?;
    Reply::no_content()
}

/// Signal and seconds of a stop or restart.
fn stop_options(call: &Call) -> Result<(Option<String>, Option<i64>)> {
    let signal = call.query.given("signal").filter(|_| call.version >= v1(42));
    Ok((signal, call.query.integer("t")?))
}

/// POST /containers/{id}/stop
pub(crate) async fn stop(call: Call) -> Result<Reply> {
    let (signal, seconds) = stop_options(&call)?;
    call.engine.stop(&call.name, signal, seconds).await?;
    Reply::no_content()
}

/// POST /containers/{id}/restart
pub(crate) async fn restart(call: Call) -> Result<Reply> {
    let (signal, seconds) = stop_options(&call)?;
    call.engine.restart(&call.name, signal, seconds).await?;
    Reply::no_content()
}

/// POST /containers/{id}/kill
pub(crate) async fn kill(call: Call) -> Result<Reply> {
    call.engine.kill(&call.name, call.query.text("signal")).await?;
    Reply::no_content()
}

/// POST /containers/{id}/pause
pub(crate) async fn pause(call: Call) -> Result<Reply> {
    call.engine.pause(&call.name).await?;
    Reply::no_content()
}

/// POST /containers/{id}/unpause
pub(crate) async fn unpause(call: Call) -> Result<Reply> {
    call.engine.unpause(&call.name).await?;
    Reply::no_content()
}

/// POST /containers/{id}/rename
pub(crate) async fn rename(call: Call) -> Result<Reply> {
    let new = call.query.text("name");
    call.engine.rename(&call.name, new.strip_prefix('/').unwrap_or(new)).await?;
    Reply::no_content()
}

/// POST /containers/{id}/resize
pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (rows, columns) = (call.query.dimension("h")?, call.query.dimension("w")?);
    call.engine.resize(&call.name, rows, columns).await?;
    Ok(Reply::status(StatusCode::OK))
}

/// DELETE /containers/{id}
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Error::not_implemented("links between containers are not available"));
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine.remove(&call.name, options).await?;
    Reply::no_content()
}

/// POST /containers/prune
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        containers_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let filters = call.query.filters(&PRUNE_FILTERS)?;
    let engine = Arc::clone(&call.engine);
    progress::answer(&call, StatusCode::OK, |sink| async move {
        let (deleted, space_reclaimed) = engine.prune_containers(&filters, sink).await?;
        let deleted: Vec<String> = deleted.iter().map(ToString::to_string).collect();
        Ok(Answer { containers_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed })
    })
    .await
}

/// GET /containers/{id}/changes
pub(crate) async fn changes(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Change {
        path: String,
        kind: u8,
    }
    let number = |kind: ChangeKind| match kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    let changes = call.engine.changes(&call.name).await?;
    let shown: Vec<Change> = changes.into_iter().map(|c| Change { path: c.path, kind: number(c.kind) }).collect();
    Reply::ok(&(!shown.is_empty()).then_some(shown))
}

/// GET /containers/{id}/top
pub(crate) async fn top(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        processes: Vec<Vec<String>>,
        titles: Vec<String>,
    }
    let arguments = call.query.given("ps_args").unwrap_or_else(|| "-ef".into());
    let (titles, processes) = call.engine.top(&call.name, &arguments).await?;
    Reply::ok(&Answer { processes, titles })
}

/// POST /containers/{id}/update
pub(crate) async fn update(mut call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        warnings: Vec<String>,
    }
    let mut asked: HostConfig = call.json().await?.unwrap_or_default();
    let view = call.engine.inspect(&call.name, false)?;
    let mut warnings = Vec::new();
    decode::resources::check(&mut asked, facts(&call.engine), true, &mut warnings)?;
    let existing: HostConfig = tolerant::from_value(view.document.clone())?;
    decode::resources::check_update(&asked, &existing)
        .map_err(|why| Error::conflict(format!("Cannot update container {}: {why}", view.id)))?;
    let resources = decode::resources::decode(&asked)?;
    let policy = if asked.restart_policy.name.is_empty() {
        None
    } else {
        asked.auto_remove = view.host.auto_remove;
        Some(decode::host::restart_policy(&mut asked).map_err(|e| e.with_class(auto_remove_class(&view)))?)
    };
    let document = updated(&view, asked)?;
    warnings.extend(call.engine.update(&call.name, resources, policy, Some(document)).await?);
    Reply::ok(&Answer { warnings })
}

/// A policy for a container that removes itself is a conflict with what it is, not a mistake in the request.
fn auto_remove_class(view: &ContainerView) -> naru_base::Class {
    if view.host.auto_remove { naru_base::Class::Conflict } else { naru_base::Class::InvalidParameter }
}

/// The container's document with what was asked for.
fn updated(view: &ContainerView, asked: HostConfig) -> Result<serde_json::Value> {
    let mut document: HostConfig = tolerant::from_value(view.document.clone())?;
    macro_rules! take {
        ($($field:ident),*) => {
            $(if asked.$field != HostConfig::default().$field { document.$field = asked.$field; })*
        };
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        pids_limit,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        restart_policy
    );
    serde_json::to_value(document).map_err(|e| Error::system(format!("the host configuration cannot be kept: {e}")))
}
