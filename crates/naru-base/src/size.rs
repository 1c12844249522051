//! Byte sizes as docker reads and prints them (the rules of `docker/go-units`), with Go's `%.Ng` number form.

use crate::{Error, Result};

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Reads `512`, `512m`, `1.5GiB`, `64 kb`: every unit is binary, letters in any case.
///
/// # Errors
/// `invalid size: 'X'` or `invalid suffix: 'X'`, docker's words.
pub fn parse_bytes(text: &str) -> Result<i64> {
    parse_scaled(text, 1024.0)
}

/// Like [`parse_bytes`] with decimal units (`1k` is 1000).
///
/// # Errors
/// As [`parse_bytes`].
pub fn parse_decimal_bytes(text: &str) -> Result<i64> {
    parse_scaled(text, 1000.0)
}

fn parse_scaled(text: &str, base: f64) -> Result<i64> {
    let bad = || Error::invalid(format!("invalid size: '{text}'"));
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(bad)?;
    let number = if text.as_bytes()[last] == b' ' { &text[..last] } else { &text[..=last] };
    let suffix = &text[last + 1..];
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E');
    if number.is_empty() || !number.bytes().all(plain) {
        return Err(bad_number(number));
    }
    let size: f64 = number.parse().map_err(|_| bad_number(number))?;
    if size < 0.0 {
        return Err(bad());
    }
    let factor = unit_factor(suffix, base)
        .ok_or_else(|| Error::invalid(format!("invalid suffix: '{}'", suffix.to_ascii_lowercase())))?;
    // A float that is too large saturates, which is the best that can be made of it.
    Ok((size * factor) as i64)
}

fn bad_number(number: &str) -> Error {
    Error::invalid(format!("strconv.ParseFloat: parsing {}: invalid syntax", crate::human::go_quote(number)))
}

/// What one unit of `suffix` is: `m`, `mb` and `mib` are the same; `b` stands alone.
fn unit_factor(suffix: &str, base: f64) -> Option<f64> {
    let suffix = suffix.to_ascii_lowercase();
    if suffix.is_empty() || suffix == "b" {
        return Some(1.0);
    }
    let exponent = match suffix.as_bytes()[0] {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        _ => return None,
    };
    matches!(suffix.get(1..), Some("" | "b" | "ib")).then(|| base.powi(exponent))
}

/// `7.05MB`: decimal units, four significant digits.
pub fn human_size(bytes: f64) -> String {
    human_size_with_precision(bytes, 4)
}

/// `7.05MB`: decimal units, `precision` significant digits (`1000` at three digits is `1e+03`, as in Go).
pub fn human_size_with_precision(bytes: f64, precision: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, precision)
}

/// `7.05MiB`: binary units, four significant digits.
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str; 9], precision: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", format_g(size, precision), units[unit])
}

/// A number as Go's and C's `%.{precision}g` print it.
pub fn format_g(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let digits = precision.max(1);
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("42", 42),
            ("42b", 42),
            ("42B", 42),
            ("1k", 1024),
            ("1K", 1024),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1 g", 1 << 30),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            (".5k", 512),
        ] {
            assert_eq!(parse_bytes(text).unwrap_or_else(|e| panic!("{text}: {e}")), bytes, "{text}");
        }
        for bad in ["", "k", "-1", "1kbb", "1bb", "1x", "1kib2", "hello", "inf", "1 1", "1kk", "ü"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_decimal_bytes("1k").unwrap(), 1000);
        assert_eq!(parse_bytes("zz").unwrap_err().message(), "invalid size: 'zz'");
        assert_eq!(parse_bytes("1zz").unwrap_err().message(), "invalid suffix: 'zz'");
    }

    #[test]
    fn sizes_are_printed() {
        for (bytes, text) in [
            (0.0, "0B"),
            (1.0, "1B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1024.0, "1.024kB"),
            (1500.0, "1.5kB"),
            (7_050_000.0, "7.05MB"),
            (123_456_789.0, "123.5MB"),
            (1e12, "1TB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
        assert_eq!(human_size_with_precision(123_456_789.0, 3), "123MB");
        assert_eq!(human_size_with_precision(999_999.0, 3), "1e+03kB");
        assert_eq!(bytes_size(1536.0), "1.5KiB");
        assert_eq!(bytes_size(1023.0), "1023B");
        assert_eq!(bytes_size(8_243_920_896.0), "7.678GiB");
    }

    #[test]
    fn numbers_are_printed_like_c() {
        for (value, precision, text) in [
            (0.0, 4, "0"),
            (0.0001, 3, "0.0001"),
            (0.00001, 3, "1e-05"),
            (999.95, 4, "1000"),
            (1e100, 3, "1e+100"),
            (-1.5, 3, "-1.5"),
        ] {
            assert_eq!(format_g(value, precision), text, "{value}");
        }
    }
}
