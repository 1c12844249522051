//! An engine whose spawner has died begins again, as the same process: only one without threads can make another spawner. Containers go on,
//! as after any end.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;
use tokio::sync::oneshot;

/// Why an engine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    ByRequest,
    /// Its spawner has died.
    ForWantOfSpawner,
}

/// This program once more, with `args` and with the limit of open files that it was started with; gives back why not.
pub(crate) fn begin_again(args: &[OsString], files: Rlimit) -> std::io::Error {
    // It can be lowered without any right. The next spawner, and all that comes from it, has it.
    let _ = rustix::process::setrlimit(Resource::Nofile, files);
    // One that can't have a spawner at all tries this often and no more.
    std::thread::sleep(Duration::from_millis(100));
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("naru").arg("daemon").args(args);
    for name in naru_sys::fault::VARIABLES {
        command.env_remove(name);
    }
    command.exec()
}

/// What tells when the spawner has died; it has been reaped then.
///
/// # Errors
/// Without a thread that waits for it.
pub(crate) fn watch_spawner(pid: i32) -> Result<oneshot::Receiver<()>> {
    let (tell, died) = oneshot::channel();
    let wait = move || {
        if let Some(pid) = Pid::from_raw(pid) {
            // It is our child, and nobody else waits for it.
            let _ = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        }
        // An engine that ends does not listen any more.
        let _ = tell.send(());
    };
    let thread = std::thread::Builder::new().name("spawner".into()).stack_size(64 << 10).spawn(wait);
    thread.context("cannot watch the spawner")?;
    Ok(died)
}
