//! What a caller may ask of a start beyond the plan: how the process relates to the caller, and what is run on the way.
//!
//! Nothing of it is docker's: the engine starts with the defaults. The OCI runtime's verbs use it.

use crate::hooks::Hooks;
use crate::listener::ListenerReceiver;
use crate::plan::IdMap;
use naru_sys::scheduling::SchedulerAttributes;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How one process begins, a first one or a further one.
#[derive(Debug, Clone, Default)]
pub struct ProcessOptions {
    /// It goes on when the caller ends; otherwise it is killed then.
    pub outlives_caller: bool,
    /// How many descriptors from 3 on it inherits from the caller.
    pub preserved_fds: u32,
    /// It stays in the caller's session keyring.
    pub keeps_keyring: bool,
    /// File mode creation mask; 0022 for `None`.
    pub umask: Option<u32>,
    /// Execution domain (personality(2)).
    pub personality: Option<u64>,
    /// Class and level as ioprio_set(2) takes them.
    pub io_priority: Option<i32>,
    /// Policy and parameters (sched_setattr(2)).
    pub scheduler: Option<SchedulerAttributes>,
    /// Who serves the listener of a filter that notifies.
    pub listener: Option<ListenerReceiver>,
}

/// Whom the files of a bind belong to: an owner `inside` is `outside` to the kernel.
#[derive(Debug, Clone)]
pub struct MountMap {
    /// The map.
    pub ids: IdMap,
    /// It holds for everything mounted below, too.
    pub recursive: bool,
}

/// How a container begins.
#[derive(Default)]
pub struct StartOptions {
    /// Of its first process.
    pub process: ProcessOptions,
    /// A listening socket (SOCK_SEQPACKET): the container is made, but its program is executed only when somebody has connected, who is
    /// told of failures ([`crate::open_gate`]).
    pub gate: Option<OwnedFd>,
    /// What runs on the way.
    pub hooks: Hooks,
    /// The root, a folder, is put into its own place in the container's mount namespace while the container is made, where hooks look for
    /// it; otherwise on top of everything.
    pub root_in_place: bool,
    /// The root, whatever it is, is put onto this folder meanwhile.
    pub root_place: Option<PathBuf>,
    /// In a user namespace the root's files keep the ids that they have on disk.
    pub root_unmapped: bool,
    /// Id maps of binds, by their number among the plan's mounts.
    pub mount_maps: BTreeMap<usize, MountMap>,
    /// A mount namespace to join instead of a new one. Sources are looked up in it, the root is attached in it, and it becomes the root of
    /// all its processes.
    pub mount_namespace: Option<OwnedFd>,
    /// A cgroup namespace to join.
    pub cgroup_namespace: Option<OwnedFd>,
    /// A time namespace to join.
    pub time_namespace: Option<OwnedFd>,
    /// A new time namespace with these offsets: lines for `/proc/PID/timens_offsets` (time_namespaces(7)).
    pub time_offsets: Option<String>,
}

impl std::fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartOptions").field("process", &self.process).field("gate", &self.gate).finish_non_exhaustive()
    }
}
