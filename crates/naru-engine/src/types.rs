//! The engine's own vocabulary: what callers ask for and what they are shown. No wire format, no HTTP.

mod container;
mod image;
mod network;
mod process;
mod settings;

pub use container::*;
pub use image::*;
pub use naru_monitor::protocol::{HealthResult, HealthState, HealthStatus};
pub use naru_runtime::cgroup::Support as LimitSupport;
pub use network::*;
pub use process::*;
pub use settings::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Nanoseconds since the Unix epoch; 0 for "never".
pub type UnixNanos = i64;

/// Filters: values of one key are alternatives, keys all hold.
pub type Filters = BTreeMap<String, Vec<String>>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `container`, `image`, `network`, `volume`, `daemon`.
    pub kind: String,
    /// `start`, `die`, …
    pub action: String,
    /// Id of the object.
    pub id: String,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: UnixNanos,
}

/// A volume as shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeView {
    /// Name.
    pub name: String,
    /// Folder on the host.
    pub mountpoint: PathBuf,
    /// When made.
    pub created: UnixNanos,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Made without a name.
    pub anonymous: bool,
}

impl VolumeView {
    /// Whether its files lie elsewhere: its folder is a mount while it is used.
    pub fn is_elsewhere(&self) -> bool {
        self.options.keys().any(|option| option != "size")
    }

    /// How many bytes it may take, where that is limited.
    pub fn limit(&self) -> Option<u64> {
        let bytes = naru_base::size::parse_bytes(self.options.get("size")?).ok()?;
        u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }
}

/// Facts about the engine and its host.
#[derive(Debug, Clone, Default)]
pub struct SystemInfo {
    /// The engine's own id (uuid).
    pub id: String,
    /// Containers by state.
    pub containers: usize,
    /// Running.
    pub running: usize,
    /// Paused.
    pub paused: usize,
    /// Neither.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// Host's name.
    pub name: String,
    /// Kernel release.
    pub kernel_version: String,
    /// Distribution, pretty.
    pub operating_system: String,
    /// Its version.
    pub os_version: String,
    /// `x86_64`.
    pub architecture: String,
    /// Processors.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Who makes the groups.
    pub cgroup_driver: crate::CgroupDriver,
    /// Data root.
    pub data_root: PathBuf,
    /// Sentences.
    pub warnings: Vec<String>,
    /// Backing file system.
    pub backing_filesystem: String,
    /// Debug mode.
    pub debug: bool,
    /// `KEY=VALUE`, of the settings.
    pub labels: Vec<String>,
    /// Subscribers of events.
    pub event_listeners: usize,
    /// Registries spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the hub.
    pub registry_mirrors: Vec<String>,
    /// Containers have user namespaces of their own unless told otherwise.
    pub user_namespaces: bool,
    /// Whether AppArmor confines.
    pub apparmor: bool,
    /// Whether SELinux confines.
    pub selinux: bool,
    /// Log driver of containers that don't say.
    pub log_driver: String,
    /// Where CDI specifications are.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Full names of the devices that they describe.
    pub cdi_devices: Vec<String>,
    /// memory, swap, cpu quota, pids, … as docker's info tells them.
    pub limits: LimitSupport,
}
