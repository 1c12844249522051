//! Resource usage.

use crate::call::Call;
use crate::dto::stats::Usage;
use crate::reply::{JSON, Reply, json_line};
use futures_util::stream;
use naru_base::Result;
use naru_engine::{Engine, StatsSample};
use std::sync::Arc;
use std::time::Duration;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// GET /containers/{id}/stats
pub(crate) async fn stats(call: Call) -> Result<Reply> {
    let view = call.engine.inspect(&call.name, false)?;
    let mut source =
        Source { engine: call.engine, name: view.name, id: view.id.to_string(), before: None, sampled: false };
    if call.query.flag_or("stream", true) {
        let next = |mut source: Source| async move {
            let usage = source.next().await?;
            Some((Ok(json_line(&usage).into()), source))
        };
        return Ok(Reply::stream(JSON, Box::pin(stream::unfold(source, next))));
    }
    if !call.query.flag("one-shot") && view.status.is_running() {
        // A client works out a rate from two samples.
        source.before = source.engine.stats(&source.id)?;
        tokio::time::sleep(INTERVAL).await;
    }
    let sample = source.engine.stats(&source.id)?;
    Reply::ok(&Usage::of(&source.name, &source.id, sample.as_ref(), source.before.as_ref()))
}

struct Source {
    engine: Arc<Engine>,
    name: String,
    id: String,
    before: Option<StatsSample>,
    sampled: bool,
}

impl Source {
    /// The next sample, at once the first time; `None` once the container is gone. One that doesn't run has zeros.
    async fn next(&mut self) -> Option<Usage> {
        if self.sampled {
            tokio::time::sleep(INTERVAL).await;
        }
        self.sampled = true;
        let sample = self.engine.stats(&self.id).ok()?;
        let usage = Usage::of(&self.name, &self.id, sample.as_ref(), self.before.as_ref());
        self.before = sample;
        Some(usage)
    }
}
