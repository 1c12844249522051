//! Log drivers and their options.

use crate::types::LogSettings;
use naru_base::{Error, Result, size};
use naru_monitor::protocol::LogConfig;
use std::path::PathBuf;

/// Rotation that nobody has to ask for: 10 MB, three files.
const DEFAULT_MAX_SIZE: u64 = 10 << 20;
const DEFAULT_MAX_FILES: u32 = 3;
/// Options of docker's `json-file` that are accepted; those that only decorate lines are kept and have no effect on the file.
const KNOWN: &[&str] = &[
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

/// Size and number of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Bytes; 0 for no rotation.
    pub max_size: u64,
    pub max_files: u32,
}

/// Checks the options.
///
/// # Errors
/// For unknown options and malformed values; the text names them.
pub(crate) fn parse(settings: &LogSettings) -> Result<Rotation> {
    for key in settings.options.keys() {
        if !KNOWN.contains(&key.as_str()) {
            return Err(Error::invalid(format!("unknown log opt '{key}' for json-file log driver")));
        }
    }
    let max_size = match settings.options.get("max-size").map(String::as_str) {
        None => DEFAULT_MAX_SIZE,
        Some("-1") => 0,
        Some(text) => {
            size::parse_bytes(text).ok().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(|| {
                Error::invalid(format!("invalid log opt max-size={text}: a size such as 10m is needed"))
            })?
        }
    };
    let max_files = match settings.options.get("max-file") {
        None => DEFAULT_MAX_FILES,
        Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
            Error::invalid(format!("invalid log opt max-file={text}: max-file cannot be less than 1"))
        })?,
    };
    Ok(Rotation { max_size, max_files })
}

/// What the monitor is told.
///
/// # Errors
/// As [`parse`].
pub(crate) fn for_monitor(settings: &LogSettings, path: PathBuf) -> Result<LogConfig> {
    let rotation = parse(settings)?;
    Ok(match settings.driver.as_str() {
        "none" => LogConfig::None,
        _ => LogConfig::JsonFile { path, max_size: rotation.max_size, max_files: rotation.max_files },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> LogSettings {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LogSettings { driver: "json-file".into(), options }
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&settings(&[])).unwrap(), Rotation { max_size: 10 << 20, max_files: 3 });
        assert_eq!(
            parse(&settings(&[("max-size", "1k"), ("max-file", "2")])).unwrap(),
            Rotation { max_size: 1024, max_files: 2 }
        );
        assert_eq!(parse(&settings(&[("max-size", "-1")])).unwrap().max_size, 0);
    }

    #[test]
    fn bad_options_are_named() {
        for (key, value) in [("max-size", "x"), ("max-size", "0"), ("max-file", "0"), ("max-file", "-1"), ("nope", "1")]
        {
            let error = parse(&settings(&[(key, value)])).unwrap_err();
            assert!(error.message().contains(key), "{key}={value}: {error}");
        }
    }
}
