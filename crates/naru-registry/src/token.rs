//! Bearer tokens from a token service (distribution's "Token Authentication Specification" and its OAuth2 variant).

use crate::auth::Auth;
use crate::errors::{Failure, Request, Result};
use crate::location;
use crate::transport::{Call, Transport, Trust};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Uri};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest answer of a token service.
const ANSWER_LIMIT: usize = 1 << 20;
/// How long a token holds if the service doesn't say, or says less (the specification's minimum).
const SHORTEST_LIFE: u64 = 60;
/// A token that holds this share of its life shorter than promised is renewed in time.
const MARGIN: u32 = 8;
/// How many tokens are kept.
const CACHE_LIMIT: usize = 512;
/// Our name for ourselves; services know docker's.
const CLIENT_ID: &str = "docker";

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    /// Sorted, without doubles.
    pub(crate) scopes: Vec<String>,
    pub(crate) auth: Auth,
}

/// What a token service gave.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) refresh: Option<String>,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of a [`crate::Client`]. Who wants one that is being fetched waits for that.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    slots: Mutex<HashMap<Grant, Slot>>,
}

impl TokenCache {
    /// A token that holds; `refused` is one that the registry didn't take.
    pub(crate) async fn get(
        &self,
        transport: &Transport,
        trust: &Trust,
        grant: &Grant,
        refused: Option<&str>,
    ) -> Result<String> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= CACHE_LIMIT {
                slots.clear();
            }
            slots.entry(grant.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(token) = &*slot
            && token.until > Instant::now()
            && refused != Some(token.value.as_str())
        {
            return Ok(token.value.clone());
        }
        *slot = None;
        let token = fetch(transport, trust, grant, false).await?;
        Ok(slot.insert(token).value.clone())
    }
}

/// Asks the token service. `offline`: a refresh token is wanted too.
pub(crate) async fn fetch(transport: &Transport, trust: &Trust, grant: &Grant, offline: bool) -> Result<Token> {
    let call = request(trust, grant, offline)?;
    let anonymous = grant.auth.is_anonymous();
    let mut answer = transport.send(call).await?;
    if !answer.status.is_success() {
        return Err(answer.refusal(anonymous).await);
    }
    #[derive(serde::Deserialize)]
    struct Wire {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
        refresh_token: Option<String>,
    }
    let body = answer.read(ANSWER_LIMIT).await?;
    let wire: Wire =
        serde_json::from_slice(&body).map_err(|e| answer.protocol(format!("unable to decode token response: {e}")))?;
    let given = |t: Option<String>| t.filter(|t| !t.is_empty());
    let value = given(wire.access_token)
        .or_else(|| given(wire.token))
        .ok_or_else(|| answer.protocol("authorization server did not include a token in the response"))?;
    // Clocks differ: the life counts from now, not from `issued_at`.
    let life = Duration::from_secs((wire.expires_in.unwrap_or(0.0).clamp(0.0, 1e9) as u64).max(SHORTEST_LIFE));
    Ok(Token { value, refresh: given(wire.refresh_token), until: Instant::now() + life - life / MARGIN })
}

fn request(trust: &Trust, grant: &Grant, offline: bool) -> Result<Call> {
    let url: Uri = grant
        .realm
        .parse()
        .ok()
        .filter(|u: &Uri| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some_and(|h| !h.is_empty()))
        .ok_or_else(|| Failure::Protocol {
            request: Request { method: Method::GET, url: grant.realm.clone() },
            detail: "the registry names no usable token service".to_owned(),
        })?;
    if url.scheme_str() == Some("http") && matches!(trust, Trust::Verified(_)) && !grant.auth.is_anonymous() {
        return Err(Failure::Protocol {
            request: Request { method: Method::GET, url: grant.realm.clone() },
            detail: "credentials are not sent to a token service over plain http".to_owned(),
        });
    }
    let service = grant.service.as_deref().unwrap_or_default();
    if !grant.auth.identity_token.is_empty() {
        let scope = grant.scopes.join(" ");
        let form = location::form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &grant.auth.identity_token),
            ("service", service),
            ("client_id", CLIENT_ID),
            ("scope", &scope),
        ]);
        return Ok(Call::new(Method::POST, url, trust.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .bytes(form));
    }
    let mut text = grant.realm.clone();
    let basic = grant.auth.basic();
    if !service.is_empty() {
        location::push_query(&mut text, "service", service);
    }
    for scope in &grant.scopes {
        location::push_query(&mut text, "scope", scope);
    }
    if offline {
        location::push_query(&mut text, "offline_token", "true");
        location::push_query(&mut text, "client_id", CLIENT_ID);
    }
    if basic.is_some() {
        location::push_query(&mut text, "account", &grant.auth.username);
    }
    let url = text.parse().map_err(|_| Failure::Local(format!("malformed token service URL {text:?}")))?;
    let call = Call::get(url, trust.clone());
    Ok(match basic {
        Some(basic) => call.header(AUTHORIZATION, &basic),
        None => call,
    })
}
