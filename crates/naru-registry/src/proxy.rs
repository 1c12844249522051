//! HTTP proxies from the environment, with the rules of Go's `httpproxy` package, which docker uses.

use crate::auth::basic;
use crate::cidr::Cidr;
use crate::location::default_port;
use http::Uri;
use std::fmt;
use std::net::IpAddr;

/// Which proxies to use.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly: `*`, `host[:port]`, `.domain`, addresses, CIDRs, separated by commas.
    pub no_proxy: String,
}

/// A proxy to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `Proxy-Authorization`, if its URL has an account.
    pub(crate) authorization: Option<String>,
}

impl fmt::Debug for Proxies {
    /// Without accounts: this may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |p: &Option<String>| p.as_deref().map(|p| p.rsplit('@').next().unwrap_or_default().to_owned());
        let (http, https) = (bare(&self.http), bare(&self.https));
        f.debug_struct("Proxies").field("http", &http).field("https", &https).field("no_proxy", &self.no_proxy).finish()
    }
}

impl Proxies {
    /// From `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
    pub fn from_env() -> Self {
        let get = |upper: &str| {
            std::env::var(upper).or_else(|_| std::env::var(upper.to_ascii_lowercase())).ok().filter(|v| !v.is_empty())
        };
        Self { http: get("HTTP_PROXY"), https: get("HTTPS_PROXY"), no_proxy: get("NO_PROXY").unwrap_or_default() }
    }

    /// The proxy for `url`, nothing for a direct connection.
    ///
    /// # Errors
    /// When the proxy's own URL can't be used.
    pub(crate) fn hop(&self, url: &Uri) -> Result<Option<Hop>, String> {
        let scheme = url.scheme_str().unwrap_or("https");
        let Some(proxy) = (if scheme == "http" { &self.http } else { &self.https }) else { return Ok(None) };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        if self.is_direct(&host, url.port_u16().unwrap_or(default_port(scheme))) {
            return Ok(None);
        }
        parse_hop(proxy).map(Some)
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        self.no_proxy.split(',').map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).any(|entry| {
            if entry == "*" {
                return true;
            }
            if let (Some(range), Some(address)) = (Cidr::parse(&entry), address) {
                return range.contains(address);
            }
            let (name, its_port) = match entry.rsplit_once(':') {
                Some((name, p)) if !name.contains(':') || name.ends_with(']') => (name, p.parse().ok()),
                _ => (entry.as_str(), None),
            };
            if its_port.is_some_and(|p: u16| p != port) {
                return false;
            }
            let name = name.trim_matches(['[', ']']);
            match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
                Some(domain) => host.strip_suffix(domain).is_some_and(|h| h.ends_with('.')),
                None => host == name || host.strip_suffix(name).is_some_and(|h| h.ends_with('.')),
            }
        })
    }
}

fn parse_hop(text: &str) -> Result<Hop, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    // The account is a secret: the text of an error must not show it.
    let url: Uri = whole.parse().map_err(|_| "the proxy's URL is malformed".to_owned())?;
    if url.scheme_str() != Some("http") {
        return Err(format!(
            "proxies of scheme {:?} are not supported, only http",
            url.scheme_str().unwrap_or_default()
        ));
    }
    let authority = url.authority().map_or("", |a| a.as_str());
    let account = authority.rsplit_once('@').map(|(account, _)| account);
    let authorization = account.map(|a| {
        let (user, password) = a.split_once(':').unwrap_or((a, ""));
        basic(&unescape(user), &unescape(password))
    });
    Ok(Hop { host: url.host().unwrap_or_default().to_owned(), port: url.port_u16().unwrap_or(80), authorization })
}

/// Undoes percent-encoding.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let rest = bytes.clone();
        let digits: Vec<u8> = rest.take(2).collect();
        let value =
            std::str::from_utf8(&digits).ok().filter(|d| d.len() == 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (b, value) {
            (b'%', Some(value)) => {
                out.push(value);
                bytes.nth(1);
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(no_proxy: &str, url: &str) -> bool {
        let p = Proxies { http: Some("p:3128".into()), https: Some("p:3128".into()), no_proxy: no_proxy.into() };
        p.hop(&url.parse().unwrap()).unwrap().is_none()
    }

    #[test]
    fn exceptions() {
        assert!(!direct("", "https://reg/v2/"));
        assert!(direct("", "http://127.0.0.1:5000/v2/"));
        assert!(direct("", "http://[::1]:5000/v2/"));
        assert!(direct("x, *", "https://reg/"));
        assert!(direct("lan", "https://reg.lan/"));
        assert!(!direct("lan", "https://reglan/"));
        assert!(direct(".lan", "https://reg.lan/"));
        assert!(!direct(".lan", "https://lan/"));
        assert!(direct("reg:5000", "https://reg:5000/"));
        assert!(!direct("reg:5000", "https://reg/"));
        assert!(direct("10.0.0.0/8", "https://10.1.1.1/"));
        assert!(!direct("10.0.0.0/8", "https://11.1.1.1/"));
        assert!(direct("[fd00::1]:443", "https://[fd00::1]/"));
    }

    #[test]
    fn accounts_and_schemes() {
        let hop = parse_hop("http://joe:p%40ss@proxy:8080").unwrap();
        assert_eq!((hop.host.as_str(), hop.port), ("proxy", 8080));
        assert_eq!(hop.authorization.unwrap(), basic("joe", "p@ss"));
        assert_eq!(parse_hop("proxy").unwrap().port, 80);
        assert!(parse_hop("socks5://joe:secret@x").is_err_and(|e| !e.contains("secret")));
        let shown = format!("{:?}", Proxies { https: Some("http://joe:secret@x:1".into()), ..Proxies::default() });
        assert!(shown.contains("x:1") && !shown.contains("secret"), "{shown}");
        assert_eq!(unescape("%zz%4%41é"), "%zz%4Aé");
    }
}
