//! The `config` object of an image's configuration document, from and to the engine's own form.
//!
//! Names are those of the OCI image specification (config.md) and docker's extensions of it. Unknown keys stay in the document that
//! the store keeps; they are not carried into images made from it.

use crate::types::{ContainerConfig, Healthcheck};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Reads the object; what has the wrong type counts as absent, as in docker.
pub(crate) fn from_document(config: &Value) -> ContainerConfig {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    ContainerConfig {
        user: text("User"),
        exposed_ports: keys(config.get("ExposedPorts")),
        env: list(config.get("Env")).unwrap_or_default(),
        cmd: list(config.get("Cmd")),
        healthcheck: config.get("Healthcheck").and_then(healthcheck_from),
        volumes: keys(config.get("Volumes")),
        working_dir: text("WorkingDir"),
        entrypoint: list(config.get("Entrypoint")),
        on_build: list(config.get("OnBuild")).unwrap_or_default(),
        labels: labels(config.get("Labels")),
        stop_signal: Some(text("StopSignal")).filter(|s| !s.is_empty()),
        shell: list(config.get("Shell")),
        ..ContainerConfig::default()
    }
}

/// Writes the object, without what is empty.
pub(crate) fn to_document(config: &ContainerConfig) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        if !empty {
            out.insert(key.to_owned(), value);
        }
    };
    let set = |items: &BTreeSet<String>| items.iter().map(|i| (i.clone(), json!({}))).collect::<Map<_, _>>();
    put("User", json!(config.user));
    put("ExposedPorts", set(&config.exposed_ports).into());
    put("Env", json!(config.env));
    put("Entrypoint", json!(config.entrypoint));
    put("Cmd", json!(config.cmd));
    put("Healthcheck", config.healthcheck.as_ref().map_or(Value::Null, healthcheck_to));
    put("Volumes", set(&config.volumes).into());
    put("WorkingDir", json!(config.working_dir));
    put("OnBuild", json!(config.on_build));
    put("Labels", json!(config.labels));
    put("StopSignal", json!(config.stop_signal));
    put("Shell", json!(config.shell));
    Value::Object(out)
}

fn list(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Value::String(one) => Some(vec![one.clone()]),
        _ => None,
    }
}

fn keys(value: Option<&Value>) -> BTreeSet<String> {
    value.and_then(Value::as_object).map(|o| o.keys().cloned().collect()).unwrap_or_default()
}

fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(map)) = value else { return BTreeMap::new() };
    map.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
}

fn healthcheck_from(value: &Value) -> Option<Healthcheck> {
    let number = |key: &str| value.get(key).and_then(Value::as_i64).unwrap_or_default();
    Some(Healthcheck {
        test: list(value.get("Test"))?,
        interval: number("Interval"),
        timeout: number("Timeout"),
        start_period: number("StartPeriod"),
        start_interval: number("StartInterval"),
        retries: number("Retries"),
    })
}

fn healthcheck_to(check: &Healthcheck) -> Value {
    let mut out = Map::new();
    out.insert("Test".into(), json!(check.test));
    for (key, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", check.retries),
    ] {
        if value != 0 {
            out.insert(key.into(), json!(value));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let document = json!({
            "User": "1000", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"],
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}, "Volumes": {"/v": {}}, "WorkingDir": "/w",
            "Labels": {"l": "1"}, "StopSignal": "SIGINT"
        });
        assert_eq!(to_document(&from_document(&document)), document);
    }

    #[test]
    fn wrong_types_count_as_absent() {
        let read = from_document(&json!({"Env": 3, "Cmd": {"a": 1}, "Labels": [], "Volumes": "x", "User": null}));
        assert_eq!(read, ContainerConfig::default());
    }
}
