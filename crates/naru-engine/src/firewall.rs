//! The engine's rules come back when somebody else deletes them.

use crate::Engine;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

impl Engine {
    /// Watches over the engine's rules for as long as the engine runs.
    pub(crate) fn watch_rules(self: &Arc<Self>) {
        let watch = match self.networks.host().watch_rules() {
            Ok(watch) => watch,
            Err(error) => {
                return tracing::warn!("rules that somebody deletes will not come back by themselves: {error}");
            }
        };
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let descriptor = match watch.as_fd().try_clone_to_owned() {
                Ok(descriptor) => descriptor,
                Err(error) => return tracing::warn!("cannot watch over the firewall's rules: {error}"),
            };
            #[expect(deprecated, reason = "an owned descriptor is IO-safe; the newer call is unsafe")]
            let readable = match AsyncFd::with_interest(descriptor, Interest::READABLE) {
                Ok(readable) => readable,
                Err(error) => return tracing::warn!("cannot watch over the firewall's rules: {error}"),
            };
            while let Ok(mut ready) = readable.readable().await {
                ready.clear_ready();
                match engine.networks.host().restore_rules(&watch) {
                    Ok(false) => {}
                    Ok(true) => {
                        tracing::warn!("somebody deleted rules of this engine from the firewall: they are back")
                    }
                    Err(error) => {
                        tracing::warn!("rules that somebody deleted from the firewall can't be put back: {error}")
                    }
                }
            }
        });
    }
}
