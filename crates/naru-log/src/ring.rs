//! The non-blocking mode: output waits in memory, up to a limit, for a thread that writes it; what finds no room is dropped and counted.

use crate::files::{Batch, Files};
use crate::writer::Lost;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At the end of a container, so long what still waits may take.
const LAST_CALL: Duration = Duration::from_secs(5);

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Ring {
    shared: Arc<Shared>,
    /// Bytes that may wait.
    limit: usize,
    dropped: Lost,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Batch>,
    bytes: usize,
    closed: bool,
    done: bool,
    lost: Lost,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// With a thread of its own.
    ///
    /// # Errors
    /// When there can't be one; the files come back.
    pub(crate) fn new(files: Files, limit: usize) -> Result<Self, Box<Files>> {
        let shared = Arc::new(Shared::default());
        // The thread takes the files when it runs: where it never does, they are still here.
        let slot = Arc::new(Mutex::new(Some(files)));
        let (for_thread, from) = (Arc::clone(&shared), Arc::clone(&slot));
        let run = move || {
            let files = from.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(files) = files {
                write_all(files, &for_thread);
            }
        };
        match std::thread::Builder::new().name("log".into()).stack_size(256 << 10).spawn(run) {
            Ok(_) => Ok(Self { shared, limit, dropped: Lost::default() }),
            Err(error) => match slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(files) => Err(Box::new(files)),
                None => unreachable!("a thread that could not be made has taken nothing: {error}"),
            },
        }
    }

    /// Never waits. `batch` is empty afterwards.
    pub(crate) fn push(&mut self, batch: &mut Batch) {
        let mut state = self.shared.lock();
        if state.bytes + batch.bytes.len() > self.limit && !state.queue.is_empty() {
            self.dropped.add(batch.ends.len() as u64, "the buffer of the non-blocking mode was full (max-buffer-size)");
            batch.clear();
            return;
        }
        state.bytes += batch.bytes.len();
        state.queue.push_back(std::mem::take(batch));
        self.shared.changed.notify_all();
    }

    /// What was lost so far.
    pub(crate) fn lost(&self) -> Lost {
        self.shared.lock().lost.clone().and(&self.dropped)
    }

    /// Waits until all is written, or a disk that stands still has had its time.
    pub(crate) fn finish(&mut self) {
        let deadline = Instant::now() + LAST_CALL;
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        while !state.done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let records = state.queue.iter().map(|batch| batch.ends.len() as u64).sum();
                self.dropped.add(records, "the container ended before they were written");
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn write_all(mut files: Files, shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if let Some(batch) = state.queue.pop_front() {
            drop(state);
            files.append(&batch);
            state = shared.lock();
            // Only now is there room: what is being written is in memory, too.
            state.bytes -= batch.bytes.len();
            state.lost = files.lost.clone();
        } else if state.closed {
            drop(state);
            files.finish();
            state = shared.lock();
            state.done = true;
            shared.changed.notify_all();
            return;
        } else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
