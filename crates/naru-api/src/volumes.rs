//! Volumes.

use crate::absent::NO_SWARM;
use crate::call::Call;
use crate::dto::volume::{Volume, VolumeList};
use crate::progress;
use crate::reply::Reply;
use crate::version::v1;
use http::StatusCode;
use naru_base::{Error, Result};
use naru_engine::VOLUME_FILTERS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Filters of a prune.
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "all"];

/// GET /volumes
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let volumes = call.engine.list_volumes(&call.query.filters(&VOLUME_FILTERS)?)?;
    Reply::ok(&VolumeList { volumes: volumes.into_iter().map(Volume::of).collect(), warnings: None })
}

/// GET /volumes/{name}
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Reply::ok(&Volume::of(call.engine.volume(&call.name)?))
}

/// POST /volumes/create
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Asked {
        name: String,
        driver: String,
        driver_opts: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
        cluster_volume_spec: Option<serde_json::Value>,
    }
    let asked: Asked = call.json().await?.unwrap_or_default();
    if asked.cluster_volume_spec.is_some() && call.version >= v1(42) {
        return Err(Error::unavailable(NO_SWARM));
    }
    let name = Some(asked.name).filter(|n| !n.is_empty());
    let volume = call.engine.create_volume(name, asked.labels, asked.driver, asked.driver_opts).await?;
    Reply::json(StatusCode::CREATED, &Volume::of(volume))
}

/// DELETE /volumes/{name}
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    call.engine.remove_volume(&call.name, call.query.flag("force")).await?;
    Reply::no_content()
}

/// POST /volumes/prune
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        volumes_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let mut filters = call.query.filters(&PRUNE_FILTERS)?;
    // Before 1.42 named volumes were pruned too.
    if call.version < v1(42) {
        filters.insert("all".into(), vec!["true".into()]);
    }
    let engine = Arc::clone(&call.engine);
    progress::answer(&call, StatusCode::OK, |sink| async move {
        let (deleted, space_reclaimed) = engine.prune_volumes(&filters, sink).await?;
        Ok(Answer { volumes_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed })
    })
    .await
}
