//! The engine's end of a connection with a monitor: numbered requests out, answers and events in.

use naru_base::{Error, Result};
use naru_monitor::protocol::{Event, Message, Numbered, PROTOCOL_VERSION, Request, Response};
use naru_monitor::wire::{self, Decoder, WireError};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// An answer, with the descriptors that came with it.
type Answer = (Response, Vec<OwnedFd>);

/// A connection. Dropping it ends the reader, not the monitor.
#[derive(Debug)]
pub(crate) struct MonitorLink {
    socket: Arc<AsyncFd<OwnedFd>>,
    numbers: AtomicU64,
    /// The version of the protocol that the monitor speaks.
    version: AtomicU32,
    pending: Arc<Pending>,
    /// Frames must not be mixed: held from a frame's first byte to its last.
    writing: AsyncMutex<()>,
    reader: tokio::task::AbortHandle,
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
struct Pending {
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
}

impl Pending {
    fn open() -> Self {
        Self { waiting: Mutex::new(Some(HashMap::new())) }
    }

    /// `None` when the connection is over.
    fn expect(&self, number: u64) -> Option<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        crate::lock(&self.waiting).as_mut()?.insert(number, sender);
        Some(receiver)
    }

    fn answer(&self, number: u64, answer: Answer) {
        let sender = crate::lock(&self.waiting).as_mut().and_then(|w| w.remove(&number));
        if let Some(sender) = sender {
            // Whoever asked may have gone; the answer is then of no interest.
            let _ = sender.send(answer);
        }
    }

    /// Everyone who waits is told that there will be no answer.
    fn close(&self) {
        crate::lock(&self.waiting).take();
    }
}

/// What a connection tells its owner.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The monitor tells something.
    Event(Event),
    /// The connection is over; nothing comes after this.
    Gone,
}

impl MonitorLink {
    /// Takes a connected socket and starts to read. `notify` is called on the engine's own thread and must not block.
    ///
    /// # Errors
    /// When the socket can't be watched.
    pub(crate) fn new(socket: OwnedFd, notify: impl FnMut(Notice) + Send + 'static) -> Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|e| Error::system(format!("cannot set up a monitor's socket: {e}")))?;
        #[expect(deprecated, reason = "an owned descriptor is IO-safe; the newer call is unsafe")]
        let socket =
            AsyncFd::new(socket).map_err(|e| Error::system(format!("cannot watch a monitor's socket: {e}")))?;
        let socket = Arc::new(socket);
        let pending = Arc::new(Pending::open());
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&pending), notify)).abort_handle();
        Ok(Arc::new(Self {
            socket,
            numbers: AtomicU64::new(1),
            version: AtomicU32::new(PROTOCOL_VERSION),
            pending,
            writing: AsyncMutex::new(()),
            reader,
        }))
    }

    /// The version of the protocol that the monitor speaks: ours, unless it has said otherwise.
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    /// It was left by another build, which spoke this version.
    pub(crate) fn set_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// Asks, and waits for the answer. The descriptors are closed here once they have been sent.
    ///
    /// # Errors
    /// [`naru_base::Class::Unavailable`] when the monitor is gone.
    pub(crate) async fn request(&self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        let gone = || Error::unavailable("the container's monitor is gone");
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let answer = self.pending.expect(number).ok_or_else(gone)?;
        let frame = wire::encode(&Numbered { seq: number, body: request }, descriptors.len())
            .map_err(|e| Error::system(format!("cannot ask the container's monitor: {e}")))?;
        self.send(&frame, descriptors).await?;
        answer.await.map_err(|_| gone())
    }

    async fn send(&self, frame: &[u8], descriptors: Vec<OwnedFd>) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| Error::system(format!("cannot ask the container's monitor: {e}"));
        let _writing = self.writing.lock().await;
        naru_sys::fault::point();
        let mut rest = frame;
        let mut with: Vec<BorrowedFd<'_>> = descriptors.iter().map(|d| d.as_fd()).collect();
        while !rest.is_empty() {
            let mut ready = self.socket.writable().await.map_err(|e| failed(&e))?;
            match ready.try_io(|s| wire::send(s.get_ref(), rest, &with).map_err(Into::into)) {
                Ok(Ok(sent)) => {
                    rest = &rest[sent..];
                    with.clear();
                }
                // Its last word may still be there to be read.
                Ok(Err(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Err(Error::unavailable("the container's monitor is gone"));
                }
                Ok(Err(e)) => return Err(failed(&e)),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

impl Drop for MonitorLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads until the connection is over.
async fn read(socket: Arc<AsyncFd<OwnedFd>>, pending: Arc<Pending>, mut notify: impl FnMut(Notice) + Send) {
    let mut decoder = Decoder::default();
    let over = loop {
        let message = match decoder.next::<Message>() {
            Ok(Some(message)) => message,
            Err(error) => break error,
            Ok(None) => match fill(&socket, &mut decoder).await {
                Ok(()) => continue,
                Err(error) => break error,
            },
        };
        match message {
            (Message::Reply(Numbered { seq, body }), descriptors) => pending.answer(seq, (body, descriptors)),
            (Message::Event(event), _) => notify(Notice::Event(event)),
        }
    };
    if !matches!(over, WireError::Closed) {
        tracing::warn!("a monitor's connection is of no more use: {over}");
    }
    pending.close();
    notify(Notice::Gone);
}

async fn fill(socket: &AsyncFd<OwnedFd>, decoder: &mut Decoder) -> Result<(), WireError> {
    loop {
        let mut ready = socket.readable().await.map_err(|_| WireError::Closed)?;
        match decoder.fill(socket.get_ref()) {
            Ok(_) => return Ok(()),
            Err(WireError::System { errno: Errno::AGAIN, .. }) => ready.clear_ready(),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_monitor::protocol::ExitRecord;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use tokio::sync::mpsc;

    fn link() -> (Arc<MonitorLink>, OwnedFd, mpsc::UnboundedReceiver<Notice>) {
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (sender, notices) = mpsc::unbounded_channel();
        let link = MonitorLink::new(here, move |n| {
            let _ = sender.send(n);
        });
        (link.unwrap(), there, notices)
    }

    /// Reads one request as a monitor does.
    fn receive(socket: &OwnedFd, decoder: &mut Decoder) -> (Numbered<Request>, Vec<OwnedFd>) {
        loop {
            if let Some(message) = decoder.next().unwrap() {
                return message;
            }
            decoder.fill(socket).unwrap();
        }
    }

    fn signal(number: i32) -> Request {
        Request::Signal { exec: None, signal: number }
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let (link, there, mut notices) = link();
        let monitor = tokio::task::spawn_blocking(move || {
            let mut decoder = Decoder::default();
            let (first, fds) = receive(&there, &mut decoder);
            assert_eq!(fds.len(), 1);
            let (second, _) = receive(&there, &mut decoder);
            for (seq, code) in [(second.seq, 2), (first.seq, 1)] {
                let body =
                    Response::Failed { class: naru_base::Class::Conflict, message: String::new(), exit_code: code };
                wire::send_all(&there, &Message::Reply(Numbered { seq, body }), &[]).unwrap();
            }
            let record = ExitRecord { exit_code: 7, ..ExitRecord::default() };
            wire::send_all(&there, &Message::Event(Event::Exited(record)), &[]).unwrap();
        });
        let (descriptor, _other) = rustix::pipe::pipe().unwrap();
        let (a, b) = tokio::join!(link.request(signal(1), vec![descriptor]), link.request(signal(2), Vec::new()));
        let code = |answer: Result<Answer>| match answer.unwrap().0 {
            Response::Failed { exit_code, .. } => exit_code,
            other => panic!("{other:?}"),
        };
        assert_eq!((code(a), code(b)), (1, 2));
        monitor.await.unwrap();
        assert!(matches!(notices.recv().await, Some(Notice::Event(Event::Exited(r))) if r.exit_code == 7));
        assert!(matches!(notices.recv().await, Some(Notice::Gone)));
    }

    #[tokio::test]
    async fn a_monitor_that_dies_leaves_nobody_waiting() {
        let (link, there, mut notices) = link();
        let asked = link.request(signal(1), Vec::new());
        let (answer, ()) = tokio::join!(asked, async move { drop(there) });
        assert!(answer.is_err());
        assert!(matches!(notices.recv().await, Some(Notice::Gone)));
        assert!(link.request(signal(2), Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_connection() {
        let (link, there, mut notices) = link();
        wire::send_all(&there, &serde_json::json!({"nonsense": 1}), &[]).unwrap();
        assert!(matches!(notices.recv().await, Some(Notice::Gone)));
        assert!(link.request(signal(1), Vec::new()).await.is_err());
    }
}
