//! The plan: everything that is decided about a container before a process exists, complete and serialisable.
//!
//! The engine makes it, the monitor hands it to this crate, and nothing is decided later. Descriptors travel beside it
//! ([`Descriptors`]); a plan names which namespaces are to be joined through them.

use crate::cgroup::systemd::Scope;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The version of this format. A monitor refuses a plan of a version that it doesn't know.
pub const PLAN_VERSION: u32 = 1;

/// One container, ready to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The container's id, for messages and names.
    pub id: String,
    /// Where its root file system comes from.
    pub rootfs: Rootfs,
    /// Whether the root is mounted read-only in the end.
    pub readonly_rootfs: bool,
    /// Propagation of the root mount.
    #[serde(default)]
    pub rootfs_propagation: Propagation,
    /// Mounts in the order in which they are made, the default ones (`/proc`, `/dev`, …) among them.
    pub mounts: Vec<Mount>,
    /// Device nodes made in `/dev`, after the mounts.
    pub devices: Vec<Device>,
    /// Paths hidden by an empty read-only mount or the null device; missing ones are skipped.
    pub masked_paths: Vec<PathBuf>,
    /// Paths remounted read-only; missing ones are skipped.
    pub readonly_paths: Vec<PathBuf>,
    /// Host name; `None` keeps the host's (UTS namespace of the host).
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// `net.*`, `kernel.*` settings written inside, `a.b.c` to value.
    pub sysctls: BTreeMap<String, String>,
    /// Where in the cgroup trees, and with which limits.
    pub cgroup: CgroupPlan,
    /// The first process.
    pub process: Process,
    /// Whether our own init runs as process 1, reaping and forwarding signals, with the process as its child.
    pub init: bool,
    /// SELinux label of everything in file systems that are made for the container, its root among them; for hosts that have it.
    #[serde(default)]
    pub mount_label: Option<String>,
}

/// Source of the root file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rootfs {
    /// A new overlay, made as a detached mount.
    Overlay {
        /// Layers, top first.
        lower: Vec<PathBuf>,
        /// The writable folder.
        upper: PathBuf,
        /// Overlay's work folder, on the same file system as `upper`.
        work: PathBuf,
        /// Skip syncs: contents need not survive a power cut (`--rm`).
        volatile: bool,
    },
    /// An existing folder (OCI bundles).
    Directory {
        /// Its path.
        path: PathBuf,
    },
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Private, whole tree.
    #[default]
    Rprivate,
    /// Private.
    Private,
    /// Shared, whole tree.
    Rshared,
    /// Shared.
    Shared,
    /// Slave, whole tree.
    Rslave,
    /// Slave.
    Slave,
    /// Unbindable, whole tree.
    Runbindable,
    /// Unbindable.
    Unbindable,
}

/// One mount inside the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container, resolved inside its root.
    pub target: PathBuf,
    /// What is mounted.
    pub source: MountSource,
    /// Attributes.
    #[serde(default)]
    pub flags: MountFlags,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A file or folder of the host.
    Bind {
        /// Its path on the host.
        path: PathBuf,
        /// A path below that, which no link may lead out of; empty for all of it.
        #[serde(default)]
        subpath: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
        /// Propagation of the new mount.
        propagation: Propagation,
    },
    /// A new file system instance: `proc`, `tmpfs`, `sysfs`, `devpts`, `mqueue`, …
    Filesystem {
        /// Type as in /proc/filesystems.
        kind: String,
        /// Source name as shown in the mount table.
        name: String,
        /// Options for the file system (`size=65536k`, `mode=755`).
        data: Vec<String>,
    },
    /// The container's view of the cgroup trees: one mount on v2, one per hierarchy on v1.
    Cgroup,
    /// A detached overlay of image layers, read-only (`--mount type=image`).
    Image {
        /// Layers, top first.
        lower: Vec<PathBuf>,
    },
}

/// Attributes of a mount (mount_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountFlags {
    /// Read-only.
    pub readonly: bool,
    /// Read-only for everything mounted below, too.
    pub recursive_readonly: bool,
    /// No set-user-id.
    pub nosuid: bool,
    /// No device nodes.
    pub nodev: bool,
    /// No execution.
    pub noexec: bool,
    /// `strictatime`.
    pub strictatime: bool,
    /// Further attributes to set (MOUNT_ATTR_*).
    pub set: u64,
    /// Attributes to clear first, where the source of a bind has them.
    pub clear: u64,
    /// Attributes to set on everything mounted below, too.
    pub set_recursive: u64,
    /// Attributes to clear on everything mounted below, too.
    pub clear_recursive: u64,
    /// Propagation of a mount that is no bind; private for `None`.
    pub propagation: Option<Propagation>,
    /// In a user namespace a bind's files keep the ids that they have on the host, instead of being the container's.
    pub unmapped: bool,
    /// A tmpfs begins with a copy of what the root has in its place.
    pub copy_up: bool,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path inside the container.
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, such as 0o666.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How one namespace is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one whose descriptor is in [`Descriptors`].
    Join,
}

/// All namespaces. A mount namespace is new, unless [`crate::StartOptions`] has one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Network.
    pub net: Namespace,
    /// cgroup view.
    pub cgroup: Namespace,
    /// User ids: `None` for the host's.
    pub user: Option<IdMap>,
}

/// Ranges of ids for a user namespace (user_namespaces(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// `count` ids from `inside` on are `outside` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The place in the cgroup trees.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path below the root of each hierarchy, such as `/docker/<id>`; never with `..`. That of `scope`, if there is one.
    pub path: String,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// The scope that systemd is to make for it; without one the group is made by itself.
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// Limits, in docker's units. `None` leaves the kernel's default (or, in an update, what is set).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes; -1 for no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Bytes (soft limit).
    pub memory_reservation: Option<i64>,
    /// 0 to 100 (v1 only).
    pub memory_swappiness: Option<u64>,
    /// v1 only.
    pub oom_kill_disable: Option<bool>,
    /// 2 to 262,144.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1 for none.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds (v1 only).
    pub cpu_rt_runtime: Option<i64>,
    /// Microseconds (v1 only).
    pub cpu_rt_period: Option<u64>,
    /// As in cpuset(7), `0-3,8`.
    pub cpuset_cpus: Option<String>,
    /// As in cpuset(7).
    pub cpuset_mems: Option<String>,
    /// Processes; -1 for no limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Weights by device.
    pub blkio_weight_device: Vec<DeviceValue>,
    /// Bytes per second.
    pub blkio_read_bps: Vec<DeviceValue>,
    /// Bytes per second.
    pub blkio_write_bps: Vec<DeviceValue>,
    /// Operations per second.
    pub blkio_read_iops: Vec<DeviceValue>,
    /// Operations per second.
    pub blkio_write_iops: Vec<DeviceValue>,
    /// Rules in order; the first denies all unless the container is privileged.
    pub devices: Vec<DeviceRule>,
}

/// A number for one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceValue {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// The number.
    pub value: u64,
}

/// One line of the device access list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `a`, `c` or `b`.
    pub kind: char,
    /// `None` for any.
    pub major: Option<u32>,
    /// `None` for any.
    pub minor: Option<u32>,
    /// Of `rwm`.
    pub access: String,
}

/// A process to run, the first one or an exec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; the program is looked up in the environment's PATH inside the container.
    pub args: Vec<String>,
    /// `KEY=value`. HOME is added from the passwd file when absent.
    pub env: Vec<String>,
    /// Working folder inside; made when missing for the first process.
    pub cwd: PathBuf,
    /// `user[:group]`, names looked up in the container's own files; empty for root.
    pub user: String,
    /// Further groups, names or numbers.
    #[serde(default)]
    pub additional_groups: Vec<String>,
    /// Capabilities.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// PR_SET_NO_NEW_PRIVS.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// A compiled filter (`naru_runtime::seccomp`), `None` for none.
    #[serde(default)]
    pub seccomp: Option<SeccompProgram>,
    /// Resource limits; one that can't be raised is lowered to what can, with a warning.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000; `None` inherits.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// Whether it gets a pseudo-terminal as stdin, stdout and stderr.
    #[serde(default)]
    pub terminal: bool,
    /// Rows and columns of that terminal at first.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// AppArmor profile, where the host has it.
    #[serde(default)]
    pub apparmor_profile: Option<String>,
    /// SELinux label, where the host has it.
    #[serde(default)]
    pub selinux_label: Option<String>,
}

/// Capability sets as bit masks (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Ambient.
    #[serde(default)]
    pub ambient: u64,
    /// Inheritable, beside the ambient ones. The engine never sets any: with files that have capabilities it would be more than asked for.
    #[serde(default)]
    pub inheritable: u64,
}

/// A classic BPF program for seccomp(2): 8 bytes per instruction, in the processor's byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// The instructions as hexadecimal digits.
    pub hex: String,
    /// SECCOMP_FILTER_FLAG_*.
    #[serde(default)]
    pub flags: u32,
}

/// One resource limit (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft; `u64::MAX` for none.
    pub soft: u64,
    /// Hard; `u64::MAX` for none.
    pub hard: u64,
}

/// What travels beside a plan.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// Network namespace, when `namespaces.net` is [`Namespace::Join`].
    pub net: Option<OwnedFd>,
    /// IPC namespace to join.
    pub ipc: Option<OwnedFd>,
    /// PID namespace to join.
    pub pid: Option<OwnedFd>,
    /// UTS namespace to join.
    pub uts: Option<OwnedFd>,
    /// A user namespace with the map of `namespaces.user`, to be joined instead of a new one. Whatever else is joined belongs to it.
    pub user: Option<OwnedFd>,
    /// Mount namespaces made ahead, for a container's own; with a user namespace, they are that one's.
    pub mounts: Option<crate::MountSpaces>,
}
