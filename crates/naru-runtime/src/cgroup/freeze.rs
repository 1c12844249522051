//! Pausing a group: v1's freezer, v2's `cgroup.freeze`.

use super::file;
use super::group::Cgroup;
use super::hierarchy::Controller;
use naru_base::{Error, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a process may take to be stopped: one in an uninterruptible call can't be.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Stops every process of the group, and returns when all stand still.
    ///
    /// # Errors
    /// There is no freezer, or a process doesn't stop; the group is thawed then.
    pub fn freeze(&self) -> Result<()> {
        if let Some(group) = self.of(Controller::Freezer) {
            return freeze_v1(&group.dir);
        }
        let Some(group) = self.unified() else { return Err(no_freezer()) };
        file::write(&group.dir.join("cgroup.freeze"), "1")?;
        let frozen = wait(|| is_frozen_v2(&group.dir));
        if !matches!(frozen, Ok(true)) {
            self.thaw()?;
            return frozen.and(Err(Error::system("unable to freeze: a process doesn't stop")));
        }
        Ok(())
    }

    /// Lets the group's processes go on.
    ///
    /// # Errors
    /// There is no freezer, or write(2)'s.
    pub fn thaw(&self) -> Result<()> {
        if let Some(group) = self.of(Controller::Freezer) {
            return file::write(&group.dir.join("freezer.state"), "THAWED");
        }
        let group = self.unified().ok_or_else(no_freezer)?;
        file::write(&group.dir.join("cgroup.freeze"), "0")
    }

    /// Whether the group is stopped (or is being stopped).
    ///
    /// # Errors
    /// There is no freezer, or read(2)'s.
    pub fn is_frozen(&self) -> Result<bool> {
        if let Some(group) = self.of(Controller::Freezer) {
            return Ok(file::read(&group.dir.join("freezer.self_freezing"))?.trim() == "1");
        }
        let group = self.unified().ok_or_else(no_freezer)?;
        Ok(file::read(&group.dir.join("cgroup.freeze"))?.trim() == "1")
    }
}

fn no_freezer() -> Error {
    Error::not_implemented("this host has no freezer controller")
}

/// A group whose processes fork while it freezes may stay in `FREEZING` until it is thawed and frozen again.
fn freeze_v1(dir: &Path) -> Result<()> {
    let state = dir.join("freezer.state");
    let mut tries = 0_u32;
    let frozen = wait(|| {
        if tries.is_multiple_of(50) && tries > 0 {
            file::write(&state, "THAWED")?;
        }
        if tries.is_multiple_of(50) {
            file::write(&state, "FROZEN")?;
        }
        tries += 1;
        Ok(file::read(&state)?.trim() == "FROZEN")
    });
    if !matches!(frozen, Ok(true)) {
        file::write(&state, "THAWED")?;
        return frozen.and(Err(Error::system("unable to freeze: a process doesn't stop")));
    }
    Ok(())
}

fn is_frozen_v2(dir: &Path) -> Result<bool> {
    Ok(file::keyed(&file::read(&dir.join("cgroup.events"))?, "frozen") == Some(1))
}

/// Asks until the answer is yes or time is up.
fn wait(mut ask: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    let mut pause = Duration::from_micros(50);
    loop {
        if ask()? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
