//! Starting containers again: after an end, by their policy, and when an engine begins.
//!
//! The engine does it, not the monitor: a start needs the network, the image and the mounts, which are the engine's. An end while no engine
//! is there is in the monitor's exit record; the next engine reads it, and the policy judges it then as it would have at once.

use super::restart_policy::{self, Ended};
use super::{Container, Record};
use crate::types::{NamespaceMode, NetworkMode, Status, WaitOutcome};
use crate::{Engine, clock};
use naru_base::Id;
use naru_fs::Durability;
use naru_monitor::protocol::{ExitRecord, OnUnhealthy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How many containers an engine that begins starts at once.
const AT_ONCE: usize = 4;

/// What the policy says about an end of which the record has been told; the record's state is changed to it.
pub(crate) fn judge_end(record: &mut Record, end: &ExitRecord, lasted: i64) {
    let state = &record.state;
    let ended = Ended {
        exit_code: end.exit_code,
        // A clock that was set back makes it negative.
        lasted: Duration::from_nanos(u64::try_from(lasted).unwrap_or(0)),
        by_hand: state.stopped_by_hand || end.unhealthy == Some(OnUnhealthy::Stop),
        unhealthy: end.unhealthy == Some(OnUnhealthy::Restart),
        restarts: state.restart_count,
        last_pause: Duration::from_millis(state.backoff_ms),
    };
    if let Some(pause) = restart_policy::after_end(&record.host.restart, ended) {
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        record.state.await_restart(pause, clock::now());
        record.state.by_policy = !ended.unhealthy;
    }
}

impl Engine {
    /// Starts it again when its pause is over, unless somebody decides otherwise meanwhile.
    pub(crate) fn schedule_restart(self: &Arc<Self>, container: &Arc<Container>) {
        let ticket = container.new_restart_ticket();
        // By this engine's own clock from here on: the wall clock may jump.
        let pause = container.read(|r| r.state.restart_at).saturating_sub(clock::now());
        let pause = Duration::from_nanos(u64::try_from(pause).unwrap_or(0)).min(restart_policy::LONGEST_PAUSE);
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            engine.restart_by_policy(&container, ticket).await;
        });
    }

    async fn restart_by_policy(self: &Arc<Self>, container: &Arc<Container>, ticket: u64) {
        let _operation = container.operation.lock().await;
        if !container.holds_restart_ticket(ticket) || container.status() != Status::Restarting {
            return;
        }
        if container
            .read(|r| r.state.stopped_by_hand || (r.state.by_policy && !restart_policy::is_set(&r.host.restart)))
        {
            // Stopped, or its policy has been taken away, meanwhile.
            self.give_up_restart(container);
            return;
        }
        self.counters.restarts.add();
        if let Err(error) = self.start_again(container).await {
            tracing::warn!(container = container.id.short(), "could not be started again: {error}");
        }
    }

    /// A container that waits for its restart stays as it is; false when it doesn't wait. The caller holds its operation lock.
    pub(crate) fn give_up_restart(&self, container: &Container) -> bool {
        let waits = container.change(|r| {
            let waits = r.state.status == Status::Restarting;
            if waits {
                r.state.give_up_restart();
            }
            waits
        });
        if waits {
            container.new_restart_ticket();
            if let Err(error) = container.save(&self.records, Durability::Volatile) {
                tracing::warn!("{error}");
            }
            let exit_code = container.read(|r| r.state.exit_code);
            container.announce_end(WaitOutcome { exit_code, error: None });
        }
        waits
    }

    /// An engine that has just begun: those that had ended before, and are to be there by their policies.
    pub(crate) fn due_at_engine_start(&self) -> Vec<Arc<Container>> {
        let mut due = Vec::new();
        for container in self.containers.all() {
            let waits = container.change(|r| {
                let has_run = r.state.started_at != 0;
                if r.state.status == Status::Exited
                    && restart_policy::at_engine_start(&r.host.restart, has_run, r.state.stopped_by_hand)
                {
                    r.state.await_engine_start(&r.host.restart.name, clock::now());
                }
                r.state.status == Status::Restarting
            });
            if waits {
                due.push(container);
            }
        }
        due
    }

    /// Starts them: those that others need first, a few at once.
    pub(crate) async fn start_in_order(self: Arc<Self>, due: Vec<Arc<Container>>) {
        let needs = due.iter().map(|c| (c.id.clone(), self.needed_by(c))).collect();
        for level in levels(needs) {
            let mut running = tokio::task::JoinSet::new();
            for container in level.iter().filter_map(|id| self.containers.by_id(id)) {
                if running.len() == AT_ONCE {
                    running.join_next().await;
                }
                let engine = Arc::clone(&self);
                let ticket = container.new_restart_ticket();
                running.spawn(async move { engine.restart_by_policy(&container, ticket).await });
            }
            while running.join_next().await.is_some() {}
        }
    }

    /// The containers that this one can't do without.
    fn needed_by(&self, container: &Container) -> BTreeSet<Id> {
        let names = container.read(|r| {
            let mut names: Vec<String> =
                r.host.volumes_from.iter().map(|v| v.split(':').next().unwrap_or_default().to_owned()).collect();
            if let NetworkMode::Container(other) = &r.host.network {
                names.push(other.clone());
            }
            names.extend(r.host.links.iter().map(|link| crate::networks::link_target(link).to_owned()));
            for mode in [&r.host.ipc, &r.host.pid, &r.host.uts] {
                if let NamespaceMode::Container(other) = mode {
                    names.push(other.clone());
                }
            }
            names
        });
        names.iter().filter_map(|name| self.containers.find(name).ok()).map(|c| c.id.clone()).collect()
    }
}

/// Each level needs only what is in levels before it, or isn't here; a circle is a level of its own.
fn levels(mut needs: BTreeMap<Id, BTreeSet<Id>>) -> Vec<Vec<Id>> {
    let mut levels = Vec::new();
    while !needs.is_empty() {
        let free = |wanted: &BTreeSet<Id>| !wanted.iter().any(|id| needs.contains_key(id));
        let mut level: Vec<Id> = needs.iter().filter(|(_, wanted)| free(wanted)).map(|(id, _)| id.clone()).collect();
        if level.is_empty() {
            level = needs.keys().cloned().collect();
        }
        needs.retain(|id, _| !level.contains(id));
        levels.push(level);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_moves_no_pause() {
        const HOUR: i64 = 3_600_000_000_000;
        let mut record = crate::container::tests_support::record("a1", "loops");
        record.host.restart.name = "always".into();
        let mut pauses = Vec::new();
        // Each run: how long its monitor says that it lasted, in seconds, and by how much the clock was set meanwhile.
        for (seconds, jump) in [(1, 0), (1, HOUR), (1, 0), (1, -2 * HOUR), (11, -HOUR), (1, 0), (12, HOUR), (1, HOUR)] {
            let started_at = 100 * HOUR;
            record.state.begin(7, 1, "boot", started_at);
            let lasted = seconds * 1_000_000_000;
            let finished_at = started_at + jump + lasted;
            let lasted = u64::try_from(lasted).ok();
            let end = ExitRecord { exit_code: 3, finished_at, lasted, ..ExitRecord::default() };
            record.state.end(3, false, finished_at);
            let lasted = crate::container::exit::lasted(&end, started_at);
            judge_end(&mut record, &end, lasted);
            pauses.push(record.state.backoff_ms);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 100, 200, 100, 200]);
        assert_eq!(record.state.restart_count, 8);
    }

    #[test]
    fn what_is_needed_comes_first() {
        let [web, proxy, data, other] = [(); 4].map(|()| Id::random().unwrap());
        let set = |ids: &[&Id]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
        let needs = BTreeMap::from([
            (proxy.clone(), set(&[&web])),
            (web.clone(), set(&[&data, &other])),
            (data.clone(), set(&[])),
        ]);
        assert_eq!(levels(needs), [vec![data.clone()], vec![web.clone()], vec![proxy.clone()]]);
        let circle = BTreeMap::from([(web.clone(), set(&[&proxy])), (proxy, set(&[&web]))]);
        assert_eq!(levels(circle).len(), 1);
    }
}
