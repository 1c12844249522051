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
            WaitCondition::NotRunning => end.count > seen || end.removed,
            // One that could not be started has not run, so nothing has ended (docker's clients would tell the error twice).
            WaitCondition::NextExit => (end.count > seen && end.outcome.error.is_none()) || end.removed,
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

#[cfg(test)]
mod tests {
    use crate::container::Container;
    use crate::container::tests_support::record;
    use crate::types::{WaitCondition, WaitOutcome};
    use crate::{Engine, EngineConfig};
    use naru_base::Id;
    use std::sync::Arc;

    /// An engine on a folder of the test's own, with one container that has never run.
    struct World {
        engine: Arc<Engine>,
        container: Arc<Container>,
    }

    impl World {
        fn new() -> Self {
            let id = Id::random().unwrap();
            let folder = std::env::temp_dir().join(format!("naru-wait-{}", id.short()));
            let config = EngineConfig { exec_root: folder.join("run"), data_root: folder, ..EngineConfig::default() };
            let (_, spawner) = rustix::pipe::pipe().unwrap();
            let engine = Engine::open(config, spawner).unwrap();
            let container = Arc::new(Container::new(record(id.as_str(), "web")));
            engine.containers.insert(Arc::clone(&container));
            Self { engine, container }
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.engine.config.data_root);
        }
    }

    #[tokio::test]
    async fn an_end_after_the_registration_is_not_missed() {
        let world = World::new();
        let next = world.engine.wait("web", WaitCondition::NextExit).unwrap();
        let removed = world.engine.wait("web", WaitCondition::Removed).unwrap();
        // A start that fails is no end of something that ran.
        let failed = WaitOutcome { exit_code: 128, error: Some("no such program".into()) };
        world.container.announce_end(failed);
        let mut next = Box::pin(next);
        let early = tokio::time::timeout(std::time::Duration::ZERO, &mut next).await;
        assert!(early.is_err(), "{early:?}");
        world.container.announce_end(WaitOutcome { exit_code: 7, error: None });
        assert_eq!(next.await.exit_code, 7);
        world.container.announce_removal();
        assert_eq!(removed.await.exit_code, 7);
    }

    #[tokio::test]
    async fn what_does_not_run_is_not_waited_for() {
        let world = World::new();
        assert_eq!(world.engine.wait("web", WaitCondition::NotRunning).unwrap().await.exit_code, 0);
        assert!(world.engine.wait("nope", WaitCondition::NotRunning).is_err());
    }
}
