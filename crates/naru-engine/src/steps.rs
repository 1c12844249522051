//! How far work on many things is, told to whoever asked.

use crate::types::{Progress, ProgressSink};
use naru_base::size::human_size;

/// Bytes between two reports.
const REPORT_EVERY: u64 = 1 << 20;

/// Work on things of one kind.
#[derive(Debug)]
pub(crate) struct Steps {
    sink: Option<ProgressSink>,
    what: &'static str,
    total: usize,
    done: usize,
}

impl Steps {
    /// `what` are `images`, `containers`, …; `total` of them are looked at.
    pub(crate) fn begin(sink: Option<ProgressSink>, what: &'static str, total: usize) -> Self {
        let steps = Self { sink, what, total, done: 0 };
        steps.say(format!("Looking at {total} {what}"));
        steps
    }

    /// One more has been looked at.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        let (id, status) = (self.what.to_owned(), "Pruning".to_owned());
        self.send(Progress::Count { id, status, current: self.done, total: self.total });
    }

    /// So many were removed.
    pub(crate) fn end(&self, removed: usize, bytes: u64) {
        let what = self.what;
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        self.say(format!("Removed {removed} {what}, {} freed", human_size(bytes as f64)));
    }

    fn say(&self, status: String) {
        self.send(Progress::Status { id: None, status });
    }

    fn send(&self, progress: Progress) {
        if let Some(sink) = &self.sink {
            // Nobody listens any more: the work goes on.
            let _ = sink.send(progress);
        }
    }
}

/// Tells how many bytes there are, about every megabyte.
pub(crate) fn watch_bytes(sink: Option<ProgressSink>, id: String, status: &'static str) -> impl FnMut(u64) {
    let mut told = 0;
    move |bytes| {
        if let Some(sink) = sink.as_ref().filter(|_| bytes >= told + REPORT_EVERY) {
            told = bytes;
            let _ = sink.send(Progress::Bytes { id: id.clone(), status: status.to_owned(), current: bytes, total: 0 });
        }
    }
}
