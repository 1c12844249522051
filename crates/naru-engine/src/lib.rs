//! The engine: containers, images, execs and events; the use cases of everything that the API serves.
//!
//! It knows no HTTP, no docker JSON and no terminal. Its own vocabulary is in [`types`].

mod clock;
mod detach_keys;
mod disk;
mod events;
mod log_config;
mod log_file;
mod monitor_link;
pub mod types;
mod volumes;

mod container;
mod network;

/// Images, as far as they need no store.
mod image {
    mod config;
}

pub use container::AttachTicket;

use container::{RECORD_FILE, RECORD_VERSION, Record, Table};
use events::Events;
use naru_base::error::Context as _;
use naru_base::{Id, Result};
use naru_fs::Records;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where an engine keeps its things.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What lasts.
    pub data_root: PathBuf,
    /// What a reboot removes.
    pub exec_root: PathBuf,
}

impl EngineConfig {
    /// The folder of one container.
    pub(crate) fn container_dir(&self, id: &Id) -> PathBuf {
        self.data_root.join("containers").join(id.as_str())
    }
}

/// The engine. Its parts each own their state; what spans them is in the modules named after the use case.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) containers: Table,
    pub(crate) records: Records<Record>,
    pub(crate) volumes: volumes::Volumes,
    pub(crate) events: Events,
}

impl Engine {
    /// Reads what is on disk. A record that can't be read is reported and left alone.
    ///
    /// # Errors
    /// When the folders can't be made or read.
    pub fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let records = Records::open(config.data_root.join("containers"), RECORD_FILE, RECORD_VERSION)
            .system("cannot open the containers' records")?;
        let volumes = volumes::Volumes::open(config.data_root.join("volumes"))?;
        let containers = Table::default();
        for (id, record) in records.load_all().system("cannot list the containers' records")? {
            match record {
                Ok(Some(record)) => containers.insert(Arc::new(container::Container::new(record))),
                Ok(None) => tracing::warn!(container = id, "a folder without a record is left alone"),
                Err(error) => tracing::warn!(container = id, "its record can't be read: {error}"),
            }
        }
        Ok(Arc::new(Self { config, containers, records, volumes, events: Events::new() }))
    }

    /// Events from now on.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<types::Event> {
        self.events.subscribe()
    }

    /// Kept events of that time; an `until` of 0 is no limit.
    pub fn past_events(&self, since: types::UnixNanos, until: types::UnixNanos) -> Vec<types::Event> {
        self.events.past(since, until)
    }
}

/// Locks, also after a panic elsewhere: what is behind these locks is consistent between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
