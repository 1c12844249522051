//! Events: the past, then what happens.

use crate::call::Call;
use crate::dto::event::Message;
use crate::dto::time::now;
use crate::reply::{JSON, Pieces, Reply, json_line};
use futures_util::{StreamExt as _, stream};
use naru_base::{Error, Result};
use naru_engine::types::{Event, Filters, UnixNanos};
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Filters.
const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// GET /events
pub(crate) async fn events(call: Call) -> Result<Reply> {
    let filters = call.query.filters(&FILTERS)?;
    let (since, until) = (call.query.time("since")?, call.query.time("until")?);
    if since > 0 && until > 0 && until < since {
        return Err(Error::invalid("`since` time cannot be after `until` time"));
    }
    let format = Format::chosen(&call);
    // Subscribed before the past is read: nothing falls between.
    let live = call.engine.events();
    let past = if since > 0 || until > 0 { call.engine.past_events(since, until) } else { Vec::new() };
    let newest = past.last().map_or(0, |e| e.time);
    let told: Vec<u8> = past.iter().filter(|e| includes(&filters, e)).flat_map(|e| format.line(e)).collect();
    let source = Source { live, filters, until, newest, format };
    let first = stream::iter((!told.is_empty()).then(|| Ok(told.into())));
    Ok(Reply::stream(format.media_type(), Box::pin(first.chain(live_events(source)))))
}

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Newline after each, as docker before 1.52 calls it.
    Json,
    /// Newline after each.
    Lines,
    /// The other name for that.
    NdJson,
    /// RFC 7464: a record separator before each.
    Sequence,
}

impl Format {
    fn chosen(call: &Call) -> Self {
        let accept = call.header("accept");
        match () {
            () if accept.contains("application/json-seq") => Self::Sequence,
            () if accept.contains("application/x-ndjson") => Self::NdJson,
            () if accept.contains("application/jsonl") => Self::Lines,
            () => Self::Json,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Lines => "application/jsonl",
            Self::NdJson => "application/x-ndjson",
            Self::Sequence => "application/json-seq",
        }
    }

    fn line(self, event: &Event) -> Vec<u8> {
        let mut line = if self == Self::Sequence { vec![0x1e] } else { Vec::new() };
        line.extend(json_line(&Message::of(event)));
        line
    }
}

struct Source {
    live: Receiver<Event>,
    filters: Filters,
    until: UnixNanos,
    /// Time of the newest event that was told of the past.
    newest: UnixNanos,
    format: Format,
}

fn live_events(source: Source) -> Pieces {
    let next = |mut source: Source| async move {
        let left = Duration::from_nanos(u64::try_from(source.until.saturating_sub(now())).unwrap_or(0));
        let line =
            if source.until > 0 { tokio::time::timeout(left, source.next()).await.ok()? } else { source.next().await };
        line.map(|line| (Ok(line.into()), source))
    };
    Box::pin(stream::unfold(source, next))
}

impl Source {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.live.recv().await {
                Ok(event) if event.time <= self.newest => {}
                Ok(event) if self.until > 0 && event.time > self.until => return None,
                Ok(event) if includes(&self.filters, &event) => return Some(self.format.line(&event)),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a subscriber of events was too slow"),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Whether the filters let an event through (docker's rules).
fn includes(filters: &Filters, event: &Event) -> bool {
    let values = |key: &str| filters.get(key).map_or(&[][..], Vec::as_slice);
    let exact =
        |key: &str, texts: &[&str]| values(key).is_empty() || values(key).iter().any(|v| texts.contains(&v.as_str()));
    let prefix = |key: &str, texts: &[&str]| {
        values(key).is_empty()
            || values(key).iter().any(|v| texts.iter().any(|t| t.starts_with(v.as_str()) && !v.is_empty()))
    };
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let objects = ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];
    let by_prefix = ["health_status", "exec_create", "exec_start"];
    let action = if values("event").iter().any(|v| by_prefix.contains(&v.as_str())) {
        prefix("event", &[&event.action])
    } else {
        exact("event", &[&event.action])
    };
    let image = attribute(if event.kind == "image" { "name" } else { "image" });
    action
        && exact("type", &[&event.kind])
        && exact("scope", &["local"])
        && objects.iter().all(|key| prefix(key, &[&event.id, attribute("name")]))
        && exact("image", &[&event.id, image, without_tag(&event.id), without_tag(image)])
        && values("label").iter().all(|wanted| has_label(event, wanted))
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

fn has_label(event: &Event, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => event.attributes.get(key).is_some_and(|v| v == value),
        None => event.attributes.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event(kind: &str, action: &str) -> Event {
        let attributes = [("image", "bb:latest"), ("name", "web"), ("l", "1")];
        Event {
            kind: kind.into(),
            action: action.into(),
            id: "abcdef".into(),
            attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            time: 1_700_000_000_000_000_001,
        }
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut all: Filters = BTreeMap::new();
        for (key, value) in pairs {
            all.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        all
    }

    #[test]
    fn filters_are_dockers() {
        let start = event("container", "start");
        for (pairs, expected) in [
            (&[][..], true),
            (&[("type", "container")], true),
            (&[("type", "image")], false),
            (&[("type", "image"), ("type", "container")], true),
            (&[("event", "sta")], false),
            (&[("event", "start")], true),
            (&[("container", "abc")], true),
            (&[("container", "we")], true),
            (&[("container", "x")], false),
            (&[("image", "bb")], true),
            (&[("image", "bb:latest")], true),
            (&[("image", "b")], false),
            (&[("label", "l")], true),
            (&[("label", "l=1"), ("label", "zz")], false),
            (&[("scope", "swarm")], false),
        ] {
            assert_eq!(includes(&filters(pairs), &start), expected, "{pairs:?}");
        }
        let exec = event("container", "exec_start: sh");
        assert!(includes(&filters(&[("event", "exec_start")]), &exec));
        assert!(!includes(&filters(&[("event", "exec_die")]), &exec));
    }

    #[test]
    fn messages_have_the_old_members_too() {
        let line = String::from_utf8(Format::Json.line(&event("container", "start"))).unwrap();
        assert_eq!(
            line,
            "{\"status\":\"start\",\"id\":\"abcdef\",\"from\":\"bb:latest\",\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"abcdef\",\"Attributes\":{\"image\":\"bb:latest\",\"l\":\"1\",\"name\":\"web\"}},\"scope\":\"local\",\"time\":1700000000,\"timeNano\":1700000000000000001}\n"
        );
        assert!(Format::Sequence.line(&event("volume", "create")).starts_with(b"\x1e{\"Type\""));
    }
}
