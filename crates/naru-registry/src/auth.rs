//! Credentials, and the header in which a client of the Engine API sends them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;

/// The server address that stands for Docker Hub in credential stores.
pub const HUB_SERVER_ADDRESS: &str = "https://index.docker.io/v1/";

/// base64url that takes padded and bare text: clients send both.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for one registry; the default is anonymous. The JSON form is the Engine API's `AuthConfig`.
#[derive(Clone, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Auth {
    /// Of an account, with `password`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Of `username`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// A refresh token, instead of user name and password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token that is sent as it is, without asking a token service.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
    /// The registry that these are for.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server_address: String,
}

impl Auth {
    /// Whether there is nothing to authenticate with.
    pub fn is_anonymous(&self) -> bool {
        self.basic().is_none() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The value of `X-Registry-Auth` for these.
    pub fn to_header(&self) -> String {
        // A struct of strings always serialises.
        BASE64URL.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The value of an `Authorization: Basic` header.
    pub(crate) fn basic(&self) -> Option<String> {
        if self.username.is_empty() || self.password.is_empty() {
            return None;
        }
        Some(basic(&self.username, &self.password))
    }
}

/// `Basic …` for an account (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

impl fmt::Debug for Auth {
    /// Without secrets: this may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            _ if !self.registry_token.is_empty() => "registry token",
            _ if !self.identity_token.is_empty() => "identity token",
            _ if self.basic().is_some() => "password",
            _ => "anonymous",
        };
        f.debug_struct("Auth").field("username", &self.username).field("kind", &kind).finish_non_exhaustive()
    }
}

/// Reads `X-Registry-Auth`: base64url of a JSON `AuthConfig`. An empty or undecodable header means anonymous, as in docker.
pub fn parse_registry_auth(header: &str) -> Auth {
    let text: String = header
        .trim()
        .chars()
        .map(|c| {
            if c == '+' {
                '-'
            } else if c == '/' {
                '_'
            } else {
                c
            }
        })
        .collect();
    let Ok(json) = BASE64URL.decode(text) else { return Auth::default() };
    let Ok(mut auth) = serde_json::from_slice::<Auth>(&json) else { return Auth::default() };
    // Some clients send `auth`, standard base64 of `user:password`, instead of the two fields.
    let packed = serde_json::from_slice::<serde_json::Value>(&json)
        .ok()
        .and_then(|v| v.get("auth").and_then(|a| a.as_str().map(str::to_owned)))
        .and_then(|a| base64::engine::general_purpose::STANDARD.decode(a).ok())
        .and_then(|b| String::from_utf8(b).ok());
    if let Some((user, password)) = packed.as_deref().and_then(|p| p.split_once(':'))
        && auth.username.is_empty()
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    #[test]
    fn header_is_read_padded_bare_and_in_either_alphabet() {
        let json = r#"{"username":"joe?>","password":"ü~secret","serveraddress":"reg:5000","email":"x"}"#;
        for text in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json), STANDARD.encode(json)] {
            let auth = parse_registry_auth(&text);
            assert_eq!((auth.username.as_str(), auth.password.as_str()), ("joe?>", "ü~secret"));
            assert_eq!(auth.server_address, "reg:5000");
        }
    }

    #[test]
    fn packed_user_and_password_are_read() {
        let json = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("joe:a:b"));
        let auth = parse_registry_auth(&URL_SAFE.encode(json));
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("joe", "a:b"));
    }

    #[test]
    fn garbage_is_anonymous() {
        for text in ["", "e30=", "!!", "bnVsbA==", "eyJ1c2VybmFtZSI6MX0="] {
            assert!(parse_registry_auth(text).is_anonymous(), "{text}");
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let auth = Auth { username: "joe".into(), password: "hunter2".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn header_round_trips(user in ".{0,20}", password in ".{0,20}", token in ".{0,20}") {
            let auth = Auth { username: user, password, identity_token: token, ..Auth::default() };
            prop_assert_eq!(parse_registry_auth(&auth.to_header()), auth);
        }

        #[test]
        fn header_never_panics(text in ".{0,80}") {
            parse_registry_auth(&text);
        }
    }
}
