//! Volumes.

use crate::call::Call;
use crate::dto::volume::{Volume, VolumeList};
use crate::reply::Reply;
use crate::version::v1;
use http::StatusCode;
use naru_base::Result;
use naru_engine::types::{Filters, ListOptions, VolumeView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Filters of a list.
const LIST_FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];
/// Filters of a prune.
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "all"];

/// GET /volumes
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters(&LIST_FILTERS)?;
    let used = if filters.contains_key("dangling") { used(&call)? } else { BTreeSet::new() };
    let volumes = call.engine.volumes().into_iter().filter(|v| includes(&filters, v, &used));
    Reply::ok(&VolumeList { volumes: volumes.map(Volume::of).collect(), warnings: None })
}

/// Names of the volumes that containers have.
fn used(call: &Call) -> Result<BTreeSet<String>> {
    let containers = call.engine.list(&ListOptions { all: true, ..ListOptions::default() })?;
    Ok(containers.into_iter().flat_map(|c| c.mounts).map(|m| m.name).filter(|n| !n.is_empty()).collect())
}

fn includes(filters: &Filters, volume: &VolumeView, used: &BTreeSet<String>) -> bool {
    let any =
        |key: &str, test: &dyn Fn(&str) -> bool| filters.get(key).is_none_or(|values| values.iter().any(|v| test(v)));
    let label = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => volume.labels.get(key).is_some_and(|v| v == value),
        None => volume.labels.contains_key(wanted),
    };
    any("driver", &|v| v == "local")
        && any("name", &|v| volume.name.contains(v.trim_start_matches('^').trim_end_matches('$')))
        && any("dangling", &|v| matches!(v, "true" | "1") != used.contains(&volume.name))
        && filters.get("label").is_none_or(|values| values.iter().all(label))
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
    }
    let asked: Asked = call.json().await?.unwrap_or_default();
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
    let (deleted, space_reclaimed) = call.engine.prune_volumes(&filters).await?;
    Reply::ok(&Answer { volumes_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed })
}
