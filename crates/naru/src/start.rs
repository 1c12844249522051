//! Starting the engine when the client finds none on the default socket.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The engine's own words, when nobody else keeps them.
const LOG: &str = "/var/log/naru.log";

/// Starts `naru daemon` in a session of its own, and says so.
///
/// # Errors
/// When it can't be started; the text says why.
#[expect(clippy::print_stderr, reason = "one line about what was started")]
pub(crate) fn engine(socket: &Path) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the engine needs root: start it with sudo naru daemon".to_owned());
    }
    let program = std::env::current_exe().map_err(|e| format!("cannot find the program itself: {e}"))?;
    let log = OpenOptions::new().create(true).append(true).open(LOG).map_err(|e| format!("cannot open {LOG}: {e}"))?;
    let other = log.try_clone().map_err(|e| format!("cannot open {LOG}: {e}"))?;
    let mut command = Command::new(program);
    command.arg("daemon").arg("-H").arg(format!("unix://{}", socket.display()));
    command.stdin(Stdio::null()).stdout(log).stderr(other).current_dir("/");
    // A group of its own: Ctrl-C at the client's terminal is not for the engine.
    command.process_group(0);
    command.spawn().map_err(|e| format!("cannot start the engine: {e}"))?;
    eprintln!("naru: started the engine (naru daemon), which writes to {LOG}");
    Ok(())
}
