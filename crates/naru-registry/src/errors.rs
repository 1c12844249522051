//! What can go wrong between us and a registry, and how a user reads it (docker's words).

use crate::dial::DialError;
use http::{Method, StatusCode};
use naru_base::{Class, Error, Reference};
use std::fmt;
use std::time::Duration;

/// The most bytes that are read of an error's body.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 << 10;
/// The most characters of a server's own words in one of our messages.
const TEXT_LIMIT: usize = 500;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// One failed operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No answer came.
    #[error("{request}: {detail}")]
    Transport { request: Request, kind: Transport, detail: String },
    /// The answer was a refusal.
    #[error("{request}: {}", describe(*.status, .errors, *.retry_after, *.anonymous))]
    Refused { request: Request, status: StatusCode, errors: Vec<ApiError>, retry_after: Option<u64>, anonymous: bool },
    /// The registry wants an account and we have none.
    #[error("{request}: no basic auth credentials")]
    NoCredentials { request: Request },
    /// The answer is not what the protocol allows.
    #[error("{request}: {detail}")]
    Protocol { request: Request, detail: String },
    /// Content differs from its digest.
    #[error("{request}: content doesn't match digest {expected}: got {actual}")]
    Digest { request: Request, expected: String, actual: String },
    /// The content to upload can't be read.
    #[error("read content to upload: {0}")]
    Source(String),
    /// A rule of ours forbids it.
    #[error("registry of {name} is blocked by the engine's configuration (rule for {prefix:?})")]
    Blocked { name: String, prefix: String },
    /// Our own settings are the reason.
    #[error("{0}")]
    Local(String),
    /// An image of a kind that nobody should use any more, or not an image.
    #[error("{0}")]
    Unsupported(String),
}

/// `Get "https://…"`, as Go's `url.Error` begins.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.as_str();
        let (first, rest) = method.split_at(1);
        write!(f, "{first}{} {:?}", rest.to_ascii_lowercase(), self.url)
    }
}

/// How a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The name has no address.
    NoSuchHost,
    /// Nobody listens, or the way there is closed.
    Connect,
    /// TLS failed: neither side will change its mind.
    Tls,
    /// The answer or the rest of it didn't come in time, or the connection broke.
    Cut,
}

/// One entry of a registry's `errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        if self.message.is_empty() { f.write_str(&code) } else { write!(f, "{code}: {}", self.message) }
    }
}

/// When a server says that it has had too many requests, it is asked again if so many seconds are enough.
const SHORT_WAIT: u64 = 10;

fn describe(status: StatusCode, errors: &[ApiError], retry_after: Option<u64>, anonymous: bool) -> String {
    let listed = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if status.is_server_error() {
        let reason = status.canonical_reason().unwrap_or_default();
        let known: Vec<_> = errors.iter().filter(|e| e.code != "UNKNOWN").map(ToString::to_string).collect();
        let more = if known.is_empty() { String::new() } else { format!(" ({})", known.join("; ")) };
        return format!("received unexpected HTTP status: {} {reason}{more}", status.as_u16());
    }
    if status != StatusCode::TOO_MANY_REQUESTS {
        return listed;
    }
    let wait = match retry_after {
        None => "wait a while".to_owned(),
        Some(1) => "wait a second".to_owned(),
        Some(seconds @ ..120) => format!("wait {seconds} seconds"),
        // Rounded up: who comes too early is refused again.
        Some(seconds @ ..7_000) => format!("wait {} minutes", seconds.div_ceil(60)),
        Some(seconds) => format!("wait {} hours", seconds.div_ceil(3600)),
    };
    let login = if anonymous { ", or run 'docker login': accounts have a higher limit" } else { "" };
    format!("{listed} ({wait} and try again{login})")
}

impl Failure {
    /// The code of the registry's first error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { errors, .. } => errors.first().map(|e| e.code.as_str()),
            _ => None,
        }
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server may answer better in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { kind, .. } => *kind == Transport::Cut,
            Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                retry_after.is_some_and(|seconds| seconds <= SHORT_WAIT)
            }
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT,
            _ => false,
        }
    }

    /// How long to wait before another try: `own`, or longer when the server asks for a little more.
    pub(crate) fn pause(&self, own: Duration) -> Duration {
        match self {
            Self::Refused { retry_after: Some(seconds), .. } if *seconds <= SHORT_WAIT => {
                own.max(Duration::from_secs(*seconds))
            }
            _ => own,
        }
    }

    /// Whether a transfer that was under way is worth another try: also when the server is gone for now.
    pub(crate) fn is_retryable(&self) -> bool {
        self.is_transient() || matches!(self, Self::Transport { kind: Transport::Connect | Transport::NoSuchHost, .. })
    }

    fn class(&self) -> Class {
        match self {
            Self::Transport { .. } => Class::Unavailable,
            Self::NoCredentials { .. } => Class::System,
            Self::Blocked { .. } => Class::Forbidden,
            Self::Unsupported(_) => Class::InvalidParameter,
            Self::Protocol { .. } | Self::Digest { .. } | Self::Source(_) | Self::Local(_) => Class::System,
            Self::Refused { status, .. } => match (self.code().unwrap_or_default(), status.as_u16()) {
                ("UNAUTHORIZED", _) => Class::Unauthorized,
                ("DENIED", _) => Class::Forbidden,
                (code, _) if code.ends_with("_UNKNOWN") => Class::NotFound,
                ("UNSUPPORTED", _) => Class::NotImplemented,
                (_, 429 | 503) => Class::Unavailable,
                (_, 404) => Class::NotFound,
                _ => Class::System,
            },
        }
    }

    /// The registry's words alone, without the request.
    fn cause(&self) -> String {
        match self {
            Self::Refused { status, errors, retry_after, anonymous, .. } => {
                describe(*status, errors, *retry_after, *anonymous)
            }
            other => other.to_string(),
        }
    }

    /// The error of a pull of `reference`.
    pub(crate) fn pulling(&self, reference: &Reference) -> Error {
        let name = reference.familiar_name();
        match self.code() {
            Some("DENIED") => Error::not_found(format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login': {}",
                self.cause()
            )),
            Some("MANIFEST_UNKNOWN") => {
                Error::not_found(format!("manifest for {} not found: {}", reference.familiar(), self.cause()))
            }
            Some("NAME_UNKNOWN") => Error::not_found(format!("repository {name} not found: {}", self.cause())),
            _ => self.with_a_way_in(reference),
        }
    }

    /// The error of a push to `reference`.
    pub(crate) fn pushing(&self, reference: &Reference) -> Error {
        let (name, login) = (reference.familiar_name(), login_command(reference));
        match self {
            Self::Refused { anonymous, .. } if self.class() == Class::Forbidden => {
                let way = if *anonymous {
                    format!("pushing to {name} takes an account that may write there: '{login}'")
                } else {
                    format!("the account that is logged in may not push to {name}: '{login}' takes another one")
                };
                Error::new(Class::Forbidden, format!("{} ({way})", self.cause()))
            }
            _ => self.with_a_way_in(reference),
        }
    }

    /// As [`Failure::plainly`]; whom the registry doesn't know is told how to be known.
    fn with_a_way_in(&self, reference: &Reference) -> Error {
        let (plain, login) = (self.plainly(), login_command(reference));
        let way = match self {
            Self::NoCredentials { .. } => format!("run '{login}' first"),
            Self::Refused { anonymous, .. } if self.code() == Some("UNAUTHORIZED") => match anonymous {
                true => format!("run '{login}' first"),
                false => format!("the account that is logged in is not accepted: run '{login}' again"),
            },
            _ => return plain,
        };
        // Not "unauthorized", as in dockerd: docker's client would ask for an account on its standard input.
        Error::new(Class::System, format!("{} ({way})", plain.message()))
    }

    /// The error of everything else.
    pub(crate) fn plainly(&self) -> Error {
        let text = match self {
            // Docker shows what the registry denies without the URL.
            Self::Refused { status, .. } if status.is_client_error() && self.code() == Some("DENIED") => self.cause(),
            other => other.to_string(),
        };
        Error::new(self.class(), text)
    }
}

/// How a user gets an account for a reference's registry.
fn login_command(reference: &Reference) -> String {
    match reference.domain() {
        "docker.io" => "docker login".to_owned(),
        domain => format!("docker login {domain}"),
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3), seconds or a date, in seconds from now.
pub(crate) fn retry_after(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    u64::try_from(then.as_second().saturating_sub(jiff::Timestamp::now().as_second())).ok()
}

/// The errors in a refusal's body; at least one.
pub(crate) fn parse_errors(status: StatusCode, challenge_error: Option<&str>, body: &[u8]) -> Vec<ApiError> {
    let one = |code: &str, message: &str| vec![ApiError { code: code.to_owned(), message: clean(message) }];
    match challenge_error {
        Some("insufficient_scope") => return one("DENIED", "requested access to the resource is denied"),
        Some("invalid_token") => return one("UNAUTHORIZED", "authentication required"),
        _ => {}
    }
    let fallback = match status.as_u16() {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |v: &serde_json::Value, key: &str| v.get(key).and_then(|t| t.as_str()).map(str::to_owned);
    if let Some(list) = json.get("errors").and_then(|e| e.as_array()).filter(|l| !l.is_empty()) {
        let entry = |e: &serde_json::Value| ApiError {
            code: clean(&text(e, "code").filter(|c| !c.is_empty()).unwrap_or_else(|| fallback.to_owned())),
            message: clean(&text(e, "message").unwrap_or_default()),
        };
        return list.iter().take(8).map(entry).collect();
    }
    for key in ["details", "error_description", "message", "error"] {
        if let Some(message) = text(&json, key) {
            return one(fallback, &message);
        }
    }
    let body = String::from_utf8_lossy(body);
    let words = if body.trim_start().starts_with('<') || body.trim().is_empty() {
        let reason = status.canonical_reason().unwrap_or("unknown status");
        format!("HTTP status {} {reason}", status.as_u16())
    } else {
        body.into_owned()
    };
    one(fallback, &words)
}

/// A server's words, fit for a terminal: one line, no control characters, not endless.
pub(crate) fn clean(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT).collect()
}

/// Why a request failed below HTTP.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> (Transport, String) {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(dial) = e.downcast_ref::<DialError>() {
            let kind = match dial {
                DialError::Lookup(l) if !l.temporary => Transport::NoSuchHost,
                _ => Transport::Connect,
            };
            return (kind, dial.to_string());
        }
        if let Some(found) = of_tls(e) {
            return found;
        }
        next = e.source();
    }
    let mut deepest = error;
    while let Some(e) = deepest.source() {
        deepest = e;
    }
    (Transport::Cut, clean(&deepest.to_string()))
}

/// A TLS error inside of (possibly nested) IO errors, which don't show it as their source.
fn of_tls(error: &(dyn std::error::Error + 'static)) -> Option<(Transport, String)> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some((Transport::Tls, crate::tls::explain(tls)));
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    match io.get_ref() {
        Some(inner) => of_tls(inner),
        None => Some((Transport::Cut, crate::dial::plain(io))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str, challenge: Option<&str>) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Failure::Refused {
            request: Request { method: Method::GET, url: "https://reg/v2/x".into() },
            status,
            errors: parse_errors(status, challenge, body.as_bytes()),
            retry_after: Some(7),
            anonymous: true,
        }
    }

    #[test]
    fn texts_are_dockers() {
        let r = Reference::parse("joe/app:1").unwrap();
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        for (failure, class, text) in [
            (
                refused(404, unknown, None),
                Class::NotFound,
                "manifest for joe/app:1 not found: manifest unknown: manifest unknown",
            ),
            (
                refused(401, "", Some("insufficient_scope")),
                Class::NotFound,
                "pull access denied for joe/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                refused(502, "<html>", None),
                Class::System,
                r#"Get "https://reg/v2/x": received unexpected HTTP status: 502 Bad Gateway"#,
            ),
            (
                refused(401, r#"{"details":"incorrect username or password"}"#, None),
                Class::System,
                r#"Get "https://reg/v2/x": unauthorized: incorrect username or password (run 'docker login' first)"#,
            ),
            (
                refused(429, "slow\ndown\u{1b}[31m", None),
                Class::Unavailable,
                r#"Get "https://reg/v2/x": toomanyrequests: slow down[31m (wait 7 seconds and try again, or run 'docker login': accounts have a higher limit)"#,
            ),
        ] {
            let error = failure.pulling(&r);
            assert_eq!((error.class(), error.message()), (class, text));
        }
    }

    #[test]
    fn a_push_that_is_denied_says_what_to_do() {
        let r = Reference::parse("reg.example/joe/app:1").unwrap();
        let error = refused(401, "", Some("insufficient_scope")).pushing(&r);
        assert_eq!(
            (error.class(), error.message()),
            (
                Class::Forbidden,
                "denied: requested access to the resource is denied (pushing to reg.example/joe/app takes an account that may write there: 'docker login reg.example')"
            )
        );
    }

    #[test]
    fn waits_in_seconds_and_by_date() {
        assert_eq!((retry_after(" 7 "), retry_after("soon"), retry_after("-1")), (Some(7), None, None));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100);
        let text = then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!(retry_after(&text).is_some_and(|seconds| (90..=100).contains(&seconds)), "{text}");
    }

    #[test]
    fn bodies_that_are_no_errors() {
        let s = StatusCode::NOT_FOUND;
        assert_eq!(parse_errors(s, None, b"")[0].message, "HTTP status 404 Not Found");
        assert_eq!(parse_errors(s, None, b"{\"errors\":[]}")[0].code, "UNKNOWN");
        assert_eq!(parse_errors(s, None, b"{\"errors\":[1]}")[0].code, "UNKNOWN");
        assert_eq!(parse_errors(s, None, &[0xff; 9000])[0].message.chars().count(), 500);
    }

    #[test]
    fn what_is_tried_again() {
        assert!(refused(500, "", None).is_transient());
        assert!(!refused(404, "", None).is_retryable());
        let limited = |after: Option<u64>| match refused(429, "", None) {
            Failure::Refused { request, status, errors, anonymous, .. } => {
                Failure::Refused { request, status, errors, anonymous, retry_after: after }
            }
            other => other,
        };
        assert!(!limited(None).is_retryable());
        // For hours nobody waits.
        assert!(limited(Some(2)).is_transient() && !limited(Some(3600)).is_retryable());
        let own = Duration::from_millis(300);
        assert_eq!((limited(Some(2)).pause(own), limited(Some(3600)).pause(own)), (Duration::from_secs(2), own));
    }
}
