//! `info`: the engine and its host.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::template::{Parsed, unescape};
use naru_base::size::bytes_size;
use serde_json::{Value, json};
use std::fmt::Write;

/// Runs the command.
pub fn info(context: &mut Context, m: &Matches) -> Outcome {
    let template = match m.str("format") {
        "" => None,
        "json" => Some("{{json .}}".to_owned()),
        other => Some(unescape(other)),
    };
    let parsed = template
        .map(|t| Parsed::new("", &t))
        .transpose()
        .map_err(|e| Failure::new(format!("template parsing error: {e}")).code(64))?;
    let version = super::version::shown(context.program);
    let answer: Result<Value, Failure> = context.get("/info");
    if let Some(parsed) = parsed {
        return render(context, &parsed, answer, version);
    }
    let debug = context.settings.debug;
    let mut out = format!("Client:\n Version:    {version}\n Context:    default\n Debug Mode: {debug}\n\nServer:\n");
    match answer {
        Ok(info) => {
            out.push_str(&server(&info));
            context.printer.raw(out.as_bytes())?;
            for warning in strings(&info, "Warnings") {
                context.printer.err(warning);
            }
            Ok(0)
        }
        Err(e) => {
            context.printer.raw(out.as_bytes())?;
            context.printer.err(&e.message);
            Err(Failure::new("errors pretty printing info"))
        }
    }
}

fn render(context: &mut Context, parsed: &Parsed, answer: Result<Value, Failure>, version: &str) -> Outcome {
    let (mut info, failure) = match answer {
        Ok(info) => (info, None),
        Err(e) => (json!({"ServerErrors": [e.message.clone()]}), Some(e)),
    };
    if let Some(object) = info.as_object_mut() {
        let client = json!({"Debug": context.settings.debug, "Version": version, "Context": "default", "Plugins": [], "Warnings": null});
        object.insert("ClientInfo".into(), client);
    }
    let line = parsed.execute_json(&info).map_err(Failure::new);
    context.printer.line(line.as_deref().unwrap_or_default())?;
    line?;
    failure.map_or(Ok(0), Err)
}

fn text<'a>(info: &'a Value, key: &str) -> &'a str {
    info.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(info: &Value, key: &str) -> i64 {
    info.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn boolean(info: &Value, key: &str) -> bool {
    info.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn strings(info: &Value, key: &str) -> Vec<String> {
    let list = info.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The engine's part, in docker's order.
fn server(info: &Value) -> String {
    let mut out = String::new();
    counts(&mut out, info);
    plugins(&mut out, info);
    security(&mut out, info);
    host(&mut out, info);
    registries(&mut out, info);
    pools(&mut out, info);
    out.push('\n');
    out
}

fn counts(out: &mut String, info: &Value) {
    for (indent, name, key) in [
        (" ", "Containers", "Containers"),
        ("  ", "Running", "ContainersRunning"),
        ("  ", "Paused", "ContainersPaused"),
        ("  ", "Stopped", "ContainersStopped"),
        (" ", "Images", "Images"),
    ] {
        let _ = writeln!(out, "{indent}{name}: {}", number(info, key));
    }
    line(out, "Server Version", text(info, "ServerVersion"));
    let driver = text(info, "Driver");
    if !driver.is_empty() {
        line(out, "Storage Driver", driver);
        for pair in info.get("DriverStatus").and_then(Value::as_array).into_iter().flatten() {
            let part = |i: usize| pair.get(i).and_then(Value::as_str).unwrap_or_default();
            let _ = writeln!(out, "  {}: {}", part(0), part(1));
        }
    }
    line(out, "Logging Driver", text(info, "LoggingDriver"));
    line(out, "Cgroup Driver", text(info, "CgroupDriver"));
    line(out, "Cgroup Version", text(info, "CgroupVersion"));
}

fn line(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(out, " {name}: {value}");
    }
}

fn plugins(out: &mut String, info: &Value) {
    out.push_str(" Plugins:\n");
    let all = info.get("Plugins").cloned().unwrap_or_default();
    let _ = writeln!(out, "  Volume: {}", strings(&all, "Volume").join(" "));
    let _ = writeln!(out, "  Network: {}", strings(&all, "Network").join(" "));
    let authorization = strings(&all, "Authorization");
    if !authorization.is_empty() {
        let _ = writeln!(out, "  Authorization: {}", authorization.join(" "));
    }
    let _ = writeln!(out, "  Log: {}", strings(&all, "Log").join(" "));
    let folders = strings(info, "CDISpecDirs");
    if !folders.is_empty() {
        out.push_str(" CDI spec directories:\n");
        for folder in folders {
            let _ = writeln!(out, "  {folder}");
        }
    }
    let swarm = info.pointer("/Swarm/LocalNodeState").and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(out, " Swarm: {swarm}");
    if let Some(runtimes) = info.get("Runtimes").and_then(Value::as_object).filter(|r| !r.is_empty()) {
        let mut names: Vec<_> = runtimes.keys().map(String::as_str).collect();
        names.sort_unstable();
        let _ = writeln!(out, " Runtimes: {}", names.join(" "));
        line(out, "Default Runtime", text(info, "DefaultRuntime"));
    }
}

fn security(out: &mut String, info: &Value) {
    line(out, "Init Binary", text(info, "InitBinary"));
    for (name, key) in
        [("containerd version", "ContainerdCommit"), ("runc version", "RuncCommit"), ("init version", "InitCommit")]
    {
        let commit = info.get(key).map(|c| text(c, "ID")).unwrap_or_default();
        let _ = writeln!(out, " {name}: {commit}");
    }
    let options = strings(info, "SecurityOptions");
    if options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in options {
        for (i, field) in option.split(',').enumerate() {
            match (i, field.split_once('=')) {
                (_, Some(("name", name))) => {
                    let _ = writeln!(out, "  {name}");
                }
                (_, Some((key, value))) => {
                    let title = key.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                    let _ = writeln!(out, "   {title}{}: {value}", key.get(1..).unwrap_or_default());
                }
                (0, None) => {
                    let _ = writeln!(out, "  {field}");
                }
                _ => {}
            }
        }
    }
}

fn host(out: &mut String, info: &Value) {
    line(out, "Kernel Version", text(info, "KernelVersion"));
    line(out, "Operating System", text(info, "OperatingSystem"));
    line(out, "OSType", text(info, "OSType"));
    line(out, "Architecture", text(info, "Architecture"));
    let _ = writeln!(out, " CPUs: {}", number(info, "NCPU"));
    let _ = writeln!(out, " Total Memory: {}", bytes_size(number(info, "MemTotal") as f64));
    line(out, "Name", text(info, "Name"));
    line(out, "ID", text(info, "ID"));
    let _ = writeln!(out, " Docker Root Dir: {}", text(info, "DockerRootDir"));
    let _ = writeln!(out, " Debug Mode: {}", boolean(info, "Debug"));
    if boolean(info, "Debug") {
        for (name, key) in [("File Descriptors", "NFd"), ("Goroutines", "NGoroutines")] {
            let _ = writeln!(out, "  {name}: {}", number(info, key));
        }
        let _ = writeln!(out, "  System Time: {}", text(info, "SystemTime"));
        let _ = writeln!(out, "  EventsListeners: {}", number(info, "NEventsListener"));
    }
    for (name, key) in [("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")] {
        line(out, name, text(info, key));
    }
    let labels = strings(info, "Labels");
    if !labels.is_empty() {
        out.push_str(" Labels:\n");
        for label in labels {
            let _ = writeln!(out, "  {label}");
        }
    }
    let _ = writeln!(out, " Experimental: {}", boolean(info, "ExperimentalBuild"));
}

fn registries(out: &mut String, info: &Value) {
    let config = info.get("RegistryConfig").cloned().unwrap_or_default();
    let indexes = config.get("IndexConfigs").and_then(Value::as_object);
    let mut insecure: Vec<String> = indexes
        .into_iter()
        .flatten()
        .filter(|(_, i)| !i.get("Secure").and_then(Value::as_bool).unwrap_or(true))
        .map(|(name, _)| name.clone())
        .collect();
    insecure.sort();
    insecure.extend(strings(&config, "InsecureRegistryCIDRs"));
    if !insecure.is_empty() {
        out.push_str(" Insecure Registries:\n");
        for registry in insecure {
            let _ = writeln!(out, "  {registry}");
        }
    }
    let mirrors = strings(&config, "Mirrors");
    if !mirrors.is_empty() {
        out.push_str(" Registry Mirrors:\n");
        for mirror in mirrors {
            let _ = writeln!(out, "  {mirror}");
        }
    }
    let _ = writeln!(out, " Live Restore Enabled: {}", boolean(info, "LiveRestoreEnabled"));
    line(out, "Product License", text(info, "ProductLicense"));
}

fn pools(out: &mut String, info: &Value) {
    let Some(pools) = info.get("DefaultAddressPools").and_then(Value::as_array).filter(|p| !p.is_empty()) else {
        return;
    };
    out.push_str(" Default Address Pools:\n");
    for pool in pools {
        let _ = writeln!(out, "   Base: {}, Size: {}", text(pool, "Base"), number(pool, "Size"));
    }
}
