//! Why a container is as it is: from facts that were kept, each with its time and its cause.

use super::history::Fact;
use super::{ResolvedMount, restart_policy};
use crate::types::{ContainerView, Status, UnixNanos};
use crate::{Engine, clock};
use naru_base::size::human_size;
use naru_base::{Id, Result};
use std::time::Duration;

/// The answer.
#[derive(Debug, Clone)]
pub struct Why {
    /// Whole id.
    pub id: Id,
    /// Name without slash.
    pub name: String,
    /// State.
    pub status: Status,
    /// What is so now, and why.
    pub lines: Vec<WhyLine>,
    /// What happened, oldest first.
    pub history: Vec<Fact>,
}

/// One reason.
#[derive(Debug, Clone)]
pub struct WhyLine {
    /// Since when; 0 where that means nothing.
    pub at: UnixNanos,
    /// `state`, `start`, `end`, `restart`, `health`, `port`, `log`, `disk`.
    pub topic: &'static str,
    /// In words.
    pub text: String,
}

impl Engine {
    /// Why a container is as it is.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn why(&self, name: &str) -> Result<Why> {
        let container = self.containers.find(name)?;
        let record = container.read(Clone::clone);
        let view = self.view(&container);
        let mut lines = Vec::new();
        let mut say = |at: UnixNanos, topic: &'static str, text: String| lines.push(WhyLine { at, topic, text });
        match view.status {
            Status::Created => say(view.created, "state", "was created, and has never run".into()),
            Status::Running => say(view.started_at, "state", "runs".into()),
            Status::Paused => say(view.started_at, "state", "runs, and is paused".into()),
            Status::Restarting => {
                let left = record.state.restart_at.saturating_sub(clock::now());
                let left = Duration::from_millis(u64::try_from(left / 1_000_000).unwrap_or(0));
                say(record.state.restart_at, "restart", format!("waits for its next start, in {left:?}"));
            }
            Status::Removing => say(0, "state", "is being removed".into()),
            Status::Exited => say(view.finished_at, "state", format!("has ended ({})", view.exit_code)),
            Status::Dead => say(0, "state", "could not be removed; rm -f tries again".into()),
        }
        let last = |topic: &str| record.state.history.iter().rev().find(|fact| fact.what.topic() == topic);
        if !view.error.is_empty() {
            say(view.finished_at, "start", format!("could not be started: {}", view.error));
        } else if let Some(fact) = last("end").filter(|_| !record.state.has_process()) {
            say(fact.at, "end", fact.what.sentence());
        }
        if view.restart_count > 0 {
            say(view.finished_at, "restart", format!("was started again {} times by itself", view.restart_count));
        }
        if restart_policy::is_set(&view.host.restart) && view.status == Status::Exited {
            let policy = &view.host.restart.name;
            let why =
                if record.state.stopped_by_hand { "a user stopped it" } else { "this end is none that it acts on" };
            say(view.finished_at, "restart", format!("its policy {policy} doesn't start it again: {why}"));
        }
        if let Some(health) = &view.health {
            let streak = health.failing_streak;
            let said = health.log.last().map(|r| r.output.trim().chars().take(200).collect::<String>());
            let at = health.log.last().map_or(0, |r| r.end);
            let said =
                said.filter(|s| !s.is_empty()).map_or_else(String::new, |s| format!("; the last check said {s:?}"));
            say(at, "health", format!("is {}, {streak} failures in a row{said}", health.status.as_str()));
        }
        for (port, bindings) in view.ports.iter().filter(|_| record.state.has_process()) {
            for binding in bindings {
                // While it runs, and no longer.
                let text =
                    format!("holds port {} of {:?} for {port}, because it runs", binding.host_port, binding.host_ip);
                say(view.started_at, "port", text);
            }
        }
        if view.log_lost.records > 0 {
            let naru_log::Lost { records, at, reason } = &view.log_lost;
            say(*at, "log", format!("{records} records of its output are in no log: {reason}"));
        }
        say(view.created, "disk", self.disk_sentence(&view, &record.mounts));
        Ok(Why { id: record.id, name: record.name, status: view.status, lines, history: record.state.history })
    }
}

impl Engine {
    /// What of the disk it holds, and until when.
    fn disk_sentence(&self, view: &ContainerView, mounts: &[ResolvedMount]) -> String {
        let (layer, log) = (crate::disk::usage(&view.files.upper), log_size(&view.files.log));
        let (layer, log) = (human_size(layer as f64), human_size(log as f64));
        let mut text = format!(
            "holds until it is removed: writable layer {layer}, log {log}, and the layers of its image {}",
            view.config.image
        );
        let volumes: Vec<&str> =
            mounts.iter().filter(|m| m.view.kind == "volume").map(|m| m.view.name.as_str()).collect();
        if !volumes.is_empty() {
            text.push_str(&format!("; keeps from being pruned: volume {}", volumes.join(", ")));
        }
        text
    }
}

/// A log with its rotated files.
pub(crate) fn log_size(log: &std::path::Path) -> u64 {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else { return 0 };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(name)));
    own.filter_map(|e| e.metadata().ok()).map(|meta| crate::disk::size_of(&meta)).sum()
}
