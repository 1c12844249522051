//! `docker search`: the index's v1 search, or (registries that have none) the catalogue filtered by the term.

use crate::auth::Auth;
use crate::client::Client;
use crate::endpoint::{self, Endpoint, Target, is_hub};
use crate::errors::{Failure, Request, Result};
use crate::location;
use crate::session::{Scope, Session, authorized};
use crate::transport::{Call, Trust};
use http::header::{AUTHORIZATION, HeaderName};
use http::{Method, Uri};
use naru_base::{Error, Reference};

/// The most bytes of an answer.
const ANSWER_LIMIT: usize = 4 << 20;

/// One repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
#[derive(Default)]
pub struct SearchResult {
    /// As it is pulled.
    pub name: String,
    /// In the publisher's words.
    pub description: String,
    /// How many people like it.
    pub star_count: i64,
    /// Whether Docker curates it.
    pub is_official: bool,
    /// Deprecated, always false.
    pub is_automated: bool,
}

impl Client {
    /// Searches for `term`, or for `rest` at `host` if it reads `host/rest` as image names do.
    ///
    /// # Errors
    /// For a malformed term or limit (1 to 100), or when the index can't be reached.
    pub async fn search(&self, term: &str, limit: usize, auth: &Auth) -> naru_base::Result<Vec<SearchResult>> {
        if !(1..=100).contains(&limit) {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, 100]")));
        }
        if term.contains("://") {
            return Err(Error::invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let (host, term) = split_term(term);
        if term.trim().is_empty() {
            return Err(Error::invalid("a search term is needed"));
        }
        let found = match host {
            None => self.search_index(term, limit, auth).await,
            Some(host) => self.search_registry(host, term, limit, auth).await,
        };
        found.map_err(|e| e.plainly().context("search"))
    }

    /// The configured index; if that turns out to be a plain registry, its catalogue.
    async fn search_index(&self, term: &str, limit: usize, auth: &Auth) -> Result<Vec<SearchResult>> {
        let index = self.config().index.trim_end_matches('/').to_owned();
        let index = if index.contains("://") { index } else { format!("https://{index}") };
        let index = index.strip_suffix("/v1").unwrap_or(&index).to_owned();
        let host = index.parse().map(|u: Uri| location::host_port(&u)).unwrap_or_default();
        let insecure = endpoint::is_insecure(self.config(), &host).await;
        let trust = if insecure { Trust::Anybody } else { Trust::Verified(host.clone()) };
        let base = Endpoint { base: index, trust, mirror: false, repository: None, challenge: None };
        match self.search_v1(&base, term, limit, auth).await {
            Err(e) if e.is_missing() && !is_hub(&host) => {
                let named = self.search_catalog(&host, term, limit, auth).await?;
                Ok(named.into_iter().map(|name| SearchResult { name, ..SearchResult::default() }).collect())
            }
            other => other,
        }
    }

    async fn search_registry(&self, host: &str, term: &str, limit: usize, auth: &Auth) -> Result<Vec<SearchResult>> {
        let endpoint = self.endpoint(&Target::Registry(host.to_owned())).await?;
        let prefixed = |name: String| if name.starts_with(host) { name } else { format!("{host}/{name}") };
        match self.search_v1(&endpoint, term, limit, auth).await {
            Ok(found) => Ok(found.into_iter().map(|r| SearchResult { name: prefixed(r.name), ..r }).collect()),
            // Anything but a result means that it has no v1 interface.
            Err(Failure::Refused { .. } | Failure::Protocol { .. } | Failure::NoCredentials { .. }) => {
                let named = self.search_catalog(host, term, limit, auth).await?;
                Ok(named.into_iter().map(|n| SearchResult { name: prefixed(n), ..SearchResult::default() }).collect())
            }
            Err(e) => Err(e),
        }
    }

    async fn search_v1(&self, base: &Endpoint, term: &str, limit: usize, auth: &Auth) -> Result<Vec<SearchResult>> {
        #[derive(serde::Deserialize)]
        struct Wire {
            results: Option<Vec<SearchResult>>,
        }
        let query = location::form(&[("q", term), ("n", &limit.to_string())]);
        let make = |e: &Endpoint| {
            let call = Call::get(e.url(&format!("/v1/search?{query}"))?, e.trust.clone())
                .header(HeaderName::from_static("x-docker-token"), "true");
            Ok(match auth.basic() {
                Some(basic) => call.header(AUTHORIZATION, &basic),
                None => call,
            })
        };
        let scopes = ["registry:catalog:search".to_owned()];
        let mut answer = authorized(self, base, auth, &scopes, make).await?;
        if answer.status.as_u16() != 200 {
            return Err(answer.refusal(auth.is_anonymous()).await);
        }
        let body = answer.read(ANSWER_LIMIT).await?;
        let wire: Wire =
            serde_json::from_slice(&body).map_err(|e| answer.protocol(format!("malformed search result: {e}")))?;
        let mut found = wire.results.unwrap_or_default();
        found.truncate(limit);
        found.iter_mut().for_each(|r| r.is_automated = false);
        Ok(found)
    }

    async fn search_catalog(&self, host: &str, term: &str, limit: usize, auth: &Auth) -> Result<Vec<String>> {
        // Any repository will do: only the registry counts.
        let reference = Reference::parse(&format!("{host}/x")).map_err(|e| Failure::Protocol {
            request: Request { method: Method::GET, url: host.to_owned() },
            detail: e.message().to_owned(),
        })?;
        let session = Session::new(self.clone(), reference, auth.clone(), Scope::Pull);
        let term = term.to_ascii_lowercase();
        session.list_catalog(|name| name.contains(&term), limit).await
    }
}

/// The registry that a term names, if it does, and what to look for. `library/` means nothing to the hub.
fn split_term(term: &str) -> (Option<&str>, &str) {
    match term.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
            if is_hub(first) {
                (None, rest.strip_prefix("library/").unwrap_or(rest))
            } else {
                (Some(first), rest)
            }
        }
        _ => (None, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        assert_eq!(split_term("busybox"), (None, "busybox"));
        assert_eq!(split_term("library/busybox"), (None, "busybox"));
        assert_eq!(split_term("joe/app"), (None, "joe/app"));
        assert_eq!(split_term("reg:5000/app"), (Some("reg:5000"), "app"));
        assert_eq!(split_term("localhost/app"), (Some("localhost"), "app"));
        assert_eq!(split_term("docker.io/library/app"), (None, "app"));
    }
}
