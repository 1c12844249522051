//! Points in time: what `--since` and `--until` accept, and how docker prints times.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use naru_base::duration;

/// Seconds since 1970, now.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// What a `--since` or `--until` value means, as the API wants it (`seconds` or `seconds.nanoseconds`): a duration before now,
/// a date with or without time and zone, or seconds themselves.
///
/// # Errors
/// When it is none of them.
pub fn api_timestamp(value: &str) -> Result<String, String> {
    api_timestamp_at(value, &ZonedDateTime::now())
}

fn api_timestamp_at(value: &str, now: &ZonedDateTime) -> Result<String, String> {
    if let Ok(nanos) = duration::parse(value) {
        let at = i128::from(now.timestamp().as_nanosecond() as i64).saturating_sub(i128::from(nanos));
        return Ok(at.div_euclid(i128::from(duration::SECOND)).to_string());
    }
    if value.contains(['-', 'T', ':']) && !value.starts_with('-') {
        let at = parse_date(value, now.time_zone())
            .ok_or_else(|| format!("failed to parse value as time or duration: {value:?}"))?;
        let nanos = at.as_nanosecond();
        let second = i128::from(duration::SECOND);
        return Ok(format!("{}.{:09}", nanos.div_euclid(second), nanos.rem_euclid(second)));
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if !unsigned.is_empty() && digits(unsigned) && digits(fraction) {
        return Ok(value.to_owned());
    }
    Err(format!("failed to parse value as time or duration: {value:?}"))
}

fn parse_date(value: &str, local: &TimeZone) -> Option<Timestamp> {
    if let Ok(at) = value.parse::<Timestamp>() {
        return Some(at);
    }
    // `2006-01-02Z07:00`, a date with a zone only.
    if value.len() > 10 && value.is_char_boundary(10) && !value[10..].starts_with('T') {
        let (date, zone) = value.split_at(10);
        return format!("{date}T00:00:00{zone}").parse().ok();
    }
    let whole = match value.len() {
        10 => format!("{value}T00:00:00"),
        13 => format!("{value}:00:00"),
        16 => format!("{value}:00"),
        _ => value.to_owned(),
    };
    let local_time: jiff::civil::DateTime = whole.parse().ok()?;
    local.to_timestamp(local_time).ok()
}

/// The API's `2024-01-02T03:04:05.6Z`.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// As Go prints a time: `2024-01-02 03:04:05.6 +0000 UTC`.
pub fn go_time(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned_datetime(zone.clone());
    let fraction = go_fraction(at);
    zoned.strftime(&format!("%Y-%m-%d %H:%M:%S{fraction} %z %Z")).to_string()
}

fn go_fraction(at: Timestamp) -> String {
    let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
    if nanos == 0 {
        return String::new();
    }
    format!(".{nanos:09}").trim_end_matches('0').to_owned()
}

/// As Go prints a whole second in local time: `2024-01-02 03:04:05 +0000 UTC`.
pub fn go_time_of_seconds(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|t| go_time(t, &TimeZone::system())).unwrap_or_default()
}

/// RFC 3339 in local time with whole seconds.
pub fn rfc3339_of_seconds(seconds: i64) -> String {
    let Ok(at) = Timestamp::from_second(seconds) else { return String::new() };
    let zoned = at.to_zoned_datetime(TimeZone::system());
    let offset = zoned.offset().seconds();
    let format = if offset == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    zoned.strftime(format).to_string()
}

/// RFC 3339 in local time with all nine digits, as event lines begin.
pub fn rfc3339_nano(nanos: i64) -> String {
    let Ok(at) = Timestamp::from_nanosecond(i128::from(nanos)) else { return String::new() };
    let zoned = at.to_zoned_datetime(TimeZone::system());
    let zone = if zoned.offset().seconds() == 0 { "Z" } else { "%:z" };
    zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S.%9f{zone}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_forms() {
        let now: ZonedDateTime = "2024-01-02T03:04:05+02:00[+02:00]".parse().unwrap();
        let at = |s: &str| api_timestamp_at(s, &now);
        let unix = now.timestamp().as_second();
        assert_eq!(at("10m"), Ok((unix - 600).to_string()));
        assert_eq!(at("1136073600"), Ok("1136073600".into()));
        assert_eq!(at("1136073600.000000001"), Ok("1136073600.000000001".into()));
        assert_eq!(at("2006-01-01T00:00:00Z"), Ok("1136073600.000000000".into()));
        assert_eq!(at("2006-01-01T00:00:00.5+01:00"), Ok("1136070000.500000000".into()));
        assert_eq!(at("2006-01-01"), Ok("1136066400.000000000".into()));
        assert_eq!(at("2006-01-01Z"), Ok("1136073600.000000000".into()));
        assert_eq!(at("2006-01-01T00"), Ok("1136066400.000000000".into()));
        assert_eq!(at("2006-01-01T00:30"), Ok("1136068200.000000000".into()));
        assert!(at("x").is_err() && at("").is_err() && at("2006-13-01").is_err() && at("2006é01").is_err());
    }

    #[test]
    fn go_prints() {
        let at = Timestamp::new(1_136_073_600, 500_000_000).unwrap();
        assert_eq!(go_time(at, &TimeZone::UTC), "2006-01-01 00:00:00.5 +0000 UTC");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "[0-9TZ:.+smhé-]{0,24}") {
            let _ = api_timestamp(&text);
        }
    }
}
