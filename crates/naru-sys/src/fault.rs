//! Dying on purpose: a debug build ends at the n-th of its calls that change the world, so that a test can see what a new engine makes of
//! what is left. A release build has none of it.
//!
//! Each kind of process counts its own: the engine, the spawner, a monitor, and what a monitor makes in a container until that is its program.

#[cfg(debug_assertions)]
pub use debug::{Kind, VARIABLES, be, of_helpers, point, point_in_child};

#[cfg(debug_assertions)]
mod debug {
    use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

    /// What this process is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u8)]
    pub enum Kind {
        /// The engine, and any program that is none of the others.
        Engine,
        /// The spawner.
        Spawner,
        /// A monitor: each ends at that one of its own.
        Monitor,
        /// A child of a monitor before it is its program, likewise.
        Child,
    }

    /// The variables with the numbers, in the order of [`Kind`].
    pub const VARIABLES: [&str; 4] =
        ["NARU_FAULT_AT", "NARU_FAULT_SPAWNER_AT", "NARU_FAULT_MONITOR_AT", "NARU_FAULT_CHILD_AT"];
    /// Nothing has been read yet.
    const UNREAD: u64 = u64::MAX;

    static KIND: AtomicU8 = AtomicU8::new(Kind::Engine as u8);
    /// The numbers, 0 for none.
    static LIMITS: [AtomicU64; 4] = [const { AtomicU64::new(UNREAD) }; 4];
    static PASSED: AtomicU64 = AtomicU64::new(0);
    static PASSED_BY_CHILD: AtomicU64 = AtomicU64::new(0);

    fn read(kind: usize) -> u64 {
        let limit = &LIMITS[kind];
        let known = limit.load(Ordering::Relaxed);
        if known != UNREAD {
            return known;
        }
        let read = std::env::var(VARIABLES[kind]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        limit.store(read, Ordering::Relaxed);
        read
    }

    /// From now on this process is of that kind, and begins to count.
    pub fn be(kind: Kind) {
        for other in 0..VARIABLES.len() {
            read(other);
        }
        KIND.store(kind as u8, Ordering::Relaxed);
        PASSED.store(0, Ordering::Relaxed);
    }

    /// What the environment of the spawner has, and with it that of monitors and their children: their numbers, where there are any.
    pub fn of_helpers() -> Vec<std::ffi::CString> {
        let entry = |name: &&str| std::ffi::CString::new(format!("{name}={}", std::env::var(name).ok()?)).ok();
        VARIABLES[1..].iter().filter_map(entry).collect()
    }

    /// Stands before every write of state and every call that changes something outside of the process. Ends it, as by SIGKILL, at the
    /// number that the environment gives.
    pub fn point() {
        let limit = read(usize::from(KIND.load(Ordering::Relaxed)));
        if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == limit {
            // Never fails for the process itself.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// The same for a child between clone3 and exec, which may neither allocate nor read its environment: its parent has. It may be the first
    /// process of a PID namespace, which can't kill itself.
    pub fn point_in_child() {
        let limit = LIMITS[Kind::Child as usize].load(Ordering::Relaxed);
        if limit == UNREAD || limit == 0 {
            return;
        }
        if PASSED_BY_CHILD.fetch_add(1, Ordering::Relaxed) + 1 == limit {
            crate::process::exit_now(137);
        }
    }
}

#[cfg(not(debug_assertions))]
pub use release::{Kind, VARIABLES, be, of_helpers, point, point_in_child};

/// Nothing.
#[cfg(not(debug_assertions))]
mod release {
    /// What this process is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Kind {
        /// The engine.
        Engine,
        /// The spawner.
        Spawner,
        /// A monitor.
        Monitor,
        /// A child of a monitor.
        Child,
    }

    /// None.
    pub const VARIABLES: [&str; 0] = [];

    /// Nothing.
    #[inline]
    pub fn be(_: Kind) {}

    /// Nothing.
    #[inline]
    pub fn of_helpers() -> Vec<std::ffi::CString> {
        Vec::new()
    }

    /// Nothing.
    #[inline]
    pub fn point() {}

    /// Nothing.
    #[inline]
    pub fn point_in_child() {}
}
