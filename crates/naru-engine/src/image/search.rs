//! Searching and logging in at registries.

use crate::Engine;
use crate::types::{Auth, Filters};
use naru_base::{Error, Reference, Result};
use naru_registry::{LoginResult, Scope, SearchResult};

impl Engine {
    /// Images of the hub, or of the registry that the term begins with.
    ///
    /// # Errors
    /// For a limit out of range, filters that docker doesn't know, and what the registry says.
    pub async fn search(
        &self,
        term: &str,
        limit: usize,
        filters: &Filters,
        auth: Option<Auth>,
    ) -> Result<Vec<SearchResult>> {
        if !(1..=100).contains(&limit) {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, 100]")));
        }
        let mut stars = 0;
        let (mut official, mut automated) = (None, None);
        let flag = |values: &[String]| values.first().map(|v| matches!(v.as_str(), "true" | "1"));
        for (key, values) in filters {
            match key.as_str() {
                "is-official" => official = flag(values),
                "is-automated" => automated = flag(values),
                "stars" => {
                    for value in values {
                        let bad = || Error::invalid(format!("invalid filter 'stars={value}'"));
                        stars = stars.max(value.parse::<i64>().map_err(|_| bad())?);
                    }
                }
                _ => return Err(Error::invalid(format!("invalid filter '{key}'"))),
            }
        }
        let mut found = self.images.registry().search(term, limit, &auth.unwrap_or_default()).await?;
        found.retain(|f| {
            let starred = f.star_count >= stars;
            starred && official.is_none_or(|o| f.is_official == o) && automated != Some(true)
        });
        Ok(found)
    }

    /// Checks credentials.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn login(&self, auth: Auth) -> Result<LoginResult> {
        let server = auth.server_address.clone();
        self.images.registry().login(&server, &auth).await
    }

    /// What a registry has under a reference, in docker's words.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn distribution(&self, reference: Reference, auth: Option<Auth>) -> Result<serde_json::Value> {
        let reference = reference.with_default_tag();
        let session = self.images.registry().repository(&reference, auth.unwrap_or_default(), Scope::Pull);
        let seen = session.inspect(&super::pull::target(&reference)).await?;
        serde_json::to_value(seen_as(&seen))
            .map_err(|e| Error::system(format!("cannot show what the registry said: {e}")))
    }
}

fn seen_as(seen: &naru_registry::Inspection) -> serde_json::Value {
    serde_json::json!({
        "Descriptor": {
            "mediaType": seen.descriptor.media_type,
            "digest": seen.descriptor.digest,
            "size": seen.descriptor.size,
        },
        "Platforms": seen.platforms,
    })
}
