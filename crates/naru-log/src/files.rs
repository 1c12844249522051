//! The files of one log: the current one at its path, older ones at `path.1`, `path.2`, … (`.gz` where they are compressed).

use crate::writer::Lost;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The subfield of a gzip header (RFC 1952, 2.3.1.1) that tells the inode of the file that was compressed: eight bytes, little-endian. A
/// follower that had it open finds its place again.
pub(crate) const INODE_FIELD: [u8; 2] = *b"NI";
/// While the file before is still being compressed, the current one may grow to so many times its size before output has to wait.
const PATIENCE: u64 = 4;
/// The nice value of the thread that compresses (setpriority(2): it is the thread's own).
const BEHIND: i32 = 10;

/// Records that are written together, and where each ends.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// How files are rotated.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub path: PathBuf,
    /// Bytes; 0 for never.
    pub max_size: u64,
    pub max_files: u32,
    pub compress: bool,
}

/// The files, for writing.
#[derive(Debug)]
pub(crate) struct Files {
    shape: Shape,
    file: OwnedFd,
    /// Bytes of whole records in the current file.
    size: u64,
    compressing: Option<JoinHandle<()>>,
    /// What could not be written.
    pub lost: Lost,
}

impl Files {
    /// Opens the current file, to go on at its end.
    ///
    /// # Errors
    /// open(2)'s.
    pub(crate) fn open(shape: Shape) -> rustix::io::Result<Self> {
        if let Some(folder) = shape.path.parent() {
            // Where it can't be made, opening the file tells.
            let _ = std::fs::create_dir(folder);
        }
        let file = open_file(&shape.path)?;
        let size = rustix::fs::fstat(&file)?.st_size as u64;
        let mut files = Self { file, size, shape, compressing: None, lost: Lost::default() };
        files.take_up();
        Ok(files)
    }

    /// Writes records, and rotates between them. What can't be written is counted: a container must not stand still for its log.
    pub(crate) fn append(&mut self, batch: &Batch) {
        let (mut start, mut previous) = (0, 0);
        for (at, &end) in batch.ends.iter().enumerate() {
            let pending = (previous - start) as u64;
            if self.shape.max_size > 0 && self.size + pending >= self.shape.max_size {
                let first = batch.ends.partition_point(|e| *e <= start);
                self.write(&batch.bytes[..previous], start, &batch.ends[first..at]);
                start = previous;
                if self.size > 0 && self.may_rotate() {
                    self.rotate();
                }
            }
            previous = end;
        }
        let first = batch.ends.partition_point(|e| *e <= start);
        self.write(&batch.bytes, start, &batch.ends[first..]);
    }

    /// Waits for what is done beside.
    pub(crate) fn finish(&mut self) {
        if let Some(thread) = self.compressing.take() {
            // One that panicked has left the uncompressed file.
            let _ = thread.join();
        }
    }

    fn write(&mut self, bytes: &[u8], start: usize, ends: &[usize]) {
        let mut at = start;
        while at < bytes.len() {
            match rustix::io::write(&self.file, &bytes[at..]) {
                Ok(0) => return self.lose(Errno::IO, start, at, ends),
                Ok(written) => at += written,
                Err(Errno::INTR) => {}
                Err(error) => return self.lose(error, start, at, ends),
            }
        }
        self.size += (at - start) as u64;
    }

    /// `bytes[start..at]` were written, the rest was not. The file ends with a whole record again, so that the next one can be read.
    fn lose(&mut self, error: Errno, start: usize, at: usize, ends: &[usize]) {
        let kept = ends.partition_point(|end| *end <= at);
        let whole = if kept == 0 { start } else { ends[kept - 1] };
        self.size += (whole - start) as u64;
        if whole < at {
            // Where not even this can be done, a reader skips the beginning of a record.
            let _ = rustix::fs::ftruncate(&self.file, self.size);
        }
        self.lost.add((ends.len() - kept) as u64, &format!("cannot write {}: {error}", self.shape.path.display()));
    }

    /// Whether the last compression is through; waits for it when the current file has grown far over its size.
    fn may_rotate(&mut self) -> bool {
        let late = self.size >= self.shape.max_size.saturating_mul(PATIENCE);
        match self.compressing.take_if(|thread| late || thread.is_finished()) {
            Some(_) if !late => true,
            Some(thread) => {
                let _ = thread.join();
                true
            }
            None => self.compressing.is_none(),
        }
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, and the oldest goes. Where something fails, the log goes on in the old file.
    fn rotate(&mut self) {
        naru_sys::fault::point();
        let Shape { path, max_files, compress, .. } = self.shape.clone();
        if max_files < 2 {
            if rustix::fs::ftruncate(&self.file, 0).is_ok() {
                self.size = 0;
            }
            return;
        }
        for n in (1..max_files).rev() {
            for gz in [false, true] {
                let old = numbered(&path, n, gz);
                // There are not that many yet, or only one of both forms.
                let _ = if n == max_files - 1 {
                    std::fs::remove_file(&old)
                } else {
                    std::fs::rename(&old, numbered(&path, n + 1, gz))
                };
            }
        }
        let first = numbered(&path, 1, false);
        if std::fs::rename(&path, &first).is_err() {
            return;
        }
        match open_file(&path) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                if compress {
                    self.compress(first);
                }
            }
            // On with the old file, at its old place.
            Err(_) => drop(std::fs::rename(&first, &path)),
        }
    }

    /// Compresses beside what is written meanwhile: this is the one thing for which a monitor has a second thread.
    fn compress(&mut self, path: PathBuf) {
        let spawn = std::thread::Builder::new().name("compress".into()).stack_size(256 << 10);
        // Without a thread, the file stays as it is.
        let run = move || {
            // The container and its monitor come first; where it can't be put behind them, it is done at once.
            let _ = rustix::process::setpriority_process(None, BEHIND);
            drop(compress(&path));
        };
        self.compressing = spawn.spawn(run).ok();
    }

    /// What a monitor that was killed has left half done is thrown away; what it left uncompressed is readable, too.
    fn take_up(&mut self) {
        if self.shape.compress {
            let _ = std::fs::remove_file(temporary(&numbered(&self.shape.path, 1, false)));
        }
    }
}

fn open_file(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
}

/// The place of an older file.
pub(crate) fn numbered(path: &Path, number: u32, compressed: bool) -> PathBuf {
    with_suffix(path, &format!(".{number}{}", if compressed { ".gz" } else { "" }))
}

fn temporary(path: &Path) -> PathBuf {
    with_suffix(path, ".tmp")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// `path` becomes `path.gz`; at every moment one of both is whole.
fn compress(path: &Path) -> std::io::Result<()> {
    let mut from = File::open(path)?;
    let meta = from.metadata()?;
    let aside = temporary(path);
    let to = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&aside)?;
    let mut extra = INODE_FIELD.to_vec();
    extra.extend_from_slice(&8u16.to_le_bytes());
    extra.extend_from_slice(&meta.ino().to_le_bytes());
    let seconds = u32::try_from(meta.mtime()).unwrap_or(0);
    let builder = GzBuilder::new().extra(extra).mtime(seconds);
    let mut encoder: GzEncoder<File> = builder.write(to, Compression::fast());
    let done = std::io::copy(&mut from, &mut encoder).and_then(|_| encoder.try_finish());
    drop(encoder);
    if let Err(error) = done {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    std::fs::rename(&aside, with_suffix(path, ".gz"))?;
    std::fs::remove_file(path)
}
