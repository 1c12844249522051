//! Durations in Go's text form (`1h2m3.5s`), which docker's flags and API use.

use crate::human::go_quote;
use crate::{Error, Result};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads `300ms`, `-1.5h`, `2h45m` into nanoseconds (Go's `time.ParseDuration`).
///
/// # Errors
/// With Go's texts, such as `time: invalid duration "x"`.
pub fn parse(text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("time: invalid duration {}", go_quote(text)));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole_len = digits(rest);
        let whole = &rest[..whole_len];
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let n = digits(after);
            fraction = &after[..n];
            rest = &after[n..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(bad());
        }
        let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(unit_len);
        rest = after;
        if unit.is_empty() {
            return Err(Error::invalid(format!("time: missing unit in duration {}", go_quote(text))));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, n)| i128::from(*n)).ok_or_else(|| {
            Error::invalid(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)))
        })?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        total = whole
            .checked_mul(scale)
            .and_then(|w| w.checked_add(part(fraction, scale)))
            .and_then(|w| total.checked_add(w))
            .ok_or_else(bad)?;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `fraction` (the digits after the point) of `scale`, cut to whole nanoseconds.
fn part(fraction: &str, scale: i128) -> i128 {
    let kept = &fraction[..fraction.len().min(18)];
    let value: i128 = kept.parse().unwrap_or(0);
    let power = 10i128.pow(u32::try_from(kept.len()).unwrap_or(0));
    value * scale / power
}

/// Prints nanoseconds as Go's `Duration.String` does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn format(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    const S: u64 = 1_000_000_000;
    if n == 0 {
        return "0s".into();
    }
    if n < S {
        let (unit, scale) = match n {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(n, scale));
    }
    let minutes = n / (60 * S);
    let seconds = decimal(n % (60 * S), S);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `n / scale` without trailing zeros; `scale` is a power of ten.
fn decimal(n: u64, scale: u64) -> String {
    let (whole, rest) = (n / scale, n % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = usize::try_from(scale.ilog10()).unwrap_or(0);
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("1ns", 1),
            ("1.5us", 1500),
            ("1µs", 1000),
            ("300ms", 300_000_000),
            ("1s", SECOND),
            ("-1.5h", -5400 * SECOND),
            ("1h2m3.5s", 3723 * SECOND + SECOND / 2),
            (".5s", SECOND / 2),
            ("1.s", SECOND),
            ("+5m", 300 * SECOND),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{text}: {e}")), nanos, "{text}");
        }
        for bad in ["", "-", "1", ".s", "1x", "1s2", "s", "99999999999h", "1 s", "5m-1s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("3").unwrap_err().message(), "time: missing unit in duration \"3\"");
        assert_eq!(parse("3x").unwrap_err().message(), "time: unknown unit \"x\" in duration \"3x\"");
    }

    #[test]
    fn durations_are_printed() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1500, "1.5µs"),
            (300_000_000, "300ms"),
            (SECOND, "1s"),
            (61 * SECOND, "1m1s"),
            (3600 * SECOND, "1h0m0s"),
            (SECOND * 3 / 2, "1.5s"),
            (-SECOND, "-1s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format(nanos), text);
        }
    }
}
