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

/// A time as images have it: RFC 3339 with nanoseconds, UTC.
pub(crate) fn rfc3339(time: UnixNanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time)).map_or_else(|_| "1970-01-01T00:00:00Z".into(), |t| t.to_string())
}
