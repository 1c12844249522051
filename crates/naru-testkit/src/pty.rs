//! A command under a pseudo-terminal: keys in, text out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::client::code_of;
use crate::wait::eventually;

/// A program on a terminal of its own. Ended when dropped.
pub struct Pty {
    child: Child,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    seen: usize,
    shown: String,
}

impl Pty {
    /// Starts `command` (its program, arguments, environment and folder) on a terminal of 24 × 80.
    ///
    /// # Errors
    /// When no terminal or process is to be had.
    pub fn start(command: &Command) -> Result<Pty> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("open a pty")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        set_size(&master, 24, 80)?;
        let name = ptsname(&master, Vec::new())?;
        let name = name.to_str().context("the pty's name")?.to_owned();
        let slave = rustix::fs::open(
            &name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .with_context(|| format!("open {name}"))?;
        // setsid(1) gives the terminal to the new session, which needs code between fork and exec.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            session.current_dir(folder);
        }
        session.stdin(slave.try_clone()?).stdout(Stdio::from(slave.try_clone()?)).stderr(Stdio::from(slave));
        let child = session.spawn().context("start a command on a pty")?;
        drop(session);

        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut output = File::from(master.try_clone()?);
        let sink = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO is a terminal's end of file.
            while let Ok(n @ 1..) = output.read(&mut chunk) {
                let Ok(mut sink) = sink.lock() else { return };
                sink.extend_from_slice(&chunk[..n]);
            }
        });
        Ok(Pty { child, keys: File::from(master), screen, reader, seen: 0, shown: format!("{command:?}") })
    }

    /// Types `keys`. Enter is `\r`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("type on the pty")
    }

    /// Waits until `text` appears after what was expected before.
    ///
    /// # Errors
    /// When it never does; all that was shown is in the error.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let (screen, seen) = (Arc::clone(&self.screen), self.seen);
        self.seen = eventually(&format!("{text:?} on the terminal of {}", self.shown), || {
            let Ok(screen) = screen.lock() else { bail!("the terminal's reader panicked") };
            match find(&screen[seen..], text.as_bytes()) {
                Some(at) => Ok(seen + at + text.len()),
                None => bail!("it shows {:?}", String::from_utf8_lossy(&screen)),
            }
        })?;
        Ok(())
    }

    /// All that was shown so far.
    pub fn screen(&self) -> String {
        self.screen.lock().map(|screen| String::from_utf8_lossy(&screen).into_owned()).unwrap_or_default()
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        set_size(&self.keys, rows, columns)
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .context("signal the client")
    }

    /// Waits for the program's end, and until nobody has the terminal; gives its exit code and all that was shown.
    ///
    /// # Errors
    /// When it doesn't end in time, or leaves its terminal to a process that doesn't.
    pub fn finish(mut self) -> Result<(i32, String)> {
        let child = &mut self.child;
        let (screen, shown) = (Arc::clone(&self.screen), self.shown.clone());
        let status = eventually(&format!("{shown} to end"), || match child.try_wait()? {
            Some(status) => Ok(status),
            None => {
                let shows = screen.lock().map(|s| String::from_utf8_lossy(&s).into_owned()).unwrap_or_default();
                bail!("it shows {shows:?}")
            }
        })?;
        // Its last words may be on their way still.
        let reader = &self.reader;
        eventually(&format!("the terminal of {shown} to be closed"), || {
            ensure!(reader.is_finished(), "somebody has it still");
            Ok(())
        })?;
        Ok((code_of(status), self.screen()))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Already ended in the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("set the terminal's size")
}

/// Where `needle` starts in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len().max(1)).position(|window| window == needle)
}
