//! Containers as they are asked for, shown and waited for.

use super::{
    ContainerConfig, EndpointSettings, EndpointView, Filters, HealthState, HealthStatus, HostSettings, PortBinding,
    UnixNanos,
};
use naru_base::{Digest, Id, Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A container to be made.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Name without slash; `None` makes one up.
    pub name: Option<String>,
    /// What runs.
    pub config: ContainerConfig,
    /// How.
    pub host: HostSettings,
    /// What it wants of networks, by the name or id that the caller gave.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// The caller's own host settings document, kept and handed back in views; never read by the engine.
    pub document: serde_json::Value,
    /// Wanted platform.
    pub platform: Option<Platform>,
}

/// The answer to a create.
#[derive(Debug, Clone)]
pub struct Created {
    /// The new id.
    pub id: Id,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// State, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Waiting to be started again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Its removal failed.
    Dead,
}

impl Status {
    /// docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a process (docker's `Running`, which stays true while paused or restarting).
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// Everything about a container, at one moment.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Id.
    pub id: Id,
    /// Name without slash.
    pub name: String,
    /// When made.
    pub created: UnixNanos,
    /// Image id.
    pub image_id: Digest,
    /// Merged configuration; `image` is as the caller named it.
    pub config: ContainerConfig,
    /// Host settings.
    pub host: HostSettings,
    /// The caller's document.
    pub document: serde_json::Value,
    /// SELinux label of its processes.
    pub process_label: String,
    /// SELinux label of its files.
    pub mount_label: String,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State.
    pub status: Status,
    /// Process id, 0 when there is none.
    pub pid: i32,
    /// Last exit code.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// What of its log was lost since its last start.
    pub log_lost: naru_log::Lost,
    /// Last start.
    pub started_at: UnixNanos,
    /// Last end.
    pub finished_at: UnixNanos,
    /// How often its policy started it again.
    pub restart_count: i64,
    /// Its health, if that is checked.
    pub health: Option<HealthState>,
    /// Mounts, without the default ones.
    pub mounts: Vec<MountView>,
    /// Network endpoints by network name.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// Id of the network sandbox, empty when there is none.
    pub sandbox_id: String,
    /// Published ports while it runs.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
    /// Files made for it.
    pub files: ContainerFiles,
    /// Running execs.
    pub exec_ids: Vec<Id>,
    /// Layers, top first.
    pub lower: Vec<PathBuf>,
    /// Bytes in the writable layer, when asked for.
    pub size_rw: Option<u64>,
    /// Bytes in all layers, when asked for.
    pub size_root: Option<u64>,
    /// Image architecture and system.
    pub platform: Platform,
    /// The image's manifest digest, when known.
    pub manifest_digest: Option<Digest>,
}

/// What a line of a list needs to know of a container: a thousand are listed at once.
#[derive(Debug, Clone)]
pub struct BriefView {
    /// Id.
    pub id: Id,
    /// Name without slash.
    pub name: String,
    /// When made.
    pub created: UnixNanos,
    /// The image as the caller named it.
    pub image: String,
    /// Image id.
    pub image_id: Digest,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State.
    pub status: Status,
    /// Last exit code.
    pub exit_code: i32,
    /// Last start.
    pub started_at: UnixNanos,
    /// Last end.
    pub finished_at: UnixNanos,
    /// Its health, if that is checked.
    pub health: Option<HealthStatus>,
    /// Published ports while it runs.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
    /// Ports that it exposes.
    pub exposed_ports: std::collections::BTreeSet<String>,
}

/// Where a container's files are on the host.
#[derive(Debug, Clone, Default)]
pub struct ContainerFiles {
    /// /etc/resolv.conf's source.
    pub resolv_conf: PathBuf,
    /// /etc/hostname's source.
    pub hostname: PathBuf,
    /// /etc/hosts' source.
    pub hosts: PathBuf,
    /// The log; empty when there is none.
    pub log: PathBuf,
    /// The writable layer.
    pub upper: PathBuf,
    /// Overlay's work folder.
    pub work: PathBuf,
    /// Network namespace, empty when not running.
    pub sandbox_key: PathBuf,
}

/// A mount as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountView {
    /// `bind`, `volume`, `tmpfs`, `image`.
    pub kind: String,
    /// Volume name.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub target: String,
    /// Volume driver.
    pub driver: String,
    /// Options text.
    pub mode: String,
    /// Writable.
    pub writable: bool,
    /// Propagation, `rprivate` for binds by default.
    pub propagation: String,
}

/// Which containers to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Not only running ones.
    pub all: bool,
    /// The newest so many, of any state; 0 for no limit.
    pub limit: usize,
    /// With sizes.
    pub size: bool,
    /// Key to values.
    pub filters: Filters,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Met at once when it isn't running.
    NotRunning,
    /// The next end.
    NextExit,
    /// Its removal.
    Removed,
}

/// How a wait ended.
#[derive(Debug, Clone, Default)]
pub struct WaitOutcome {
    /// Exit code.
    pub exit_code: i32,
    /// Why it could not start or be removed.
    pub error: Option<String>,
}

/// How `rm` removes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

/// A change in a container's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path inside.
    pub path: String,
    /// What.
    pub kind: ChangeKind,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// docker's 0.
    Modified,
    /// docker's 1.
    Added,
    /// docker's 2.
    Deleted,
}
