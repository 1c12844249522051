//! Times as docker writes them.

use jiff::Timestamp;
use naru_engine::types::UnixNanos;

/// Go's zero time.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with as many digits as are needed (Go's `RFC3339Nano`), in UTC; 0 is never.
pub(crate) fn rfc3339(nanos: UnixNanos) -> String {
    if nanos == 0 {
        return NEVER.to_owned();
    }
    timestamp(nanos).to_string()
}

/// RFC 3339 with nine digits.
pub(crate) fn rfc3339_fixed(nanos: UnixNanos) -> String {
    format!("{:.9}", timestamp(nanos))
}

/// RFC 3339 without a fraction.
pub(crate) fn rfc3339_seconds(nanos: UnixNanos) -> String {
    rfc3339(seconds(nanos) * 1_000_000_000)
}

/// Whole seconds.
pub(crate) fn seconds(nanos: UnixNanos) -> i64 {
    nanos.div_euclid(1_000_000_000)
}

/// Now.
pub(crate) fn now() -> UnixNanos {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn timestamp(nanos: UnixNanos) -> Timestamp {
    // Every i64 of nanoseconds is a year between 1677 and 2262.
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_as_long_as_needed_or_nine() {
        assert_eq!(rfc3339(0), NEVER);
        assert_eq!(rfc3339(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_fixed(1_700_000_000_120_000_000), "2023-11-14T22:13:20.120000000Z");
        assert_eq!(rfc3339_fixed(1_700_000_000_000_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(rfc3339_seconds(1_700_000_000_120_000_000), "2023-11-14T22:13:20Z");
    }
}
