//! Events as told.

use naru_engine::types::Event;
use serde::Serialize;
use std::collections::BTreeMap;

/// docker's `EventMessage`, with the members that versions before 1.52 have.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

impl<'a> Message<'a> {
    pub(crate) fn of(event: &'a Event) -> Self {
        let old = matches!(event.kind.as_str(), "container" | "image");
        let image = event.attributes.get("image").filter(|_| event.kind == "container");
        Self {
            status: old.then_some(event.action.as_str()),
            id: old.then_some(event.id.as_str()),
            from: image.map(String::as_str).filter(|i| !i.is_empty()),
            kind: &event.kind,
            action: &event.action,
            actor: Actor { id: &event.id, attributes: &event.attributes },
            scope: "local",
            time: super::time::seconds(event.time),
            time_nano: event.time,
        }
    }
}
