//! Containers: one [`Container`] each, all in the [`Table`].
//!
//! A container's facts are in its record, behind a lock that is never held across an await. What takes time (start, stop, remove)
//! holds the container's operation lock, so that two such operations on one container come one after the other.

mod archive;
mod attach;
mod changes;
mod commit;
mod create;
mod exit;
mod explain;
mod files;
mod filter;
mod health;
mod history;
mod logs;
mod merge;
mod mounts;
mod plan;
mod propagation;
mod record;
mod remove;
mod restart;
mod restart_policy;
mod start;
mod state;
mod stats;
mod stop;
mod table;
#[cfg(test)]
pub(crate) mod tests_support;
mod update;
mod view;
mod wait;
mod why;

pub use archive::{ArchiveStat, UnpackOptions};
pub use attach::AttachTicket;
pub use filter::CONTAINER_FILTERS;
pub use history::{Fact, What};
pub use stats::StatsSample;
pub(crate) use why::log_size;
pub use why::{Why, WhyLine};

pub(crate) use attach::PendingAttach;
pub(crate) use filter::{label_fits, name_pattern};
pub(crate) use merge::apply_changes;
pub(crate) use plan::Filters as SeccompFilters;
pub(crate) use record::{RECORD_FILE, RECORD_VERSION, Record, ResolvedMount};
pub(crate) use stop::done;
pub(crate) use table::Table;

use crate::id_ranges::IdLease;
use crate::monitor_link::MonitorLink;
use crate::networks::Sandbox;
use crate::types::{Status, WaitOutcome};
use naru_base::{Error, Id, Result};
use naru_fs::{Durability, Records};
use naru_monitor::protocol::ExitRecord;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: Id,
    record: Mutex<Record>,
    live: Mutex<Live>,
    /// Whether its folder is no longer its own. Held by whoever writes the record or moves the folder away: one after the other.
    gone: Mutex<bool>,
    /// Held by whatever changes its state and takes time.
    pub operation: AsyncMutex<()>,
    /// Counts ends; waiters watch it.
    ends: watch::Sender<End>,
}

/// What exists only while the engine does.
#[derive(Debug, Default)]
struct Live {
    monitor: Option<Arc<MonitorLink>>,
    sandbox: Option<Sandbox>,
    /// Its ids on the host.
    lease: Option<Arc<IdLease>>,
    pending: Vec<PendingAttach>,
    start: StartStage,
    /// Number of the restart that is to come; an older one is not done any more.
    restart: u64,
    removing: bool,
    dead: bool,
}

/// Whether a start is under way: what its monitor says meanwhile is kept until the start has been recorded.
#[derive(Debug, Default)]
enum StartStage {
    #[default]
    None,
    UnderWay,
    /// It ran, and has ended already.
    Ended(ExitRecord),
}

/// The last end of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    /// How often it has ended.
    pub count: u64,
    pub outcome: WaitOutcome,
    pub removed: bool,
}

impl Container {
    pub(crate) fn new(record: Record) -> Self {
        let end =
            End { count: 0, outcome: WaitOutcome { exit_code: record.state.exit_code, error: None }, removed: false };
        Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            live: Mutex::default(),
            gone: Mutex::new(false),
            operation: AsyncMutex::new(()),
            ends: watch::channel(end).0,
        }
    }

    /// A look at the record.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&crate::lock(&self.record))
    }

    /// A change of the record that is not written yet.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut crate::lock(&self.record))
    }

    /// Writes the record. One that a reboot removes anyway needs no sync.
    pub(crate) fn save(&self, records: &Records<Record>, durability: Durability) -> Result<()> {
        let gone = crate::lock(&self.gone);
        if *gone {
            // Somebody had waited meanwhile: a record written now would bring it back with the next engine.
            return Err(self.missing());
        }
        let record = self.read(Record::clone);
        let durability = if record.host.auto_remove { Durability::Volatile } else { durability };
        records
            .save(self.id.as_str(), &record, durability)
            .map_err(|e| Error::system(format!("cannot write the record of container {}: {e}", self.id.short())))
    }

    pub(crate) fn name(&self) -> String {
        self.read(|r| r.name.clone())
    }

    pub(crate) fn status(&self) -> Status {
        {
            let live = crate::lock(&self.live);
            if live.dead {
                return Status::Dead;
            }
            if live.removing {
                return Status::Removing;
            }
        }
        self.read(|r| r.state.status)
    }

    pub(crate) fn monitor(&self) -> Option<Arc<MonitorLink>> {
        crate::lock(&self.live).monitor.clone()
    }

    /// The monitor of a running container.
    pub(crate) fn running_monitor(&self) -> Result<Arc<MonitorLink>> {
        let status = self.status();
        match self.monitor() {
            Some(monitor) if status.is_running() => Ok(monitor),
            _ => Err(Error::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// From here on an end is kept for [`Container::finish_start`]. False when it is being removed.
    pub(crate) fn begin_start(&self) -> bool {
        let mut live = crate::lock(&self.live);
        if live.removing || live.dead {
            return false;
        }
        live.start = StartStage::UnderWay;
        true
    }

    /// The start has been recorded, or has failed; gives the end that came meanwhile.
    pub(crate) fn finish_start(&self) -> Option<ExitRecord> {
        match std::mem::take(&mut crate::lock(&self.live).start) {
            StartStage::Ended(record) => Some(record),
            StartStage::None | StartStage::UnderWay => None,
        }
    }

    /// Keeps an end for the start that is under way; false when none is.
    pub(crate) fn keep_end(&self, record: &ExitRecord) -> bool {
        let mut live = crate::lock(&self.live);
        match live.start {
            StartStage::None => false,
            StartStage::UnderWay => {
                live.start = StartStage::Ended(record.clone());
                true
            }
            StartStage::Ended(_) => true,
        }
    }

    /// A new restart takes the place of any that is to come.
    pub(crate) fn new_restart_ticket(&self) -> u64 {
        let mut live = crate::lock(&self.live);
        live.restart += 1;
        live.restart
    }

    /// Whether no other restart, and no decision against it, has come since the ticket was given.
    pub(crate) fn holds_restart_ticket(&self, ticket: u64) -> bool {
        crate::lock(&self.live).restart == ticket
    }

    pub(crate) fn set_monitor(&self, monitor: Option<Arc<MonitorLink>>) {
        crate::lock(&self.live).monitor = monitor;
    }

    pub(crate) fn set_sandbox(&self, sandbox: Option<Sandbox>) -> Option<Sandbox> {
        std::mem::replace(&mut crate::lock(&self.live).sandbox, sandbox)
    }

    /// A copy of what is known of its network namespace; none when it has no own one.
    pub(crate) fn sandbox(&self) -> Option<Sandbox> {
        crate::lock(&self.live).sandbox.clone()
    }

    /// A change of its sandbox; nothing when there is none (any more).
    pub(crate) fn change_sandbox<T>(&self, change: impl FnOnce(&mut Sandbox) -> T) -> Option<T> {
        crate::lock(&self.live).sandbox.as_mut().map(change)
    }

    /// Its ids on the host are kept from others, or let go.
    pub(crate) fn set_lease(&self, lease: Option<Arc<IdLease>>) {
        crate::lock(&self.live).lease = lease;
    }

    /// Marks it as being removed; false when somebody else does that already.
    pub(crate) fn begin_removal(&self) -> bool {
        !std::mem::replace(&mut crate::lock(&self.live).removing, true)
    }

    /// As [`Container::begin_removal`], for one that has ended; false also when it is being started again.
    pub(crate) fn begin_removal_unless_started(&self) -> bool {
        let mut live = crate::lock(&self.live);
        if !matches!(live.start, StartStage::None) {
            return false;
        }
        !std::mem::replace(&mut live.removing, true)
    }

    /// Does what takes its folder away, once, with nobody writing its record meanwhile. After a failure the folder is still its own.
    ///
    /// # Errors
    /// `take`'s; docker's text when the folder is gone already.
    pub(crate) fn take_folder(&self, take: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut gone = crate::lock(&self.gone);
        if *gone {
            return Err(self.missing());
        }
        take()?;
        *gone = true;
        Ok(())
    }

    fn missing(&self) -> Error {
        Error::not_found(format!("No such container: {}", self.id))
    }

    /// A removal that failed: the container can be removed again.
    pub(crate) fn end_removal(&self, dead: bool) {
        let mut live = crate::lock(&self.live);
        live.removing = false;
        live.dead = dead;
    }

    pub(crate) fn ends(&self) -> watch::Receiver<End> {
        self.ends.subscribe()
    }

    /// Tells waiters that it has ended.
    pub(crate) fn announce_end(&self, outcome: WaitOutcome) {
        self.ends.send_modify(|end| {
            end.count += 1;
            end.outcome = outcome;
        });
    }

    /// Tells waiters that it is gone.
    pub(crate) fn announce_removal(&self) {
        self.ends.send_modify(|end| end.removed = true);
    }

    /// The attributes of its events: its labels, image and name.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        self.read(|r| {
            let mut all = r.config.labels.clone();
            all.insert("image".into(), r.config.image.clone());
            all.insert("name".into(), r.name.clone());
            all
        })
    }
}

impl crate::Engine {
    /// An event of a container, with further attributes.
    pub(crate) fn container_event(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let mut attributes = container.attributes();
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.events.publish("container", action, container.id.as_str(), attributes);
    }
}
