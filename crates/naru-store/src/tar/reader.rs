//! The reader: takes the archive in pieces of any size and hands entries and their content to a [`Sink`].
//!
//! The header formats are `tar-core`'s work (ustar, GNU, PAX, all four sparse forms). What that crate leaves open is
//! decided here, always to the strict side: numbers are checked again where it wraps or skips, budgets are counted, and
//! what two readers could understand differently is refused, or read as Go's `archive/tar` reads it, since that is what
//! made most image layers.

use super::{Error, Result};
use std::collections::VecDeque;
use tar_core::parse::{ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, PaxExtensions, SparseEntry};

/// The most bytes that one entry's headers may need: `tar-core`'s budget for metadata, twice.
const HEADERS_LIMIT: usize = 2 << 20;
/// Content is padded to whole blocks.
const BLOCK: u64 = HEADER_SIZE as u64;
/// Where the size stands in a header (tar(5)).
const SIZE_FIELD: std::ops::Range<usize> = 124..136;
/// Where the type stands in a header.
const TYPE_FIELD: usize = 156;

/// Budgets for one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of content, holes included.
    pub bytes: u64,
    /// Bytes of one path or link target (PATH_MAX).
    pub path: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 10_000_000, bytes: 1 << 40, path: 4096 }
    }
}

/// A point in time, seconds since 1970 and nanoseconds into the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an entry before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A fifo.
    Fifo,
}

/// One entry's metadata. Paths are as written in the archive: nothing about them is safe.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its name; has no NUL and is not empty.
    pub path: &'a [u8],
    /// The target of a link; has no NUL.
    pub link: &'a [u8],
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Length of a file, holes included; else 0.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes (`SCHILY.xattr.`), name and value.
    pub xattrs: Vec<(&'a [u8], &'a [u8])>,
}

/// Receives an archive's entries. For each entry: [`Sink::entry`], [`Sink::data`] any number of times, [`Sink::end`].
pub trait Sink {
    /// An entry begins.
    ///
    /// # Errors
    /// The sink's; reading ends with it.
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()>;

    /// Content of the current entry, which belongs at `offset` of the file.
    ///
    /// # Errors
    /// The sink's; reading ends with it.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// The current entry is complete.
    ///
    /// # Errors
    /// The sink's; reading ends with it.
    fn end(&mut self) -> Result<()>;
}

/// See the module.
pub struct Reader {
    parser: Parser,
    limits: Limits,
    state: State,
    entries: u64,
    bytes: u64,
}

enum State {
    /// Between entries, with the bytes of a header that is not complete yet, and how many it needs.
    Header { partial: Vec<u8>, need: usize },
    /// In the content of an entry.
    Content(Content),
    /// After the end mark.
    End,
}

struct Content {
    /// Bytes of content that are still to come.
    left: u64,
    /// Bytes of padding after them.
    padding: u64,
    /// Where the next byte belongs.
    offset: u64,
    /// The rest of a sparse file's runs of data.
    runs: VecDeque<SparseEntry>,
}

/// What one header asks of the reader.
enum Step {
    NeedData(usize),
    Entry { consumed: usize, content: Content },
    Skip(usize),
    End,
}

impl Reader {
    /// A reader at the start of an archive.
    pub fn new(limits: Limits) -> Self {
        let parser_limits = tar_core::parse::Limits { max_path_len: Some(limits.path), ..Default::default() };
        let mut parser = Parser::new(parser_limits);
        // It knows neither negative times nor their fractions, so records are checked here instead (`check_pax`).
        parser.set_ignore_pax_errors(true);
        Self { parser, limits, state: State::header(), entries: 0, bytes: 0 }
    }

    /// How many entries were read.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Reads the next bytes of the archive. What follows the end mark is ignored.
    ///
    /// # Errors
    /// When the archive is malformed or over budget; and the sink's.
    pub fn push(&mut self, mut input: &[u8], sink: &mut impl Sink) -> Result<()> {
        while !input.is_empty() {
            match &mut self.state {
                State::End => return Ok(()),
                State::Content(content) => {
                    input = content.push(input, sink)?;
                    if content.left == 0 && content.padding == 0 {
                        self.state = State::header();
                    }
                }
                State::Header { partial, .. } if partial.is_empty() => match self.step(input, sink)? {
                    Step::NeedData(need) => {
                        self.state = State::Header { partial: input.to_vec(), need };
                        return Ok(());
                    }
                    step => input = &input[self.advance(step, sink)?..],
                },
                State::Header { partial, need } => {
                    let take = need.saturating_sub(partial.len()).min(input.len());
                    partial.extend_from_slice(&input[..take]);
                    input = &input[take..];
                    if partial.len() < *need {
                        return Ok(());
                    }
                    self.retry(sink)?;
                }
            }
        }
        Ok(())
    }

    /// Parses the collected bytes of a header again, now that there are as many as were asked for.
    fn retry(&mut self, sink: &mut impl Sink) -> Result<()> {
        let State::Header { partial, .. } = std::mem::replace(&mut self.state, State::header()) else { return Ok(()) };
        match self.step(&partial, sink)? {
            Step::NeedData(need) if need > partial.len() => self.state = State::Header { partial, need },
            Step::NeedData(_) => return Err(Error::Malformed("header asks for no more data".into())),
            step => {
                let consumed = self.advance(step, sink)?;
                // More was asked for than was needed: the rest is content.
                self.push(&partial[consumed..], sink)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When it is cut short. A missing end mark is no error: many writers leave it out.
    pub fn finish(self) -> Result<()> {
        match self.state {
            State::End => Ok(()),
            State::Header { partial, .. } if partial.iter().all(|&b| b == 0) => Ok(()),
            State::Header { .. } | State::Content(_) => Err(Error::Malformed("unexpected end of the archive".into())),
        }
    }

    /// Moves to the state that `step` leads to; how many bytes of input it took.
    fn advance(&mut self, step: Step, sink: &mut impl Sink) -> Result<usize> {
        match step {
            Step::NeedData(_) => Ok(0),
            Step::Skip(consumed) => Ok(consumed),
            Step::End => {
                self.state = State::End;
                Ok(0)
            }
            Step::Entry { consumed, content } => {
                if content.left == 0 {
                    sink.end()?;
                } else {
                    self.state = State::Content(content);
                }
                Ok(consumed)
            }
        }
    }

    /// Parses one header at the start of `input` and hands the entry on.
    fn step(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<Step> {
        match self.parser.parse(input).map_err(|e| Error::Malformed(e.to_string()))? {
            ParseEvent::NeedData { min_bytes } if min_bytes > HEADERS_LIMIT => {
                Err(Error::Limit(format!("an entry's headers have more than {HEADERS_LIMIT} bytes")))
            }
            ParseEvent::NeedData { min_bytes } => Ok(Step::NeedData(min_bytes)),
            ParseEvent::End { .. } => Ok(Step::End),
            // Defaults for all entries: Go's reader and docker ignore them, and so must we to see the same tree.
            ParseEvent::GlobalExtensions { consumed, .. } => Ok(Step::Skip(consumed)),
            ParseEvent::Entry { consumed, entry } => {
                let kind = kind_of(&entry)?;
                let stored = if kind == Kind::File { entry.size } else { 0 };
                self.emit(&entry, kind, stored, sink)?;
                Ok(Step::Entry { consumed, content: Content::new(stored, VecDeque::new())? })
            }
            ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                check_runs(&sparse_map, entry.size, real_size)?;
                self.emit(&entry, Kind::File, real_size, sink)?;
                Ok(Step::Entry { consumed, content: Content::new(entry.size, sparse_map.into())? })
            }
        }
    }

    fn emit(&mut self, parsed: &ParsedEntry<'_>, kind: Kind, size: u64, sink: &mut impl Sink) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Limit(format!("more than {} entries", self.limits.entries)));
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(Error::Limit(format!("more than {} bytes of content", self.limits.bytes)));
        }
        check_size_field(parsed)?;
        // Negative times come out of tar-core's arithmetic as two's complement.
        let mut mtime = Time { seconds: parsed.mtime.cast_signed(), nanos: 0 };
        if let Some(pax) = parsed.pax {
            check_pax(pax, &mut mtime)?;
        }
        let link = parsed.link_target.as_deref().unwrap_or_default();
        if parsed.path.contains(&0) || link.contains(&0) {
            return Err(Error::refused(&parsed.path, "a name contains a NUL byte"));
        }
        if parsed.path.len() > self.limits.path as usize || link.len() > self.limits.path as usize {
            return Err(Error::Limit(format!("a name is longer than {} bytes", self.limits.path)));
        }
        sink.entry(&Entry {
            kind,
            path: &parsed.path,
            link,
            mode: parsed.mode & 0o7777,
            uid: owner(parsed.uid)?,
            gid: owner(parsed.gid)?,
            mtime,
            size,
            device: (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0)),
            xattrs: parsed.xattrs.iter().map(|(name, value)| (&**name, &**value)).collect(),
        })
    }
}

impl State {
    fn header() -> Self {
        Self::Header { partial: Vec::new(), need: 0 }
    }
}

impl Content {
    fn new(stored: u64, runs: VecDeque<SparseEntry>) -> Result<Self> {
        let padded =
            stored.checked_next_multiple_of(BLOCK).ok_or_else(|| Error::Malformed(format!("invalid size {stored}")))?;
        let offset = runs.front().map_or(0, |run| run.offset);
        Ok(Self { left: stored, padding: padded - stored, offset, runs })
    }

    /// Takes what belongs to this entry from the start of `input` and returns the rest.
    fn push<'a>(&mut self, mut input: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8]> {
        while self.left > 0 && !input.is_empty() {
            let mut take = self.left.min(input.len() as u64);
            if let Some(run) = self.runs.front() {
                let run_left = run.offset + run.length - self.offset;
                if run_left == 0 {
                    self.runs.pop_front();
                    self.offset = self.runs.front().map_or(self.offset, |next| next.offset);
                    continue;
                }
                take = take.min(run_left);
            }
            let (now, rest) = input.split_at(usize::try_from(take).unwrap_or(input.len()));
            sink.data(self.offset, now)?;
            input = rest;
            self.offset += take;
            self.left -= take;
            if self.left == 0 {
                sink.end()?;
            }
        }
        if self.left == 0 {
            let skip = self.padding.min(input.len() as u64);
            self.padding -= skip;
            input = &input[usize::try_from(skip).unwrap_or(input.len())..];
        }
        Ok(input)
    }
}

fn kind_of(entry: &ParsedEntry<'_>) -> Result<Kind> {
    Ok(match entry.entry_type {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if entry.header.as_bytes()[TYPE_FIELD] == 0 && entry.path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        _ => {
            let byte = entry.header.as_bytes()[TYPE_FIELD];
            return Err(Error::Unsupported(format!(
                "archive entry {:?} has the unknown type {:?}",
                entry.path_lossy(),
                char::from(byte)
            )));
        }
    })
}

/// The parser drops high bits of binary sizes; a reader that keeps them would see another archive.
fn check_size_field(entry: &ParsedEntry<'_>) -> Result<()> {
    let field = &entry.header.as_bytes()[SIZE_FIELD];
    if field[0] & 0x80 != 0 && (field[0] != 0x80 || field[1..4] != [0; 3]) {
        return Err(Error::Malformed(format!("size of {:?} is out of range", entry.path_lossy())));
    }
    Ok(())
}

/// Checks the records that the parser would skip when they are malformed, and reads the time of change.
fn check_pax(pax: &[u8], mtime: &mut Time) -> Result<()> {
    let bad = |key: &str, value: &[u8]| {
        Error::Malformed(format!("invalid PAX record {key}={:?}", String::from_utf8_lossy(value)))
    };
    let (mut has_size, mut sparse_major) = (false, None);
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::Malformed(format!("PAX: {e}")))?;
        let key = record.key().map_err(|_| Error::Malformed("PAX: key is not UTF-8".into()))?;
        let value = record.value_bytes();
        match key {
            "mtime" => *mtime = parse_time(value).ok_or_else(|| bad(key, value))?,
            "size"
            | "uid"
            | "gid"
            | "GNU.sparse.major"
            | "GNU.sparse.minor"
            | "GNU.sparse.size"
            | "GNU.sparse.realsize"
            | "GNU.sparse.numblocks"
            | "GNU.sparse.offset"
            | "GNU.sparse.numbytes" => {
                let number = parse_decimal(value).ok_or_else(|| bad(key, value))?;
                has_size |= key == "size";
                if key == "GNU.sparse.major" {
                    sparse_major = Some(number);
                }
            }
            "GNU.sparse.map" if !value.is_ascii() => return Err(bad(key, value)),
            _ => {}
        }
    }
    // The parser takes the record for the length of the data without the map before it: not what writers mean.
    if has_size && sparse_major.is_some_and(|major| major > 0) {
        return Err(Error::Unsupported("sparse archive entries of more than 8 GiB of data are not supported".into()));
    }
    Ok(())
}

/// Decimal digits only: no sign, no space.
fn parse_decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// `[-]seconds[.fraction]` (pax, "mtime").
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&b| b == b'.');
    let whole = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    if let Some(fraction) = parts.next().filter(|f| !f.is_empty()) {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |b| b - b'0'));
        }
    }
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds: whole, nanos },
        (true, 0) => Time { seconds: -whole, nanos: 0 },
        (true, nanos) => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn owner(id: u64) -> Result<u32> {
    // The last number means "unchanged" to chown(2).
    u32::try_from(id)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| Error::Malformed(format!("owner id {id} is out of range")))
}

/// A sparse file's runs must be in order, apart from each other, inside the file, and as long as what is stored.
fn check_runs(runs: &[SparseEntry], stored: u64, size: u64) -> Result<()> {
    let bad = || Error::Malformed("sparse map does not fit its file".into());
    let (mut end, mut total) = (0, 0u64);
    for run in runs {
        if run.offset < end {
            return Err(bad());
        }
        end = run.offset.checked_add(run.length).filter(|&end| end <= size).ok_or_else(bad)?;
        total += run.length;
    }
    if total == stored { Ok(()) } else { Err(bad()) }
}
