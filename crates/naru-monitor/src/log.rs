//! A container's log in docker's `json-file` format: one JSON object per line of output, rotated by size.
//!
//! A line of more than 16 KiB becomes several records of which only the last ends with a newline (moby, daemon/logger/copier.go); the
//! pieces share the first one's time. Records of what arrived together are written together.

use crate::json_text;
use crate::protocol::LogConfig;
use crate::timestamp;
use naru_base::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// docker's buffer for one line.
const LINE_LIMIT: usize = 16 << 10;
/// Written at the latest when so much has come together.
const BATCH: usize = 32 << 10;
const NAMES: [&[u8]; 2] = [b"stdout", b"stderr"];

/// The writer of one log.
#[derive(Debug)]
pub(crate) struct JsonLog {
    file: OwnedFd,
    path: PathBuf,
    /// Bytes in the current file.
    size: u64,
    max_size: u64,
    max_files: u32,
    /// Standard output and standard error.
    lines: [Line; 2],
    /// Records that are still to be written.
    batch: Vec<u8>,
}

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    /// When the first piece of a line that is cut into several was written.
    begun: Option<String>,
}

impl JsonLog {
    /// Opens the log that `config` asks for, to go on at its end.
    ///
    /// # Errors
    /// open(2)'s.
    pub(crate) fn open(config: &LogConfig) -> Result<Option<Self>> {
        let LogConfig::JsonFile { path, max_size, max_files } = config else { return Ok(None) };
        let fail = |e: Errno| Error::system(format!("open the log {}: {e}", path.display()));
        let file = open_file(path).map_err(fail)?;
        let size = rustix::fs::fstat(&file).map_err(fail)?.st_size as u64;
        Ok(Some(Self {
            file,
            path: path.clone(),
            size,
            max_size: *max_size,
            max_files: *max_files,
            lines: Default::default(),
            batch: Vec::new(),
        }))
    }

    /// Takes output of stream 0 (standard output) or 1 (standard error).
    pub(crate) fn write(&mut self, stream: usize, output: &[u8]) {
        let time = timestamp::rfc3339_nano(timestamp::now());
        let mut rest = output;
        while !rest.is_empty() {
            let mut line = std::mem::take(&mut self.lines[stream]);
            let room = LINE_LIMIT - line.text.len();
            let window = &rest[..rest.len().min(room)];
            let newline = window.iter().position(|b| *b == b'\n');
            let taken = newline.map_or(window.len(), |at| at + 1);
            let whole = newline.is_some() || taken == room;
            if whole {
                self.record(stream, &line.text, &window[..taken], line.begun.as_deref().unwrap_or(&time));
                line.text.clear();
                line.begun = if newline.is_some() { None } else { line.begun.or_else(|| Some(time.clone())) };
            } else {
                line.text.extend_from_slice(window);
            }
            self.lines[stream] = line;
            rest = &rest[taken..];
        }
        self.flush();
    }

    /// The stream has ended: the beginning of a line is all there will be of it.
    pub(crate) fn end(&mut self, stream: usize) {
        let line = std::mem::take(&mut self.lines[stream]);
        if !line.text.is_empty() {
            let time = line.begun.unwrap_or_else(|| timestamp::rfc3339_nano(timestamp::now()));
            self.record(stream, &line.text, &[], &time);
            self.flush();
        }
    }

    /// Gives back memory that only bursts of output need.
    pub(crate) fn relax(&mut self) {
        self.batch = Vec::new();
    }

    fn record(&mut self, stream: usize, head: &[u8], tail: &[u8], time: &str) {
        if self.max_size > 0 && self.size + self.batch.len() as u64 >= self.max_size {
            self.flush();
            self.rotate();
        }
        let out = &mut self.batch;
        out.extend_from_slice(b"{\"log\":\"");
        if head.is_empty() {
            json_text::escape(tail, out);
        } else {
            // In one piece: a character may lie across the border.
            json_text::escape(&[head, tail].concat(), out);
        }
        out.extend_from_slice(b"\",\"stream\":\"");
        out.extend_from_slice(NAMES[stream]);
        out.extend_from_slice(b"\",\"time\":\"");
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"\"}\n");
        if out.len() >= BATCH {
            self.flush();
        }
    }

    /// What can't be written (a full disk) is lost: the container must not stand still for its log.
    fn flush(&mut self) {
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(0) => break,
                Ok(written) => {
                    self.size += written as u64;
                    rest = &rest[written..];
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.batch.clear();
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, and the oldest goes. Where something fails, the log goes on in the old file.
    fn rotate(&mut self) {
        if self.max_files < 2 {
            if rustix::fs::ftruncate(&self.file, 0).is_ok() {
                self.size = 0;
            }
            return;
        }
        for n in (1..self.max_files - 1).rev() {
            // There are not that many yet.
            let _ = std::fs::rename(numbered(&self.path, n), numbered(&self.path, n + 1));
        }
        if std::fs::rename(&self.path, numbered(&self.path, 1)).is_ok()
            && let Ok(file) = open_file(&self.path)
        {
            self.file = file;
            self.size = 0;
        }
    }
}

fn open_file(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("naru-log-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn log(&self, max_size: u64, max_files: u32) -> JsonLog {
            JsonLog::open(&LogConfig::JsonFile { path: self.0.join("log"), max_size, max_files }).unwrap().unwrap()
        }

        /// The texts of a file's records, after a check of their form.
        fn texts(&self, name: &str) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.join(name)).unwrap_or_default();
            let records = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
            records.map(|r| r["log"].as_str().unwrap().to_owned()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_form_is_dockers() {
        let scratch = Scratch::new();
        let mut log = scratch.log(0, 1);
        log.write(1, b"a <b>\n");
        let text = std::fs::read_to_string(scratch.0.join("log")).unwrap();
        let (head, tail) = text.split_at(text.find("\"time\"").unwrap());
        assert_eq!(head, "{\"log\":\"a \\u003cb\\u003e\\n\",\"stream\":\"stderr\",");
        assert!(tail.ends_with("Z\"}\n"), "{tail}");
    }

    #[test]
    fn lines_come_together_from_pieces_of_both_streams() {
        let scratch = Scratch::new();
        let mut log = scratch.log(0, 1);
        for (stream, piece) in [(0, "one"), (1, "err\n\n"), (0, " two\nthree"), (0, "!")] {
            log.write(stream, piece.as_bytes());
        }
        log.end(0);
        log.end(1);
        assert_eq!(scratch.texts("log"), ["err\n", "\n", "one two\n", "three!"]);
    }

    #[test]
    fn long_lines_are_cut_and_share_a_time() {
        let scratch = Scratch::new();
        let mut log = scratch.log(0, 1);
        let long = "x".repeat(2 * LINE_LIMIT + 5);
        log.write(0, long.as_bytes());
        log.write(0, b"\nnext\n");
        let texts = scratch.texts("log");
        let lengths: Vec<_> = texts.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_LIMIT, LINE_LIMIT, 6, 5]);
        let text = std::fs::read_to_string(scratch.0.join("log")).unwrap();
        let times: Vec<_> = text.lines().map(|l| l.rsplit_once("\"time\"").unwrap().1).collect();
        assert!(times[0] == times[1] && times[1] == times[2] && times[2] != times[3], "{times:?}");
    }

    #[test]
    fn rotation_keeps_so_many_files() {
        let scratch = Scratch::new();
        let mut log = scratch.log(200, 3);
        let all: String = (0..20).map(|n| format!("line {n}\n")).collect();
        log.write(0, all.as_bytes());
        let kept: Vec<_> = ["log.2", "log.1", "log"].iter().flat_map(|name| scratch.texts(name)).collect();
        let expected: Vec<_> = (20 - kept.len()..20).map(|n| format!("line {n}\n")).collect();
        assert_eq!(kept, expected);
        assert!(!scratch.0.join("log.3").exists());
        assert!(scratch.texts("log.1").len() > 1);
        // Goes on at its end after a restart.
        let before = scratch.texts("log").len();
        scratch.log(0, 3).write(0, b"again\n");
        assert_eq!(scratch.texts("log").len(), before + 1);
    }

    #[test]
    fn one_file_is_emptied() {
        let scratch = Scratch::new();
        let mut log = scratch.log(100, 1);
        for n in 0..10 {
            log.write(0, format!("line {n}\n").as_bytes());
        }
        assert_eq!(scratch.texts("log").last().unwrap(), "line 9\n");
        assert!(scratch.texts("log").len() < 3);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(pieces in proptest::collection::vec("[a-z\n]{0,40}", 0..30)) {
            let scratch = Scratch::new();
            let mut log = scratch.log(0, 1);
            pieces.iter().for_each(|p| log.write(0, p.as_bytes()));
            log.end(0);
            prop_assert_eq!(scratch.texts("log").concat(), pieces.concat());
        }
    }
}
