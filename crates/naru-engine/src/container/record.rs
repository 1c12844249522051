//! What is kept of a container on disk, and in which states it can be.

use crate::types::{ContainerConfig, EndpointView, HostSettings, MountKind, MountView, Status, UnixNanos};
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
}

/// Where the container stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub status: Status,
    /// Never alone: with `start_time` and `boot_id`.
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    pub exit_code: i32,
    pub error: String,
    pub oom_killed: bool,
    pub started_at: UnixNanos,
    pub finished_at: UnixNanos,
    pub restart_count: i64,
    /// A user stopped it: `unless-stopped` leaves it alone.
    pub stopped_by_hand: bool,
    pub sandbox_id: String,
    /// Leases to be reserved again by an engine that finds it running.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// The place on its network while it runs.
    #[serde(default)]
    pub endpoint: Option<naru_net::Endpoint>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            start_time: 0,
            boot_id: String::new(),
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: 0,
            finished_at: 0,
            restart_count: 0,
            stopped_by_hand: false,
            sandbox_id: String::new(),
            endpoints: BTreeMap::new(),
            endpoint: None,
        }
    }
}

impl State {
    /// It runs now.
    pub(crate) fn begin(&mut self, pid: i32, start_time: u64, boot_id: &str, now: UnixNanos) {
        self.status = Status::Running;
        self.pid = pid;
        self.start_time = start_time;
        self.boot_id = boot_id.to_owned();
        self.exit_code = 0;
        self.error.clear();
        self.oom_killed = false;
        self.started_at = now;
        self.stopped_by_hand = false;
    }

    /// It has ended.
    pub(crate) fn end(&mut self, exit_code: i32, oom_killed: bool, at: UnixNanos) {
        self.status = Status::Exited;
        self.pid = 0;
        self.start_time = 0;
        self.exit_code = exit_code;
        self.oom_killed = oom_killed;
        self.finished_at = at;
        self.sandbox_id.clear();
        self.endpoint = None;
        for endpoint in self.endpoints.values_mut() {
            *endpoint =
                EndpointView { network_id: std::mem::take(&mut endpoint.network_id), ..EndpointView::default() };
        }
    }
}
