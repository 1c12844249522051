//! Servers that misbehave on purpose, and a fake hub for `search`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::engine::Engine;

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
    port: u16,
    state: Arc<State>,
}

struct State {
    upstream: u16,
    fault: Mutex<Fault>,
    min_size: usize,
    cuts: AtomicUsize,
    ranges: AtomicUsize,
    served: AtomicUsize,
    stop: AtomicBool,
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
            stop: AtomicBool::new(false),
        });
        let (shared, stop) = (Arc::clone(&state), Arc::clone(&state));
        serve(engine, port, move |stream| shared.serve(stream), move || stop.stop.load(Ordering::SeqCst))?;
        Ok(Faults { port, state })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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

impl Drop for Faults {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn serve(&self, client: TcpStream) -> Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let request = read_head(&mut from_client)?;
        let (head, length) = rewrite(&request, self.upstream);
        let mut body = vec![0; length];
        from_client.read_exact(&mut body)?;
        let has_range = request.iter().any(|line| line.to_ascii_lowercase().starts_with("range:"));

        if request[0].starts_with("POST") && request[0].contains("/blobs/uploads/") {
            self.wait_for_company()?;
        }
        let mut upstream = TcpStream::connect(("127.0.0.1", self.upstream)).context("the registry behind the proxy")?;
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&body)?;
        let mut from_upstream = BufReader::new(upstream);
        let answer = read_head(&mut from_upstream)?;
        let mut content = Vec::new();
        from_upstream.read_to_end(&mut content)?;
        let is_blob = request[0].starts_with("GET") && request[0].contains("/blobs/");
        let mut client = client;
        if is_blob && content.len() >= self.min_size {
            self.served.fetch_add(1, Ordering::SeqCst);
            self.ranges.fetch_add(usize::from(has_range), Ordering::SeqCst);
            return self.answer_blob(&mut client, &answer, content);
        }
        write_answer(&mut client, &answer, content.len(), &content)
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

/// The request's head for the registry behind, and the length of its body.
pub(crate) fn rewrite(request: &[String], upstream: u16) -> (String, usize) {
    let mut head = format!("{}\r\n", request[0]);
    let mut length = 0;
    for line in &request[1..] {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if !lower.starts_with("connection:") && !lower.starts_with("host:") && !lower.starts_with("accept-encoding:") {
            head.push_str(&format!("{line}\r\n"));
        }
    }
    head.push_str(&format!("Host: 127.0.0.1:{upstream}\r\nConnection: close\r\n\r\n"));
    (head, length)
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

pub(crate) fn read_head(from: &mut impl BufRead) -> Result<Vec<String>> {
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

/// Accepts on `port` of the engine's loopback until `is_over` says so; each connection has a thread.
pub(crate) fn serve(
    engine: &Engine,
    port: u16,
    handle: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
    is_over: impl Fn() -> bool + Send + 'static,
) -> Result<()> {
    let bind = engine.world().in_network(move || TcpListener::bind(("127.0.0.1", port)))?;
    let listener = bind.join().map_err(|_| anyhow!("the binding thread panicked"))??;
    let listener = listener.with_context(|| format!("listen on port {port}"))?;
    let handle = Arc::new(handle);
    // The threads are made in the engine's network namespace, where the registry behind is.
    engine.world().in_network(move || {
        for stream in listener.incoming().flatten() {
            if is_over() {
                return;
            }
            let handle = Arc::clone(&handle);
            // A client that goes away is none of the proxy's business.
            std::thread::spawn(move || handle(stream).ok());
        }
    })?;
    Ok(())
}

/// A hub that answers `/v1/search` (and the pings that come before it).
pub struct HubSearch {
    port: u16,
    state: Arc<State>,
}

impl HubSearch {
    /// Starts one on `port` of the engine's loopback. It knows the images `names`, each with a description.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(engine: &Engine, port: u16, names: &[(&str, &str, u32)]) -> Result<HubSearch> {
        let state = Arc::new(State {
            upstream: 0,
            fault: Mutex::new(Fault::None),
            min_size: 0,
            cuts: AtomicUsize::new(0),
            ranges: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let results: Vec<serde_json::Value> = names
            .iter()
            .map(|(name, description, stars)| {
                serde_json::json!({"name": name, "description": description, "star_count": stars,
                    "is_official": !name.contains('/'), "is_automated": false, "is_trusted": false})
            })
            .collect();
        let stop = Arc::clone(&state);
        serve(engine, port, move |stream| answer_search(stream, &results), move || stop.stop.load(Ordering::SeqCst))?;
        Ok(HubSearch { port, state })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for HubSearch {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }
}

fn answer_search(mut stream: TcpStream, results: &[serde_json::Value]) -> Result<()> {
    let request = read_head(&mut BufReader::new(stream.try_clone()?))?;
    let path = request[0].split(' ').nth(1).unwrap_or("/");
    let (status, body) = if path.starts_with("/v1/_ping") {
        ("200 OK", serde_json::json!({"standalone": true}))
    } else if let Some(query) = path.strip_prefix("/v1/search?") {
        let term = query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default();
        let found: Vec<_> = results.iter().filter(|r| r["name"].as_str().is_some_and(|n| n.contains(term))).collect();
        ("200 OK", serde_json::json!({"query": term, "num_results": found.len(), "results": found}))
    } else {
        ("404 Not Found", serde_json::json!({}))
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Docker-Registry-Version: 0.9\r\n\
         X-Docker-Registry-Standalone: true\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(())
}
