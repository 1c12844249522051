//! Waiting for a container's end.

use super::End;
use crate::Engine;
use crate::types::{WaitCondition, WaitOutcome};
use naru_base::Result;

impl Engine {
    /// A future of the container's end, registered when this returns: no end after that is missed.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitOutcome> + Send + 'static + use<>> {
        let container = self.containers.find(name)?;
        let mut ends = container.ends();
        let seen = ends.borrow_and_update().count;
        let over = condition == WaitCondition::NotRunning && !container.status().is_running();
        let now = WaitOutcome { exit_code: container.read(|r| r.state.exit_code), error: None };
        let done = move |end: &End| match condition {
            WaitCondition::Removed => end.removed,
            WaitCondition::NotRunning | WaitCondition::NextExit => end.count > seen || end.removed,
        };
        Ok(async move {
            if over {
                return now;
            }
            let outcome = match ends.wait_for(done).await {
                Ok(end) => end.outcome.clone(),
                // The engine ends: the container goes on, and nobody can tell.
                Err(_) => WaitOutcome { exit_code: 0, error: Some("the engine is shutting down".into()) },
            };
            drop(container);
            outcome
        })
    }
}
