//! What `--log-driver` and `--log-opt` ask for.

use crate::driver::{self, Driver, Rotation};
use naru_base::{Error, Result, size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// docker's buffer of the non-blocking mode.
const BUFFER: u64 = 1 << 20;
/// Options of every driver.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// What docker has and this is not.
const ELSEWHERE: [&str; 9] =
    ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "splunk", "syslog"];

/// How output is kept, everything decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Name of the driver.
    pub driver: String,
    /// The current file; `None` keeps nothing.
    pub path: Option<PathBuf>,
    /// Bytes after which it is rotated; 0 for never.
    pub max_size: u64,
    /// How many files are kept, the current one among them.
    pub max_files: u32,
    /// Whether older files are compressed.
    pub compress: bool,
    /// What is written with each record.
    pub attributes: BTreeMap<String, String>,
    /// Bytes that may wait for a slow disk before records are dropped; `None`: the container waits.
    pub buffer: Option<u64>,
}

/// A driver and its options, checked.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The driver.
    pub driver: &'static dyn Driver,
    /// Files.
    pub rotation: Rotation,
    /// See [`LogConfig::buffer`].
    pub buffer: Option<u64>,
}

/// Checks a driver's name and its options. `labels`, `env` and `tag` are their reader's to judge.
///
/// # Errors
/// With docker's texts, which name the option.
pub fn parse(name: &str, options: &BTreeMap<String, String>) -> Result<Choice> {
    let Some(driver) = driver::find(name) else {
        let there = driver::names().collect::<Vec<_>>().join(", ");
        if ELSEWHERE.contains(&name) {
            return Err(Error::not_implemented(format!(
                "logger: no log driver named '{name}' is registered; there are: {there}"
            )));
        }
        return Err(Error::invalid(format!(
            "error looking up logging plugin {name}: plugin {name:?} not found; log drivers that there are: {there}"
        )));
    };
    let rotation = driver.rotation();
    let buffer = mode(options)?;
    if driver.file("").is_none() {
        // As docker has it: nothing of this driver's options is looked at.
        return Ok(Choice { driver, rotation, buffer: None });
    }
    let known = |key: &str| driver.options().contains(&key) || COMMON.contains(&key);
    if let Some(unknown) = options.keys().find(|key| !known(key)) {
        // docker has two sentences for it.
        let of = if name == "local" { format!("log driver {name}") } else { format!("{name} log driver") };
        return Err(Error::invalid(format!("unknown log opt '{unknown}' for {of}")));
    }
    let get = |key: &str| options.get(key).map(String::as_str);
    let max_size = match get("max-size") {
        None => rotation.max_size,
        Some("-1") => 0,
        Some(text) => bytes("max-size", text)?,
    };
    let max_files = match get("max-file") {
        None => rotation.max_files,
        Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
            Error::invalid(format!("invalid value for max-file: {text:?}: max-file cannot be less than 1"))
        })?,
    };
    let asked = get("compress").map(boolean).transpose()?;
    if asked == Some(true) && (max_files < 2 || max_size == 0) {
        return Err(Error::invalid("compress cannot be true when max-file is less than 2 or max-size is not set"));
    }
    Ok(Choice {
        driver,
        rotation: Rotation { max_size, max_files, compress: asked.unwrap_or(rotation.compress) },
        buffer,
    })
}

fn mode(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let buffer = options.get("max-buffer-size");
    match options.get("mode").map_or("", String::as_str) {
        "" | "blocking" if buffer.is_some() => {
            Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"))
        }
        "" | "blocking" => Ok(None),
        "non-blocking" => buffer.map_or(Ok(BUFFER), |text| bytes("max-buffer-size", text)).map(Some),
        other => Err(Error::invalid(format!("logger: logging mode not supported: {other}"))),
    }
}

fn bytes(key: &str, text: &str) -> Result<u64> {
    let parsed = size::parse_bytes(text).map_err(|e| Error::invalid(format!("invalid value for {key}: {e}")))?;
    u64::try_from(parsed)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::invalid(format!("invalid value for {key}: {text:?}: a size such as 10m is needed")))
}

/// Go's words for it.
fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("invalid value for compress: {text:?} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_read() {
        let read = |name: &str, pairs: &[(&str, &str)]| {
            let choice = parse(name, &options(pairs)).unwrap();
            let Rotation { max_size, max_files, compress } = choice.rotation;
            (max_size, max_files, compress, choice.buffer)
        };
        assert_eq!(read("json-file", &[]), (10 << 20, 3, false, None));
        assert_eq!(read("local", &[]), (20 << 20, 5, true, None));
        assert_eq!(
            read("local", &[("max-size", "1k"), ("max-file", "2"), ("compress", "false")]),
            (1024, 2, false, None)
        );
        assert_eq!(read("json-file", &[("max-size", "-1"), ("mode", "non-blocking")]), (0, 3, false, Some(1 << 20)));
        assert_eq!(read("json-file", &[("max-buffer-size", "4k"), ("mode", "non-blocking")]).3, Some(4096));
        assert_eq!(read("none", &[("max-size", "x")]).0, 0);
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (name, pairs, text) in [
            ("json-file", &[("foo", "1")][..], "unknown log opt 'foo' for json-file log driver"),
            ("local", &[("tag", "1")], "unknown log opt 'tag' for log driver local"),
            ("json-file", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", &[("max-size", "0")], "invalid value for max-size"),
            ("json-file", &[("max-size", "x")], "invalid value for max-size"),
            ("json-file", &[("compress", "maybe")], "invalid value for compress"),
            (
                "json-file",
                &[("compress", "true"), ("max-file", "1")],
                "compress cannot be true when max-file is less than 2",
            ),
            ("json-file", &[("mode", "fast")], "logger: logging mode not supported: fast"),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                "max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            ("syslog", &[], "logger: no log driver named 'syslog' is registered; there are: json-file, local, none"),
            (
                "bla",
                &[],
                "error looking up logging plugin bla: plugin \"bla\" not found; log drivers that there are: json-file",
            ),
        ] {
            let error = parse(name, &options(pairs)).unwrap_err();
            assert!(error.message().contains(text), "{name} {pairs:?}: {error}");
        }
    }
}
