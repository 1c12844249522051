//! The processes of a group: listing them, and ending them all.

use super::file;
use super::group::{Cgroup, Group};
use super::hierarchy::Controller;
use naru_base::{Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long ended processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

impl Cgroup {
    /// The process ids in the group and in groups below it, as this process sees them; none when the group is gone.
    ///
    /// # Errors
    /// read(2)'s.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(group) = self.listing() {
            collect(&group.dir, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Ends every process in the group and below, and waits until they are gone.
    ///
    /// # Errors
    /// Some are still there after seconds.
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_LIMIT;
        let mut pause = Duration::from_micros(200);
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::system(format!("processes {pids:?} don't end")));
            }
            self.kill_once(&pids)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// By the kernel's own means where it has them. Otherwise the group is frozen meanwhile, so that none of the numbers can be
    /// another process's when the signal is sent.
    fn kill_once(&self, pids: &[i32]) -> Result<()> {
        if let Some(group) = self.unified()
            && self.of(Controller::Freezer).is_none()
            && file::write_raw(&group.dir.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        // One that can't be frozen in time is killed all the same.
        let frozen = self.freeze().is_ok();
        let members = if frozen { self.pids()? } else { pids.to_vec() };
        for pid in members.into_iter().filter_map(Pid::from_raw) {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(Error::system(format!("kill {pid}: {error}"))),
            }
        }
        self.thaw()
    }

    /// The tree that knows all members: processes can leave a v1 tree only together with their rights to it.
    fn listing(&self) -> Option<&Group> {
        let preferred = [Controller::Freezer, Controller::Pids].into_iter().find_map(|c| self.of(c));
        preferred.or_else(|| self.groups.first())
    }
}

fn collect(dir: &Path, pids: &mut Vec<i32>) -> Result<()> {
    // `cgroup.procs` can't be read in a threaded v2 group (EOPNOTSUPP), and not in one that is just being removed (ENODEV).
    let listed = match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => text,
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Some(Errno::OPNOTSUPP) => String::new(),
            _ => return Err(Error::system(format!("read {}: {e}", dir.join("cgroup.procs").display()))),
        },
    };
    // 0 stands for a process outside of our PID namespace.
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    children(dir).try_for_each(|child| collect(&child, pids))
}

/// The groups directly below `dir`.
pub(super) fn children(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
}
