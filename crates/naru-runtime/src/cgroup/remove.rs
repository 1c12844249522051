//! Removing a group, after the fact.

use super::group::Cgroup;
use super::procs::children;
use super::systemd::Manager;
use naru_base::{Error, Result};
use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long ended processes may keep a group busy.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Removes the group, and groups that its processes made below it, from every tree; waits while ended processes still hold it.
    /// Nothing there is no error. Takes 50 microseconds when it is empty, seconds when it isn't: not for the way of a request.
    ///
    /// # Errors
    /// It is still in use after seconds; all trees have been tried then.
    pub fn remove(&self) -> Result<()> {
        if let Some(placeholder) = &self.placeholder {
            placeholder.end();
        }
        // One that is gone has been ended by systemd itself, when its last process ended.
        if let Some(scope) = self.scope.as_ref().filter(|_| self.groups.iter().any(|group| group.dir.exists())) {
            Manager::connect()?.stop(scope)?;
        }
        let deadline = Instant::now() + REMOVE_LIMIT;
        let failures: Vec<String> = self
            .groups
            .iter()
            .filter_map(|group| remove_tree(&group.dir, deadline).err())
            .map(|e| e.to_string())
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(Error::system(failures.join("; "))) }
    }
}

impl Cgroup {
    /// Removes it from every tree where nothing is in it, neither a process nor another group. Waits for nothing.
    pub fn remove_if_empty(&self) {
        for group in &self.groups {
            // The kernel refuses to remove what is in use.
            let _ = unlinkat(CWD, &group.dir, AtFlags::REMOVEDIR);
        }
    }
}

fn remove_tree(dir: &Path, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(100);
    loop {
        match unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY | Errno::INTR) if Instant::now() < deadline => {}
            Err(error) => return Err(naru_fs::Error::new("remove cgroup", dir, error).into()),
        }
        children(dir).try_for_each(|child| remove_tree(&child, deadline))?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
