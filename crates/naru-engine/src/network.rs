//! A container's network, as far as the engine holds it.

use crate::types::EndpointView;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// A network namespace of a container's own, with its endpoints. The namespace lives as long as a descriptor of it does: this one, the
/// monitor's, or a process in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub id: String,
    pub netns: OwnedFd,
    /// By network name.
    pub endpoints: BTreeMap<String, EndpointView>,
}
