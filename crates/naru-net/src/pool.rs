//! Endpoints kept ready for the next containers of one network.

use crate::{Endpoint, EndpointRequest, HostNet, Netns, NetnsSetup, NetworkSpec};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A namespace with its endpoint, that no container has used.
#[derive(Debug)]
pub struct Pooled<T = ()> {
    /// The namespace.
    pub netns: Netns,
    /// Its place on the network.
    pub endpoint: Endpoint,
    /// What was made with the namespace.
    pub with: T,
}

/// What is kept, and whether anything may be.
#[derive(Debug)]
struct Ready<T> {
    entries: VecDeque<Pooled<T>>,
    closed: bool,
}

/// A few ready endpoints of one network, for containers that wish for nothing special.
///
/// An entry is made new and is never put back, so that it carries nothing of another container: no neighbour, connection or
/// setting. What lies in the pool is on no record; after a crash its namespaces are gone with the engine's descriptors, and a
/// reconcile finds its addresses free.
#[derive(Debug)]
pub struct WarmPool<T = ()> {
    spec: NetworkSpec,
    size: usize,
    ready: Mutex<Ready<T>>,
}

impl WarmPool {
    /// [`WarmPool::refill_with`] ordinary namespaces.
    ///
    /// # Errors
    /// As there.
    pub fn refill(&self, host: &HostNet) -> naru_base::Result<()> {
        self.refill_with(host, || Ok((Netns::create(&NetnsSetup::container())?, ())))
    }
}

impl<T> WarmPool<T> {
    /// A pool of up to `size` endpoints of a network; empty until [`WarmPool::refill_with`].
    pub fn new(spec: NetworkSpec, size: usize) -> Self {
        Self { spec, size, ready: Mutex::new(Ready { entries: VecDeque::new(), closed: false }) }
    }

    /// A ready endpoint, the oldest one, so that addresses go out lowest first. None when there is none: then make one.
    pub fn take(&self) -> Option<Pooled<T>> {
        self.lock().entries.pop_front()
    }

    /// Makes what is missing, in namespaces that `make` makes, about half a millisecond each. Call it when no request waits, by one thread at a time.
    ///
    /// # Errors
    /// As [`Netns::create`] and [`HostNet::attach`]; what was made before stays.
    pub fn refill_with(
        &self,
        host: &HostNet,
        make: impl Fn() -> naru_base::Result<(Netns, T)>,
    ) -> naru_base::Result<()> {
        while self.wants_more() {
            let (netns, with) = make()?;
            let endpoint = host.attach(&self.spec, &netns, &EndpointRequest::default())?;
            let mut ready = self.lock();
            if ready.closed {
                drop(ready);
                host.detach(&endpoint);
                return Ok(());
            }
            ready.entries.push_back(Pooled { netns, endpoint, with });
        }
        Ok(())
    }

    /// Gives all addresses back and keeps nothing from now on (the network is removed or changed, or the engine ends).
    pub fn close(&self, host: &HostNet) {
        let entries = {
            let mut ready = self.lock();
            ready.closed = true;
            std::mem::take(&mut ready.entries)
        };
        entries.iter().for_each(|pooled| host.detach(&pooled.endpoint));
    }

    /// How many are ready.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether none is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wants_more(&self) -> bool {
        let ready = self.lock();
        !ready.closed && ready.entries.len() < self.size
    }

    fn lock(&self) -> MutexGuard<'_, Ready<T>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
