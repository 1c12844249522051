//! Lists that come in pages: tags of a repository, repositories of a registry.

use crate::endpoint::{Endpoint, Target};
use crate::errors::Result;
use crate::location;
use crate::session::Session;
use crate::transport::Call;
use http::Uri;
use http::header::LINK;

/// The most bytes of one page.
const PAGE_LIMIT: usize = 4 << 20;
/// The most pages, and the most entries of all pages together.
const PAGES_LIMIT: usize = 1000;
const ENTRIES_LIMIT: usize = 200_000;
/// What we ask for per page.
const PAGE_SIZE: u32 = 1000;

#[derive(serde::Deserialize)]
struct Page {
    /// `null` for a repository without tags.
    #[serde(alias = "repositories")]
    tags: Option<Vec<String>>,
}

impl Session {
    /// All tags of the repository, in the registry's order.
    ///
    /// # Errors
    /// With docker's texts of a failing pull.
    pub async fn tags(&self) -> naru_base::Result<Vec<String>> {
        let mut failed = None;
        for target in self.targets() {
            let path = format!("{}?n={PAGE_SIZE}", self.path(target.repository(), "tags/list"));
            match self.patiently(|| self.pages(target, None, &path, |_| true, usize::MAX)).await {
                Ok(found) => return Ok(found),
                Err(e) if self.falls_through(target, &e) => failed = Some(e),
                Err(e) => return Err(e.pulling(self.reference())),
            }
        }
        Err(self.no_target(failed))
    }

    /// The names of the registry's repositories that `wanted` picks, at most `limit`. Many public registries refuse this.
    ///
    /// # Errors
    /// When the registry refuses, or can't be reached.
    pub async fn catalog(&self, wanted: impl Fn(&str) -> bool, limit: usize) -> naru_base::Result<Vec<String>> {
        self.list_catalog(wanted, limit).await.map_err(|e| e.plainly())
    }

    pub(crate) async fn list_catalog(&self, wanted: impl Fn(&str) -> bool, limit: usize) -> Result<Vec<String>> {
        let target = self.own_target();
        let path = format!("/v2/_catalog?n={PAGE_SIZE}");
        let scope = ["registry:catalog:*".to_owned()];
        self.patiently(|| self.pages(&target, Some(&scope), &path, &wanted, limit)).await
    }

    async fn pages(
        &self,
        target: &Target,
        scopes: Option<&[String]>,
        path: &str,
        wanted: impl Fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        let mut next: Option<Uri> = None;
        for _ in 0..PAGES_LIMIT {
            let make = |e: &Endpoint| {
                let url = next.clone().map_or_else(|| e.url(path), Ok)?;
                Ok(Call::get(url, e.trust.clone()))
            };
            let answer = match scopes {
                Some(scopes) => self.send_scoped(target, scopes, make).await?,
                None => self.send(target, make).await?,
            };
            let mut answer = self.expect(answer, &[200]).await?;
            let body = answer.read(PAGE_LIMIT).await?;
            let page: Page =
                serde_json::from_slice(&body).map_err(|e| answer.protocol(format!("malformed list: {e}")))?;
            entries.extend(page.tags.unwrap_or_default().into_iter().filter(|e| wanted(e)));
            if entries.len() > ENTRIES_LIMIT {
                return Err(answer.protocol("the list is endless"));
            }
            let link = answer.header(LINK).and_then(location::next_link);
            let following = link.and_then(|l| location::join(&answer.url, l));
            match following {
                // Credentials go with it: only the same server may name the next page.
                Some(url) if entries.len() < limit && location::origin(&url) == location::origin(&answer.url) => {
                    next = Some(url);
                }
                _ => {
                    entries.truncate(limit);
                    return Ok(entries);
                }
            }
        }
        Ok(entries)
    }
}
