//! A proxy in front of a registry that keeps count of what is asked, and answers some of it itself.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};

use crate::engine::Engine;
use crate::server::{Message, Server, write_answer};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The other lines of its head.
    pub headers: Vec<String>,
    /// Bytes of its body.
    pub length: usize,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ String| {
            line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(n, _)| n.len() + 1)
        };
        self.headers.iter().find_map(|line| Some(line[value(line)?..].trim()))
    }
}

type Decide = Box<dyn Fn(&Asked) -> Option<String> + Send + Sync>;

struct State {
    port: u16,
    upstream: u16,
    decide: Decide,
    asked: Mutex<Vec<Asked>>,
}

/// The proxy, in the same network namespace as the registry.
pub struct Proxy {
    server: Server,
    state: Arc<State>,
}

impl Proxy {
    /// Starts one on `port` of the engine's loopback, in front of the registry at `upstream`. What `decide` has an answer for
    /// ([`Proxy::answer`]) the registry doesn't hear of.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(
        engine: &Engine,
        port: u16,
        upstream: u16,
        decide: impl Fn(&Asked) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Proxy> {
        let state = Arc::new(State { port, upstream, decide: Box::new(decide), asked: Mutex::default() });
        let shared = Arc::clone(&state);
        let server = Server::start(engine, port, Arc::default(), move |stream| shared.serve(stream))?;
        Ok(Proxy { server, state })
    }

    /// An answer with this status (`404 Not Found`), further lines of its head, each with its end, and a body of JSON.
    pub fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// What was asked since the last time.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        Ok(std::mem::take(&mut *self.state.asked.lock().map_err(|_| anyhow!("the proxy panicked"))?))
    }
}

impl State {
    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let request = Message::request(&client)?;
        let mut words = request.head[0].split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let asked = Asked { method, target, headers: request.head[1..].to_vec(), length: request.body.len() };
        let own = (self.decide)(&asked);
        let is_head = asked.method == "HEAD";
        self.asked.lock().map_err(|_| anyhow!("the proxy panicked"))?.push(asked);
        if let Some(own) = own {
            let end = own.find("\r\n\r\n").map_or(own.len(), |at| at + 4);
            client.write_all(if is_head { &own.as_bytes()[..end] } else { own.as_bytes() })?;
            return Ok(());
        }
        let answer = request.forward(self.upstream)?;
        // Where an upload goes on is here, too.
        let (behind, here) = (format!("127.0.0.1:{}", self.upstream), format!("127.0.0.1:{}", self.port));
        let head: Vec<_> = answer.head.iter().map(|line| line.replace(&behind, &here)).collect();
        write_answer(&mut client, &head, answer.body.len(), &answer.body)
    }
}
