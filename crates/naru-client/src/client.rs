//! The client: connections, versions, answers.

use crate::body::{BodyReader, Idle};
use crate::endpoint::{Endpoint, Stream};
use crate::http::{self, Envelope, Head, Method, Request};
use crate::{Error, Result, Version};
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::io::Read;

/// The most that an answer read into memory may hold.
const MAX_ANSWER: u64 = 256 << 20;

/// A client of one engine. Requests go out one after another; a streaming answer keeps its connection to itself.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    agent: String,
    version: Cell<Version>,
    /// A version that the user demands is not lowered.
    pinned: bool,
    /// Whether the engine has answered, hence the version is right.
    settled: Cell<bool>,
    headers: Vec<(String, String)>,
    idle: Idle,
}

/// What a client is made from, to make another one in a different thread.
#[derive(Debug, Clone)]
pub struct ClientSpec {
    endpoint: Endpoint,
    agent: String,
    version: Version,
    headers: Vec<(String, String)>,
}

impl ClientSpec {
    /// A client that speaks the version that the first one settled on.
    pub fn into_client(self) -> Client {
        Client::new(self.endpoint, self.agent, Some(self.version)).with_headers(self.headers)
    }
}

/// An answer: its status, headers and the body yet to be read.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    body: BodyReader,
}

/// A connection that is now a plain two-way stream.
#[derive(Debug)]
pub struct Hijacked {
    /// The stream.
    pub stream: Stream,
    /// What was read beyond the answer's head: it precedes what the stream gives.
    pub read_ahead: Vec<u8>,
    /// The answer's content type: `application/vnd.docker.multiplexed-stream` or `…raw-stream`.
    pub content_type: String,
}

/// A request that was written and whose answer is yet to be read.
#[derive(Debug)]
struct Sent {
    stream: Stream,
    method: Method,
    reused: bool,
}

impl Client {
    /// A client that opens connections as it needs them. `version` is demanded by the user; without one the newest is tried.
    pub fn new(endpoint: Endpoint, agent: impl Into<String>, version: Option<Version>) -> Self {
        Self {
            endpoint,
            agent: agent.into(),
            version: Cell::new(version.unwrap_or(Version::CURRENT)),
            pinned: version.is_some(),
            settled: Cell::new(version.is_some()),
            headers: Vec::new(),
            idle: Idle::default(),
        }
    }

    /// With headers that go out with every request.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = headers;
        self
    }

    /// What it takes to make a client like this one.
    pub fn spec(&self) -> ClientSpec {
        ClientSpec {
            endpoint: self.endpoint.clone(),
            agent: self.agent.clone(),
            version: self.version(),
            headers: self.headers.clone(),
        }
    }

    /// The engine's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version in use: the newest possible once the engine has answered.
    pub fn version(&self) -> Version {
        self.version.get()
    }

    /// Opens a connection for the next request to use, unless there is one.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub fn open(&self) -> Result<()> {
        if self.idle.borrow().is_empty() {
            let stream = self.endpoint.connect()?;
            self.idle.borrow_mut().push(stream);
        }
        Ok(())
    }

    /// Asks the engine for its version and takes the smaller of both, unless it is known already.
    ///
    /// # Errors
    /// When the engine cannot be reached. An engine that refuses to say is taken to be of our own version.
    pub fn negotiate(&self) -> Result<Version> {
        if !self.settled.get() {
            let response = self.ping()?;
            if let Some(offered) = response.header("api-version").and_then(Version::parse) {
                self.lower(offered);
            }
            self.settled.set(true);
        }
        Ok(self.version())
    }

    /// HEAD /_ping.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub fn ping(&self) -> Result<Response> {
        let mut request = Request::new(Method::Head, "/_ping");
        let sent = self.write(&mut request, "", false)?;
        let (stream, head) = self.answer(sent, &mut request, "", false)?;
        Ok(self.response(stream, head))
    }

    fn lower(&self, offered: Version) {
        if !self.pinned && offered < self.version() {
            self.version.set(offered);
        }
    }

    /// Sends a request and reads the answer's head. An answer of 400 or more is an [`Error::Api`].
    ///
    /// # Errors
    /// When the engine cannot be reached, does not speak HTTP, or refuses.
    pub fn send(&self, mut request: Request<'_>) -> Result<Response> {
        loop {
            let (stream, head) = self.exchange(&mut request, false)?;
            let response = self.response(stream, head);
            match response.checked() {
                Err(Error::Api { status: 400, message }) if self.refused_version(&message, &request) => {}
                Err(e) => return Err(e),
                Ok(response) => {
                    self.settled.set(true);
                    return Ok(response);
                }
            }
        }
    }

    /// Sends a request whose answer turns the connection into a stream.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn hijack(&self, mut request: Request<'_>) -> Result<Hijacked> {
        loop {
            let (stream, head) = self.exchange(&mut request, true)?;
            if head.status < 300 {
                self.settled.set(true);
                let content_type = head.header("content-type").unwrap_or_default().to_owned();
                return Ok(Hijacked { stream, read_ahead: head.rest, content_type });
            }
            match self.response(stream, head).checked() {
                Err(Error::Api { status: 400, message }) if self.refused_version(&message, &request) => {}
                Err(e) => return Err(e),
                Ok(r) => return Err(Error::Protocol(format!("unable to upgrade to tcp, received {}", r.status))),
            }
        }
    }

    /// Lowers the version when that is what the engine asks for; then the request may be sent again.
    fn refused_version(&self, message: &str, request: &Request<'_>) -> bool {
        let before = self.version();
        if let Some(offered) = Version::from_refusal(message) {
            self.lower(offered);
        }
        self.settled.set(true);
        self.version() < before && request.is_repeatable()
    }

    /// GET, and the JSON answer.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer is not what it should be.
    pub fn get_json<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T> {
        self.send(Request::get(path))?.json()
    }

    /// Sends, and reads the whole answer, so that the connection can be used again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn call(&self, request: Request<'_>) -> Result<Vec<u8>> {
        self.send(request)?.bytes()
    }

    fn exchange(&self, request: &mut Request<'_>, upgrade: bool) -> Result<(Stream, Head)> {
        // A refusal of HEAD has no text that could tell the version.
        if !request.is_repeatable() || request.method == Method::Head {
            self.negotiate()?;
        }
        let prefix = format!("/v{}", self.version());
        let sent = self.write(request, &prefix, upgrade)?;
        self.answer(sent, request, &prefix, upgrade)
    }

    fn write(&self, request: &mut Request<'_>, prefix: &str, upgrade: bool) -> Result<Sent> {
        let kept = self.idle.borrow_mut().pop();
        let reused = kept.is_some() && request.is_repeatable();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.endpoint.connect()?,
        };
        match http::write_request(&mut stream, request, &self.envelope(prefix, upgrade)) {
            Err(_) if reused => {
                let mut stream = self.endpoint.connect()?;
                http::write_request(&mut stream, request, &self.envelope(prefix, upgrade))?;
                Ok(Sent { stream, method: request.method, reused: false })
            }
            Err(e) => Err(e),
            Ok(()) => Ok(Sent { stream, method: request.method, reused }),
        }
    }

    /// Reads the answer's head; on a kept connection that the engine had closed meanwhile, once more on a new one.
    fn answer(&self, mut sent: Sent, request: &mut Request<'_>, prefix: &str, upgrade: bool) -> Result<(Stream, Head)> {
        match http::read_head(&mut sent.stream, sent.method) {
            Err(Error::Io { .. }) if sent.reused => {
                let mut stream = self.endpoint.connect()?;
                http::write_request(&mut stream, request, &self.envelope(prefix, upgrade))?;
                let head = http::read_head(&mut stream, sent.method)?;
                Ok((stream, head))
            }
            other => Ok((sent.stream, other?)),
        }
    }

    fn envelope<'a>(&'a self, prefix: &'a str, upgrade: bool) -> Envelope<'a> {
        Envelope { host: self.endpoint.host(), agent: &self.agent, prefix, upgrade, extra: &self.headers }
    }

    fn response(&self, stream: Stream, head: Head) -> Response {
        let reuse = head.keep_alive.then(|| self.idle.clone());
        let Head { status, headers, framing, rest, .. } = head;
        Response { status, headers, body: BodyReader::new(stream, rest, framing, reuse) }
    }
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body, to be read as it comes.
    pub fn into_body(self) -> BodyReader {
        self.body
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn bytes(self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.body.take(MAX_ANSWER).read_to_end(&mut out).map_err(Error::io("reading the answer"))?;
        Ok(out)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// When the connection breaks or the JSON is not of that type.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_slice(&self.bytes()?).map_err(|e| Error::Protocol(e.to_string()))
    }

    /// Turns an answer of 400 or more into an error with the engine's words.
    fn checked(self) -> Result<Self> {
        if self.status < 400 {
            return Ok(self);
        }
        let status = self.status;
        let mut text = Vec::new();
        // An unreadable reason is no reason to hide the refusal.
        let _ = self.body.take(1 << 20).read_to_end(&mut text);
        Err(Error::Api { status, message: refusal(status, &text) })
    }
}

#[derive(serde::Deserialize)]
struct Refusal {
    message: String,
}

fn refusal(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(r) => r.message.trim_end().to_owned(),
        Err(_) if body.is_empty() => {
            format!("request returned HTTP status {status}, check if the server supports the requested API version")
        }
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
