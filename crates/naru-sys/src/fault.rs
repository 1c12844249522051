//! Dying on purpose: a debug build ends at the n-th of its calls that change the world, so that a test can see what a new engine makes of
//! what is left. A release build has none of it.

/// Where the number comes from.
#[cfg(debug_assertions)]
const VARIABLE: &str = "NARU_FAULT_AT";

/// The number for monitors: each of them ends at that one of its own.
#[cfg(debug_assertions)]
const FOR_MONITORS: &str = "NARU_FAULT_MONITOR_AT";

/// What the environment of the spawner has, and with it that of monitors: their number, in a debug build that has been given one.
#[cfg(debug_assertions)]
pub fn of_monitors() -> Vec<std::ffi::CString> {
    let number = std::env::var(FOR_MONITORS).ok().and_then(|text| text.parse::<u64>().ok());
    number.and_then(|number| std::ffi::CString::new(format!("{VARIABLE}={number}")).ok()).into_iter().collect()
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn of_monitors() -> Vec<std::ffi::CString> {
    Vec::new()
}

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
