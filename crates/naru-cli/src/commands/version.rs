//! `version` and `--version`.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::tabwriter::Tabs;
use crate::template::{Parsed, unescape};
use naru_client::Version;
use serde_json::{Value, json};
use std::fmt::Write;

/// The docker release whose command line this program follows.
const LIKE_DOCKER: &str = "28.2.2";
const OWN: &str = env!("CARGO_PKG_VERSION");

/// The line of `--version`. Tools read docker's, so under that name it has docker's form.
pub fn one_line(program: &str) -> String {
    match program {
        "docker" => format!("Docker version {LIKE_DOCKER}, build naru-{OWN}"),
        _ => format!("naru version {OWN}"),
    }
}

/// The version that is shown under this name.
pub fn shown(program: &str) -> &'static str {
    if program == "docker" { LIKE_DOCKER } else { OWN }
}

/// Runs the command.
pub fn version(context: &mut Context, m: &Matches) -> Outcome {
    let template = match m.str("format") {
        "" => None,
        "json" => Some("{{json .}}".to_owned()),
        other => Some(unescape(other)),
    };
    let parsed = template
        .map(|t| Parsed::new("version", &t))
        .transpose()
        .map_err(|e| Failure::new(format!("template parsing error: {e}")).code(64))?;
    let server = context.client().and_then(|c| {
        c.negotiate()?;
        Ok(c.send(naru_client::Request::get("/version"))?.json::<Value>()?)
    });
    let api = context.client().map_or(Version::CURRENT, naru_client::Client::version);
    let client = client(context.program, api);
    let (server, failure) = match server {
        Ok(server) => (server, None),
        Err(e) => (Value::Null, Some(e)),
    };
    match parsed {
        Some(parsed) => {
            let line = parsed.execute_json(&json!({"Client": client, "Server": server})).map_err(Failure::new);
            context.printer.line(line.as_deref().unwrap_or_default())?;
            line?;
        }
        None => {
            let text = layout(&client, &server, api);
            context.printer.raw(text.as_bytes())?;
        }
    }
    failure.map_or(Ok(0), Err)
}

fn client(program: &str, api: Version) -> Value {
    json!({
        "Platform": {"Name": "Naru"},
        "Version": shown(program),
        "ApiVersion": api.to_string(),
        "APIVersion": api.to_string(),
        "DefaultAPIVersion": Version::CURRENT.to_string(),
        "GitCommit": format!("naru-{OWN}"),
        "GoVersion": "none (Rust)",
        "Os": "linux",
        "Arch": arch(),
        "BuildTime": "",
        "Context": "default",
    })
}

/// This machine's architecture in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layout(client: &Value, server: &Value, api: Version) -> String {
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lowered =
        if api < Version::CURRENT { format!(" (downgraded from {})", Version::CURRENT) } else { String::new() };
    let mut out = String::from("Client:\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, " {name}:\t{value}");
    };
    row("Version", text(client, "Version"));
    row("API version", format!("{api}{lowered}"));
    row("Git commit", text(client, "GitCommit"));
    row("OS/Arch", format!("{}/{}", text(client, "Os"), text(client, "Arch")));
    row("Context", text(client, "Context"));
    if !server.is_null() {
        server_layout(&mut out, server);
    }
    Tabs { min_width: 20, padding: 1 }.align(&out)
}

fn server_layout(out: &mut String, server: &Value) {
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let platform = server.pointer("/Platform/Name").and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(out, "\nServer:{}", if platform.is_empty() { String::new() } else { format!(" {platform}") });
    let components = server.get("Components").and_then(Value::as_array).cloned().unwrap_or_default();
    for component in &components {
        let name = text(component, "Name");
        let _ = writeln!(out, " {name}:\n  Version:\t{}", text(component, "Version"));
        let details = component.get("Details");
        let detail = |key: &str| details.and_then(|d| d.get(key)).and_then(Value::as_str).unwrap_or_default();
        if name != "Engine" {
            let mut pairs: Vec<_> = details.and_then(Value::as_object).into_iter().flatten().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            for (key, value) in pairs {
                let _ = writeln!(out, "  {key}:\t{}", value.as_str().unwrap_or_default());
            }
            continue;
        }
        let built =
            crate::when::parse_rfc3339(detail("BuildTime")).map_or_else(|| detail("BuildTime").to_owned(), build_time);
        for (key, value) in [
            ("API version", format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion"))),
            ("Go version", detail("GoVersion").to_owned()),
            ("Git commit", detail("GitCommit").to_owned()),
            ("Built", built),
            ("OS/Arch", format!("{}/{}", detail("Os"), detail("Arch"))),
            ("Experimental", detail("Experimental").to_owned()),
        ] {
            if !value.is_empty() {
                let _ = writeln!(out, "  {key}:\t{value}");
            }
        }
    }
}

/// Go's `time.ANSIC`.
fn build_time(at: jiff::Timestamp) -> String {
    at.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string()
}
