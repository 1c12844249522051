//! Work of a test inside the network namespace of a process of a world.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use naru_testkit::World;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread in the network namespace of the process `pid`, a number of the world's own. Sockets it makes stay there.
///
/// # Errors
/// When the namespace can't be entered.
pub fn inside<T: Send + 'static>(world: &World, pid: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let path = format!("/proc/{}/root/proc/{pid}/ns/net", world.pid());
    let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
    let thread = std::thread::spawn(move || -> Result<T> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    });
    thread.join().map_err(|_| anyhow!("panicked"))?
}
