//! What a [`crate::Client`] is told once: endpoints, trust, proxies, patience.

use crate::auth::HUB_SERVER_ADDRESS;
use crate::proxy::Proxies;
use crate::resolver::ResolverConfig;
use crate::rules::Rule;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a [`crate::Client`].
#[derive(Debug, Clone)]
pub struct Config {
    /// URLs that are tried in order before Docker Hub when pulling (`registry-mirrors`). They never get credentials.
    pub mirrors: Vec<String>,
    /// Registries (`host[:port]` or CIDR) without a verified certificate: https unverified, then http.
    /// `127.0.0.0/8` and `::1` always are.
    pub insecure: Vec<String>,
    /// Mirrors and blocks by the beginning of a name; where one has mirrors, `mirrors` doesn't count.
    pub rules: Vec<Rule>,
    /// Holds `<host[:port]>/*.crt` (more authorities) and `*.cert` with `*.key` (client certificates).
    pub certs_dir: PathBuf,
    /// The HTTP proxies.
    pub proxies: Proxies,
    /// Sent with every request.
    pub user_agent: String,
    /// Where `docker.io` answers.
    pub hub: String,
    /// Where names without a registry are searched.
    pub index: String,
    /// How often a transfer is tried.
    pub retry: RetryPolicy,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Where host names are looked up.
    pub resolver: ResolverConfig,
    /// Blobs larger than this are uploaded in chunks from the start; smaller ones only if the registry refuses one request.
    pub single_upload_limit: u64,
    /// The size of such a chunk.
    pub chunk: u64,
}

impl Default for Config {
    /// No mirrors, nothing insecure but loopback, no proxies ([`Proxies::from_env`] is the caller's choice).
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            rules: Vec::new(),
            certs_dir: PathBuf::from("/etc/docker/certs.d"),
            proxies: Proxies::default(),
            user_agent: concat!("naru/", env!("CARGO_PKG_VERSION")).to_owned(),
            hub: "https://registry-1.docker.io".to_owned(),
            index: HUB_SERVER_ADDRESS.to_owned(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            resolver: ResolverConfig::default(),
            single_upload_limit: u64::MAX,
            chunk: 16 << 20,
        }
    }
}

/// How often something that can work later is tried, and the pauses between.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// In total, the first try included.
    pub attempts: u32,
    /// Before the second attempt; each further pause is twice as long.
    pub first_delay: Duration,
    /// The longest pause.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_delay: Duration::from_millis(300), longest_delay: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// The pause after `failed` failed attempts, or nothing when that was the last one.
    pub fn delay(&self, failed: u32) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let factor = 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        Some(self.first_delay.saturating_mul(factor).min(self.longest_delay))
    }
}

/// The bounds on waiting.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To connect, over all addresses of a host.
    pub connect: Duration,
    /// For the header of an answer, once the request is sent.
    pub answer: Duration,
    /// Between two chunks of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), answer: Duration::from_secs(60), idle: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let policy =
            RetryPolicy { attempts: 5, first_delay: Duration::from_secs(1), longest_delay: Duration::from_secs(5) };
        let seconds: Vec<_> = (1..=5).map(|n| policy.delay(n).map(|d| d.as_secs())).collect();
        assert_eq!(seconds, [Some(1), Some(2), Some(4), Some(5), None]);
        assert_eq!(RetryPolicy { attempts: u32::MAX, ..policy }.delay(4_000_000), Some(Duration::from_secs(5)));
    }
}
