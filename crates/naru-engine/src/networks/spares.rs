//! Network namespaces kept ready for containers that are not on the default network alone: on none, or on networks of users.

use crate::user_spaces::UserSpace;
use naru_base::Result;
use naru_net::Netns;
use std::sync::Mutex;

/// How many.
const SPARES: usize = 2;

/// A namespace, with the user namespace that it belongs to if that was made for it.
type Spare = (Netns, Option<UserSpace>);

/// A few namespaces without an interface. None is made before the first is asked for: an engine all of whose containers are on the default
/// network has no use for them.
#[derive(Debug, Default)]
pub(super) struct Spares {
    ready: Mutex<Ready>,
}

#[derive(Debug, Default)]
struct Ready {
    spares: Vec<Spare>,
    wanted: bool,
}

impl Spares {
    /// One, when one is ready.
    pub(super) fn take(&self) -> Option<Spare> {
        let mut ready = crate::lock(&self.ready);
        ready.wanted = true;
        ready.spares.pop()
    }

    /// Makes what is missing; by one thread at a time, when no request waits.
    ///
    /// # Errors
    /// As `make`; what was made before stays.
    pub(super) fn fill(&self, make: impl Fn() -> Result<Spare>) -> Result<()> {
        let missing = || {
            let ready = crate::lock(&self.ready);
            ready.wanted && ready.spares.len() < SPARES
        };
        while missing() {
            let spare = make()?;
            crate::lock(&self.ready).spares.push(spare);
        }
        Ok(())
    }

    /// Lets go of all, and makes none until one is asked for again.
    pub(super) fn close(&self) {
        let ready = std::mem::take(&mut *crate::lock(&self.ready));
        drop(ready);
    }
}
