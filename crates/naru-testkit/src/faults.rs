//! A proxy in front of a registry that misbehaves on purpose.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::engine::Engine;
use crate::server::{Message, Server, write_answer};

/// What is done to an answer for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// One byte in the middle of the blob is another one.
    WrongByte,
    /// The blob ends early, and the head says so too: a shorter `Content-Length`.
    Truncated,
    /// The connection is cut in the middle of the blob, the given number of times; later requests are served whole.
    Cut(usize),
    /// Half of the blob comes; the rest when another fault, or none, is set.
    Hold,
    /// An upload may begin when so many have been asked for. What waits in vain for a minute is let through, and not counted as served.
    Together(usize),
}

/// A proxy in front of a registry, in the same network namespace.
pub struct Faults {
    server: Server,
    state: Arc<State>,
}

struct State {
    upstream: u16,
    fault: Mutex<Fault>,
    min_size: usize,
    cuts: AtomicUsize,
    ranges: AtomicUsize,
    served: AtomicUsize,
    stop: Arc<AtomicBool>,
}

impl Faults {
    /// Starts one on `port` of the engine's loopback, in front of the registry at `upstream`. Only blobs of `min_size`
    /// bytes or more are touched, so that configurations come through.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(engine: &Engine, port: u16, upstream: u16, min_size: usize) -> Result<Faults> {
        let state = Arc::new(State {
            upstream,
            fault: Mutex::new(Fault::None),
            min_size,
            cuts: AtomicUsize::new(0),
            ranges: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            stop: Arc::default(),
        });
        let shared = Arc::clone(&state);
        let server = Server::start(engine, port, Arc::clone(&state.stop), move |stream| shared.serve(stream))?;
        Ok(Faults { server, state })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Sets what is done from now on.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn set(&self, fault: Fault) -> Result<()> {
        *self.state.fault.lock().map_err(|_| anyhow!("the proxy panicked"))? = fault;
        self.state.cuts.store(0, Ordering::SeqCst);
        self.state.ranges.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// How many requests with a `Range` header came since the last [`Faults::set`].
    pub fn ranges(&self) -> usize {
        self.state.ranges.load(Ordering::SeqCst)
    }

    /// How many large blobs were asked for so far, and how many uploads began together.
    pub fn served(&self) -> usize {
        self.state.served.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let request = Message::request(&client)?;
        let line = &request.head[0];
        if line.starts_with("POST") && line.contains("/blobs/uploads/") {
            self.wait_for_company()?;
        }
        let answer = request.forward(self.upstream)?;
        let is_blob = line.starts_with("GET") && line.contains("/blobs/");
        if is_blob && answer.body.len() >= self.min_size {
            let has_range = request.head.iter().any(|line| line.to_ascii_lowercase().starts_with("range:"));
            self.served.fetch_add(1, Ordering::SeqCst);
            self.ranges.fetch_add(usize::from(has_range), Ordering::SeqCst);
            return self.answer_blob(&mut client, &answer.head, answer.body);
        }
        write_answer(&mut client, &answer.head, answer.body.len(), &answer.body)
    }

    fn wait_for_company(&self) -> Result<()> {
        let Fault::Together(wanted) = *self.fault.lock().map_err(|_| anyhow!("the proxy panicked"))? else {
            return Ok(());
        };
        self.cuts.fetch_add(1, Ordering::SeqCst);
        let begin = Instant::now();
        while self.cuts.load(Ordering::SeqCst) < wanted {
            if self.stop.load(Ordering::SeqCst) || begin.elapsed() > Duration::from_secs(60) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn answer_blob(&self, client: &mut TcpStream, answer: &[String], mut content: Vec<u8>) -> Result<()> {
        let fault = *self.fault.lock().map_err(|_| anyhow!("the proxy panicked"))?;
        let length = content.len();
        match fault {
            Fault::None | Fault::Together(_) => write_answer(client, answer, length, &content),
            Fault::WrongByte => {
                content[length / 2] ^= 0xff;
                write_answer(client, answer, length, &content)
            }
            Fault::Truncated => write_answer(client, answer, length / 2, &content[..length / 2]),
            Fault::Cut(times) if self.cuts.fetch_add(1, Ordering::SeqCst) < times => {
                write_answer(client, answer, length, &content[..length / 2])?;
                client.shutdown(Shutdown::Both).context("cut")
            }
            Fault::Cut(_) => write_answer(client, answer, length, &content),
            Fault::Hold => {
                write_answer(client, answer, length, &content[..length / 2])?;
                while *self.fault.lock().map_err(|_| anyhow!("the proxy panicked"))? == Fault::Hold {
                    if self.stop.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                client.write_all(&content[length / 2..]).context("the rest")
            }
        }
    }
}
