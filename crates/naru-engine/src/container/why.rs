//! Why a container is as it is: from facts that were kept, each with its time and its cause.

use super::history::{Fact, What};
use super::{Container, Record, ResolvedMount, restart_policy};
use crate::types::{ContainerView, HealthStatus, Status, UnixNanos};
use crate::{Engine, clock};
use naru_base::size::human_size;
use naru_base::{Id, Result};
use std::sync::Arc;
use std::time::Duration;

/// How much of a line of output is shown, in characters.
const SHOWN: usize = 200;
/// A file system with less room than this counts as full, in bytes.
const LITTLE: u64 = 1 << 20;

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
    /// `state`, `start`, `end`, `restart`, `memory`, `pids`, `health`, `port`, `log`, `disk` (docs/why.md).
    pub topic: &'static str,
    /// In words.
    pub text: String,
}

impl Engine {
    /// Why a container is as it is.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn why(self: &Arc<Self>, name: &str) -> Result<Why> {
        let container = self.containers.find(name)?;
        let engine = Arc::clone(self);
        // Folders are walked, and files read.
        crate::image::blocking(move || Ok(engine.why_of(&container))).await
    }

    fn why_of(&self, container: &Container) -> Why {
        let record = container.read(Clone::clone);
        let view = self.view(container);
        let mut lines = vec![state(&record, &view)];
        end(&record, &view, &mut lines);
        if !record.state.has_process() && view.exit_code != 0 && view.error.is_empty() {
            lines.extend(self.last_words(&record));
        }
        restarts(&record, &view, &mut lines);
        lines.extend(self.shortages(container, &record));
        lines.extend(health(&record, &view));
        lines.extend(ports(&record, &view));
        if view.log_lost.records > 0 {
            let naru_log::Lost { records, at, reason } = &view.log_lost;
            lines.push(WhyLine::new(*at, "log", format!("{records} records of its output are in no log: {reason}")));
        }
        lines.push(WhyLine::new(view.created, "disk", self.disk_sentence(&view, &record.mounts)));
        lines.extend(self.full_disk(&view));
        Why { id: record.id, name: record.name, status: view.status, lines, history: record.state.history }
    }

    /// The last line of its output: for a program that failed, that is mostly its reason.
    fn last_words(&self, record: &Record) -> Option<WhyLine> {
        let settings = &record.host.log;
        let name = if settings.driver.is_empty() { crate::log_config::DEFAULT_DRIVER } else { &settings.driver };
        let path = crate::log_config::path(settings, &self.config.container_dir(&record.id), record.id.as_str())?;
        let last = naru_log::last_entry(naru_log::find(name)?, &path).ok()??;
        // Of an earlier run otherwise. Its monitor has both times from one clock; the engine notes the start a moment after it.
        let begun = record.state.history.iter().rev().find_map(|fact| match fact.what {
            What::Ended { lasted, .. } => Some(lasted.map(|l| fact.at.saturating_sub_unsigned(l))),
            _ => None,
        });
        if last.time < begun.flatten().unwrap_or(record.state.started_at) {
            return None;
        }
        let text: String = String::from_utf8_lossy(&last.text).trim().chars().take(SHOWN).collect();
        (!text.is_empty()).then(|| WhyLine::new(last.time, "log", format!("the last line of its output: {text:?}")))
    }

    /// What a container that runs has run short of.
    fn shortages(&self, container: &Container, record: &Record) -> Vec<WhyLine> {
        let mut lines = Vec::new();
        if !record.state.has_process() {
            return lines;
        }
        let of_this_run = |fact: &&Fact| fact.at >= record.state.started_at;
        let memory = record.state.history.iter().rev().filter(of_this_run).find(|fact| fact.what.topic() == "memory");
        lines.extend(memory.map(|fact| WhyLine::new(fact.at, "memory", fact.what.sentence())));
        let refused = self.cgroup(container).map_or(0, |cgroup| cgroup.refused_processes());
        if refused > 0 {
            let limit = record.host.resources.pids_limit.unwrap_or_default();
            let text = format!("its limit of {limit} of processes has refused it a further one {refused} times");
            lines.push(WhyLine::new(clock::now(), "pids", text));
        }
        lines
    }

    /// A file system without room: whatever writes fails then.
    fn full_disk(&self, view: &ContainerView) -> Option<WhyLine> {
        let stat = rustix::fs::statvfs(&view.files.upper).ok()?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        (stat.f_blocks > 0 && free < LITTLE).then(|| {
            let text = format!("the file system of its writable layer is full: {} are left", human_size(free as f64));
            WhyLine::new(clock::now(), "disk", text)
        })
    }
}

impl WhyLine {
    fn new(at: UnixNanos, topic: &'static str, text: impl Into<String>) -> Self {
        Self { at, topic, text: text.into() }
    }
}

fn state(record: &Record, view: &ContainerView) -> WhyLine {
    match view.status {
        Status::Created => WhyLine::new(view.created, "state", "was created, and has never run"),
        Status::Running => WhyLine::new(view.started_at, "state", "runs"),
        Status::Paused => WhyLine::new(view.started_at, "state", "runs, and is paused"),
        Status::Restarting => {
            let left = record.state.restart_at.saturating_sub(clock::now());
            let left = Duration::from_millis(u64::try_from(left / 1_000_000).unwrap_or(0));
            WhyLine::new(record.state.restart_at, "restart", format!("waits for its next start, in {left:?}"))
        }
        Status::Removing => WhyLine::new(0, "state", "is being removed"),
        Status::Exited => WhyLine::new(view.finished_at, "state", format!("has ended ({})", view.exit_code)),
        Status::Dead => WhyLine::new(0, "state", "could not be removed; rm -f tries again"),
    }
}

/// How it ended, and who had asked for that.
fn end(record: &Record, view: &ContainerView, lines: &mut Vec<WhyLine>) {
    if !view.error.is_empty() {
        lines.push(WhyLine::new(view.finished_at, "start", format!("could not be started: {}", view.error)));
        return;
    }
    if record.state.has_process() {
        return;
    }
    let history = &record.state.history;
    let Some(at) = history.iter().rposition(|fact| matches!(fact.what, What::Ended { .. })) else { return };
    let begun = history[..at].iter().rposition(|fact| matches!(fact.what, What::Started { .. })).unwrap_or(0);
    let asked = history[begun..at].iter().rev().find(|fact| matches!(fact.what, What::Asked { .. }));
    let sick = |fact: &&Fact| matches!(fact.what, What::Health { status: HealthStatus::Unhealthy, .. });
    let for_health = matches!(history[at].what, What::Ended { unhealthy: Some(_), .. });
    let sick = history[begun..at].iter().rev().find(sick).filter(|_| for_health);
    let causes = asked.into_iter().chain(sick).chain([&history[at]]);
    lines.extend(causes.map(|fact| WhyLine::new(fact.at, fact.what.topic(), fact.what.sentence())));
}

fn restarts(record: &Record, view: &ContainerView, lines: &mut Vec<WhyLine>) {
    let count = view.restart_count;
    if count > 0 {
        let times = if count == 1 { "once" } else { &format!("{count} times") };
        let text = format!("was started again {times} by itself since a user started it");
        lines.push(WhyLine::new(view.finished_at, "restart", text));
    }
    let policy = &view.host.restart;
    if !restart_policy::is_set(policy) || view.status != Status::Exited {
        return;
    }
    let (name, limit) = (&policy.name, policy.maximum_retry_count);
    let why = if record.state.stopped_by_hand {
        "a user stopped it".to_owned()
    } else if name == "on-failure" && view.exit_code == 0 {
        "it ended with 0, which is no failure".to_owned()
    } else if name == "on-failure" && limit > 0 && count >= limit {
        format!("it has been started again as often as that allows ({limit})")
    } else {
        "this end is none that it acts on".to_owned()
    };
    let text = format!("its policy {name} doesn't start it again: {why}");
    lines.push(WhyLine::new(view.finished_at, "restart", text));
}

fn health(record: &Record, view: &ContainerView) -> Option<WhyLine> {
    let health = view.health.as_ref()?;
    let last = health.log.last();
    let at = last.map_or(view.started_at, |result| result.end);
    if !record.state.has_process() {
        return None;
    }
    if view.status == Status::Paused {
        return Some(WhyLine::new(at, "health", "counts as unhealthy while it is paused: nothing checks it"));
    }
    let said: String = last.map_or_else(String::new, |result| result.output.trim().chars().take(SHOWN).collect());
    let said = match (last, said.is_empty()) {
        (None, _) => "; no check has ended yet".to_owned(),
        (Some(last), true) => format!("; the last check ended with {} and said nothing", last.exit_code),
        (Some(_), false) => format!("; the last check said {said:?}"),
    };
    let (status, streak) = (health.status.as_str(), health.failing_streak);
    let failures = if streak == 1 { "failure" } else { "failures" };
    Some(WhyLine::new(at, "health", format!("is {status}, {streak} {failures} in a row{said}")))
}

/// What it holds while it runs, and no longer.
fn ports(record: &Record, view: &ContainerView) -> Vec<WhyLine> {
    let mut lines = Vec::new();
    for (port, bindings) in view.ports.iter().filter(|_| record.state.has_process()) {
        for binding in bindings {
            let text = format!("holds port {} of {:?} for {port}, because it runs", binding.host_port, binding.host_ip);
            lines.push(WhyLine::new(view.started_at, "port", text));
        }
    }
    lines
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
