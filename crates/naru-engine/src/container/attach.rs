//! Clients on a container's stdio.
//!
//! A client attaches before it starts a container. The engine registers it at once ([`AttachTicket`]), answers, and only then has the
//! client's stream; a start in between waits for it, so that no output is missed. From then on the stream is the monitor's: the
//! engine may die without the client noticing.

use super::Container;
use crate::types::{AttachOptions, ClientStream, LogOptions, Status};
use crate::{Engine, detach_keys};
use naru_base::{Error, Result};
use naru_monitor::protocol::{Attach, Request, Response};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An attach that has been registered with a container that isn't running yet.
#[derive(Debug)]
pub(crate) struct PendingAttach {
    /// Comes when the client's stream is there; an error when the client went away.
    ready: oneshot::Receiver<(Attach, OwnedFd)>,
}

/// The right to connect one client.
#[derive(Debug)]
pub struct AttachTicket {
    engine: Arc<Engine>,
    container: Arc<Container>,
    options: AttachOptions,
    keys: Vec<u8>,
    pending: Option<oneshot::Sender<(Attach, OwnedFd)>>,
}

impl Engine {
    /// Registers a client that is going to attach.
    ///
    /// # Errors
    /// When there is no such container, it is paused, or the keys are malformed.
    pub fn attach_begin(self: &Arc<Self>, name: &str, options: AttachOptions) -> Result<AttachTicket> {
        let container = self.containers.find(name)?;
        let keys = detach_keys::parse(options.detach_keys.as_deref())?;
        match container.status() {
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let pending = (options.stream && !container.status().is_running()).then(|| {
            let (sender, ready) = oneshot::channel();
            crate::lock(&container.live).pending.push(PendingAttach { ready });
            sender
        });
        Ok(AttachTicket { engine: Arc::clone(self), container, options, keys, pending })
    }
}

impl AttachTicket {
    /// Whether the container has a terminal (and its output is therefore not framed).
    pub fn tty(&self) -> bool {
        self.container.read(|r| r.config.tty)
    }

    /// Connects the client. The stream is no longer the caller's.
    ///
    /// # Errors
    /// When the container has ended meanwhile.
    pub async fn connect(self, mut stream: ClientStream) -> Result<()> {
        let tty = self.tty();
        if self.options.logs {
            stream.preamble.extend(self.logged(tty).await?);
        }
        self.engine.container_event(&self.container, "attach", &[]);
        if !self.options.stream {
            wait_until_read(&stream.fd).await;
            return write_all(stream.fd, &stream.preamble).await;
        }
        let attach = Attach {
            stdin: self.options.stdin && self.container.read(|r| r.config.open_stdin),
            stdout: self.options.stdout,
            stderr: self.options.stderr,
            multiplexed: !tty,
            detach_keys: if tty { self.keys } else { Vec::new() },
            early_input: stream.early_input,
            preamble: stream.preamble,
        };
        if let Some(pending) = self.pending {
            return match pending.send((attach, stream.fd)) {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::conflict(format!("container {} could not be attached to", self.container.id))),
            };
        }
        let monitor = self.container.running_monitor()?;
        match monitor.request(Request::Attach(attach), vec![stream.fd]).await? {
            (Response::Failed { class, message, .. }, _) => Err(Error::new(class, message)),
            _ => Ok(()),
        }
    }

    /// What has been logged so far, as the client is going to read it.
    async fn logged(&self, tty: bool) -> Result<Vec<u8>> {
        let options = LogOptions { stdout: self.options.stdout, stderr: self.options.stderr, ..LogOptions::default() };
        let mut lines = self.engine.log_lines(&self.container, options)?;
        let mut out = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line?;
            if !tty {
                let length = u32::try_from(line.text.len()).unwrap_or(u32::MAX).to_be_bytes();
                out.extend([1 + u8::from(line.stderr), 0, 0, 0]);
                out.extend(length);
            }
            out.extend(line.text);
        }
        Ok(out)
    }
}

impl Container {
    /// The clients that attached before the start, once their streams are there.
    pub(crate) async fn take_pending(&self) -> Vec<(Attach, OwnedFd)> {
        let pending = std::mem::take(&mut crate::lock(&self.live).pending);
        let mut ready = Vec::with_capacity(pending.len());
        for one in pending {
            // A client that takes longer than that to send nothing at all is gone.
            if let Ok(Ok(stream)) = tokio::time::timeout(std::time::Duration::from_secs(5), one.ready).await {
                ready.push(stream);
            }
        }
        ready
    }
}

/// Waits until the client has read the head of its answer, for 100 ms at most: clients that read it through a buffer and then take the bare
/// socket (docker-py) would lose what came with it. Monitors do so likewise.
async fn wait_until_read(fd: &OwnedFd) {
    for _ in 0..100 {
        if naru_sys::socket::unread(fd).map_or(true, |bytes| bytes == 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn write_all(fd: OwnedFd, mut bytes: &[u8]) -> Result<()> {
    #[expect(deprecated, reason = "an owned descriptor is IO-safe; the newer call is unsafe")]
    let fd = tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::WRITABLE)
        .map_err(|e| Error::system(format!("cannot watch the client's stream: {e}")))?;
    while !bytes.is_empty() {
        let mut guard =
            fd.writable().await.map_err(|e| Error::system(format!("cannot watch the client's stream: {e}")))?;
        match guard.try_io(|fd| rustix::io::write(fd, bytes).map_err(Into::into)) {
            Ok(Ok(n)) => bytes = &bytes[n..],
            Ok(Err(e)) => return Err(Error::new(naru_base::Class::Cancelled, format!("the client went away: {e}"))),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
