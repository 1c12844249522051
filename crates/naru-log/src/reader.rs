//! Reading a log while it is written, rotated and compressed: in order over its files, and on from where one stopped.
//!
//! A reader never fails on what a file holds: what is no record is skipped, and reading goes on after it.

use crate::driver::{Driver, Step};
use crate::entry::Entry;
use crate::files::{INODE_FIELD, numbered};
use flate2::bufread::MultiGzDecoder;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Read at once.
const CHUNK: usize = 64 << 10;
/// How often the list of files is looked at anew because there was a rotation meanwhile.
const TRIES: usize = 5;

/// Where a record is: what a reader that comes later goes on after. As text: the file's inode, the offset and the time, with `-` between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Of the file, also when it was compressed since.
    inode: u64,
    /// Bytes before the record in the (uncompressed) file.
    offset: u64,
    /// The record's, by which it is known again: a number of an inode may have become another file's.
    time: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.inode, self.offset, self.time)
    }
}

impl std::str::FromStr for Position {
    type Err = naru_base::Error;

    fn from_str(text: &str) -> naru_base::Result<Self> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().unwrap_or_default();
        let (inode, offset, time) = (next().parse(), next().parse(), next().parse());
        match (inode, offset, time) {
            (Ok(inode), Ok(offset), Ok(time)) => Ok(Self { inode, offset, time }),
            _ => Err(naru_base::Error::invalid(format!("invalid position in a log: {text:?}"))),
        }
    }
}

/// A log at a place.
#[derive(Debug)]
pub struct Reader {
    driver: &'static dyn Driver,
    path: PathBuf,
    current: Option<Source>,
    /// Files that come after the current one, oldest first.
    next: VecDeque<Source>,
    /// What has been read from the current file and not handed on.
    buffer: Vec<u8>,
    used: usize,
    /// Where in the current file the buffer begins.
    base: u64,
    /// Of the record that was handed on last.
    position: Position,
}

/// A file of the log.
#[derive(Debug)]
struct Source {
    content: Content,
    /// Of the file itself, or of the one that it was made from.
    inode: u64,
    /// It is rotated away: nothing will be appended.
    old: bool,
}

enum Content {
    Plain(File),
    Gz(Box<MultiGzDecoder<BufReader<File>>>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gz(_) => "Gz",
        })
    }
}

impl Reader {
    /// At the beginning of the oldest file that is there.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn new(driver: &'static dyn Driver, path: impl Into<PathBuf>) -> std::io::Result<Self> {
        let path = path.into();
        let next = list(&path)?;
        let (buffer, position) = (Vec::new(), Position::default());
        Ok(Self { driver, path, current: None, next, buffer, used: 0, base: 0, position })
    }

    /// Behind a record that another reader has handed on; at the beginning when that is no longer there.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn after(driver: &'static dyn Driver, path: impl Into<PathBuf>, position: Position) -> std::io::Result<Self> {
        let path = path.into();
        // Since a file was compressed or removed, newer ones may have its number: each is tried.
        for nth in 0.. {
            let mut reader = Self::new(driver, path.clone())?;
            let own = (0..reader.next.len()).rev().filter(|at| reader.next[*at].inode == position.inode).nth(nth);
            let Some(own) = own else { break };
            reader.next.drain(..own);
            reader.advance()?;
            reader.skip(position.offset)?;
            if reader.next_entry()?.is_some() && reader.position == position {
                return Ok(reader);
            }
        }
        Self::new(driver, path)
    }

    /// Where the record is that was handed on last.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes so many bytes into the current file, of which nothing has been read.
    fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        match self.current.as_mut().map(|source| &mut source.content) {
            Some(Content::Plain(file)) => drop(file.seek(SeekFrom::Start(bytes))?),
            // What is damaged ends there, and the record isn't found.
            Some(Content::Gz(decoder)) => {
                let _ = std::io::copy(&mut decoder.take(bytes), &mut std::io::sink());
            }
            None => {}
        }
        self.base = bytes;
        Ok(())
    }

    /// The next record, over rotations if there were some; `None` when there is none yet.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn next_entry(&mut self) -> std::io::Result<Option<Entry<'static>>> {
        loop {
            if self.current.is_none() && !self.advance()? {
                return Ok(None);
            }
            match self.driver.decode(&self.buffer[self.used..]) {
                Step::Entry(entry, taken) => {
                    let entry = entry.into_owned();
                    let inode = self.current.as_ref().map_or(0, |source| source.inode);
                    self.position = Position { inode, offset: self.base + self.used as u64, time: entry.time };
                    self.used += taken;
                    return Ok(Some(entry));
                }
                Step::Skip(count) => {
                    self.used = (self.used + count.max(1)).min(self.buffer.len());
                    continue;
                }
                Step::More => {}
            }
            if self.fill()? {
                continue;
            }
            if self.current.as_ref().is_some_and(|source| source.old) {
                // The beginning of a record at the end of a file is all there is of it.
                self.leave();
            } else if !self.is_rotated()? {
                return Ok(None);
            }
        }
    }

    fn leave(&mut self) {
        self.current = None;
        self.buffer.clear();
        self.used = 0;
        self.base = 0;
    }

    /// On to the next file.
    fn advance(&mut self) -> std::io::Result<bool> {
        if self.next.is_empty() {
            self.next = list(&self.path)?;
        }
        self.current = self.next.pop_front();
        Ok(self.current.is_some())
    }

    /// Reads more of the current file.
    fn fill(&mut self) -> std::io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        self.buffer.drain(..self.used);
        self.base += self.used as u64;
        self.used = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + CHUNK, 0);
        let room = &mut self.buffer[old..];
        let count = match &mut source.content {
            Content::Plain(file) => {
                let count = read(file, room)?;
                if count == 0 && !source.old {
                    // Emptied under us (by a log of one file, or `truncate -s0`): on from its beginning.
                    let at = file.stream_position()?;
                    if file.metadata()?.len() < at {
                        file.seek(SeekFrom::Start(0))?;
                        self.buffer.clear();
                        self.base = 0;
                        return Ok(true);
                    }
                }
                count
            }
            // What is damaged ends there.
            Content::Gz(decoder) => read(decoder, room).unwrap_or(0),
        };
        self.buffer.truncate(old + count);
        Ok(count > 0)
    }

    /// Whether another file has taken the place of the current one. What comes after ours is lined up then.
    fn is_rotated(&mut self) -> std::io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.ino() == source.inode => return Ok(false),
            Ok(_) => {}
            // Between two steps of a rotation.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        }
        let mut files = list(&self.path)?;
        // The newest of this inode: while we have it open it is nobody else's, but an older file may have had the number.
        if let Some(own) = files.iter().rposition(|file| file.inode == source.inode) {
            files.drain(..=own);
        }
        // Where ours is gone, all that is there is newer. Its last records may have been written since we looked.
        source.old = true;
        self.next = files;
        Ok(true)
    }
}

fn read(from: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match from.read(into) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Every file of the log, opened, oldest first.
fn list(path: &Path) -> std::io::Result<VecDeque<Source>> {
    let mut files = VecDeque::new();
    for _ in 0..TRIES {
        files.clear();
        let Some(newest) = open(path, false)? else {
            // None yet, or between two steps of a rotation: the older ones are read when it is back.
            if open_older(path, 1)?.is_none() {
                return Ok(files);
            }
            std::thread::yield_now();
            continue;
        };
        let inode = newest.inode;
        files.push_front(newest);
        // From the newest on: a file that is moved on meanwhile is found at its next place.
        for number in 1.. {
            let Some(older) = open_older(path, number)? else { break };
            files.push_front(older);
        }
        if std::fs::metadata(path).is_ok_and(|meta| meta.ino() == inode) {
            break;
        }
    }
    Ok(files)
}

fn open_older(path: &Path, number: u32) -> std::io::Result<Option<Source>> {
    for compressed in [false, true] {
        if let Some(source) = open(&numbered(path, number, compressed), compressed)? {
            return Ok(Some(Source { old: true, ..source }));
        }
    }
    Ok(None)
}

fn open(path: &Path, compressed: bool) -> std::io::Result<Option<Source>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let inode = file.metadata()?.ino();
    if !compressed {
        return Ok(Some(Source { content: Content::Plain(file), inode, old: false }));
    }
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file));
    let inode = decoder.header().and_then(|header| header.extra()).and_then(origin).unwrap_or(0);
    Ok(Some(Source { content: Content::Gz(Box::new(decoder)), inode, old: true }))
}

/// The inode of the file that was compressed.
fn origin(mut extra: &[u8]) -> Option<u64> {
    loop {
        let (head, rest) = extra.split_first_chunk::<4>()?;
        let (field, after) = rest.split_at_checked(usize::from(u16::from_le_bytes([head[2], head[3]])))?;
        if head[..2] == INODE_FIELD {
            return Some(u64::from_le_bytes(field.try_into().ok()?));
        }
        extra = after;
    }
}
