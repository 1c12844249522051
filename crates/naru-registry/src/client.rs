//! The client: what all sessions share.

use crate::auth::Auth;
use crate::config::Config;
use crate::endpoint::{self, Endpoint, Target, is_hub};
use crate::errors::{Failure, Result};
use crate::rules;
use crate::session::{Scope, Session};
use crate::token::TokenCache;
use crate::transport::Transport;
use naru_base::Reference;
use naru_base::reference::DEFAULT_DOMAIN;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is remembered where a registry answers.
const ENDPOINT_LIFE: Duration = Duration::from_secs(300);

/// A client of registries. Cheap to clone; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) transport: Transport,
    pub(crate) tokens: TokenCache,
    endpoints: Mutex<HashMap<Target, (Instant, Arc<Endpoint>)>>,
}

impl Client {
    /// A client with these settings. Does no IO.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Shared {
            transport: Transport::new(config.clone()),
            tokens: TokenCache::default(),
            endpoints: Mutex::default(),
            config,
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Work with the repository of `reference` (its tag and digest count only in the texts of errors). Does no IO.
    pub fn repository(&self, reference: &Reference, auth: Auth, scope: Scope) -> Session {
        Session::new(self.clone(), reference.clone(), auth, scope)
    }

    /// Where a repository is, best first.
    pub(crate) fn targets(&self, reference: &Reference, scope: Scope) -> Vec<Target> {
        let own = Target::Registry(reference.domain().to_owned());
        if scope != Scope::Pull {
            return vec![own];
        }
        let name = rules::name_of(reference);
        let mut targets = rules::find(&self.0.config.rules, &name).map(|r| r.targets(&name)).unwrap_or_default();
        if targets.is_empty() && is_hub(reference.domain()) {
            let mirror = |url: &String| Target::Mirror { url: url.clone(), repository: None };
            targets = self.0.config.mirrors.iter().map(mirror).collect();
        }
        targets.push(own);
        targets
    }

    /// Refuses `name`, a registry or a whole name without tag, when its registry is not to be asked.
    pub(crate) fn check_blocked(&self, name: &str) -> Result<()> {
        match rules::find(&self.0.config.rules, name) {
            Some(rule) if rule.blocked => Err(Failure::Blocked { name: name.to_owned(), prefix: rule.prefix.clone() }),
            _ => Ok(()),
        }
    }

    /// Where `target` answers, found out at most every few minutes.
    pub(crate) async fn endpoint(&self, target: &Target) -> Result<Arc<Endpoint>> {
        if let Target::Registry(registry) = target {
            self.check_blocked(if is_hub(registry) { DEFAULT_DOMAIN } else { registry })?;
        }
        let known = self.endpoints().get(target).filter(|(t, _)| t.elapsed() < ENDPOINT_LIFE).map(|(_, e)| e.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let found = Arc::new(endpoint::discover(&self.0.transport, &self.0.config, target).await?);
        self.endpoints().insert(target.clone(), (Instant::now(), found.clone()));
        Ok(found)
    }

    /// It didn't answer: find out again next time.
    pub(crate) fn forget(&self, target: &Target) {
        self.endpoints().remove(target);
    }

    fn endpoints(&self) -> std::sync::MutexGuard<'_, HashMap<Target, (Instant, Arc<Endpoint>)>> {
        self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
