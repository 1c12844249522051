//! The wall clock, as nanoseconds since the epoch.

use crate::types::UnixNanos;

/// Now.
pub(crate) fn now() -> UnixNanos {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}
