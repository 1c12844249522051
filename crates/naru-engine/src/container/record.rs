//! What is kept of a container on disk.

use super::state::State;
use crate::types::{ContainerConfig, EndpointSettings, HostSettings, MountKind, MountView, UnixNanos};
use naru_base::{Digest, Id, Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of the record's format.
pub(crate) const RECORD_VERSION: u32 = 1;
/// The record's file in the container's folder.
pub(crate) const RECORD_FILE: &str = "config.json";

/// A container, as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: Id,
    /// Without slash.
    pub name: String,
    pub created: UnixNanos,
    pub image: Digest,
    pub platform: Platform,
    /// Merged with the image's.
    pub config: ContainerConfig,
    pub host: HostSettings,
    /// The caller's, handed back untouched.
    pub document: serde_json::Value,
    pub path: String,
    pub args: Vec<String>,
    pub mounts: Vec<ResolvedMount>,
    /// The networks that it belongs to, running or not, by name; none when it shares another's.
    #[serde(default)]
    pub networks: BTreeMap<String, EndpointSettings>,
    /// It has a user namespace of its own, or of a container whose namespaces it joins.
    #[serde(default)]
    pub user_namespace: bool,
    /// SELinux label of its processes; empty for none.
    #[serde(default)]
    pub process_label: String,
    /// SELinux label of its files; empty for none.
    #[serde(default)]
    pub mount_label: String,
    pub state: State,
}

/// A mount whose source has been decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ResolvedMount {
    pub view: MountView,
    pub kind: MountKind,
    /// Path on the host; empty for tmpfs and images.
    pub source: PathBuf,
    /// A volume made for this container alone, without a name.
    pub anonymous: bool,
    /// Another container's (`--volumes-from`).
    #[serde(default)]
    pub borrowed: bool,
}
