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

/// The parts of `container/` that stand on what is there; the others (lifecycle, attach, lists) wait for the monitor's, the network's and
/// the store's calls, and are declared with them.
mod container {
    mod merge;
    mod record;
}

/// Images, as far as they need no store.
mod image {
    mod config;
}

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what is behind these locks is consistent between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
