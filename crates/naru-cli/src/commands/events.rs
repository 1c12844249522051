//! `events`.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::template::{Parsed, unescape};
use crate::{filters, reconnect, when};
use naru_client::{Query, Request};
use serde_json::{Value, json};
use std::io::BufReader;

/// Runs the command.
pub fn events(context: &mut Context, m: &Matches) -> Outcome {
    let template = match m.str("format") {
        "" => None,
        "json" => Some("{{json .}}".to_owned()),
        other => Some(unescape(other)),
    };
    let parsed = template
        .map(|t| Parsed::new("", &t))
        .transpose()
        .map_err(|e| Failure::new(format!("Error parsing format: {e}")).code(64))?;
    let time = |text: &str| if text.is_empty() { Ok(String::new()) } else { when::api_timestamp(text) };
    let general = Query::new()
        .with_some("filters", &filters::to_json(&m.list("filter")))
        .with_some("until", &time(m.str("until"))?);
    let since = time(m.str("since"))?;
    let mut newest = now();
    let first = general.clone().with_some("since", &since);
    let mut response = context.send(Request::get(format!("/events{}", first.as_str())))?;
    loop {
        let body = BufReader::new(response.into_body());
        let mut broken = false;
        for event in serde_json::Deserializer::from_reader(body).into_iter::<Value>() {
            let event = match event {
                Ok(event) => event,
                Err(e) if e.is_io() || e.is_eof() => {
                    broken = true;
                    break;
                }
                Err(e) => return Err(Failure::new(format!("reading events: {e}"))),
            };
            newest = event.get("timeNano").and_then(Value::as_i64).unwrap_or(newest);
            let line = match &parsed {
                None => line(&event),
                Some(parsed) => parsed.execute_json(&complete(event)).map_err(Failure::new)?,
            };
            context.printer.line(line)?;
            context.printer.flush()?;
        }
        if !broken {
            return Ok(0);
        }
        // The engine went away: what the next one knows of the time since is told, too.
        let after = newest.saturating_add(1);
        let since = format!("{}.{:09}", after.div_euclid(1_000_000_000), after.rem_euclid(1_000_000_000));
        let next = general.clone().with("since", &since);
        response = reconnect::send_again(context, || Request::get(format!("/events{}", next.as_str())))?;
    }
}

/// Nanoseconds since the Unix epoch.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// The fields that an event may lack, for templates.
fn complete(mut event: Value) -> Value {
    if let Some(object) = event.as_object_mut() {
        for (key, value) in [("Scope", json!("local")), ("status", json!("")), ("id", json!("")), ("from", json!(""))] {
            if matches!(key, "Scope") {
                object.entry("scope").or_insert(value.clone());
            } else {
                object.entry(key).or_insert(value.clone());
            }
        }
        for (template, api) in [
            ("Status", "status"),
            ("ID", "id"),
            ("From", "from"),
            ("Scope", "scope"),
            ("Time", "time"),
            ("TimeNano", "timeNano"),
        ] {
            if let Some(value) = object.get(api).cloned() {
                object.insert(template.into(), value);
            }
        }
    }
    event
}

/// `2024-01-02T03:04:05.000000000Z container start <id> (k=v, k2=v2)`.
fn line(event: &Value) -> String {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let nanos = event.get("timeNano").and_then(Value::as_i64).filter(|n| *n != 0);
    let seconds = event.get("time").and_then(Value::as_i64).unwrap_or(0);
    let at = when::rfc3339_nano(nanos.unwrap_or(seconds.saturating_mul(1_000_000_000)));
    let actor = event.get("Actor");
    let id = actor.and_then(|a| a.get("ID")).and_then(Value::as_str).unwrap_or_default();
    let attributes = actor.and_then(|a| a.get("Attributes")).and_then(Value::as_object);
    let mut pairs: Vec<String> =
        attributes.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.sort();
    let mut out = format!("{at} {} {} {id}", text("Type"), text("Action"));
    if !pairs.is_empty() {
        out.push_str(&format!(" ({})", pairs.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let event = json!({"Type": "container", "Action": "start", "Actor": {"ID": "x", "Attributes": {"b": "2", "a": "1"}}, "timeNano": 5});
        assert!(line(&event).ends_with("000000005Z container start x (a=1, b=2)"), "{}", line(&event));
    }
}
