//! Kills for want of memory in a container that goes on: seen when they happen, told once a second at the most.

use crate::container::Container;
use naru_runtime::cgroup::MemoryWatch;
use rustix::event::PollFlags;
use rustix::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What ends before is not watched: the counter is read at the end anyway.
const FIRST: Duration = Duration::from_millis(500);
/// So long after something was told nothing is looked at: a container that is at its limit all the time wakes nobody all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// The watch over one container's memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    watch: Option<MemoryWatch>,
    /// When the counter is read next.
    look_at: Option<Instant>,
}

impl Memory {
    /// Of a container that has just been started.
    pub(crate) fn new(now: Instant) -> Self {
        Self { watch: None, look_at: Some(now + FIRST) }
    }

    /// When something has to be done.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// What it waits for now: nothing while a look is due anyway.
    pub(crate) fn watched(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.watch.as_ref().filter(|_| self.look_at.is_none()).map(MemoryWatch::watched)
    }

    /// The kernel says that memory is short. It counts a kill a moment later.
    pub(crate) fn handle(&mut self, now: Instant) {
        self.look_at = Some(now + PAUSE / 2);
    }

    /// Whether something has been killed that has not been told yet.
    pub(crate) fn tend(&mut self, container: &mut Container, now: Instant) -> bool {
        if container.main.exit_code().is_some() {
            self.end();
        }
        if self.look_at.is_none_or(|at| now < at) {
            return false;
        }
        // First, so that what comes after the look is seen.
        match &self.watch {
            Some(watch) => watch.clear(),
            None => self.watch = container.watch_memory(),
        }
        let killed = container.was_out_of_memory();
        self.look_at = killed.then(|| now + PAUSE);
        killed
    }

    /// The container has ended.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }
}
