//! A container's processes: their streams, what they logged, and further ones.

use super::UnixNanos;
use naru_base::Id;
pub use naru_log::Position as LogPosition;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

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
    /// Only what comes after this line.
    pub after: Option<LogPosition>,
    /// Tell where `tail` begins to follow, also when it has shown no line.
    pub marks: bool,
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
    /// Where it is in the log.
    pub position: LogPosition,
    /// It is none: everything up to its position has been looked at.
    pub mark: bool,
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
