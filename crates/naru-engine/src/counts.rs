//! How often things have happened since the engine began.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers, as they are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of all kinds.
    pub events: u64,
    /// Checks of containers' health.
    pub health_checks: u64,
    /// Those of them that failed.
    pub health_checks_failed: u64,
    /// Ends of containers.
    pub deaths: u64,
    /// Starts by a policy.
    pub restarts: u64,
    /// Records that are in no log.
    pub log_records_lost: u64,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub(crate) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub health_checks: Counter,
    pub health_checks_failed: Counter,
    pub deaths: Counter,
    pub restarts: Counter,
    pub log_records_lost: Counter,
}

impl crate::Engine {
    /// How often things have happened since it began.
    pub fn counts(&self) -> Counts {
        Counts {
            events: self.events.published(),
            health_checks: self.counters.health_checks.now(),
            health_checks_failed: self.counters.health_checks_failed.now(),
            deaths: self.counters.deaths.now(),
            restarts: self.counters.restarts.now(),
            log_records_lost: self.counters.log_records_lost.now(),
        }
    }
}
