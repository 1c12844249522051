//! Volumes as shown.

use super::time::rfc3339_seconds;
use naru_engine::types::VolumeView;
use serde::Serialize;
use std::collections::BTreeMap;

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

/// How much it takes, and how many containers have it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UsageData {
    pub(crate) ref_count: usize,
    pub(crate) size: i64,
}

/// Answer to a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeList {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) warnings: Option<Vec<String>>,
}

impl Volume {
    pub(crate) fn of(view: VolumeView) -> Self {
        let mut labels = view.labels;
        if view.anonymous {
            labels.entry("com.docker.volume.anonymous".into()).or_default();
        }
        let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
        Self {
            created_at: rfc3339_seconds(view.created),
            driver: "local",
            labels: some(labels),
            mountpoint: view.mountpoint.display().to_string(),
            name: view.name,
            options: some(view.options),
            scope: "local",
            usage_data: None,
        }
    }

    pub(crate) fn with_usage(self, usage: UsageData) -> Self {
        Self { usage_data: Some(usage), ..self }
    }
}
