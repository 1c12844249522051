//! Credentials for a registry, as clients send them.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use naru_engine::types::Auth;
use serde::Deserialize;

/// base64url that clients pad or don't.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// docker's `AuthConfig`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub(crate) struct AuthConfig {
    username: String,
    password: String,
    /// `user:password` in base64, as credential files have it.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthConfig {
    /// Of the header `X-Registry-Auth`. What can't be read and what is empty is no credentials, as docker has it.
    pub(crate) fn from_header(value: &str) -> Option<Auth> {
        let bytes = BASE64URL.decode(value.trim()).ok()?;
        let given: Self = crate::decode::tolerant::from_slice(&bytes).ok()?;
        let auth = given.into_engine();
        let anonymous = auth.username.is_empty() && auth.identity_token.is_empty() && auth.registry_token.is_empty();
        (!anonymous).then_some(auth)
    }

    pub(crate) fn into_engine(self) -> Auth {
        let (username, password) = match pair(&self.auth) {
            Some(pair) if self.username.is_empty() => pair,
            _ => (self.username, self.password),
        };
        Auth {
            username,
            password,
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
            server_address: self.serveraddress,
        }
    }
}

fn pair(auth: &str) -> Option<(String, String)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_or_ignored() {
        let header = |json: &str| AuthConfig::from_header(&BASE64URL.encode(json));
        let got = header(r#"{"username":"u","password":"p","serveraddress":"s","email":"x"}"#).unwrap();
        assert_eq!((got.username.as_str(), got.password.as_str(), got.server_address.as_str()), ("u", "p", "s"));
        assert_eq!(header(r#"{"auth":"dTpwOnE="}"#).unwrap().password, "p:q");
        assert_eq!(header(r#"{"IdentityToken":"t"}"#).unwrap().identity_token, "t");
        assert!(AuthConfig::from_header("e30=").is_none() && AuthConfig::from_header("e30").is_none());
        assert!(AuthConfig::from_header("").is_none() && AuthConfig::from_header("%%%").is_none());
    }
}
