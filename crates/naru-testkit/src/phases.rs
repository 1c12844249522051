//! A proxy in front of a registry that spoils the answer to one kind of request: for every fault at every phase of a pull.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::engine::Engine;
use crate::server::{Message, Server, write_answer};

/// Which requests are answered badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// For a manifest or an index.
    Manifest,
    /// For a blob smaller than the limit: the configuration.
    Config,
    /// For a blob of that size or more: a layer.
    Layer,
}

/// How an answer is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// The connection ends instead of an answer.
    CutBefore,
    /// The connection ends in the middle of the head.
    CutInHead,
    /// The connection ends in the middle of the body.
    CutInBody,
    /// One byte in the middle of the body is another one.
    WrongByte,
    /// Head and body are shorter than they should be.
    Shorter,
    /// Head and body are longer than they should be.
    Longer,
    /// All is right, and comes a little at a time.
    Slow,
    /// This status, with an error body as registries have, and `Retry-After: 1`.
    Status(u16),
    /// To the same thing under another URL of the same server.
    Redirect,
    /// To itself.
    RedirectInCircles,
}

/// What is done to the next answers.
#[derive(Clone, Copy, Debug)]
struct Plan {
    phase: Phase,
    spoil: Spoil,
    /// So many answers.
    left: usize,
}

struct State {
    upstream: u16,
    min_size: usize,
    plan: Mutex<Option<Plan>>,
    spoilt: Mutex<usize>,
    ranges: Mutex<usize>,
}

/// The proxy, in the same network namespace as the registry.
pub struct Phases {
    server: Server,
    state: Arc<State>,
}

impl Phases {
    /// Starts one on `port` of the engine's loopback, in front of the registry at `upstream`. Blobs of `min_size` bytes or more are layers.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(engine: &Engine, port: u16, upstream: u16, min_size: usize) -> Result<Phases> {
        let state = Arc::new(State {
            upstream,
            min_size,
            plan: Mutex::new(None),
            spoilt: Mutex::new(0),
            ranges: Mutex::new(0),
        });
        let shared = Arc::clone(&state);
        let server = Server::start(engine, port, Arc::default(), move |stream| shared.serve(stream))?;
        Ok(Phases { server, state })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// The next `times` answers of `phase` are spoilt; the others are not.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn spoil(&self, phase: Phase, spoil: Spoil, times: usize) -> Result<()> {
        *lock(&self.state.plan)? = Some(Plan { phase, spoil, left: times });
        *lock(&self.state.spoilt)? = 0;
        *lock(&self.state.ranges)? = 0;
        Ok(())
    }

    /// How many answers were spoilt since then, and how many layers were asked for from somewhere in their middle.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn seen(&self) -> Result<(usize, usize)> {
        Ok((*lock(&self.state.spoilt)?, *lock(&self.state.ranges)?))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| anyhow!("the proxy panicked"))
}

impl State {
    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let mut request = Message::request(&client)?;
        // Where a redirect has led: the same thing, and not once more elsewhere.
        let again = request.head[0].contains("?again");
        request.head[0] = request.head[0].replace("?again", "");
        let Message { head, body } = request.forward(self.upstream)?;
        let Some(spoil) = self.planned(&request.head, body.len())?.filter(|spoil| !again || *spoil != Spoil::Redirect)
        else {
            return write_answer(&mut client, &head, body.len(), &body);
        };
        spoilt(&mut client, spoil, &request.head[0], &head, body)
    }

    /// What is to be done to this answer.
    fn planned(&self, request: &[String], length: usize) -> Result<Option<Spoil>> {
        let line = &request[0];
        let phase = match () {
            () if line.contains("/manifests/") => Phase::Manifest,
            () if !line.starts_with("GET") || !line.contains("/blobs/") => return Ok(None),
            () if length < self.min_size => Phase::Config,
            () => Phase::Layer,
        };
        if phase == Phase::Layer && request.iter().any(|line| line.to_ascii_lowercase().starts_with("range:")) {
            *lock(&self.ranges)? += 1;
        }
        let mut plan = lock(&self.plan)?;
        let Some(plan) = plan.as_mut().filter(|plan| plan.phase == phase && plan.left > 0) else { return Ok(None) };
        // Of an answer without a body there is nothing that could be wrong.
        if length == 0 && !matches!(plan.spoil, Spoil::CutBefore | Spoil::CutInHead | Spoil::Status(_)) {
            return Ok(None);
        }
        plan.left -= 1;
        *lock(&self.spoilt)? += 1;
        Ok(Some(plan.spoil))
    }
}

fn spoilt(client: &mut TcpStream, spoil: Spoil, request: &str, answer: &[String], mut content: Vec<u8>) -> Result<()> {
    let length = content.len();
    let half = length / 2;
    match spoil {
        Spoil::CutBefore => {}
        Spoil::CutInHead => client.write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?,
        Spoil::CutInBody => write_answer(client, answer, length, &content[..half])?,
        Spoil::WrongByte => {
            content[half] ^= 0x11;
            write_answer(client, answer, length, &content)?;
        }
        Spoil::Shorter => write_answer(client, answer, half, &content[..half])?,
        Spoil::Longer => {
            content.extend([b' '; 100]);
            write_answer(client, answer, length + 100, &content)?;
        }
        Spoil::Slow => {
            let piece = (length / 10).max(1);
            write_answer(client, answer, length, &content[..piece])?;
            for rest in content[piece..].chunks(piece) {
                std::thread::sleep(Duration::from_millis(20));
                client.write_all(rest)?;
            }
        }
        Spoil::Status(status) => {
            let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"the kit says no"}]}"#;
            let head = format!(
                "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(head.as_bytes())?;
        }
        Spoil::Redirect | Spoil::RedirectInCircles => {
            let path = request.split(' ').nth(1).unwrap_or("/");
            let query = if spoil == Spoil::Redirect { "?again" } else { "" };
            let head = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {path}{query}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            client.write_all(head.as_bytes())?;
        }
    }
    client.shutdown(Shutdown::Both).context("cut")
}
