//! What a log driver is, and which there are.

use crate::entry::Entry;
use crate::{json_file, local};
use std::fmt::Debug;

/// The drivers that there are, in the order in which they are listed.
pub const DRIVERS: &[&dyn Driver] = &[&json_file::JsonFile, &local::Local, &NoLog];

/// How much of a log is kept by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a file is rotated; 0 for never.
    pub max_size: u64,
    /// How many files there are, the current one among them.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
}

/// What the beginning of some bytes is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record, and how many bytes it takes.
    Entry(Entry<'a>, usize),
    /// So many bytes that are no record (cut off by a crash, or damaged).
    Skip(usize),
    /// The beginning of a record: more bytes are needed.
    More,
}

/// A form in which output is kept.
pub trait Driver: Debug + Sync {
    /// `--log-driver`.
    fn name(&self) -> &'static str;

    /// Keys of `--log-opt` that it has, besides `mode` and `max-buffer-size`.
    fn options(&self) -> &'static [&'static str];

    /// Where the file is in a container's folder; `None` for a driver that keeps nothing.
    fn file(&self, container: &str) -> Option<String>;

    /// What is kept unless options say otherwise.
    fn rotation(&self) -> Rotation;

    /// What the attributes are in each record, made once.
    fn attributes(&self, attributes: &std::collections::BTreeMap<String, String>) -> Vec<u8>;

    /// Appends one record. `attributes` are of [`Driver::attributes`]; those of the entry are not looked at.
    fn encode(&self, entry: &Entry<'_>, attributes: &[u8], out: &mut Vec<u8>);

    /// Reads what `bytes` begins with. Never fails, and takes at least one byte or wants more; what is no record is skipped.
    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a>;
}

/// Keeps nothing.
#[derive(Debug)]
struct NoLog;

impl Driver for NoLog {
    fn name(&self) -> &'static str {
        "none"
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn file(&self, _: &str) -> Option<String> {
        None
    }

    fn rotation(&self) -> Rotation {
        Rotation { max_size: 0, max_files: 1, compress: false }
    }

    fn attributes(&self, _: &std::collections::BTreeMap<String, String>) -> Vec<u8> {
        Vec::new()
    }

    fn encode(&self, _: &Entry<'_>, _: &[u8], _: &mut Vec<u8>) {}

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        if bytes.is_empty() { Step::More } else { Step::Skip(bytes.len()) }
    }
}

/// The driver of this name.
pub fn find(name: &str) -> Option<&'static dyn Driver> {
    DRIVERS.iter().copied().find(|driver| driver.name() == name)
}

/// The names of all drivers.
pub fn names() -> impl Iterator<Item = &'static str> {
    DRIVERS.iter().map(|driver| driver.name())
}
