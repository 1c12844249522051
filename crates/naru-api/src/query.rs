//! Query strings, with the rules of docker's daemon for truth values, numbers, filters and times.

use naru_base::{Error, Result};
use naru_engine::types::{Filters, UnixNanos};
use std::borrow::Cow;

/// A query's parameters in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c`. What can't be decoded is taken as it is.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true).into_owned(), decode(value, true).into_owned())
        });
        Self(pairs.collect())
    }

    /// Adds a form body's parameters, which win over the query's (Go's `Request.FormValue`).
    pub(crate) fn merge_form(&mut self, text: &str) {
        self.0.splice(0..0, Self::parse(text).0);
    }

    /// The first value of `key`, if it was given at all.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value of `key`, empty when it was not given.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }

    /// The first value of `key`, `None` when it is empty or was not given.
    pub(crate) fn given(&self, key: &str) -> Option<String> {
        self.get(key).filter(|v| !v.is_empty()).map(ToOwned::to_owned)
    }

    /// Every value of `key`.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    /// docker's `BoolValue`: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        !matches!(self.text(key).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Self::flag`], `default` when it was not given.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.get(key).is_none() { default } else { self.flag(key) }
    }

    /// A whole number; `None` when it was not given.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.given(key)
            .map(|v| {
                v.parse().map_err(|_| Error::invalid(format!("invalid value {v:?} for {key}: a number is needed")))
            })
            .transpose()
    }

    /// A terminal's size `key`, which must be given.
    ///
    /// # Errors
    /// For a sign, nothing, and what doesn't fit.
    pub(crate) fn dimension(&self, key: &str) -> Result<u16> {
        let text = self.text(key);
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number: Option<u32> = if digits { text.parse().ok() } else { None };
        let number =
            number.ok_or_else(|| Error::invalid(format!("invalid resize {}: {text:?}", dimension_name(key))))?;
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// The `filters` parameter.
    ///
    /// # Errors
    /// For text that is no filter, and for keys that are not in `known`.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters> {
        let filters = parse_filters(self.text("filters"))?;
        match filters.keys().find(|k| !known.contains(&k.as_str())) {
            Some(unknown) => Err(Error::invalid(format!("invalid filter '{unknown}'"))),
            None => Ok(filters),
        }
    }

    /// A time as `seconds[.nanoseconds]`; 0 when it was not given.
    ///
    /// # Errors
    /// For anything else.
    pub(crate) fn time(&self, key: &str) -> Result<UnixNanos> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(0);
        }
        parse_time(text)
            .ok_or_else(|| Error::invalid(format!("invalid value for {key:?}: {text:?} is no time in seconds")))
    }
}

fn dimension_name(key: &str) -> &'static str {
    if key == "h" { "height" } else { "width" }
}

/// Percent-decodes; `plus` also turns `+` into a space, as in a query.
pub(crate) fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let pair = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(&h, &l)| Some((digit(h)?, digit(l)?)));
        match (b, pair) {
            (b'%', Some((high, low))) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', _) if plus => out.push(b' '),
            _ => out.push(b),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// `{"key":{"value":true}}`, or `{"key":["value"]}` as old clients have it.
fn parse_filters(text: &str) -> Result<Filters> {
    if text.is_empty() {
        return Ok(Filters::new());
    }
    let bad = || Error::invalid("invalid filter");
    let serde_json::Value::Object(keys) = serde_json::from_str(text).map_err(|_| bad())? else { return Err(bad()) };
    let mut filters = Filters::new();
    for (key, values) in keys {
        let values = match values {
            serde_json::Value::Object(set) if set.values().all(serde_json::Value::is_boolean) => {
                set.into_iter().map(|(v, _)| v).collect()
            }
            serde_json::Value::Array(list) => {
                list.into_iter().map(|v| v.as_str().map(ToOwned::to_owned).ok_or_else(bad)).collect::<Result<_>>()?
            }
            serde_json::Value::Null => Vec::new(),
            _ => return Err(bad()),
        };
        filters.insert(key, values);
    }
    Ok(filters)
}

/// `seconds[.fraction]` as Unix nanoseconds. The fraction is right-padded: `1.5` is one and a half.
pub(crate) fn parse_time(text: &str) -> Option<UnixNanos> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.get(..fraction.len().min(9))?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{digits:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(if seconds < 0 { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_dockers() {
        let q = Query::parse("a=1&b=False&c&d=%20No%20&e=maybe&f=0&g=None");
        assert!(q.flag("a") && q.flag("e"));
        for no in ["b", "c", "d", "f", "g", "missing"] {
            assert!(!q.flag(no), "{no}");
        }
        assert!(q.flag_or("missing", true) && !q.flag_or("f", true));
    }

    #[test]
    fn values_are_decoded() {
        let q = Query::parse("t=a%2Fb+c&names=x&names=y%3a1&bad=%zz%4");
        assert_eq!(q.text("t"), "a/b c");
        assert_eq!(q.all("names"), ["x", "y:1"]);
        assert_eq!(q.text("bad"), "%zz%4");
        assert_eq!(decode("a+b%20c", false), "a+b c");
    }

    #[test]
    fn dimensions_are_unsigned() {
        for bad in ["h=", "h=-1", "h=%2B3", "h=x", "w=3", "h=99999999999"] {
            assert!(Query::parse(bad).dimension("h").is_err(), "{bad}");
        }
        assert_eq!(Query::parse("h=24").dimension("h").unwrap(), 24);
    }

    #[test]
    fn filters_come_in_two_forms() {
        let q = |f: &str| Query(vec![("filters".into(), f.into())]).filters(&["label", "name"]);
        assert_eq!(q(r#"{"label":{"a=b":true,"c":true}}"#).unwrap()["label"], ["a=b", "c"]);
        assert_eq!(q(r#"{"name":["x"]}"#).unwrap()["name"], ["x"]);
        assert!(q("").unwrap().is_empty());
        assert_eq!(q(r#"{"foo":["x"]}"#).unwrap_err().message(), "invalid filter 'foo'");
        for bad in ["x", "[]", r#"{"name":3}"#, r#"{"name":[3]}"#, r#"{"name":{"a":"b"}}"#] {
            assert_eq!(q(bad).unwrap_err().message(), "invalid filter", "{bad}");
        }
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(parse_time("1"), Some(1_000_000_000));
        assert_eq!(parse_time("1.5"), Some(1_500_000_000));
        assert_eq!(parse_time("1.000000001"), Some(1_000_000_001));
        assert_eq!(parse_time("1.0000000019"), Some(1_000_000_001));
        assert_eq!(parse_time("1.x"), None);
        assert_eq!(parse_time("2020-01-01"), None);
        assert_eq!(parse_time("99999999999999999"), None);
    }
}
