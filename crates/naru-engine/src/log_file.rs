//! Reading `json-file` logs: lines in order over rotated files, from the end for `tail`, and on from where one stopped for `follow`.
//!
//! A reader never fails on what a line holds: one that was cut off by a crash is skipped, and reading goes on with the next.

use crate::types::{LogLine, LogOptions, UnixNanos};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A line longer than this is no record of ours (16 KiB of output, each byte escaped, and its frame).
const LINE_LIMIT: u64 = 256 << 10;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Reads one record; `None` for what is none.
pub(crate) fn parse_line(line: &[u8]) -> Option<LogLine> {
    let entry: Entry<'_> = serde_json::from_slice(line).ok()?;
    let time: jiff::Timestamp = entry.time.parse().ok()?;
    Some(LogLine {
        stderr: entry.stream == "stderr",
        time: UnixNanos::try_from(time.as_nanosecond()).ok()?,
        text: entry.log.into_owned().into_bytes(),
    })
}

/// Whether the options want this line.
pub(crate) fn wanted(line: &LogLine, options: &LogOptions) -> bool {
    let stream = if line.stderr { options.stderr } else { options.stdout };
    stream && line.time >= options.since && (options.until == 0 || line.time <= options.until)
}

/// A log at a place.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    current: Option<BufReader<File>>,
    /// Inode of the current file: another one at the path means that it has been rotated.
    inode: u64,
    /// Beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Reader {
    /// At the beginning of the newest file.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), current: None, inode: 0, partial: Vec::new() }
    }

    /// Every line that the options want and that is there now, oldest first; the reader then stands at the end.
    ///
    /// # Errors
    /// When a file can't be read.
    pub(crate) fn existing(&mut self, options: &LogOptions) -> std::io::Result<Vec<LogLine>> {
        let mut lines = VecDeque::new();
        let keep = |lines: &mut VecDeque<LogLine>, line: LogLine| {
            if wanted(&line, options) {
                lines.push_back(line);
                if options.tail.is_some_and(|n| lines.len() > n) {
                    lines.pop_front();
                }
            }
        };
        for old in rotated(&self.path) {
            // One that is rotated away meanwhile is read by nobody, as in docker.
            let Ok(file) = File::open(old) else { continue };
            let mut reader = Self { current: Some(BufReader::new(file)), ..Self::new(PathBuf::new()) };
            while let Some(line) = reader.next_here()? {
                keep(&mut lines, line);
            }
        }
        while let Some(line) = self.next()? {
            keep(&mut lines, line);
        }
        Ok(lines.into())
    }

    /// The next line, over a rotation if there was one; `None` when there is none yet.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<LogLine>> {
        loop {
            if self.current.is_none() && !self.reopen()? {
                return Ok(None);
            }
            if let Some(line) = self.next_here()? {
                return Ok(Some(line));
            }
            match std::fs::metadata(&self.path) {
                Ok(meta) if meta.ino() != self.inode => self.current = None,
                _ => return Ok(None),
            }
        }
    }

    fn reopen(&mut self) -> std::io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        self.inode = file.metadata()?.ino();
        self.partial.clear();
        self.current = Some(BufReader::new(file));
        Ok(true)
    }

    fn next_here(&mut self) -> std::io::Result<Option<LogLine>> {
        let Some(reader) = &mut self.current else { return Ok(None) };
        loop {
            let room = LINE_LIMIT.saturating_sub(self.partial.len() as u64).max(1);
            if reader.by_ref().take(room).read_until(b'\n', &mut self.partial)? == 0 {
                // Truncated under us (`truncate -s0`): go on from its new end.
                let at = reader.stream_position()?;
                if reader.get_ref().metadata()?.len() < at {
                    reader.seek(SeekFrom::Start(0))?;
                    self.partial.clear();
                    continue;
                }
                return Ok(None);
            }
            let whole = self.partial.ends_with(b"\n");
            if !whole && (self.partial.len() as u64) < LINE_LIMIT {
                continue;
            }
            let line = parse_line(&self.partial);
            self.partial.clear();
            if line.is_some() {
                return Ok(line);
            }
        }
    }
}

/// The rotated files of a log, oldest first: `x.2`, `x.1`.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let mut found: Vec<PathBuf> = (1..).map(numbered).take_while(|p| p.exists()).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn both() -> LogOptions {
        LogOptions { stdout: true, stderr: true, ..LogOptions::default() }
    }

    fn record(text: &str, stream: &str, second: u32) -> String {
        format!(
            "{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{second:02}.000000001Z\"}}\n",
            serde_json::json!(text)
        )
    }

    /// A folder of the test's own, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("naru-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn texts(lines: &[LogLine]) -> Vec<String> {
        lines.iter().map(|l| String::from_utf8_lossy(&l.text).into_owned()).collect()
    }

    #[test]
    fn rotated_files_come_first_and_tail_counts_from_the_end() {
        let folder = Folder::new("rotated");
        folder.write("x.2", &record("a\n", "stdout", 1));
        folder.write("x.1", &record("b\n", "stderr", 2));
        let path = folder.write("x", &(record("c\n", "stdout", 3) + &record("d\n", "stderr", 4)));
        assert_eq!(texts(&Reader::new(&path).existing(&both()).unwrap()), ["a\n", "b\n", "c\n", "d\n"]);
        let tail = LogOptions { tail: Some(2), ..both() };
        assert_eq!(texts(&Reader::new(&path).existing(&tail).unwrap()), ["c\n", "d\n"]);
        let only_err = LogOptions { stdout: false, ..both() };
        assert_eq!(texts(&Reader::new(&path).existing(&only_err).unwrap()), ["b\n", "d\n"]);
    }

    #[test]
    fn following_goes_over_a_rotation_and_waits_for_whole_lines() {
        let folder = Folder::new("follow");
        let path = folder.write("x", &record("a\n", "stdout", 1));
        let mut reader = Reader::new(&path);
        assert_eq!(texts(&reader.existing(&both()).unwrap()), ["a\n"]);
        let line = record("b\n", "stdout", 2);
        let (first, second) = line.split_at(10);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(first.as_bytes()).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        file.write_all(second.as_bytes()).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().text, b"b\n");
        std::fs::rename(&path, folder.0.join("x.1")).unwrap();
        folder.write("x", &record("c\n", "stdout", 3));
        assert_eq!(reader.next().unwrap().unwrap().text, b"c\n");
    }

    #[test]
    fn broken_lines_are_skipped() {
        let folder = Folder::new("broken");
        let path = folder.write("x", &format!("{{\"log\":\"cut\n\0\0\n{}\n", record("a\n", "stdout", 1).trim_end()));
        assert_eq!(texts(&Reader::new(&path).existing(&both()).unwrap()), ["a\n"]);
    }

    #[test]
    fn times_bound_what_is_read() {
        let folder = Folder::new("times");
        let path = folder.write("x", &(1..=4).map(|s| record(&format!("{s}\n"), "stdout", s)).collect::<String>());
        let all = Reader::new(&path).existing(&both()).unwrap();
        let options = LogOptions { since: all[1].time, until: all[2].time, ..both() };
        assert_eq!(texts(&Reader::new(&path).existing(&options).unwrap()), ["2\n", "3\n"]);
    }
}
