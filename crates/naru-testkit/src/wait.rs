//! Waiting for a state of things, and names that no other test uses.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything that must happen may take before the test gives up. Generous: machines in CI are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `check` again and again until it gives a value.
///
/// # Errors
/// After [`PATIENCE`], with the last reason that `check` gave; `what` names what was waited for.
pub fn eventually<T, E: Display>(what: &str, mut check: impl FnMut() -> Result<T, E>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= deadline => bail!("gave up waiting for {what}: {reason}"),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A container, image or network name with `stem` in it that no other test of this run uses.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
