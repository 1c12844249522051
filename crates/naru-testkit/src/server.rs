//! Small servers on an engine's loopback, where the registry is that they may pass requests on to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};

use crate::engine::Engine;

/// A server in an engine's network namespace, until it is dropped.
pub(crate) struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Accepts on `port` of the engine's loopback; each connection has a thread. `stop` is set when the server is dropped.
    pub(crate) fn start(
        engine: &Engine,
        port: u16,
        stop: Arc<AtomicBool>,
        handle: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Server> {
        let bind = engine.world().in_network(move || TcpListener::bind(("127.0.0.1", port)))?;
        let listener = bind.join().map_err(|_| anyhow!("the binding thread panicked"))??;
        let listener = listener.with_context(|| format!("listen on port {port}"))?;
        let (handle, is_over) = (Arc::new(handle), Arc::clone(&stop));
        // The threads are made in the engine's network namespace, where the registry behind is.
        engine.world().in_network(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let handle = Arc::clone(&handle);
                // A client that goes away is none of the server's business.
                std::thread::spawn(move || handle(stream).ok());
            }
        })?;
        Ok(Server { port, stop })
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// A request or an answer.
pub(crate) struct Message {
    /// The lines of its head.
    pub(crate) head: Vec<String>,
    /// What follows.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// What a client asks for.
    pub(crate) fn request(client: &TcpStream) -> Result<Message> {
        let mut from = BufReader::new(client.try_clone()?);
        let head = read_head(&mut from)?;
        let length =
            head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        from.read_exact(&mut body)?;
        Ok(Message { head, body })
    }

    /// What the registry at `upstream` answers to this request.
    pub(crate) fn forward(&self, upstream: u16) -> Result<Message> {
        let mut head = format!("{}\r\n", self.head[0]);
        for line in &self.head[1..] {
            let lower = line.to_ascii_lowercase();
            if !["connection:", "host:", "accept-encoding:"].iter().any(|name| lower.starts_with(name)) {
                head.push_str(&format!("{line}\r\n"));
            }
        }
        head.push_str(&format!("Host: 127.0.0.1:{upstream}\r\nConnection: close\r\n\r\n"));
        let mut registry = TcpStream::connect(("127.0.0.1", upstream)).context("the registry behind")?;
        registry.write_all(head.as_bytes())?;
        registry.write_all(&self.body)?;
        let mut from = BufReader::new(registry);
        let head = read_head(&mut from)?;
        let mut body = Vec::new();
        from.read_to_end(&mut body)?;
        Ok(Message { head, body })
    }
}

/// Writes `head` with another length, then `content`, which may be shorter than it.
pub(crate) fn write_answer(client: &mut TcpStream, head: &[String], length: usize, content: &[u8]) -> Result<()> {
    let chunked = head.iter().any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding:"));
    let has_length = head.iter().any(|line| line.to_ascii_lowercase().starts_with("content-length:"));
    let mut text = String::new();
    for line in head {
        let lower = line.to_ascii_lowercase();
        if !lower.starts_with("content-length:") && !lower.starts_with("connection:") {
            text.push_str(&format!("{line}\r\n"));
        }
    }
    if has_length && !chunked {
        // The answer to HEAD has a length and no content: it keeps its own.
        let own = head.iter().find(|line| line.to_ascii_lowercase().starts_with("content-length:"));
        match own {
            Some(own) if content.is_empty() => text.push_str(&format!("{own}\r\n")),
            _ => text.push_str(&format!("Content-Length: {length}\r\n")),
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    client.write_all(text.as_bytes())?;
    client.write_all(content)?;
    Ok(())
}

fn read_head(from: &mut impl BufRead) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let n = from.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            anyhow::ensure!(n > 0 && !lines.is_empty(), "a connection without a request");
            return Ok(lines);
        }
        lines.push(line);
    }
}
