//! What a container is to be: docker's `Config` and `HostConfig`, decoded.

use naru_runtime::plan::{Device, DeviceRule, Propagation, Resources, Rlimit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
    /// How many bytes its writable layer may take; 0 for no limit.
    pub layer_limit: u64,
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
