//! What an engine and a monitor say to each other, and an engine and the spawner.
//!
//! Transport: a unix stream socket. A frame is two little-endian `u32`s, the length of its JSON and the number of its descriptors, and the
//! JSON; the descriptors travel with its first byte (SCM_RIGHTS; see [`crate::wire`]). The engine sends [`Request`]s, numbered; the monitor answers each with a [`Reply`] of the
//! same number, in any order, and sends [`Event`]s when it likes. A monitor speaks to several engines one after another: the one
//! that spawned it over a socketpair, later ones over `monitor.sock` in the container's run folder.
//!
//! A monitor writes the exit record durably (`exit.json`, [`ExitRecord`]) before it tells anyone, and ends when it has told.

use naru_base::Class;
use naru_runtime::plan::{Plan, Process};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The newest version of this protocol; an engine speaks it and every older one that it may meet.
pub const PROTOCOL_VERSION: u32 = 1;
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
}

/// Everything a monitor needs to start its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartRequest {
    /// The plan.
    pub plan: Plan,
    /// Which descriptors come with the frame: net, ipc, pid, uts, user.
    pub namespaces: [bool; 5],
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
}

/// How output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogConfig {
    /// Not at all.
    None,
    /// docker's `json-file` format.
    JsonFile {
        /// The file.
        path: PathBuf,
        /// Bytes after which it is rotated; 0 for never.
        max_size: u64,
        /// How many files are kept, the current one among them.
        max_files: u32,
    },
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
    /// Frame the output (docker's 8-byte headers); false with a terminal.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Format version, 1.
    pub version: u32,
    /// 0 to 255, or 128 + signal.
    pub exit_code: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since the Unix epoch.
    pub finished_at: i64,
}
