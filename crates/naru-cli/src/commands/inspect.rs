//! `inspect`: an object as the engine describes it, or a template over it.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::template::{Parsed, unescape};
use naru_client::{Query, Request, escape_path};
use serde_json::{Value, json};

/// What kinds of objects there are, in the order in which `inspect` looks for them.
const KINDS: &[&str] =
    &["container", "image", "network", "volume", "service", "task", "node", "plugin", "secret", "config"];

/// `inspect`.
pub fn any(context: &mut Context, m: &Matches) -> Outcome {
    let kind = m.str("type");
    if m.given("type") && kind.is_empty() {
        return Err(Failure::new(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    if !kind.is_empty() && !KINDS.contains(&kind) {
        return Err(Failure::new(format!(
            "unknown type: {}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
            naru_base::human::go_quote(kind)
        )));
    }
    let kinds: Vec<&str> = if kind.is_empty() { KINDS[..4].to_vec() } else { vec![kind] };
    inspect(context, m, &kinds)
}

/// `container inspect`.
pub fn container(context: &mut Context, m: &Matches) -> Outcome {
    inspect(context, m, &["container"])
}

/// `image inspect`.
pub fn image(context: &mut Context, m: &Matches) -> Outcome {
    inspect(context, m, &["image"])
}

/// `network inspect`.
pub fn network(context: &mut Context, m: &Matches) -> Outcome {
    inspect(context, m, &["network"])
}

/// `volume inspect`.
pub fn volume(context: &mut Context, m: &Matches) -> Outcome {
    inspect(context, m, &["volume"])
}

fn path(kind: &str, name: &str, m: &Matches) -> String {
    let name = escape_path(name);
    match kind {
        "container" => {
            let query = Query::new().flag("size", m.bool("size"));
            format!("/containers/{name}/json{}", query.as_str())
        }
        "image" => format!("/images/{name}/json"),
        "network" => {
            let query = if m.bool("verbose") { Query::new().with("verbose", "true") } else { Query::new() };
            format!("/networks/{name}{}", query.as_str())
        }
        "plugin" => format!("/plugins/{name}/json"),
        other => format!("/{other}s/{name}"),
    }
}

/// The query of one kind that only it takes.
fn path_for(kind: &str, name: &str, m: &Matches) -> Result<String, Failure> {
    let path = path(kind, name, m);
    if kind != "image" || !m.given("platform") || m.str("platform").is_empty() {
        return Ok(path);
    }
    let query = Query::new().with("platform", &super::archive::platform_json(m.str("platform"))?);
    Ok(format!("{path}{}", query.as_str()))
}

fn fetch(
    context: &Context,
    m: &Matches,
    kinds: &[&'static str],
    name: &str,
) -> Result<(String, &'static str), Failure> {
    for kind in kinds {
        match context.send(Request::get(path_for(kind, name, m)?)).and_then(|r| Ok(r.bytes()?)) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| Failure::new("the answer is not UTF-8"))?;
                return Ok((text, kind));
            }
            Err(e) if kinds.len() > 1 && e.status == Some(404) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

fn inspect(context: &mut Context, m: &Matches, kinds: &[&str]) -> Outcome {
    let kinds: Vec<&'static str> = KINDS.iter().copied().filter(|k| kinds.contains(k)).collect();
    let format = m.str("format");
    let template = match format {
        "" => None,
        "json" => Some("{{json .}}".to_owned()),
        other => Some(unescape(other)),
    };
    let parsed = template
        .map(|t| Parsed::new("", &t))
        .transpose()
        .map_err(|e| Failure::new(format!("template parsing error: {e}")).code(64))?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    let mut out = String::new();
    for name in &m.args {
        match fetch(context, m, &kinds, name) {
            Ok((text, kind)) => match &parsed {
                None => found.push(text),
                Some(parsed) => match render(parsed, &text, kind) {
                    Ok(line) => {
                        out.push_str(&line);
                        out.push('\n');
                    }
                    Err(e) => {
                        failures.push(e);
                        break;
                    }
                },
            },
            Err(e) => failures.push(e.message),
        }
    }
    if parsed.is_none() {
        out = indent(&format!("[{}]", found.join(",")));
        out.push('\n');
    } else if out.is_empty() {
        out.push('\n');
    }
    context.printer.raw(out.as_bytes())?;
    if failures.is_empty() { Ok(0) } else { Err(Failure::new(failures.join("\n"))) }
}

fn render(parsed: &Parsed, text: &str, kind: &str) -> Result<String, String> {
    let mut data: Value = serde_json::from_str(text).map_err(|e| format!("unable to read inspect data: {e}"))?;
    let raw = data.clone();
    complete(&mut data, kind);
    // `{{json .}}` shows what the engine said; a template may ask for what it left out.
    parsed
        .execute_json(&data)
        .or_else(|_| parsed.execute_json(&raw))
        .map_err(|e| format!("template parsing error: {e}"))
}

/// Puts in the fields that the engine leaves out when they are empty, at the end of their objects: docker's own client has them,
/// so templates ask for them (`{{if .State.Health}}`).
fn complete(data: &mut Value, kind: &str) {
    let fields: &[(&str, Value)] = match kind {
        "container" => &[
            ("/State/Health", Value::Null),
            ("/Config/ExposedPorts", Value::Null),
            ("/Config/Healthcheck", Value::Null),
            ("/Config/ArgsEscaped", json!(false)),
            ("/Config/NetworkDisabled", json!(false)),
            ("/Config/MacAddress", json!("")),
            ("/Config/StopSignal", json!("")),
            ("/Config/StopTimeout", Value::Null),
            ("/Config/Shell", Value::Null),
            ("/HostConfig/Annotations", Value::Null),
            ("/HostConfig/StorageOpt", Value::Null),
            ("/HostConfig/Tmpfs", Value::Null),
            ("/HostConfig/Sysctls", Value::Null),
            ("/HostConfig/Runtime", json!("")),
            ("/HostConfig/Mounts", Value::Null),
            ("/HostConfig/Init", Value::Null),
            ("/SizeRw", Value::Null),
            ("/SizeRootFs", Value::Null),
            ("/ImageManifestDescriptor", Value::Null),
        ],
        "image" => &[
            ("/Variant", json!("")),
            ("/OsVersion", json!("")),
            ("/Comment", json!("")),
            ("/Author", json!("")),
            ("/Config/ExposedPorts", Value::Null),
            ("/Config/Healthcheck", Value::Null),
            ("/Config/StopSignal", json!("")),
            ("/Config/Shell", Value::Null),
            ("/Config/Volumes", Value::Null),
        ],
        "volume" => &[("/CreatedAt", json!("")), ("/Status", Value::Null), ("/UsageData", Value::Null)],
        _ => &[],
    };
    for (pointer, value) in fields {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        if let Some(object) = data.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

/// JSON with four spaces of indent, every number and string as it came (Go's `json.Indent`).
fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let (mut in_string, mut escaped, mut fresh) = (false, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if std::mem::take(&mut fresh) && !matches!(c, '}' | ']') {
            depth += 1;
            line(&mut out, depth);
        } else if matches!(c, '}' | ']') && !out.ends_with(['{', '[']) {
            depth = depth.saturating_sub(1);
            line(&mut out, depth);
        }
        out.push(c);
        match c {
            '"' => (in_string, escaped) = (true, false),
            '{' | '[' => fresh = true,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting() {
        assert_eq!(indent("[]"), "[]");
        assert_eq!(
            indent(r#"[{"a":"x\"{,}","b":[],"c":{},"d":[1,2.50],"e":{"f":null}}]"#),
            "[\n    {\n        \"a\": \"x\\\"{,}\",\n        \"b\": [],\n        \"c\": {},\n        \"d\": [\n            1,\n            2.50\n        ],\n        \"e\": {\n            \"f\": null\n        }\n    }\n]"
        );
        assert_eq!(indent("[{\n  \"a\" : \"\\\\\"\n}]"), "[\n    {\n        \"a\": \"\\\\\"\n    }\n]");
    }

    #[test]
    fn absent_fields_are_empty() {
        let parsed = Parsed::new("", "{{if .State.Health}}h{{else}}none{{end}} {{.HostConfig.Runtime}}|").unwrap();
        assert_eq!(render(&parsed, r#"{"State":{},"HostConfig":{}}"#, "container").unwrap(), "none |");
        let parsed = Parsed::new("", "{{.Nope}}").unwrap();
        assert!(render(&parsed, "{}", "container").unwrap_err().contains("map has no entry for key \"Nope\""));
    }
}
