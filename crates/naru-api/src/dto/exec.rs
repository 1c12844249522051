//! Execs, asked for and shown.

use super::host_config::ConsoleSize;
use crate::decode::tolerant::string_or_list;
use naru_engine::types::ExecView;
use serde::{Deserialize, Serialize};

/// docker's `ExecConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExecConfig {
    pub(crate) user: String,
    pub(crate) privileged: bool,
    pub(crate) tty: bool,
    pub(crate) console_size: ConsoleSize,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) detach_keys: String,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "string_or_list")]
    pub(crate) cmd: Option<Vec<String>>,
}

/// docker's `ExecStartOptions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExecStart {
    pub(crate) detach: bool,
    pub(crate) tty: bool,
    pub(crate) console_size: ConsoleSize,
}

/// docker's `ExecInspectResponse`.
#[derive(Debug, Serialize)]
pub(crate) struct ExecInspect {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Running")]
    running: bool,
    #[serde(rename = "ExitCode")]
    exit_code: Option<i32>,
    #[serde(rename = "ProcessConfig")]
    process_config: ProcessConfig,
    #[serde(rename = "OpenStdin")]
    open_stdin: bool,
    #[serde(rename = "OpenStderr")]
    open_stderr: bool,
    #[serde(rename = "OpenStdout")]
    open_stdout: bool,
    #[serde(rename = "CanRemove")]
    can_remove: bool,
    #[serde(rename = "ContainerID")]
    container_id: String,
    #[serde(rename = "DetachKeys")]
    detach_keys: String,
    #[serde(rename = "Pid")]
    pid: i32,
}

#[derive(Debug, Serialize)]
struct ProcessConfig {
    tty: bool,
    entrypoint: String,
    arguments: Vec<String>,
    privileged: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
}

impl ExecInspect {
    pub(crate) fn of(view: ExecView) -> Self {
        let mut command = view.settings.command.into_iter();
        Self {
            id: view.id.to_string(),
            running: view.running,
            exit_code: view.exit_code,
            process_config: ProcessConfig {
                tty: view.settings.tty,
                entrypoint: command.next().unwrap_or_default(),
                arguments: command.collect(),
                privileged: view.settings.privileged,
                user: view.settings.user,
            },
            open_stdin: view.settings.attach_stdin,
            open_stderr: view.settings.attach_stderr,
            open_stdout: view.settings.attach_stdout,
            can_remove: false,
            container_id: view.container.to_string(),
            detach_keys: view.settings.detach_keys.unwrap_or_default(),
            pid: view.pid,
        }
    }
}
