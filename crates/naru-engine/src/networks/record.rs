//! What is kept of a network.

use naru_net::NetworkSpec;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::types::UnixNanos;

/// The version of the record's format.
pub(super) const RECORD_VERSION: u32 = 1;
/// The record's file in the network's folder.
pub(super) const RECORD_FILE: &str = "network.json";
/// The record of the three predefined networks.
pub(super) const PREDEFINED_FILE: &str = "networks.json";

/// A network, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub created: UnixNanos,
    pub spec: NetworkSpec,
    #[serde(default)]
    pub attachable: bool,
    /// The caller chose the addresses: then containers may choose theirs.
    #[serde(default)]
    pub own_subnets: bool,
    /// It is a template for others, and nothing else.
    #[serde(default)]
    pub config_only: bool,
    /// The name of the template that it was made from; empty for none.
    #[serde(default)]
    pub config_from: String,
    /// Not kept: one of the three that are always there.
    #[serde(skip)]
    pub predefined: bool,
}

impl Network {
    /// The address of the host that its containers' ports are bound to unless they say; none for all of them.
    pub(crate) fn port_address(&self) -> Option<IpAddr> {
        let address: IpAddr = self.spec.options.get(super::options::PORT_ADDRESS)?.parse().ok()?;
        (!address.is_unspecified()).then_some(address)
    }

    /// Whether containers have an interface on it.
    pub(crate) fn has_endpoints(&self) -> bool {
        self.spec.driver.has_endpoints()
    }
}

/// The predefined networks, as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Predefined {
    pub version: u32,
    pub created: UnixNanos,
    pub bridge: NetworkSpec,
    pub host: NetworkSpec,
    pub none: NetworkSpec,
}

impl Predefined {
    /// All three as networks.
    pub(super) fn networks(&self) -> [Network; 3] {
        [&self.bridge, &self.host, &self.none].map(|spec| Network {
            created: self.created,
            spec: spec.clone(),
            attachable: false,
            own_subnets: false,
            config_only: false,
            config_from: String::new(),
            predefined: true,
        })
    }
}
