//! What an engine and a monitor say to each other, and an engine and the spawner.
//!
//! Transport: a unix stream socket. A frame is two little-endian `u32`s, the length of its JSON and the number of its descriptors, and the
//! JSON; the descriptors travel with its first byte (SCM_RIGHTS; see [`crate::wire`]). The engine sends [`Request`]s, numbered; the monitor answers each with a [`Reply`] of the
//! same number, in any order, and sends [`Event`]s when it likes. A monitor speaks to several engines one after another: the one
//! that spawned it over a socketpair, later ones over `monitor.sock` in the container's run folder.
//!
//! A monitor writes the exit record durably (`exit.json`, [`ExitRecord`]) before it tells anyone, and ends when it has told.

pub use crate::hook_plan::HookPlan;
use naru_base::Class;
use naru_dns::Resolver;
pub use naru_log::{LogConfig, Lost};
use naru_runtime::plan::{IdMap, Plan, Process};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The newest version of this protocol; an engine speaks it and every older one that it may meet.
pub const PROTOCOL_VERSION: u32 = 5;
/// The version that [`Request::Resolve`] came with.
pub const RESOLVE_VERSION: u32 = 2;
/// The version that [`Request::Forward`] came with.
pub const FORWARD_VERSION: u32 = 3;
/// The version that [`Request::Serve`] came with.
pub const SERVE_VERSION: u32 = 4;
/// The version that [`Request::Freeze`] came with.
pub const FREEZE_VERSION: u32 = 5;
/// The longest frame accepted, in bytes.
pub const FRAME_LIMIT: usize = 16 << 20;
/// The socket's name in the container's run folder.
pub const SOCKET_NAME: &str = "monitor.sock";
/// The exit record's name in the container's record folder.
pub const EXIT_RECORD: &str = "exit.json";

/// Engine to spawner: start one monitor; the frame carries the monitor's end of a socketpair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// The container's id (shown in the process's title).
    pub id: String,
    /// Instead of a monitor: namespaces for a container with this map; where a user namespace comes as a second descriptor, in that one.
    /// The answer, a [`SpaceReply`], comes on the socket.
    #[serde(default)]
    pub space: Option<IdMap>,
    /// Instead of both: an empty mount namespace of the host's, for copies. The answer comes likewise.
    #[serde(default)]
    pub template: bool,
}

/// Spawner to engine. {the user namespace, and belonging to it: a network namespace, and with `mounts` two more, as in
/// [`naru_runtime::MountSpaces`]}, or {an empty mount namespace}, or none and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpaceReply {
    /// Why there are none.
    pub error: Option<String>,
    /// Whether there are mount namespaces.
    #[serde(default)]
    pub mounts: bool,
}

/// Engine to monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Number of the request, repeated in the reply.
    pub seq: u64,
    /// What is said.
    pub body: T,
}

/// Engine to monitor. In braces: the descriptors that the frame carries, in this order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The first word of an engine on `monitor.sock`. Answer: [`Response::Hello`] {the network namespace, when there is one}.
    Hello {
        /// The engine's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Make and start the container. {for each `true` of `namespaces`: the descriptor; then one stream per attach}.
    /// Answer: [`Response::Started`] once the program has been executed, or a failure, after which the monitor ends.
    Start(Box<StartRequest>),
    /// Connect a client's stream to the container's stdio. {the stream}
    Attach(Attach),
    /// Run a further process. {the stream, when `attach` is there}. Answer: [`Response::Started`] or a failure.
    Exec(Box<ExecRequest>),
    /// Keep what comes with this until the container has ended, in place of what was kept before: the host's ports that lead to it.
    /// {any number}
    Hold,
    /// Pass on what comes at sockets of the host, until the container has ended, in place of what was served before. {a bound or
    /// listening socket for each}; without descriptors, the same number of sockets that are there already lead elsewhere. Since
    /// [`FORWARD_VERSION`].
    Forward(Vec<ForwardTo>),
    /// As [`Request::Forward`], for as many as there are. {a socket of kind SEQPACKET, in whose queue are the bound or listening sockets, in
    /// order}; without a descriptor, those that are there already lead elsewhere. Since [`SERVE_VERSION`].
    Serve(Vec<ServedPorts>),
    /// Set a terminal's size.
    Resize {
        /// The exec, or the container itself.
        exec: Option<String>,
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Send a signal to the container's first process or an exec's.
    Signal {
        /// The exec, or the container itself.
        exec: Option<String>,
        /// Number.
        signal: i32,
    },
    /// Serve names in the container's network namespace from now on, or serve others than before. Since [`RESOLVE_VERSION`].
    Resolve(Box<Resolver>),
    /// Stop all processes of the container (cgroups(7)); whoever freezes them from elsewhere may meet one that is just being made, for which
    /// its monitor then waits. They are thawed by the engine. Since [`FREEZE_VERSION`].
    Freeze,
}

/// Where what comes at a socket is passed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardTo {
    /// What is spoken there.
    pub transport: Transport,
    /// The container's address and port.
    pub address: SocketAddr,
}

/// Ports that follow each other, and so do those of the container that they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedPorts {
    /// What is spoken there.
    pub transport: Transport,
    /// The container's address and first port.
    pub first: SocketAddr,
    /// How many there are.
    pub count: u16,
}

impl ServedPorts {
    /// These ports in as few as possible, in the same order.
    pub fn of(all: impl IntoIterator<Item = ForwardTo>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for ForwardTo { transport, address } in all {
            match ranges.last_mut() {
                Some(last)
                    if (last.transport, last.first.ip()) == (transport, address.ip())
                        && last.first.port().checked_add(last.count) == Some(address.port()) =>
                {
                    last.count += 1;
                }
                _ => ranges.push(Self { transport, first: address, count: 1 }),
            }
        }
        ranges
    }
}

/// A transport protocol that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A stream: the socket listens.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Everything a monitor needs to start its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartRequest {
    /// The plan.
    pub plan: Plan,
    /// Which descriptors come with the frame: net, ipc, pid, uts, user.
    pub namespaces: [bool; 5],
    /// How many descriptors of mount namespaces made ahead follow these ([`naru_runtime::MountSpaces`]).
    #[serde(default)]
    pub mounts: usize,
    /// Folder for the exit record and the log.
    pub record_dir: PathBuf,
    /// Folder for the socket.
    pub run_dir: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// Whether stdin is a pipe kept open (`-i`); without it stdin is /dev/null (or nothing is ever written to the terminal).
    pub stdin_open: bool,
    /// Close stdin when the first attached client's stdin ends.
    pub stdin_once: bool,
    /// No need to survive a power cut (`--rm`): no fsync.
    pub volatile: bool,
    /// Clients attached from the first byte on.
    pub attaches: Vec<Attach>,
    /// How its health is checked, if it is.
    #[serde(default)]
    pub health: Option<HealthPlan>,
    /// What its name server knows, if it has one.
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// What runs on the way, if anything does.
    #[serde(default)]
    pub hooks: Option<HookPlan>,
}

/// How a container's health is checked: everything decided, no default left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthPlan {
    /// The check.
    pub probe: Probe,
    /// Pause between the end of a check and the next.
    pub interval: Duration,
    /// A check that takes longer is killed, and has failed.
    pub timeout: Duration,
    /// Failures do not count so long after the start, until the first success.
    pub start_period: Duration,
    /// The pause meanwhile.
    pub start_interval: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// What follows then.
    pub on_unhealthy: OnUnhealthy,
    /// The signal that asks it to end, for [`OnUnhealthy::Stop`] and [`OnUnhealthy::Restart`].
    pub stop_signal: i32,
    /// When it is killed after that.
    pub stop_timeout: Duration,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A process in the container; 0 is healthy.
    Command(Box<Process>),
    /// A GET request from within the container's network; a status from 200 to 399 is healthy. A redirect is not followed.
    Http {
        /// Where to.
        address: SocketAddr,
        /// Where to when nothing can be connected to there: `localhost` is both addresses.
        #[serde(default)]
        other: Option<SocketAddr>,
        /// The `Host` header.
        host: String,
        /// Path and query.
        path: String,
    },
    /// A connection from within the container's network.
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// As for [`Probe::Http`].
        #[serde(default)]
        other: Option<SocketAddr>,
    },
}

/// What follows when a container becomes unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnhealthy {
    /// Nothing.
    #[default]
    None,
    /// It is killed; its restart policy judges that end.
    Kill,
    /// It is stopped, and stays so.
    Stop,
    /// It is stopped, and started again by the engine.
    Restart,
}

/// docker's word for a container's health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// No check has succeeded yet, nor have enough failed.
    #[default]
    Starting,
    /// The last checks say so.
    Healthy,
    /// As many checks in a row have failed as may.
    Unhealthy,
}

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// 0 for healthy; -1 when it could not be run, or took too long.
    pub exit_code: i32,
    /// What it said, at most 4096 bytes.
    pub output: String,
}

/// A container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthState {
    /// Now.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five results, oldest first.
    pub log: Vec<HealthResult>,
}

/// What a monitor tells of one check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthReport {
    /// The check's id, 64 hexadecimal digits.
    pub check: String,
    /// How it ended.
    pub result: HealthResult,
    /// What the container is now.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// Whether the status was another one before.
    pub changed: bool,
}

/// A client's stream, to be connected to a process's stdio.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Attach {
    /// What the client sends is the process's input.
    pub stdin: bool,
    /// It wants standard output (with a terminal: all output).
    pub stdout: bool,
    /// It wants standard error.
    pub stderr: bool,
    /// Frame the output (docker's 8-byte headers), also that of a terminal: who attaches knows what the client expects.
    pub multiplexed: bool,
    /// Keys that detach, such as ctrl-p ctrl-q; empty for none. Only looked for with a terminal.
    pub detach_keys: Vec<u8>,
    /// Input that had arrived before the stream was handed over.
    pub early_input: Vec<u8>,
    /// Bytes to be sent before anything else (the rest of an HTTP answer).
    pub preamble: Vec<u8>,
}

/// A further process in the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Its id.
    pub id: String,
    /// What to run.
    pub process: Process,
    /// The client's stream; `None` runs it detached.
    pub attach: Option<Attach>,
}

/// Monitor to engine, an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello(Box<MonitorState>),
    /// The program runs.
    Started {
        /// Its process id, as the engine's host sees it.
        pid: i32,
        /// Start time in clock ticks since boot (field 22 of /proc/PID/stat).
        start_time: u64,
        /// What could not be had as asked for (a limit that can't be raised), one sentence each.
        warnings: Vec<String>,
    },
    /// Done.
    Done,
    /// Refused or failed.
    Failed {
        /// Kind of failure.
        class: Class,
        /// The whole text.
        message: String,
        /// For a start: 126, 127 or 128, as docker has it.
        exit_code: i32,
    },
}

/// What a monitor tells an engine that has come later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MonitorState {
    /// Its [`PROTOCOL_VERSION`].
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// The monitor's own process id.
    pub monitor_pid: i32,
    /// The container's first process.
    pub pid: i32,
    /// See [`Response::Started`].
    pub start_time: u64,
    /// Execs that are running, with their process ids.
    pub execs: Vec<(String, i32)>,
    /// Execs that ended while no engine listened (the last 64).
    pub ended_execs: Vec<(String, i32)>,
    /// Its health, if that is checked.
    #[serde(default)]
    pub health: Option<HealthState>,
    /// What of its log was lost.
    #[serde(default)]
    pub log_lost: Lost,
}

/// Monitor to engine, unasked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The container has ended; the record is on disk; the monitor ends after this.
    Exited(ExitRecord),
    /// An exec has ended.
    ExecExited {
        /// Its id.
        id: String,
        /// 0 to 255, or 128 + signal.
        exit_code: i32,
    },
    /// A client has been detached by its keys.
    Detached {
        /// The exec, or the container itself.
        exec: Option<String>,
    },
    /// The kernel killed something in the container's cgroup for want of memory.
    OutOfMemory,
    /// A check of its health has ended.
    Health(Box<HealthReport>),
    /// Output could not be logged; told now and then, with all that was lost so far.
    LogLost(Lost),
}

/// Monitor to engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// An answer.
    Reply(Numbered<Response>),
    /// An event.
    Event(Event),
}

/// How a container ended; written durably by its monitor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Format version, 1.
    pub version: u32,
    /// 0 to 255, or 128 + signal.
    pub exit_code: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since the Unix epoch.
    pub finished_at: i64,
    /// The signal that ended its first process, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The last signal that an engine had its monitor send to it.
    #[serde(default)]
    pub asked_signal: Option<i32>,
    /// What was done because it was unhealthy.
    #[serde(default)]
    pub unhealthy: Option<OnUnhealthy>,
    /// What it used when the kernel killed for want of memory.
    #[serde(default)]
    pub memory: Option<MemoryAtEnd>,
    /// Nobody saw the end: it is what was concluded from its absence.
    #[serde(default)]
    pub unseen: bool,
    /// What of its log was lost.
    #[serde(default)]
    pub log_lost: Lost,
    /// How long it ran, in nanoseconds that no clock's setting changes. Unknown to older monitors.
    #[serde(default)]
    pub lasted: Option<u64>,
    /// All kills for want of memory have been told as [`Event::OutOfMemory`].
    #[serde(default)]
    pub kills_told: bool,
    /// How often its limit of processes refused it a new one.
    #[serde(default)]
    pub refused_processes: u64,
}

/// Memory of a container in which the kernel killed something for want of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryAtEnd {
    /// The limit that was reached, in bytes; `None` when the machine's memory was the limit.
    pub limit: Option<u64>,
    /// The group above the container's whose limit that is; `None` for its own.
    #[serde(default)]
    pub group: Option<String>,
    /// The most that it used, in bytes, where the kernel tells.
    pub peak: Option<u64>,
    /// How many processes were killed.
    pub kills: u64,
}

impl MemoryAtEnd {
    /// From a group in which the kernel has killed so many processes for want of memory.
    pub fn of(cgroup: &naru_runtime::cgroup::Cgroup, kills: u64) -> Self {
        let naru_runtime::cgroup::MemoryShortage { limit, group, peak } = cgroup.memory_shortage();
        Self { limit, group, peak, kills }
    }
}
