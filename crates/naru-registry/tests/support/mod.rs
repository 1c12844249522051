//! A scriptable HTTP server on loopback, and settings for clients that test against it.

#![allow(dead_code, reason = "each test program uses its own part")]

use naru_registry::{Client, Config, RetryPolicy};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Req {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Req {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub fn is(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target == target
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// 0: none, the connection is closed.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// `Content-Length`, if it isn't the body's; the connection is closed after the body.
    pub declared: Option<u64>,
    /// Send the body again and again, without a length.
    pub endless: bool,
    /// Stop after the body, but keep the connection.
    pub stall: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A running server.
#[derive(Clone)]
pub struct Fake {
    pub host: String,
    pub log: Arc<Mutex<Vec<Req>>>,
}

impl Fake {
    pub async fn start(handler: impl Fn(&str, &Req) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let fake = Self { host: host.clone(), log: Arc::default() };
        let log = fake.log.clone();
        let handler = Arc::new(handler);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log, host) = (handler.clone(), log.clone(), host.clone());
                tokio::spawn(async move { serve(stream, &host, &*handler, &log).await });
            }
        });
        fake
    }

    /// How many requests `wanted` picks.
    pub fn count(&self, wanted: impl Fn(&Req) -> bool) -> usize {
        self.log.lock().unwrap().iter().filter(|r| wanted(r)).count()
    }

    pub fn requests(&self, wanted: impl Fn(&Req) -> bool) -> Vec<Req> {
        self.log.lock().unwrap().iter().filter(|r| wanted(r)).cloned().collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    host: &str,
    handler: &(dyn Fn(&str, &Req) -> Reply + Send + Sync),
    log: &Mutex<Vec<Req>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let req = read_request(&mut stream, &mut buffer).await?;
        log.lock().unwrap().push(req.clone());
        let reply = handler(host, &req);
        if reply.status == 0 {
            return None;
        }
        let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !reply.endless {
            let length = reply.declared.unwrap_or(reply.body.len() as u64);
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        if req.method != "HEAD" {
            stream.write_all(&reply.body).await.ok()?;
            if reply.endless {
                loop {
                    stream.write_all(&reply.body).await.ok()?;
                }
            }
        }
        if reply.stall {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        if reply.declared.is_some() && req.method != "HEAD" {
            return None;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Req> {
    let end = loop {
        if buffer.first() == Some(&0x16) {
            // A TLS hello: what Go's server says to it.
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
    let length = headers.iter().find(|(k, _)| k == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Req { method, target, headers, body })
}

/// Settings that don't wait and don't read the machine's files.
pub fn config() -> Config {
    let mut config = Config {
        retry: RetryPolicy {
            attempts: 3,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(2),
        },
        certs_dir: "/nonexistent".into(),
        ..Config::default()
    };
    config.resolver.resolv_conf = "/nonexistent".into();
    config.resolver.port = 1;
    config.timeouts.idle = Duration::from_millis(300);
    config
}

pub fn client() -> Client {
    Client::new(config())
}

pub fn digest(bytes: &[u8]) -> naru_base::Digest {
    use sha2::Digest as _;
    naru_base::Digest::from_bytes(&sha2::Sha256::digest(bytes).into())
}

/// Bytes that differ everywhere.
pub fn noise(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x as u8
        })
        .collect()
}
