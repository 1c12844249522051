//! The listener of a seccomp filter that notifies goes to the agent that the bundle names, with the state of the process
//! (config-linux.md, "The Container Process State").

use crate::console::{connect, send_with};
use crate::state::{State, Status};
use naru_base::Result;
use naru_runtime::ListenerReceiver;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// The agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// Where it listens.
    pub path: PathBuf,
    /// What it is told beside the state.
    pub metadata: String,
}

/// Who takes listeners of processes of this container there, if it has an agent.
pub(crate) fn receiver(state: &State, status: Status) -> Option<ListenerReceiver> {
    let (agent, state) = (state.listener.clone()?, state.clone());
    let send = move |listener, pid: i32| -> Result<()> {
        let container = if state.pid == 0 { pid } else { state.pid };
        let told = serde_json::json!({
            "ociVersion": state.oci_version,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": agent.metadata,
            "state": state.document(container, status.name()),
        });
        let socket = connect("seccomp agent", &agent.path)?;
        send_with("the seccomp listener", &socket, told.to_string().as_bytes(), &listener)
    };
    Some(ListenerReceiver(Arc::new(send)))
}
