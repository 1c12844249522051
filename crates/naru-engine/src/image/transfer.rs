//! Layers on their way, each by its chain id: several pulls that want the same layer share one download. All of them see how far it is; it ends
//! when the last of them goes away.

use crate::lock;
use crate::types::{Progress, ProgressSink};
use naru_base::{Class, Digest, Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// The transfers of one engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Transfers(Arc<Mutex<HashMap<Digest, Arc<Transfer>>>>);

/// One layer on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    key: Digest,
    audience: Mutex<Audience>,
    outcome: watch::Sender<Option<Result<()>>>,
}

#[derive(Debug, Default)]
struct Audience {
    sinks: Vec<(u64, ProgressSink)>,
    next: u64,
    /// For who comes later.
    last: Option<Progress>,
    task: Option<AbortHandle>,
}

/// One caller's part in a transfer; dropping it is going away.
#[derive(Debug)]
pub(super) struct Share {
    transfers: Transfers,
    transfer: Arc<Transfer>,
    token: u64,
}

/// The end of a transfer, to wait for without a part in it.
pub(super) type Outcome = watch::Receiver<Option<Result<()>>>;

impl Transfers {
    /// Takes part in the transfer `key`, which `start` begins when there is none. Told what is said of it from now on, and where it is.
    pub(super) fn join<F>(&self, key: &Digest, sink: &ProgressSink, start: impl FnOnce(Arc<Transfer>) -> F) -> Share
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut running = lock(&self.0);
        if let Some(transfer) = running.get(key) {
            let token = lock(&transfer.audience).add(sink);
            return Share { transfers: self.clone(), transfer: Arc::clone(transfer), token };
        }
        let transfer =
            Arc::new(Transfer { key: key.clone(), audience: Mutex::default(), outcome: watch::Sender::new(None) });
        let token = lock(&transfer.audience).add(sink);
        running.insert(key.clone(), Arc::clone(&transfer));
        // The task ends only after this lock is given up: it takes it to remove itself.
        let work = start(Arc::clone(&transfer));
        let (transfers, own) = (self.clone(), Arc::clone(&transfer));
        let task = tokio::spawn(async move {
            let mut work = AbortOnDrop(tokio::spawn(work));
            let outcome =
                (&mut work.0).await.unwrap_or_else(|e| Err(Error::system(format!("layer {}: {e}", own.key.short()))));
            transfers.end(&own);
            own.outcome.send_replace(Some(outcome));
        });
        lock(&transfer.audience).task = Some(task.abort_handle());
        Share { transfers: self.clone(), transfer, token }
    }

    /// Who joins from now on begins anew.
    fn end(&self, transfer: &Arc<Transfer>) {
        let mut running = lock(&self.0);
        if running.get(&transfer.key).is_some_and(|known| Arc::ptr_eq(known, transfer)) {
            running.remove(&transfer.key);
        }
    }
}

impl Transfer {
    /// Tells everybody.
    pub(super) fn tell(&self, progress: Progress) {
        let mut audience = lock(&self.audience);
        for (_, sink) in &audience.sinks {
            // Its receiver may be closing.
            let _ = sink.send(progress.clone());
        }
        audience.last = Some(progress);
    }
}

impl Audience {
    fn add(&mut self, sink: &ProgressSink) -> u64 {
        if let Some(last) = &self.last {
            let _ = sink.send(last.clone());
        }
        self.next += 1;
        self.sinks.push((self.next, sink.clone()));
        self.next
    }
}

impl Share {
    /// The transfer's end.
    pub(super) fn outcome(&self) -> Outcome {
        self.transfer.outcome.subscribe()
    }
}

/// Waits for a transfer.
///
/// # Errors
/// The transfer's; and when it was given up.
pub(super) async fn ended(mut outcome: Outcome) -> Result<()> {
    match outcome.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => outcome.clone(),
        _ => Err(Error::new(Class::Cancelled, "the download was given up")),
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Nobody joins between the count and the end.
        let mut running = lock(&self.transfers.0);
        let mut audience = lock(&self.transfer.audience);
        audience.sinks.retain(|(token, _)| *token != self.token);
        if audience.sinks.is_empty() {
            if let Some(task) = &audience.task {
                task.abort();
            }
            if running.get(&self.transfer.key).is_some_and(|known| Arc::ptr_eq(known, &self.transfer)) {
                running.remove(&self.transfer.key);
            }
        }
    }
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::{mpsc, oneshot};

    fn status(text: &str) -> Progress {
        Progress::Status { id: None, status: text.into() }
    }

    fn texts(receiver: &mut mpsc::UnboundedReceiver<Progress>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Progress::Status { status, .. }) = receiver.try_recv() {
            all.push(status);
        }
        all
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_for_all_and_the_last_one_ends_it() {
        let transfers = Transfers::default();
        let key = naru_store::digest_of(b"layer");
        let begun = Arc::new(AtomicUsize::new(0));
        let (release, gate) = oneshot::channel::<()>();
        let (one, mut hears_one) = mpsc::unbounded_channel();
        let (two, mut hears_two) = mpsc::unbounded_channel();
        let start = |gate: oneshot::Receiver<()>| {
            let begun = Arc::clone(&begun);
            move |transfer: Arc<Transfer>| async move {
                begun.fetch_add(1, Ordering::Relaxed);
                transfer.tell(status("half"));
                gate.await.map_err(|_| Error::system("no gate"))?;
                transfer.tell(status("whole"));
                Ok(())
            }
        };
        let first = transfers.join(&key, &one, start(gate));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let (_keep, unused) = oneshot::channel();
        let second = transfers.join(&key, &two, start(unused));
        assert_eq!(texts(&mut hears_two), ["half"]);
        drop(first);
        release.send(()).unwrap();
        ended(second.outcome()).await.unwrap();
        assert_eq!((texts(&mut hears_one), texts(&mut hears_two)), (vec!["half".into()], vec!["whole".into()]));
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        drop(second);

        // The last one to go ends the work, and who comes then begins anew.
        let (gone, gate) = oneshot::channel();
        drop(transfers.join(&key, &one, start(gate)));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(gone.is_closed());
        assert!(lock(&transfers.0).is_empty());
    }
}
