//! `WWW-Authenticate` (RFC 9110 section 11.6.1): what a registry wants before it answers.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How a registry authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from a token service.
    Bearer {
        /// The token service's URL.
        realm: String,
        /// The registry's name for itself, if it has one.
        service: Option<String>,
        /// What this request needs.
        scope: Option<String>,
        /// `invalid_token`, `insufficient_scope`, … (RFC 6750 section 3.1).
        error: Option<String>,
    },
    /// User name and password with every request.
    Basic,
}

/// The challenge that we answer: a token is preferred to a password.
pub(crate) fn parse_challenges(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for (scheme, params) in split_challenges(&String::from_utf8_lossy(value.as_bytes())) {
            if scheme.eq_ignore_ascii_case("basic") {
                found.get_or_insert(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let get = |name: &str| {
                    params
                        .iter()
                        .find(|(k, _)| k.eq_ignore_ascii_case(name))
                        .map(|(_, v)| v.clone())
                        .filter(|v| !v.is_empty())
                };
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: get("service"),
                        scope: get("scope"),
                        error: get("error"),
                    });
                }
            }
        }
    }
    found
}

type Params = Vec<(String, String)>;

/// Splits `Scheme k=v, k="v", Scheme2 …`. A malformed tail is dropped.
fn split_challenges(text: &str) -> Vec<(String, Params)> {
    let mut out: Vec<(String, Params)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (word, after) = take_token(rest);
        if word.is_empty() {
            break;
        }
        let trimmed = after.trim_start_matches([' ', '\t']);
        rest = match (trimmed.strip_prefix('='), out.last_mut()) {
            (Some(value), Some((_, params))) => {
                let Some((value, after)) = take_value(value.trim_start_matches([' ', '\t'])) else { break };
                params.push((word.to_owned(), value));
                after
            }
            (Some(_), None) => break,
            (None, _) => {
                out.push((word.to_owned(), Vec::new()));
                trimmed
            }
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    out
}

fn take_token(text: &str) -> (&str, &str) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    text.split_at(text.bytes().position(|b| !token(b)).unwrap_or(text.len()))
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for v in values {
            headers.append(WWW_AUTHENTICATE, v.parse().unwrap());
        }
        parse_challenges(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: error.map(Into::into),
        })
    }

    #[test]
    fn forms_seen_in_the_wild() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        assert_eq!(
            parse(&[hub]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push"),
                Some("insufficient_scope")
            )
        );
        assert_eq!(parse(&["bearer realm=https://x/t, service = s"]), bearer("https://x/t", Some("s"), None, None));
        assert_eq!(parse(&[r#"Basic realm="a \"b\", c""#]), Some(Challenge::Basic));
        assert_eq!(parse(&[r#"Basic realm="a", Bearer realm="https://x""#]), bearer("https://x", None, None, None));
        assert_eq!(parse(&["Basic", r#"BEARER realm="r""#]), bearer("r", None, None, None));
        assert_eq!(parse(&["Negotiate"]), None);
        assert_eq!(parse(&[r#"Bearer service="s""#]), None);
        assert_eq!(parse(&[r#"Bearer realm="unterminated"#]), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_terminates(text in "[ -~\u{80}-\u{ff}]{0,120}") {
            split_challenges(&text);
        }
    }
}
