//! Dying on purpose: a debug build ends at the n-th of its calls that change the world, so that a test can see what a new engine makes of
//! what is left. A release build has none of it.

/// Where the number comes from.
#[cfg(debug_assertions)]
const VARIABLE: &str = "NARU_FAULT_AT";

/// Stands before every write of state and every call that changes something outside of the process. Ends it, as by SIGKILL, at the number
/// that the environment gives.
#[cfg(debug_assertions)]
pub fn point() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(limit) = LIMIT.get_or_init(|| std::env::var(VARIABLE).ok()?.parse().ok()) else { return };
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *limit {
        // Never fails for the process itself.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point() {}
