//! The engine's own vocabulary: what callers ask for and what they are shown. No wire format, no HTTP.

use naru_base::{Digest, Id, Platform, Reference};
pub use naru_runtime::cgroup::Support as LimitSupport;
use naru_runtime::plan::{Device, DeviceRule, Propagation, Resources, Rlimit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use crate::network_types::*;
pub use naru_monitor::protocol::{HealthResult, HealthState, HealthStatus};

/// Nanoseconds since the Unix epoch; 0 for "never".
pub type UnixNanos = i64;

/// What runs, as the image and the caller together have it (docker's `Config`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Host name; empty takes the short id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`.
    pub user: String,
    /// As asked for at create.
    pub attach_stdin: bool,
    /// As asked for at create.
    pub attach_stdout: bool,
    /// As asked for at create.
    pub attach_stderr: bool,
    /// `80/tcp`, …
    pub exposed_ports: BTreeSet<String>,
    /// Pseudo-terminal.
    pub tty: bool,
    /// Standard input is open.
    pub open_stdin: bool,
    /// Close it after the first client.
    pub stdin_once: bool,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Arguments, or the command when there is no entrypoint. `None`: the image's.
    pub cmd: Option<Vec<String>>,
    /// Health check; `None`: the image's.
    pub healthcheck: Option<Healthcheck>,
    /// The image as the caller named it.
    pub image: String,
    /// Paths of anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Absolute; empty takes the image's.
    pub working_dir: String,
    /// `None`: the image's; an empty one or `[""]` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// No network at all.
    pub network_disabled: bool,
    /// Build triggers.
    pub on_build: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal of `stop`; `None`: the image's, then SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds that `stop` waits.
    pub stop_timeout: Option<i64>,
    /// Shell of shell-form commands.
    pub shell: Option<Vec<String>>,
}

/// docker's health check settings; durations in nanoseconds, 0 for the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", "…"]`; empty inherits.
    pub test: Vec<String>,
    /// Between checks.
    pub interval: i64,
    /// For one check.
    pub timeout: i64,
    /// Failures that do not count after the start.
    pub start_period: i64,
    /// Between checks in the start period.
    pub start_interval: i64,
    /// Failures in a row until unhealthy.
    pub retries: i64,
}

/// How it runs on this host (docker's `HostConfig`), decoded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// Mounts asked for by the caller, `-v`, `--mount` and `--tmpfs`, in the caller's order.
    pub mounts: Vec<MountRequest>,
    /// `volumes_from` entries, `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Which network.
    pub network: NetworkMode,
    /// When to start again.
    pub restart: RestartPolicy,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// Everything the host may.
    pub privileged: bool,
    /// Names as given.
    pub cap_add: Vec<String>,
    /// Names as given.
    pub cap_drop: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// resolv.conf options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// `container:alias`, for the default network.
    pub links: Vec<String>,
    /// Further groups.
    pub group_add: Vec<String>,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// PID namespace.
    pub pid: NamespaceMode,
    /// UTS namespace.
    pub uts: NamespaceMode,
    /// `Some(true)` private, `Some(false)` the host's, `None` docker's default for the cgroup version.
    pub cgroupns_private: Option<bool>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Read-only root.
    pub readonly_rootfs: bool,
    /// No new privileges.
    pub no_new_privileges: bool,
    /// Seccomp.
    pub seccomp: SeccompChoice,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// What is said about its SELinux labels: `disable`, or `user:`, `role:`, `type:`, `level:`, `filetype:` and a value.
    #[serde(default)]
    pub selinux: Vec<String>,
    /// Bytes of /dev/shm; 0 for 64 MiB.
    pub shm_size: u64,
    /// `a.b.c` to value.
    pub sysctls: BTreeMap<String, String>,
    /// Run our init as process 1; `None`: the engine's default.
    pub init: Option<bool>,
    /// Further device nodes (already looked up on the host).
    pub devices: Vec<Device>,
    /// Rules for them.
    pub device_rules: Vec<DeviceRule>,
    /// Devices that a specification on this host describes.
    #[serde(default)]
    pub device_requests: Vec<DeviceRequest>,
    /// Limits.
    pub resources: Resources,
    /// ulimits.
    pub rlimits: Vec<Rlimit>,
    /// Log driver and its options.
    pub log: LogSettings,
    /// `None`: docker's; empty: none.
    pub masked_paths: Option<Vec<String>>,
    /// `None`: docker's; empty: none.
    pub readonly_paths: Option<Vec<String>>,
    /// Parent cgroup; empty for the engine's.
    pub cgroup_parent: String,
    /// Rows and columns of the client's terminal at create.
    pub console_size: Option<(u16, u16)>,
    /// Published ports, `80/tcp` to bindings.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Publish all exposed ports.
    pub publish_all: bool,
    /// Where the container's id is written (by the client; only shown).
    pub cidfile: String,
    /// User namespace.
    #[serde(default)]
    pub userns: UserMode,
}

/// Devices by what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceRequest {
    /// By their names in the Container Device Interface: `vendor.com/class=device`.
    Cdi {
        /// Full names.
        names: Vec<String>,
    },
    /// GPUs.
    Gpus {
        /// `nvidia`, `amd`, `intel`; empty for whichever there are.
        driver: String,
        /// How many; below 0 for all. Nothing when there are `ids`.
        count: i64,
        /// Which ones.
        ids: Vec<String>,
        /// As they were asked for.
        capabilities: Vec<Vec<String>>,
    },
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Address of the host, empty for any.
    pub host_ip: String,
    /// Port or range of the host, empty for any.
    pub host_port: String,
}

/// What a caller wants mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Absolute path inside.
    pub target: String,
    /// What.
    pub kind: MountKind,
    /// Read-only.
    pub readonly: bool,
    /// The options text of a `-v` (`z`, `ro`, …), shown as `Mode` by inspect.
    #[serde(default)]
    pub mode: String,
}

/// What a caller wants mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// Make a missing source a folder (`-v`); otherwise refuse (`--mount`).
        create_source: bool,
        /// With what is mounted below.
        recursive: bool,
        /// Propagation.
        propagation: Propagation,
        /// Read-only only itself, not what is mounted below it.
        #[serde(default)]
        writable_below: bool,
    },
    /// A volume; `None` for an anonymous one.
    Volume {
        /// Its name.
        name: Option<String>,
        /// Don't fill an empty one from the image.
        no_copy: bool,
        /// Folder within it.
        #[serde(default)]
        subpath: String,
        /// Labels for one made now.
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// Driver; empty for `local`.
        #[serde(default)]
        driver: String,
        /// Driver options.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs {
        /// Options such as `size=64m`, `mode=1777`.
        options: Vec<String>,
    },
    /// An image's files, read-only.
    Image {
        /// Its name.
        name: String,
        /// Folder within it.
        #[serde(default)]
        subpath: String,
    },
}

/// Which network a container is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// The default bridge, or a network by this name.
    #[default]
    Default,
    /// The host's own.
    Host,
    /// Only a loopback.
    None,
    /// That of another container.
    Container(String),
    /// A network by name or id.
    Named(String),
}

impl NetworkMode {
    /// As docker writes it.
    pub fn as_text(&self) -> String {
        match self {
            Self::Default => "bridge".into(),
            Self::Host => "host".into(),
            Self::None => "none".into(),
            Self::Container(c) => format!("container:{c}"),
            Self::Named(n) => n.clone(),
        }
    }
}

/// How a namespace is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// docker's default: a private one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
    /// Private, and open to others (IPC).
    Shareable,
    /// Private without /dev/shm (IPC).
    None,
}

/// Which user namespace a container is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserMode {
    /// The engine's default.
    #[default]
    Default,
    /// One of its own, with ids that nobody else has.
    Auto,
    /// The host's.
    Host,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// For `on-failure`; 0 for no limit.
    pub maximum_retry_count: i64,
}

/// Which seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// The built-in one (none for a privileged container).
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in docker's JSON.
    Profile(String),
}

/// Log driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// `json-file`, `local`, `none`; empty for the default.
    pub driver: String,
    /// `max-size`, `max-file`, …
    pub options: BTreeMap<String, String>,
}

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

/// Filters: values of one key are alternatives, keys all hold.
pub type Filters = BTreeMap<String, Vec<String>>;

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

/// A client's connection, to be connected to a process.
#[derive(Debug)]
pub struct ClientStream {
    /// A non-blocking unix or TCP stream.
    pub fd: OwnedFd,
    /// What the client had sent already.
    pub early_input: Vec<u8>,
    /// What must be sent first.
    pub preamble: Vec<u8>,
}

/// What of a container a client attaches to.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Errors.
    pub stderr: bool,
    /// From now on.
    pub stream: bool,
    /// What was logged so far, first.
    pub logs: bool,
    /// Keys that detach; `None` for docker's.
    pub detach_keys: Option<String>,
}

/// What of the log is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Not before.
    pub since: UnixNanos,
    /// Not after; 0 for no limit.
    pub until: UnixNanos,
}

/// One line (or part of a long line) of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whether it is standard error.
    pub stderr: bool,
    /// When.
    pub time: UnixNanos,
    /// With its newline, unless it is a part.
    pub text: Vec<u8>,
    /// What `--log-opt labels=…,env=…,tag=…` added.
    pub attributes: BTreeMap<String, String>,
}

/// A process to be run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecSettings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Empty for the container's.
    pub working_dir: String,
    /// Empty for the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// Pseudo-terminal.
    pub tty: bool,
    /// Connect input.
    pub attach_stdin: bool,
    /// Connect output.
    pub attach_stdout: bool,
    /// Connect errors.
    pub attach_stderr: bool,
    /// Keys that detach; `None` for docker's.
    pub detach_keys: Option<String>,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
}

/// An exec as shown.
#[derive(Debug, Clone)]
pub struct ExecView {
    /// Id.
    pub id: Id,
    /// Its container.
    pub container: Id,
    /// What it runs.
    pub settings: ExecSettings,
    /// Running now.
    pub running: bool,
    /// Once ended.
    pub exit_code: Option<i32>,
    /// Process id on the host, 0 when it has none.
    pub pid: i32,
}

/// How `rm` removes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

/// How `commit` makes an image.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Container.
    pub container: String,
    /// Where to tag it.
    pub target: Option<Reference>,
    /// Author.
    pub author: String,
    /// Comment.
    pub comment: String,
    /// Pause it meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Settings that replace the container's.
    pub config: Option<ContainerConfig>,
}

/// Credentials for a registry, as the caller gave them.
pub type Auth = naru_registry::Auth;

/// Progress of a long operation.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A sentence, about the object `id` if there is one.
    Status {
        /// Short id of a layer, or a tag.
        id: Option<String>,
        /// docker's word for it.
        status: String,
    },
    /// How far.
    Bytes {
        /// Short id of a layer.
        id: String,
        /// docker's word for it.
        status: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all, 0 when unknown.
        total: u64,
    },
    /// Text of a load.
    Stream(String),
    /// Machine-readable result.
    Aux(serde_json::Value),
}

/// Where progress goes; a closed receiver cancels nothing.
pub type ProgressSink = tokio::sync::mpsc::UnboundedSender<Progress>;

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

/// An image in a list.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// Id.
    pub id: Digest,
    /// Parent's id, when it was made here.
    pub parent: Option<Digest>,
    /// `name:tag`, familiar.
    pub tags: Vec<String>,
    /// `name@digest`, familiar.
    pub digests: Vec<String>,
    /// When made.
    pub created: UnixNanos,
    /// Bytes of all layers.
    pub size: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers use it.
    pub containers: usize,
    /// Whether another image was made from it here.
    pub has_children: bool,
}

/// An image, whole.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// As in a list.
    pub summary: ImageSummary,
    /// The image's configuration document (config.json), parsed.
    pub config: serde_json::Value,
    /// Layers' diff ids, base first.
    pub diff_ids: Vec<Digest>,
    /// Folders of the layers, top first.
    pub layer_dirs: Vec<PathBuf>,
    /// Last time that it was tagged.
    pub last_tagged: UnixNanos,
    /// Its manifest, when it came with one.
    pub manifest: Option<ManifestView>,
}

/// A manifest as shown.
#[derive(Debug, Clone)]
pub struct ManifestView {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// A manifest that an image's name stands for.
#[derive(Debug, Clone)]
pub struct PlatformView {
    /// The manifest.
    pub manifest: ManifestView,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// Whether it is an image.
    pub is_image: bool,
    /// When it is an attestation: the manifest that it is of.
    pub attests: Option<String>,
    /// Of its descriptor.
    pub annotations: BTreeMap<String, String>,
    /// Whether all of it is here.
    pub available: bool,
    /// Bytes of its blobs that are here.
    pub content: u64,
    /// Bytes of its layers' files that are here.
    pub unpacked: u64,
    /// Ids of the containers that use it.
    pub containers: Vec<String>,
}

/// A step of an image's history.
#[derive(Debug, Clone)]
pub struct HistoryView {
    /// The image after that step, when it is here.
    pub id: Option<Digest>,
    /// When.
    pub created: UnixNanos,
    /// Command.
    pub created_by: String,
    /// Tags of that image.
    pub tags: Vec<String>,
    /// Bytes that it added.
    pub size: u64,
    /// Comment.
    pub comment: String,
}

/// What `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRemoval {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(Digest),
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
