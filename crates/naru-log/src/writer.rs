//! Writing a log: output in, records out, a batch at a time.

use crate::driver::{self, Driver};
use crate::entry::{Entry, Stream};
use crate::files::{Batch, Files, Shape};
use crate::lines::Lines;
use crate::options::LogConfig;
use crate::ring::Ring;
use crate::timestamp;
use naru_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Written at the latest when so much has come together.
const BATCH: usize = 128 << 10;
/// More than this isn't kept for the next output.
const KEPT: usize = 4 << 10;

/// Records that are in no file, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub records: u64,
    /// When the last one was lost, in nanoseconds since the Unix epoch.
    pub at: i64,
    /// Why that one was.
    pub reason: String,
}

impl Lost {
    pub(crate) fn add(&mut self, records: u64, reason: &str) {
        if records > 0 {
            self.records += records;
            self.at = timestamp::now();
            if self.reason != reason {
                reason.clone_into(&mut self.reason);
            }
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: &Self) -> Self {
        let records = self.records + other.records;
        let last = if other.at > self.at { other.clone() } else { self };
        Self { records, ..last }
    }
}

/// The writer of one log.
#[derive(Debug)]
pub struct Log {
    driver: &'static dyn Driver,
    attributes: Vec<u8>,
    /// Standard output and standard error.
    lines: [Lines; 2],
    batch: Batch,
    /// A batch is handed on when it has so many bytes.
    batch_limit: usize,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Files(Box<Files>),
    Ring(Ring),
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Log {
    /// Opens the log that `config` asks for, to go on at its end; `None` when there is to be none.
    ///
    /// # Errors
    /// For a driver that there isn't; open(2)'s.
    pub fn open(config: &LogConfig) -> Result<Option<Self>> {
        let driver = driver::find(&config.driver)
            .ok_or_else(|| Error::invalid(format!("logger: no log driver named '{}' is registered", config.driver)))?;
        let Some(path) = config.path.clone() else { return Ok(None) };
        let shape = Shape { path, max_size: config.max_size, max_files: config.max_files, compress: config.compress };
        let fail = |e, shape: &Shape| Error::system(format!("open the log {}: {e}", shape.path.display()));
        let files = Files::open(shape.clone()).map_err(|e| fail(e, &shape))?;
        let (sink, batch_limit) = match config.buffer {
            None => (Sink::Files(Box::new(files)), BATCH),
            Some(limit) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let batch = BATCH.min(limit / 4).max(1);
                match Ring::new(files, limit) {
                    Ok(ring) => (Sink::Ring(ring), batch),
                    // Better slow than not at all.
                    Err(files) => (Sink::Files(files), BATCH),
                }
            }
        };
        let attributes = driver.attributes(&config.attributes);
        Ok(Some(Self { driver, attributes, lines: Default::default(), batch: Batch::default(), batch_limit, sink }))
    }

    /// Takes output of stream 0 (standard output) or 1 (standard error). Lines that arrived together share a time.
    pub fn write(&mut self, stream: usize, output: &[u8]) {
        self.feed(stream, |lines, name, time, take| lines.push(name, time, output, take));
    }

    /// The stream has ended: the beginning of a line is all there will be of it.
    pub fn end(&mut self, stream: usize) {
        self.feed(stream, |lines, name, time, take| lines.end(name, time, take));
    }

    fn feed(&mut self, stream: usize, feed: impl FnOnce(&mut Lines, Stream, i64, &mut dyn FnMut(Entry<'_>))) {
        let (Some(lines), Some(name)) = (self.lines.get_mut(stream), STREAMS.get(stream)) else { return };
        let Self { driver, attributes, batch, batch_limit, sink, .. } = self;
        feed(lines, *name, timestamp::now(), &mut |entry| {
            driver.encode(&entry, attributes, &mut batch.bytes);
            batch.ends.push(batch.bytes.len());
            if batch.bytes.len() >= *batch_limit {
                sink.take(batch);
            }
        });
        if !batch.ends.is_empty() {
            sink.take(batch);
        }
    }

    /// Gives back memory that only bursts of output need.
    pub fn relax(&mut self) {
        self.batch.bytes.shrink_to(KEPT);
        self.batch.ends.shrink_to(KEPT / size_of::<usize>());
    }

    /// Waits for what is written beside: all that a reader will find is there then. In the non-blocking mode for some seconds at most.
    pub fn finish(&mut self) {
        match &mut self.sink {
            Sink::Files(files) => files.finish(),
            Sink::Ring(ring) => ring.finish(),
        }
    }

    /// What was lost so far.
    pub fn lost(&self) -> Lost {
        match &self.sink {
            Sink::Files(files) => files.lost.clone(),
            Sink::Ring(ring) => ring.lost(),
        }
    }
}

impl Sink {
    fn take(&mut self, batch: &mut Batch) {
        match self {
            Self::Files(files) => {
                files.append(batch);
                batch.clear();
            }
            Self::Ring(ring) => ring.push(batch),
        }
    }
}
