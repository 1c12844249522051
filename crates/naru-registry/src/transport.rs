//! Requests and their answers, bounded: redirects, header bytes, body bytes, time.

use crate::config::Config;
use crate::dial::Dialer;
use crate::errors::{ERROR_BODY_LIMIT, Failure, Request, Result, Transport as Kind, explain, parse_errors};
use crate::resolver::Resolver;
use crate::{challenge, location, tls};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// How many redirects are followed.
const REDIRECT_LIMIT: usize = 10;
/// The most bytes of an answer's header (and of hyper's read buffer).
const HEADER_LIMIT: usize = 64 << 10;
/// How many TLS configurations are kept.
const CLIENT_LIMIT: usize = 64;
/// How long the body of a refusal may take.
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(10);

/// What is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

type Http = HyperClient<HttpsConnector<Dialer>, Body>;

/// Whose certificates an endpoint, and what it redirects to, may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The system's authorities and those of `certs.d/<host>`.
    Verified(String),
    /// Anybody's.
    Anybody,
}

/// A request to send.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Body>,
    pub(crate) trust: Trust,
    /// Whether the answer may take as long as it likes (the body is long, or the server checks it first).
    pub(crate) patient: bool,
}

impl Call {
    pub(crate) fn new(method: Method, url: Uri, trust: Trust) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, trust, patient: false }
    }

    pub(crate) fn get(url: Uri, trust: Trust) -> Self {
        Self::new(Method::GET, url, trust)
    }

    /// With a header; a value that can't be one (control characters) is left out.
    pub(crate) fn header(mut self, name: http::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(crate) fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Some(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync());
        self
    }
}

/// A request without its body: what stays the same over redirects.
struct Head {
    method: Method,
    url: Uri,
    headers: HeaderMap,
    trust: Trust,
    patient: bool,
}

/// An answer, after redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: Request,
    /// Where it came from at last.
    pub(crate) url: Uri,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    idle: Duration,
}

impl Answer {
    /// A header's text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The next bytes of the body; nothing at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Ok(frame) = timeout(self.idle, self.body.frame()).await else {
                return Err(self.cut(format!("no data for {} seconds", self.idle.as_secs())));
            };
            match frame {
                None => return Ok(None),
                Some(Err(e)) => {
                    let (_, detail) = explain(&e);
                    return Err(self.cut(detail));
                }
                // Trailers are of no interest.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The connection broke.
    pub(crate) fn cut(&self, detail: String) -> Failure {
        Failure::Transport { request: self.request.clone(), kind: Kind::Cut, detail }
    }

    /// The server broke the rules.
    pub(crate) fn protocol(&self, detail: impl Into<String>) -> Failure {
        Failure::Protocol { request: self.request.clone(), detail: detail.into() }
    }

    /// The whole body, at most `limit` bytes.
    pub(crate) async fn read(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if out.len() + chunk.len() > limit {
                return Err(self.protocol(format!("the answer is longer than {limit} bytes")));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    /// The refusal that this answer is. `anonymous`: the request had no credentials.
    pub(crate) async fn refusal(mut self, anonymous: bool) -> Failure {
        let mut body = Vec::new();
        let reading = async {
            while body.len() < ERROR_BODY_LIMIT
                && let Ok(Some(chunk)) = self.chunk().await
            {
                let rest = ERROR_BODY_LIMIT - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
            }
        };
        // An endless or slow body: what came so far must do.
        let _ = timeout(ERROR_BODY_PATIENCE, reading).await;
        let challenged = match challenge::parse_challenges(&self.headers) {
            Some(challenge::Challenge::Bearer { error, .. }) if matches!(self.status.as_u16(), 401 | 403) => error,
            _ => None,
        };
        Failure::Refused {
            errors: parse_errors(self.status, challenged.as_deref(), &body),
            retry_after: self.header(RETRY_AFTER).and_then(crate::errors::retry_after),
            request: self.request,
            status: self.status,
            anonymous,
        }
    }
}

/// The connections of a [`crate::Client`].
#[derive(Debug)]
pub(crate) struct Transport {
    config: Config,
    dialer: Dialer,
    user_agent: HeaderValue,
    clients: Mutex<HashMap<Profile, Http>>,
}

/// What makes a TLS configuration different from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Profile {
    Unverified,
    System,
    /// With the files of `certs.d/<host>` as they were at this time.
    Host(String, SystemTime),
}

impl Transport {
    pub(crate) fn new(config: Config) -> Self {
        let resolver = Resolver::new(config.resolver.clone());
        Self {
            dialer: Dialer::new(resolver, config.proxies.clone(), config.timeouts.connect),
            user_agent: HeaderValue::from_str(&config.user_agent).unwrap_or(HeaderValue::from_static("naru")),
            clients: Mutex::default(),
            config,
        }
    }

    /// Sends a request and follows redirects of GET and HEAD. An answer of any status is `Ok`.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer> {
        // Apart from the body, which no two threads may share, so that callers' futures can move between threads.
        let Call { method, url, headers, mut body, trust, patient } = call;
        let mut head = Head { method, url, headers, trust, patient };
        head.headers.insert(USER_AGENT, self.user_agent.clone());
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.send_once(&head, body.take()).await?;
            let redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect || !matches!(head.method, Method::GET | Method::HEAD) {
                return Ok(answer);
            }
            let Some(next) = answer.header(LOCATION).and_then(|l| location::join(&head.url, l)) else {
                return Err(answer.protocol("redirect without a usable location"));
            };
            if location::origin(&next) != location::origin(&head.url) {
                head.headers.remove(AUTHORIZATION);
            }
            head.url = next;
        }
        let request = Request { method: head.method, url: head.url.to_string() };
        Err(Failure::Protocol { request, detail: format!("stopped after {REDIRECT_LIMIT} redirects") })
    }

    async fn send_once(&self, head: &Head, body: Option<Body>) -> Result<Answer> {
        let request = Request { method: head.method.clone(), url: head.url.to_string() };
        let client = self.client(head).await?;
        let empty = || Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut outgoing = http::Request::new(body.unwrap_or_else(empty));
        *outgoing.method_mut() = head.method.clone();
        *outgoing.uri_mut() = head.url.clone();
        *outgoing.headers_mut() = head.headers.clone();
        if head.url.scheme_str() == Some("http")
            && let Ok(Some(hop)) = self.config.proxies.hop(&head.url)
            && let Some(value) = hop.authorization.and_then(|a| HeaderValue::from_str(&a).ok())
        {
            outgoing.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let patience = if head.patient { Duration::from_secs(24 * 3600) } else { self.config.timeouts.answer };
        match timeout(patience, client.request(outgoing)).await {
            Ok(Ok(response)) => {
                let (parts, body) = response.into_parts();
                let idle = self.config.timeouts.idle;
                let url = head.url.clone();
                Ok(Answer { request, url, status: parts.status, headers: parts.headers, body, idle })
            }
            Ok(Err(e)) => {
                let (kind, detail) = explain(&e);
                Err(Failure::Transport { request, kind, detail })
            }
            Err(_) => {
                let detail = format!("no answer for {} seconds", patience.as_secs());
                Err(Failure::Transport { request, kind: Kind::Cut, detail })
            }
        }
    }

    async fn client(&self, head: &Head) -> Result<Http> {
        let (profile, folder) = self.profile(head);
        if let Some(known) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&profile) {
            return Ok(known.clone());
        }
        let unverified = profile == Profile::Unverified;
        let make = move || if unverified { tls::unverified() } else { tls::verifying(folder.as_deref()) };
        let config = tokio::task::spawn_blocking(make)
            .await
            .map_err(|e| Failure::Local(format!("prepare TLS: {e}")))?
            .map_err(Failure::Local)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(self.dialer.clone());
        let client = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .http1_max_buf_size(HEADER_LIMIT)
            .build(connector);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENT_LIMIT {
            clients.clear();
        }
        Ok(clients.entry(profile).or_insert(client).clone())
    }

    /// Reading the system's authorities takes milliseconds: plain http goes without.
    fn profile(&self, head: &Head) -> (Profile, Option<std::path::PathBuf>) {
        let host = match &head.trust {
            Trust::Verified(host) if head.url.scheme_str() == Some("https") => host,
            _ => return (Profile::Unverified, None),
        };
        let folder = self.config.certs_dir.join(host);
        match std::fs::metadata(&folder).and_then(|m| m.modified()) {
            Ok(time) if !host.is_empty() && !host.starts_with('.') && !host.contains('/') => {
                (Profile::Host(host.clone(), time), Some(folder))
            }
            _ => (Profile::System, None),
        }
    }
}
