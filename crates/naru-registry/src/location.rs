//! URLs: joining (RFC 3986 section 5.2), query parameters, `Link` headers.

use http::Uri;
use std::fmt::Write as _;

/// `scheme://authority` of an absolute URL, with the default port left out: two URLs with the same origin are one server.
pub(crate) fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    match url.port_u16().filter(|&p| p != default_port(scheme)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// `host[:port]`, as registries are named.
pub(crate) fn host_port(url: &Uri) -> String {
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    match url.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The port of a scheme.
pub(crate) fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

/// What `location` means in an answer from `base`; nothing if it is no http(s) URL.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let text = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(f, _)| f);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let url: Uri = text.parse().ok()?;
    (matches!(url.scheme_str(), Some("http" | "https")) && !url.host()?.is_empty()).then_some(url)
}

/// Adds `key=value` to what may already have a query.
pub(crate) fn push_query(url: &mut String, key: &str, value: &str) {
    if !url.contains('?') {
        url.push('?');
    } else if !url.ends_with(['?', '&']) {
        url.push('&');
    }
    push_pair(url, key, value);
}

/// `key=value&…`, as in a query or a form body.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        push_pair(&mut out, key, value);
    }
    out
}

fn push_pair(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push('=');
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
pub(crate) fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, params) = after.split_once('>')?;
        let (mine, others) = params.split_once(",").unwrap_or((params, ""));
        let next = mine.split(';').filter_map(|p| p.split_once('=')).any(|(k, v)| {
            k.trim().eq_ignore_ascii_case("rel") && v.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if next {
            return Some(target);
        }
        rest = others;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn locations_are_joined() {
        let base: Uri = "https://reg:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        for (location, joined) in [
            ("http://other/x?y#z", "http://other/x?y"),
            ("//cdn/x", "https://cdn/x"),
            ("/v2/b?_state=q%3D", "https://reg:5000/v2/b?_state=q%3D"),
            ("id", "https://reg:5000/v2/a/blobs/uploads/id"),
            ("?n=2", "https://reg:5000/v2/a/blobs/uploads/?n=2"),
            ("/v2/a?u=http://x/", "https://reg:5000/v2/a?u=http://x/"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), joined, "{location}");
        }
        for bad in ["ftp://x/y", "file:///etc/passwd", "https://", "http:// x"] {
            assert_eq!(join(&base, bad), None, "{bad}");
        }
    }

    #[test]
    fn origins_ignore_default_ports_and_case() {
        let o = |t: &str| origin(&t.parse().unwrap());
        assert_eq!(o("https://Reg:443/x"), o("https://reg/y"));
        assert_ne!(o("https://reg"), o("http://reg"));
        assert_ne!(o("https://reg"), o("https://reg:5000"));
    }

    #[test]
    fn queries_are_escaped_and_appended() {
        let mut url = "https://x/y".to_owned();
        push_query(&mut url, "q", "a b&c");
        push_query(&mut url, "digest", "sha256:00");
        assert_eq!(url, "https://x/y?q=a%20b%26c&digest=sha256%3A00");
        assert_eq!(form(&[("a", "1"), ("b", "=")]), "a=1&b=%3D");
    }

    #[test]
    fn next_page() {
        assert_eq!(next_link(r#"</v2/x/tags/list?last=b&n=2>; rel="next""#), Some("/v2/x/tags/list?last=b&n=2"));
        assert_eq!(next_link(r#"<a>; rel=prev, <b>; rel=next"#), Some("b"));
        assert_eq!(next_link("<a>"), None);
        assert_eq!(next_link("<a"), None);
    }

    proptest! {
        #[test]
        fn hostile_locations_never_panic(text in "\\PC{0,60}") {
            let base: Uri = "https://reg:5000/v2/".parse().unwrap();
            if let Some(url) = join(&base, &text) {
                prop_assert!(matches!(url.scheme_str(), Some("http" | "https")));
            }
            next_link(&text);
        }
    }
}
