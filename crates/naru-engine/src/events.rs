//! What happened: a live stream for subscribers, and the newest few for those who ask about the past.

use crate::clock;
use crate::types::{Event, UnixNanos};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;

/// How many events are kept for `since` (docker's number).
const KEPT: usize = 256;
/// How far a slow subscriber may fall behind before it loses the oldest.
const BACKLOG: usize = 4096;

/// The hub.
#[derive(Debug)]
pub(crate) struct Events {
    live: broadcast::Sender<Event>,
    past: Mutex<VecDeque<Event>>,
    published: AtomicU64,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            live: broadcast::channel(BACKLOG).0,
            past: Mutex::new(VecDeque::with_capacity(KEPT)),
            published: AtomicU64::new(0),
        }
    }

    /// Tells everyone, now.
    pub(crate) fn publish(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let event = Event { kind: kind.into(), action: action.into(), id: id.into(), attributes, time: clock::now() };
        self.published.fetch_add(1, Ordering::Relaxed);
        let mut past = crate::lock(&self.past);
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that the order in the past is the order on the wire. No subscriber is no error.
        let _ = self.live.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// How many there have been.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn listeners(&self) -> usize {
        self.live.receiver_count()
    }

    /// Kept events in `since..=until`; an `until` of 0 is no limit.
    pub(crate) fn past(&self, since: UnixNanos, until: UnixNanos) -> Vec<Event> {
        let past = crate::lock(&self.past);
        past.iter().filter(|e| e.time >= since && (until == 0 || e.time <= until)).cloned().collect()
    }
}
