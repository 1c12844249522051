//! Which objects a prune takes: `until`, `label` and `label!`.

use crate::container::label_fits;
use crate::types::{Filters, UnixNanos};
use naru_base::{Error, Result};
use std::collections::BTreeMap;

/// A prune's filters.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    until: Option<UnixNanos>,
    labels: Vec<String>,
    not_labels: Vec<String>,
}

impl Filter {
    /// Reads them; keys other than these (`also` too) are refused.
    pub(crate) fn parse_with(filters: &Filters, also: &[&str]) -> Result<Self> {
        let mut out = Self::default();
        for (key, values) in filters {
            match (key.as_str(), values.as_slice()) {
                ("until", [one]) => out.until = Some(until(one)?),
                ("until", _) => return Err(Error::invalid("more than one until filter specified")),
                ("label", values) => out.labels = values.to_vec(),
                ("label!", values) => out.not_labels = values.to_vec(),
                (key, _) if also.contains(&key) => {}
                _ => return Err(Error::invalid(format!("invalid filter '{key}'"))),
            }
        }
        Ok(out)
    }

    pub(crate) fn parse(filters: &Filters) -> Result<Self> {
        Self::parse_with(filters, &[])
    }

    pub(crate) fn accepts(&self, created: UnixNanos, labels: &BTreeMap<String, String>) -> bool {
        self.until.is_none_or(|t| created < t)
            && self.labels.iter().all(|l| label_fits(labels, l))
            && !self.not_labels.iter().any(|l| label_fits(labels, l))
    }
}

/// A duration back from now, a time, or seconds since the epoch.
fn until(text: &str) -> Result<UnixNanos> {
    if let Ok(back) = naru_base::duration::parse(text) {
        return Ok(crate::clock::now().saturating_sub(back));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range of nanoseconds saturates")]
        return Ok((seconds * 1e9) as i64);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX));
    }
    // Without a zone it is the host's.
    let local = text.parse::<jiff::civil::DateTime>().or_else(|_| format!("{text}:00").parse());
    if let Ok(time) = local.and_then(|time| jiff::tz::TimeZone::system().to_timestamp(time)) {
        return Ok(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX));
    }
    Err(Error::invalid(format!("failed to parse value for the until filter: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_of_dockers_forms() {
        let second = 1_000_000_000;
        assert_eq!(until("1700000000.5").unwrap(), 1_700_000_000 * second + second / 2);
        assert_eq!(until("2023-11-14T22:13:20Z").unwrap(), 1_700_000_000 * second);
        for text in ["2023-11-14", "2023-11-14T22", "2023-11-14T22:13", "2023-11-14T22:13:20"] {
            assert!((until(text).unwrap() / second - 1_700_000_000).abs() < 2 * 86_400, "{text}");
        }
        let hour = until("1h").unwrap();
        assert!((crate::clock::now() - hour - 3600 * second).abs() < 60 * second);
        assert!(until("yesterday").is_err());
    }
}
