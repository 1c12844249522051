//! What follows when a container has ended: waiters first, then its record, its network, and its removal if asked for.

use super::Container;
use super::history::{self, What};
use crate::networks::Networks;
use crate::types::{Status, UnixNanos, WaitOutcome};
use crate::{Engine, clock};
use naru_base::{Class, Id};
use naru_fs::Durability;
use naru_monitor::protocol::{EXIT_RECORD, Event, ExitRecord, MemoryAtEnd};
use std::sync::Arc;

/// How long it ran, in nanoseconds: as its monitor measured it, where that could, since clocks jump; otherwise by the wall clock, which may
/// make it negative.
pub(super) fn lasted(record: &ExitRecord, started_at: UnixNanos) -> i64 {
    let by_clocks = record.finished_at.saturating_sub(started_at);
    record.lasted.map_or(by_clocks, |lasted| i64::try_from(lasted).unwrap_or(i64::MAX))
}

impl Engine {
    /// A monitor has something to tell.
    pub(crate) fn monitor_event(self: &Arc<Self>, id: &Id, event: Event) {
        let Some(container) = self.containers.by_id(id) else { return };
        match event {
            Event::Exited(record) if container.keep_end(&record) => {}
            Event::Exited(record) => self.ended(&container, &record),
            Event::ExecExited { id: exec, exit_code } => self.exec_ended(&container, &exec, exit_code),
            Event::Detached { exec: None } => self.container_event(&container, "detach", &[]),
            Event::Detached { exec: Some(exec) } => self.exec_detached(&container, &exec),
            Event::Health(report) => self.health_checked(&container, *report),
            Event::LogLost(lost) => self.log_lost(&container, lost),
            Event::OutOfMemory => self.out_of_memory(&container),
        }
    }

    /// The kernel has killed something in it, and it goes on.
    fn out_of_memory(&self, container: &Container) {
        let memory = self.cgroup(container).ok().and_then(|cgroup| {
            let kills = cgroup.oom_kills().ok()?;
            Some(MemoryAtEnd::of(&cgroup, kills))
        });
        // Gone meanwhile, the group tells nothing; the container's end will.
        let what = memory.map_or(What::OutOfMemory, What::MemoryKills);
        container.change(|r| history::note(&mut r.state.history, clock::now(), what));
        self.container_event(container, "oom", &[]);
    }

    /// A monitor's connection has closed. After an `Exited` that is its end; otherwise it was killed.
    pub(crate) fn monitor_gone(self: &Arc<Self>, id: &Id) {
        let Some(container) = self.containers.by_id(id) else { return };
        let found = self.read_exit_record(id);
        let record = found.clone().unwrap_or_else(|| ExitRecord {
            exit_code: 137,
            finished_at: clock::now(),
            unseen: true,
            ..ExitRecord::default()
        });
        // While a start is under way its request fails by this, or its end is kept already.
        if container.keep_end(&record) || container.monitor().is_none() {
            return;
        }
        if found.is_none() {
            tracing::warn!(container = id.short(), "its monitor has died: the container dies with it");
        }
        self.kill_remains(&container);
        self.ended(&container, &record);
    }

    /// Output could not be logged.
    pub(crate) fn log_lost(&self, container: &Container, lost: naru_log::Lost) {
        let before = container.change(|r| std::mem::replace(&mut r.state.log_lost, lost.clone()));
        self.counters.log_records_lost.add_many(lost.records.saturating_sub(before.records));
        if before.reason != lost.reason {
            tracing::warn!(container = container.id.short(), "records of its log are lost: {}", lost.reason);
        }
    }

    /// The record that a monitor left, if it is of the current run.
    pub(crate) fn read_exit_record(&self, id: &Id) -> Option<ExitRecord> {
        let folder = naru_fs::Root::open_host(self.config.container_dir(id)).ok()?;
        naru_fs::durable::read_json(&folder, EXIT_RECORD).ok().flatten()
    }

    /// The container has ended. Waiters are told before anything slow is done. Where its policy wants it to be started again, that follows.
    pub(crate) fn ended(self: &Arc<Self>, container: &Arc<Container>, record: &ExitRecord) {
        naru_sys::fault::point();
        self.note_end(container, record);
        if container.read(|r| r.state.status) == Status::Restarting {
            self.schedule_restart(container);
        }
    }

    /// As [`Engine::ended`], but a restart is left to the caller.
    pub(crate) fn note_end(self: &Arc<Self>, container: &Arc<Container>, record: &ExitRecord) {
        let lasted = container.change(|r| {
            if !r.state.has_process() {
                return None;
            }
            let lasted = lasted(record, r.state.started_at);
            r.state.end(record.exit_code, record.oom_killed, record.finished_at);
            history::note(&mut r.state.history, record.finished_at, What::ended(record, r.host.resources.pids_limit));
            super::health::after_change(r, false);
            super::restart::judge_end(r, record, lasted);
            Some(lasted)
        });
        // Told twice.
        let Some(lasted) = lasted else { return };
        if record.log_lost.records > 0 {
            self.log_lost(container, record.log_lost.clone());
        }
        self.counters.deaths.add();
        self.close_ports(container);
        container.set_monitor(None);
        self.give_back_mounted(container, container.id.as_str());
        if record.oom_killed && !record.kills_told {
            self.container_event(container, "oom", &[]);
        }
        self.exit_event(container, record.exit_code, lasted);
        self.unmount_events(container);
        // Before anyone is told: whoever hears of the end may remove the network at once.
        self.follow_links(Some(&container.id));
        let left = self.release_sandbox(container);
        container.set_lease(None);
        // Asked before: who restarts or removes it, and hears of the end, has its own mind about that.
        let auto_remove = container.read(|r| r.host.auto_remove);
        container.announce_end(WaitOutcome { exit_code: record.exit_code, error: None });
        self.execs.container_ended(&container.id);
        self.tell_left(container, &left);
        if auto_remove {
            self.remove_in_background(container);
        } else if let Err(error) = container.save(&self.records, Durability::Volatile)
            // Who heard of the end may have removed it.
            && error.class() != Class::NotFound
        {
            // The monitor's own record is on the disk: the next start takes it up again.
            tracing::warn!("{error}");
        }
        Networks::refill(self);
    }

    pub(crate) fn exit_event(&self, container: &Container, exit_code: i32, lasted: i64) {
        let seconds = (lasted / 1_000_000_000).max(0).to_string();
        self.container_event(container, "die", &[("execDuration", &seconds), ("exitCode", &exit_code.to_string())]);
    }

    /// Removes an exit record that a monitor was killed over. What can't be removed goes with the container.
    fn remove_unfinished_record(&self, id: &Id) {
        let Ok(folder) = naru_fs::Root::open_host(self.config.container_dir(id)) else { return };
        for name in folder.list("/").unwrap_or_default().iter().filter_map(|n| n.to_str()) {
            if name.starts_with(".tmp-") && name.ends_with(EXIT_RECORD) {
                let _ = naru_fs::durable::remove(&folder, name, Durability::Volatile);
            }
        }
    }

    /// Kills what a dead monitor may have left in the container's cgroup, and removes that.
    pub(crate) fn kill_remains(&self, container: &Container) {
        self.remove_unfinished_record(&container.id);
        if let Ok(cgroup) = self.cgroup(container) {
            if let Err(error) = cgroup.kill_all() {
                tracing::warn!(container = container.id.short(), "{error}");
            }
            if let Err(error) = cgroup.remove() {
                tracing::warn!(container = container.id.short(), "{error}");
            }
        }
    }
}
