//! Images as shown.

use super::container::GraphDriver;
use super::platform;
use super::time::{NEVER, rfc3339, seconds};
use crate::version::{ApiVersion, v1};
use naru_engine::types::{HistoryView, ImageRemoval, ImageSummary, ImageView, ManifestView, PlatformView};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// docker's `ImageSummary`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    containers: i64,
    created: i64,
    id: String,
    labels: Option<BTreeMap<String, String>>,
    parent_id: String,
    repo_digests: Vec<String>,
    repo_tags: Vec<String>,
    shared_size: i64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Value>>,
}

impl Summary {
    /// With the manifests that the image's name stands for; its size is then all that it takes on the disk.
    pub(crate) fn with_platforms(self, platforms: &[PlatformView], index: Option<&ManifestView>) -> Self {
        let descriptor = index.or_else(|| platforms.first().map(|p| &p.manifest)).map(platform::descriptor);
        let content: u64 = platforms.iter().map(|p| p.content).sum();
        let manifests = Some(platforms.iter().map(platform::manifest).collect());
        Self { size: self.size + content, descriptor, manifests, ..self }
    }

    /// For a list.
    pub(crate) fn of(image: ImageSummary, version: ApiVersion, shared_size: bool) -> Self {
        Self::with_containers(image, version, shared_size, -1)
    }

    /// For the disk usage, which counts the containers.
    pub(crate) fn counted(image: ImageSummary, version: ApiVersion, shared: u64) -> Self {
        let containers = i64::try_from(image.containers).unwrap_or(i64::MAX);
        let shared_size = i64::try_from(shared).unwrap_or(i64::MAX);
        Self { shared_size, ..Self::with_containers(image, version, true, containers) }
    }

    fn with_containers(image: ImageSummary, version: ApiVersion, shared_size: bool, containers: i64) -> Self {
        let none = version < v1(43) && image.tags.is_empty();
        let (tags, digests) = match (none, image.digests.is_empty()) {
            (true, true) => (vec!["<none>:<none>".into()], vec!["<none>@<none>".into()]),
            (true, false) => (vec!["<none>:<none>".into()], image.digests),
            (false, _) => (image.tags, image.digests),
        };
        Self {
            containers,
            created: seconds(image.created),
            id: image.id.to_string(),
            labels: (!image.labels.is_empty()).then_some(image.labels),
            parent_id: image.parent.map(|p| p.to_string()).unwrap_or_default(),
            repo_digests: digests,
            repo_tags: tags,
            shared_size: if shared_size { 0 } else { -1 },
            size: image.size,
            virtual_size: (version < v1(44)).then_some(image.size),
            descriptor: None,
            manifests: None,
        }
    }
}

/// docker's `ImageInspect`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspect {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Value>,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    /// Before 1.45, as the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_config: Option<Value>,
    docker_version: String,
    author: String,
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    os_version: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Value>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

impl Inspect {
    pub(crate) fn of(view: ImageView, version: ApiVersion) -> Self {
        let text = |key: &str| view.config.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let created = if view.summary.created == 0 { NEVER.to_owned() } else { rfc3339(view.summary.created) };
        let descriptor = view
            .manifest
            .as_ref()
            .filter(|_| version >= v1(48))
            .map(|m| json!({"mediaType": m.media_type, "digest": m.digest.to_string(), "size": m.size}));
        let old = version < v1(45);
        Self {
            id: view.summary.id.to_string(),
            descriptor,
            container: old.then(|| text("container")),
            container_config: old.then(|| config(view.config.get("container_config"), version)),
            repo_tags: view.summary.tags.clone(),
            repo_digests: view.summary.digests.clone(),
            parent: view.summary.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            comment: last_comment(&view.config),
            created,
            docker_version: text("docker_version"),
            author: text("author"),
            config: config(view.config.get("config"), version),
            architecture: text("architecture"),
            variant: text("variant"),
            os: text("os"),
            os_version: text("os.version"),
            size: view.summary.size,
            virtual_size: (version < v1(44)).then_some(view.summary.size),
            graph_driver: graph_driver(&view),
            root_fs: RootFs { r#type: "layers", layers: view.diff_ids.iter().map(ToString::to_string).collect() },
            metadata: Metadata { last_tag_time: rfc3339(view.last_tagged) },
            manifests: None,
        }
    }

    /// The name stands for an index.
    pub(crate) fn stands_for(&mut self, index: &ManifestView, version: ApiVersion) {
        if version >= v1(48) {
            self.descriptor = Some(platform::descriptor(index));
        }
    }

    /// With the manifests that the image's name stands for.
    pub(crate) fn show_platforms(&mut self, platforms: &[PlatformView]) {
        self.manifests = Some(platforms.iter().map(platform::manifest).collect());
    }
}

/// The comment is the image's own, else that of its newest step.
fn last_comment(document: &Value) -> String {
    let own = document.get("comment").and_then(Value::as_str).filter(|c| !c.is_empty());
    let step = || document.get("history")?.as_array()?.last()?.get("comment")?.as_str();
    own.or_else(step).unwrap_or("").to_owned()
}

fn graph_driver(view: &ImageView) -> GraphDriver {
    let dirs: Vec<String> = view.layer_dirs.iter().map(|p| p.display().to_string()).collect();
    let mut data = BTreeMap::new();
    if let [upper, lower @ ..] = &dirs[..] {
        data.insert("UpperDir", upper.clone());
        if !lower.is_empty() {
            data.insert("LowerDir", lower.join(":"));
        }
    }
    GraphDriver { data, name: "overlay2" }
}

/// Members that every version shows, with what they are when the image doesn't say.
const ALWAYS: [(&str, Value); 8] = [
    ("User", Value::String(String::new())),
    ("Env", Value::Null),
    ("Cmd", Value::Null),
    ("Volumes", Value::Null),
    ("WorkingDir", Value::String(String::new())),
    ("Entrypoint", Value::Null),
    ("OnBuild", Value::Null),
    ("Labels", Value::Null),
];
/// Those that versions before 1.50 show besides.
const ONCE: [(&str, Value); 9] = [
    ("Hostname", Value::String(String::new())),
    ("Domainname", Value::String(String::new())),
    ("AttachStdin", Value::Bool(false)),
    ("AttachStdout", Value::Bool(false)),
    ("AttachStderr", Value::Bool(false)),
    ("Tty", Value::Bool(false)),
    ("OpenStdin", Value::Bool(false)),
    ("StdinOnce", Value::Bool(false)),
    ("Image", Value::String(String::new())),
];
/// Those that are shown when the image has them.
const SOMETIMES: [&str; 5] = ["ExposedPorts", "Healthcheck", "ArgsEscaped", "StopSignal", "Shell"];

fn config(given: Option<&Value>, version: ApiVersion) -> Value {
    let given = given.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut shown = Map::new();
    let once = if version < v1(50) { &ONCE[..] } else { &[] };
    for (key, default) in once.iter().chain(&ALWAYS) {
        shown.insert((*key).to_owned(), given.get(*key).unwrap_or(default).clone());
    }
    for key in SOMETIMES {
        if let Some(value) = given.get(key).filter(|v| !is_nothing(v)) {
            shown.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(shown)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A step of a history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct History {
    comment: String,
    created: i64,
    created_by: String,
    id: String,
    size: u64,
    tags: Option<Vec<String>>,
}

impl History {
    pub(crate) fn of(view: HistoryView) -> Self {
        Self {
            comment: view.comment,
            created: seconds(view.created),
            created_by: view.created_by,
            id: view.id.map_or_else(|| "<missing>".into(), |id| id.to_string()),
            size: view.size,
            tags: (!view.tags.is_empty()).then_some(view.tags),
        }
    }
}

/// What a removal did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(String),
}

impl Removed {
    pub(crate) fn of(removal: ImageRemoval) -> Self {
        match removal {
            ImageRemoval::Untagged(name) => Self::Untagged(name),
            ImageRemoval::Deleted(id) => Self::Deleted(id.to_string()),
        }
    }
}
