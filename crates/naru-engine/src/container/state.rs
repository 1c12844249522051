//! In which states a container can be, and every way from one to another.
//!
//! ```text
//!            start                pause
//! created ---------> running <-----------> paused
//!    |  failed start   |  ^     unpause      |
//!    +-(stays)         |  | start            |
//!                  end |  +---- exited <-----+ end
//!                      |         |   ^
//!         end, policy  v         |   | stop, policy says no more
//!                  restarting <--+   |
//!                      |   engine start, policy
//!                      +-------------+
//! ```
//!
//! `removing` and `dead` (a removal that failed) are not in the record: they last no longer than the engine, and lie over the state that is
//! shown otherwise. Whatever changes the state and takes time holds the container's operation lock; an end comes when it comes, and is the
//! only change without it.

use super::history::{Fact, What, note};
use crate::types::{HealthState, HealthStatus, Status, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// A user stopped it: no policy starts it again before the next engine, and `unless-stopped` not even then.
    pub stopped_by_hand: bool,
    pub sandbox_id: String,
    /// Its places on networks while it runs, by the network's name; taken up again by an engine that finds it running.
    #[serde(default)]
    pub attached: BTreeMap<String, naru_net::Endpoint>,
    /// The host's id of its root, while it runs in another user namespace than the host's.
    #[serde(default)]
    pub first_id: Option<u32>,
    /// The host's ports that lead to it while it runs.
    #[serde(default)]
    pub ports: Vec<crate::ports::PublishedPort>,
    /// Pause before the restart that came last or is to come, in milliseconds; 0 when there was none.
    #[serde(default)]
    pub backoff_ms: u64,
    /// When it is to be started again; only of meaning while restarting.
    #[serde(default)]
    pub restart_at: UnixNanos,
    /// The restart to come is its policy's, not its health check's.
    #[serde(default)]
    pub by_policy: bool,
    /// Where its cgroup is while it runs, or was when it did.
    #[serde(default)]
    pub cgroup: Option<crate::cgroups::Place>,
    /// Its health, if that is checked.
    #[serde(default)]
    pub health: Option<HealthState>,
    /// What of its log was lost since its last start.
    #[serde(default)]
    pub log_lost: naru_log::Lost,
    /// What has happened to it, oldest first.
    #[serde(default)]
    pub history: Vec<Fact>,
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
            attached: BTreeMap::new(),
            first_id: None,
            ports: Vec::new(),
            backoff_ms: 0,
            restart_at: 0,
            by_policy: false,
            cgroup: None,
            health: None,
            log_lost: naru_log::Lost::default(),
            history: Vec::new(),
        }
    }
}

/// Whether a container can come from the one state to the other.
pub(crate) const fn is_allowed(from: Status, to: Status) -> bool {
    use Status::{Created, Exited, Paused, Restarting, Running};
    matches!(
        (from, to),
        (Created, Running | Created)
            | (Running, Paused | Exited | Restarting)
            | (Paused, Running | Exited | Restarting)
            | (Restarting, Running | Exited | Restarting)
            | (Exited, Running | Exited | Restarting)
    )
}

impl State {
    fn enter(&mut self, to: Status) {
        debug_assert!(is_allowed(self.status, to), "from {:?} to {to:?}", self.status);
        if !is_allowed(self.status, to) {
            tracing::error!("a container came from {:?} to {to:?}, which is no way", self.status);
        }
        self.status = to;
    }

    /// Whether its process is there, frozen or not.
    pub(crate) fn has_process(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }

    /// It runs now.
    pub(crate) fn begin(&mut self, pid: i32, start_time: u64, boot_id: &str, now: UnixNanos) {
        let by_itself = self.status == Status::Restarting;
        note(&mut self.history, now, What::Started { by_itself });
        self.enter(Status::Running);
        self.pid = pid;
        self.start_time = start_time;
        self.boot_id = boot_id.to_owned();
        self.exit_code = 0;
        self.error.clear();
        self.oom_killed = false;
        self.log_lost = naru_log::Lost::default();
        self.started_at = now;
    }

    /// It is frozen. Its health, which nothing checks now, counts as bad until a check has succeeded again, as docker has it.
    pub(crate) fn pause(&mut self) {
        self.enter(Status::Paused);
        if let Some(health) = &mut self.health {
            health.status = HealthStatus::Unhealthy;
        }
    }

    /// It is frozen no more.
    pub(crate) fn resume(&mut self) {
        self.enter(Status::Running);
    }

    /// It has ended.
    pub(crate) fn end(&mut self, exit_code: i32, oom_killed: bool, at: UnixNanos) {
        self.enter(Status::Exited);
        self.clear_process();
        self.exit_code = exit_code;
        self.oom_killed = oom_killed;
        self.finished_at = at;
    }

    /// It could not be started.
    pub(crate) fn fail_start(&mut self, exit_code: i32, error: &str, at: UnixNanos) {
        // One that has never run stays what it is.
        self.enter(if self.started_at == 0 { Status::Created } else { Status::Exited });
        self.clear_process();
        self.exit_code = exit_code;
        error.clone_into(&mut self.error);
        note(&mut self.history, at, What::StartFailed { exit_code, error: error.to_owned() });
        self.oom_killed = false;
        self.finished_at = at;
    }

    /// It has ended, and is to be started again after a pause.
    pub(crate) fn await_restart(&mut self, backoff_ms: u64, now: UnixNanos) {
        self.enter(Status::Restarting);
        self.restart_count += 1;
        note(&mut self.history, now, What::RestartPlanned { pause_ms: backoff_ms });
        self.backoff_ms = backoff_ms;
        self.restart_at = now.saturating_add(i64::try_from(backoff_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    }

    /// It is to be started by this engine, which has just begun.
    pub(crate) fn await_engine_start(&mut self, policy: &str, now: UnixNanos) {
        self.enter(Status::Restarting);
        note(&mut self.history, now, What::EngineBegan { policy: policy.to_owned() });
        self.stopped_by_hand = false;
        self.restart_at = now;
    }

    /// It was to be started again, and isn't any more.
    pub(crate) fn give_up_restart(&mut self) {
        self.enter(Status::Exited);
        self.restart_at = 0;
    }

    fn clear_process(&mut self) {
        self.pid = 0;
        self.start_time = 0;
        self.sandbox_id.clear();
        self.attached.clear();
        self.first_id = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: [Status; 5] = [Status::Created, Status::Running, Status::Paused, Status::Restarting, Status::Exited];

    #[test]
    fn every_way_is_written_down() {
        let ways: Vec<String> = KEPT
            .iter()
            .map(|from| {
                let to: Vec<&str> = KEPT.iter().filter(|to| is_allowed(*from, **to)).map(|s| s.as_str()).collect();
                format!("{}: {}", from.as_str(), to.join(" "))
            })
            .collect();
        assert_eq!(
            ways,
            [
                "created: created running",
                "running: paused restarting exited",
                "paused: running restarting exited",
                "restarting: running restarting exited",
                "exited: running restarting exited",
            ]
        );
        // What is being removed comes back to nothing.
        for to in KEPT {
            assert!(!is_allowed(Status::Removing, to) && !is_allowed(Status::Dead, to));
        }
    }

    #[test]
    fn a_life_with_a_restart() {
        let mut state = State::default();
        state.fail_start(127, "no such file", 1);
        assert_eq!((state.status, state.exit_code, state.error.as_str()), (Status::Created, 127, "no such file"));
        state.begin(7, 1, "boot", 2);
        assert!(state.has_process() && state.error.is_empty());
        state.pause();
        state.end(1, false, 3);
        state.await_restart(100, 3);
        assert_eq!((state.status, state.restart_count, state.restart_at), (Status::Restarting, 1, 100_000_003));
        assert!(state.status.is_running() && !state.has_process());
        state.fail_start(128, "no memory", 4);
        assert_eq!(state.status, Status::Exited);
        state.await_restart(200, 4);
        state.give_up_restart();
        assert_eq!((state.status, state.pid), (Status::Exited, 0));
    }

    #[test]
    #[should_panic(expected = "from Created to Paused")]
    #[cfg(debug_assertions)]
    fn what_is_no_way_is_a_defect() {
        State::default().pause();
    }
}
