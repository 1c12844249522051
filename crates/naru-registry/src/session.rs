//! One repository with one set of credentials: authorised requests, mirrors, retries.

use crate::auth::Auth;
use crate::challenge::{Challenge, parse_challenges};
use crate::client::Client;
use crate::endpoint::{Endpoint, Target};
use crate::errors::{Failure, Request, Result, Transport as Kind};
use crate::location;
use crate::rules;
use crate::token::Grant;
use crate::transport::{Answer, Call};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use naru_base::Reference;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// One repository, for one user. Cheap to clone, and safe to use from many tasks at once.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    reference: Reference,
    auth: Auth,
    scope: Scope,
    targets: Vec<Target>,
    /// The first target that has not failed.
    first: AtomicUsize,
}

impl Session {
    pub(crate) fn new(client: Client, reference: Reference, auth: Auth, scope: Scope) -> Self {
        let targets = client.targets(&reference, scope);
        Self(Arc::new(Inner { client, reference, auth, scope, targets, first: AtomicUsize::new(0) }))
    }

    /// What the session was made for.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The targets that are worth a try: mirrors that failed are left out, the registry itself never is.
    pub(crate) fn targets(&self) -> &[Target] {
        let last = self.0.targets.len().saturating_sub(1);
        &self.0.targets[self.0.first.load(Ordering::Relaxed).min(last)..]
    }

    /// Whether to go on with the next target after `failure`; a mirror that isn't there is not asked again.
    pub(crate) fn falls_through(&self, target: &Target, failure: &Failure) -> bool {
        if !matches!(target, Target::Mirror { .. }) {
            return false;
        }
        tracing::info!(?target, %failure, "mirror failed");
        if matches!(failure, Failure::Transport { .. })
            && let Some(at) = self.0.targets.iter().position(|t| t == target)
        {
            self.0.first.fetch_max(at + 1, Ordering::Relaxed);
        }
        true
    }

    /// The registry itself.
    pub(crate) fn own_target(&self) -> Target {
        Target::Registry(self.0.reference.domain().to_owned())
    }

    /// `repository:<path>:<actions>` for this session at `target`.
    pub(crate) fn scope_at(&self, target: &Target) -> String {
        let actions = match self.0.scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        format!("repository:{}:{actions}", target.repository().unwrap_or(self.0.reference.path()))
    }

    /// `/v2/<name>` and `rest`; `name` is a mirror's name of the repository.
    pub(crate) fn path(&self, name: Option<&str>, rest: &str) -> String {
        format!("/v2/{}/{rest}", name.unwrap_or(self.0.reference.path()))
    }

    /// Sends `make(endpoint)` to `target` with what it takes to be let in.
    pub(crate) async fn send(&self, target: &Target, make: impl Fn(&Endpoint) -> Result<Call>) -> Result<Answer> {
        self.send_scoped(target, &[self.scope_at(target)], make).await
    }

    /// The same with these scopes; asks for a token once more if the first isn't taken.
    pub(crate) async fn send_scoped(
        &self,
        target: &Target,
        scopes: &[String],
        make: impl Fn(&Endpoint) -> Result<Call>,
    ) -> Result<Answer> {
        let result = async {
            if matches!(target, Target::Registry(_)) {
                self.0.client.check_blocked(&rules::name_of(&self.0.reference))?;
            }
            let endpoint = self.0.client.endpoint(target).await?;
            let auth = if endpoint.mirror { &Auth::default() } else { &self.0.auth };
            authorized(&self.0.client, &endpoint, auth, scopes, make).await
        }
        .await;
        if let Err(Failure::Transport { .. }) = &result {
            self.0.client.forget(target);
        }
        result
    }

    /// The answer if its status is one of `expected`, else what it refuses.
    pub(crate) async fn expect(&self, answer: Answer, expected: &[u16]) -> Result<Answer> {
        if expected.contains(&answer.status.as_u16()) { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// What an answer refuses.
    pub(crate) async fn refusal(&self, answer: Answer) -> Failure {
        answer.refusal(self.0.auth.is_anonymous()).await
    }

    /// Repeats what fails for a moment only, with pauses.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let policy = self.0.client.config().retry;
        let mut failed = 0;
        loop {
            failed += 1;
            match (attempt().await, policy.delay(failed)) {
                (Err(e), Some(own)) if e.is_transient() => {
                    let pause = e.pause(own);
                    tracing::info!(error = %e, ?pause, "trying again");
                    tokio::time::sleep(pause).await;
                }
                (result, _) => return result,
            }
        }
    }
}

/// Sends `make(endpoint)`, with a token or password if the registry wants one; a second time after a 401.
pub(crate) async fn authorized(
    client: &Client,
    endpoint: &Endpoint,
    auth: &Auth,
    scopes: &[String],
    make: impl Fn(&Endpoint) -> Result<Call>,
) -> Result<Answer> {
    let mut challenge = endpoint.challenge.clone();
    let mut refused: Option<String> = None;
    loop {
        let mut call = make(endpoint)?;
        if location::origin(&call.url) != location::origin(&endpoint.url("")?) {
            // A place that the registry named on another server, as for an upload: its URL must do.
            return client.0.transport.send(call).await;
        }
        let request = Request { method: call.method.clone(), url: call.url.to_string() };
        let credentials = credentials(client, endpoint, auth, scopes, challenge.as_ref(), refused.as_deref())
            .await
            .map_err(|e| match e {
                Failure::NoCredentials { .. } => Failure::NoCredentials { request },
                other => other,
            })?;
        let mut used = None;
        if let Some(text) = credentials {
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                call.headers.insert(AUTHORIZATION, value);
            }
            used = text.strip_prefix("Bearer ").map(str::to_owned);
        }
        let answer = client.0.transport.send(call).await?;
        let again = answer.status.as_u16() == 401 && refused.is_none() && auth.registry_token.is_empty();
        match parse_challenges(&answer.headers) {
            // The same password a second time changes nothing.
            Some(new @ Challenge::Bearer { .. }) if again => {
                refused = Some(used.unwrap_or_default());
                challenge = Some(new);
            }
            Some(Challenge::Basic) if again && challenge.is_none() => {
                refused = Some(String::new());
                challenge = Some(Challenge::Basic);
            }
            _ => return Ok(answer),
        }
    }
}

/// The `Authorization` header.
async fn credentials(
    client: &Client,
    endpoint: &Endpoint,
    auth: &Auth,
    scopes: &[String],
    challenge: Option<&Challenge>,
    refused: Option<&str>,
) -> Result<Option<String>> {
    if !auth.registry_token.is_empty() {
        return Ok(Some(format!("Bearer {}", auth.registry_token)));
    }
    match challenge {
        None => Ok(None),
        Some(Challenge::Basic) => match auth.basic() {
            Some(basic) => Ok(Some(basic)),
            None => Err(Failure::NoCredentials {
                request: Request { method: http::Method::GET, url: format!("{}/v2/", endpoint.base) },
            }),
        },
        Some(Challenge::Bearer { realm, service, scope, .. }) => {
            let mut scopes = scopes.to_vec();
            scopes.extend(scope.iter().flat_map(|s| s.split(' ')).filter(|s| !s.is_empty()).map(str::to_owned));
            scopes.sort();
            scopes.dedup();
            let grant = Grant { realm: realm.clone(), service: service.clone(), scopes, auth: auth.clone() };
            let token = client.0.tokens.get(&client.0.transport, &endpoint.trust, &grant, refused).await?;
            Ok(Some(format!("Bearer {token}")))
        }
    }
}

impl Failure {
    /// Whether the content is not there (as opposed to: can't be had).
    pub(crate) fn is_missing(&self) -> bool {
        self.status().is_some_and(|s| s.as_u16() == 404)
    }

    /// The connection ended before all was there.
    pub(crate) fn short(request: Request, got: u64, size: u64) -> Self {
        Self::Transport { request, kind: Kind::Cut, detail: format!("unexpected EOF after {got} of {size} bytes") }
    }
}
