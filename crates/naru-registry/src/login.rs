//! `docker login`: whether a registry takes credentials.

use crate::auth::{Auth, HUB_SERVER_ADDRESS};
use crate::challenge::Challenge;
use crate::client::Client;
use crate::endpoint::Target;
use crate::errors::{Failure, Request, Result};
use crate::token::{Grant, fetch};
use crate::transport::Call;
use http::Method;
use http::header::AUTHORIZATION;
use naru_base::Error;
use naru_base::reference::DEFAULT_DOMAIN;

/// What the Engine API answers to a login.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoginResult {
    /// `Login Succeeded`.
    pub status: String,
    /// To be kept instead of the password; empty if the registry gives none.
    pub identity_token: String,
}

impl Client {
    /// Checks credentials with the registry `server` (empty: Docker Hub).
    ///
    /// # Errors
    /// Of class [`naru_base::Class::Unauthorized`] when it doesn't take them.
    pub async fn login(&self, server: &str, auth: &Auth) -> naru_base::Result<LoginResult> {
        let host = server_host(server);
        let token = self.try_login(&host, auth).await.map_err(|e| match e.status().map(|s| s.as_u16()) {
            Some(401 | 403) => e.plainly().with_class(naru_base::Class::Unauthorized),
            _ => e.plainly(),
        })?;
        if host.is_empty() {
            return Err(Error::invalid(format!("malformed registry address {server:?}")));
        }
        Ok(LoginResult { status: "Login Succeeded".to_owned(), identity_token: token })
    }

    async fn try_login(&self, host: &str, auth: &Auth) -> Result<String> {
        let target = Target::Registry(host.to_owned());
        // Always asked anew: the last answer may be from before a change of its settings.
        self.forget(&target);
        let endpoint = self.endpoint(&target).await?;
        let url = endpoint.url("/v2/")?;
        let mut refresh = String::new();
        let authorization = match &endpoint.challenge {
            None => None,
            Some(Challenge::Basic) => Some(auth.basic().ok_or_else(|| Failure::NoCredentials {
                request: Request { method: Method::GET, url: url.to_string() },
            })?),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let grant =
                    Grant { realm: realm.clone(), service: service.clone(), scopes: Vec::new(), auth: auth.clone() };
                let token = fetch(&self.0.transport, &endpoint.trust, &grant, true).await?;
                refresh = token.refresh.unwrap_or_default();
                Some(format!("Bearer {}", token.value))
            }
        };
        let call = Call::get(url, endpoint.trust.clone());
        let call = match &authorization {
            Some(authorization) => call.header(AUTHORIZATION, authorization),
            None => call,
        };
        let answer = self.0.transport.send(call).await?;
        if answer.status.is_success() { Ok(refresh) } else { Err(answer.refusal(false).await) }
    }
}

/// `host[:port]` of what users and clients give as a server.
fn server_host(server: &str) -> String {
    if server.is_empty() || server == HUB_SERVER_ADDRESS {
        return DEFAULT_DOMAIN.to_owned();
    }
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    bare.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (given, host) in [
            ("", "docker.io"),
            (HUB_SERVER_ADDRESS, "docker.io"),
            ("reg:5000", "reg:5000"),
            ("https://Reg.lan/v1/", "reg.lan"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(server_host(given), host);
        }
    }
}
