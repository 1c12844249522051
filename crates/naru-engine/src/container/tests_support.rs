//! Records for tests.

use super::Record;
use super::state::State;
use crate::types::{ContainerConfig, HostSettings};
use naru_base::{Digest, Id, Platform};
use std::collections::BTreeMap;

/// A record of a container that has never run; `id` is filled up with zeros.
pub(crate) fn record(id: &str, name: &str) -> Record {
    Record {
        id: Id::parse(&format!("{id:0<64}")).unwrap(),
        name: name.into(),
        created: 0,
        image: Digest::from_bytes(&[0; 32]),
        platform: Platform::host(),
        config: ContainerConfig::default(),
        host: HostSettings::default(),
        document: serde_json::Value::Null,
        path: String::new(),
        args: Vec::new(),
        mounts: Vec::new(),
        networks: BTreeMap::new(),
        user_namespace: false,
        process_label: String::new(),
        mount_label: String::new(),
        state: State::default(),
    }
}
