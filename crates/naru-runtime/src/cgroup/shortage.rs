//! What a group has run short of: memory, by whose limit, and processes; and what tells of the former when it happens.

use super::file;
use super::group::{Cgroup, Group};
use super::hierarchy::Controller;
use naru_base::{Error, Result};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use std::path::Path;

/// Why the kernel killed in a group for want of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryShortage {
    /// The limit that was reached, in bytes; `None` when it was the machine's memory.
    pub limit: Option<u64>,
    /// Whose limit that is when it is not the group's own: the path of a group above it, as the mount shows it.
    pub group: Option<String>,
    /// The most that the group itself used, in bytes, where the kernel tells.
    pub peak: Option<u64>,
}

/// Becomes ready when the kernel may have killed something of a group for want of memory (also when it only nearly did).
#[derive(Debug)]
pub struct MemoryWatch {
    fd: OwnedFd,
    unified: bool,
}

impl Cgroup {
    /// By which limit memory ran short: the own one if the group has been at it, otherwise the nearest above that has been reached.
    pub fn memory_shortage(&self) -> MemoryShortage {
        let Some(group) = self.of(Controller::Memory) else { return MemoryShortage::default() };
        let own = Use::of(group.hierarchy.unified, &group.dir);
        let peak = own.peak;
        if own.is_full() {
            return MemoryShortage { limit: own.limit, group: None, peak };
        }
        let mount = group.hierarchy.mount.as_path();
        for above in group.dir.ancestors().skip(1).take_while(|dir| *dir != mount && dir.starts_with(mount)) {
            let there = Use::of(group.hierarchy.unified, above);
            if there.is_full() {
                let path = above.strip_prefix(mount).unwrap_or(above);
                return MemoryShortage { limit: there.limit, group: Some(format!("/{}", path.display())), peak };
            }
        }
        MemoryShortage { limit: None, group: None, peak }
    }

    /// How often the group's limit of processes has refused a new one.
    pub fn refused_processes(&self) -> u64 {
        let Some(group) = self.of(Controller::Pids) else { return 0 };
        let text = file::read_optional(&group.dir.join("pids.events")).ok().flatten().unwrap_or_default();
        file::keyed(&text, "max").unwrap_or(0)
    }

    /// Begins to watch for kills for want of memory; `None` on a host that doesn't count memory.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s.
    pub fn watch_memory(&self) -> Result<Option<MemoryWatch>> {
        let Some(group) = self.of(Controller::Memory) else { return Ok(None) };
        if group.hierarchy.unified {
            let watch = MemoryWatch { fd: open_readable(&group.dir.join("memory.events"))?, unified: true };
            // What was there before is no news: a file of kernfs tells what changed since it was read (poll(2), cgroup-v2.rst).
            watch.clear();
            return Ok(Some(watch));
        }
        watch_v1(group).map(Some)
    }
}

/// An eventfd that the kernel is told of (cgroup-v1/memory.rst, "OOM Control"). It has no such limit as inotify(7)'s number of instances.
fn watch_v1(group: &Group) -> Result<MemoryWatch> {
    let control = open_readable(&group.dir.join("memory.oom_control"))?;
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|e| Error::system(format!("make an eventfd: {e}")))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    file::write(&group.dir.join("cgroup.event_control"), &line)?;
    Ok(MemoryWatch { fd, unified: false })
}

fn open_readable(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .map_err(|e| Error::system(format!("open {}: {e}", path.display())))
}

impl MemoryWatch {
    /// What to wait for, and how.
    pub fn watched(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.fd.as_fd(), if self.unified { PollFlags::PRI } else { PollFlags::IN })
    }

    /// It has become ready, and is to become so again only when something further happens.
    pub fn clear(&self) {
        let mut bytes = [0; 512];
        // What can't be read stays ready; whoever waits looks at the group's counter, and paces himself.
        let _ = if self.unified {
            rustix::io::pread(&self.fd, &mut bytes, 0)
        } else {
            rustix::io::read(&self.fd, &mut bytes)
        };
    }
}

/// Memory under one limit.
#[derive(Debug, Clone, Copy)]
struct Use {
    limit: Option<u64>,
    peak: Option<u64>,
    /// How often the limit was in the way.
    failures: u64,
}

impl Use {
    fn of(unified: bool, dir: &Path) -> Self {
        let text = |name: &str| file::read_optional(&dir.join(name)).ok().flatten().unwrap_or_default();
        let number = |name: &str| file::number(&text(name));
        if unified {
            let failures = file::keyed(&text("memory.events"), "max").unwrap_or(0);
            return Self { limit: number("memory.max"), peak: number("memory.peak"), failures };
        }
        Self {
            limit: number("memory.limit_in_bytes").filter(|limit| *limit < super::stats::NO_LIMIT_V1),
            peak: number("memory.max_usage_in_bytes"),
            failures: number("memory.failcnt").unwrap_or(0),
        }
    }

    /// Whether the limit has been reached, as far as pages and their batches let it.
    fn is_full(self) -> bool {
        match (self.limit, self.peak) {
            (None, _) => false,
            (Some(limit), Some(peak)) => peak >= limit - limit / 32,
            // Before Linux 5.19 v2 tells no peak.
            (Some(_), None) => self.failures > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_when_the_use_was_there() {
        let used = |limit, peak, failures| Use { limit, peak, failures }.is_full();
        assert!(used(Some(64 << 20), Some(64 << 20), 0));
        assert!(used(Some(64 << 20), Some(63 << 20), 0));
        assert!(!used(Some(64 << 20), Some(32 << 20), 9));
        assert!(used(Some(64 << 20), None, 1) && !used(Some(64 << 20), None, 0));
        assert!(!used(None, Some(1 << 40), 5));
    }
}
