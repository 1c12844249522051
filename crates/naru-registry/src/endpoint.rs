//! Where a registry answers: which URLs are tried, whom we trust there, and what `GET /v2/` says (distribution
//! specification, "Determining Support").

use crate::challenge::{Challenge, parse_challenges};
use crate::cidr::Cidr;
use crate::config::Config;
use crate::errors::{Failure, Request, Result, Transport as Kind};
use crate::location;
use crate::resolver::Resolver;
use crate::transport::{Call, Transport, Trust};
use http::{Method, Uri};
use naru_base::reference::DEFAULT_DOMAIN;
use std::net::IpAddr;

/// A registry that answered.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `https://reg:5000`, without a slash at the end, perhaps with a path.
    pub(crate) base: String,
    pub(crate) trust: Trust,
    /// Whether it never gets credentials.
    pub(crate) mirror: bool,
    /// The repository's name there, when it isn't its own.
    pub(crate) repository: Option<String>,
    /// What it wants, if it wants something.
    pub(crate) challenge: Option<Challenge>,
}

impl Endpoint {
    /// The URL of `path` (which begins with a slash).
    pub(crate) fn url(&self, path: &str) -> Result<Uri> {
        let text = format!("{}{path}", self.base);
        text.parse().map_err(|_| Failure::Local(format!("malformed URL {text:?}")))
    }
}

/// What is to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The registry of this name.
    Registry(String),
    /// A mirror, by its URL; with the repository's name there, when that is another.
    Mirror { url: String, repository: Option<String> },
}

impl Target {
    /// The repository's name there, when it isn't its own.
    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Self::Registry(_) => None,
            Self::Mirror { repository, .. } => repository.as_deref(),
        }
    }
}

/// The host names that mean Docker Hub.
pub(crate) fn is_hub(host: &str) -> bool {
    matches!(host, DEFAULT_DOMAIN | "index.docker.io" | "registry-1.docker.io")
}

/// Finds out where `target` answers.
pub(crate) async fn discover(transport: &Transport, config: &Config, target: &Target) -> Result<Endpoint> {
    let mut failed = None;
    for (base, trust) in candidates(config, target).await {
        let mirror = matches!(target, Target::Mirror { .. });
        let repository = target.repository().map(str::to_owned);
        let mut endpoint = Endpoint { base, trust, mirror, repository, challenge: None };
        match ping(transport, &endpoint).await {
            Ok(challenge) => {
                endpoint.challenge = challenge;
                return Ok(endpoint);
            }
            Err(e) => failed = Some(e),
        }
    }
    Err(failed.unwrap_or_else(|| Failure::Local(format!("no endpoint for {target:?}"))))
}

/// The URLs to try, in order.
async fn candidates(config: &Config, target: &Target) -> Vec<(String, Trust)> {
    let host = match target {
        Target::Registry(host) if is_hub(host) => return of_url(config, &config.hub).await,
        Target::Mirror { url, .. } => return of_url(config, url).await,
        Target::Registry(host) => host,
    };
    if is_insecure(config, host).await {
        vec![(format!("https://{host}"), Trust::Anybody), (format!("http://{host}"), Trust::Anybody)]
    } else {
        vec![(format!("https://{host}"), Trust::Verified(host.clone()))]
    }
}

async fn of_url(config: &Config, url: &str) -> Vec<(String, Trust)> {
    let base = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let base = base.trim_end_matches('/').to_owned();
    let host = base.parse().map(|u: Uri| location::host_port(&u)).unwrap_or_default();
    let trust = if is_insecure(config, &host).await { Trust::Anybody } else { Trust::Verified(host) };
    vec![(base, trust)]
}

/// Whether certificates of `host[:port]` needn't be verified: named in the settings, or in a range of theirs, or loopback.
pub(crate) async fn is_insecure(config: &Config, host: &str) -> bool {
    let entries = config.insecure.iter().map(|e| e.split_once("://").map_or(e.as_str(), |(_, rest)| rest));
    let (ranges, names): (Vec<_>, Vec<_>) = entries.partition(|e| Cidr::parse(e).is_some());
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let bare = authority.host();
    if names.iter().any(|n| n.eq_ignore_ascii_case(host) || n.eq_ignore_ascii_case(bare)) {
        return true;
    }
    let ranges: Vec<Cidr> = ranges.into_iter().filter_map(Cidr::parse).collect();
    let inside = |ip: IpAddr| ip.to_canonical().is_loopback() || ranges.iter().any(|r| r.contains(ip));
    match bare.trim_matches(['[', ']']).parse() {
        Ok(ip) => inside(ip),
        // A name that can't be looked up is tried as a secure one, and fails with a better text.
        Err(_) => {
            Resolver::new(config.resolver.clone()).lookup(bare).await.is_ok_and(|ips| ips.into_iter().any(inside))
        }
    }
}

/// Whether anybody speaks HTTP there; the challenge, if it wants credentials.
async fn ping(transport: &Transport, endpoint: &Endpoint) -> Result<Option<Challenge>> {
    let url = endpoint.url("/v2/")?;
    let answer = transport.send(Call::get(url.clone(), endpoint.trust.clone())).await?;
    match answer.status.as_u16() {
        401 => {
            let challenge = parse_challenges(&answer.headers);
            if challenge.is_none() {
                return Err(answer.refusal(true).await);
            }
            Ok(challenge)
        }
        429 => Err(answer.refusal(true).await),
        // A plain-http request to a TLS port: nothing that a registry says to this URL.
        400 if url.scheme_str() == Some("http") => Err(Failure::Transport {
            request: Request { method: Method::GET, url: url.to_string() },
            kind: Kind::Tls,
            detail: "HTTP status 400 Bad Request: the server may want https".to_owned(),
        }),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn insecure_hosts() {
        let hosts = std::env::temp_dir().join(format!("naru-hosts-{}", std::process::id()));
        std::fs::write(&hosts, "10.1.0.7 inside.lan\n127.0.0.9 looped.lan\n9.9.9.9 outside.lan\n").unwrap();
        let mut config = Config {
            insecure: vec!["http://named.lan".into(), "other.lan:5000".into(), "10.1.0.0/16".into()],
            ..Config::default()
        };
        config.resolver.hosts.clone_from(&hosts);
        config.resolver.resolv_conf = "/nonexistent".into();
        config.resolver.port = 1;
        for (host, insecure) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost:5000", true),
            ("looped.lan", true),
            ("named.lan:443", true),
            ("other.lan:5000", true),
            ("10.1.2.3:5000", true),
            ("inside.lan:80", true),
            ("outside.lan", false),
            ("10.2.0.1", false),
            ("a b", false),
        ] {
            assert_eq!(is_insecure(&config, host).await, insecure, "{host}");
        }
        std::fs::remove_file(hosts).unwrap();
    }
}
