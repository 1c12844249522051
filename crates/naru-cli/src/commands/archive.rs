//! `save`, `load`, `import` and `export`: images and file trees as tar files.

use super::{go_io, pull::terminal};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::progress::Display;
use crate::{printer, term};
use naru_base::Reference;
use naru_client::{BodyReader, Query, Request, escape_path};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// `save`.
pub fn save(context: &mut Context, m: &Matches) -> Outcome {
    check_target(m.str("output"), "save")?;
    let mut query = Query::new();
    for name in &m.args {
        query.push("names", name);
    }
    if !m.str("platform").is_empty() {
        query.push("platform", &platform_json(m.str("platform"))?);
    }
    let body = context.send(Request::get(format!("/images/get{}", query.as_str())))?.into_body();
    write_out(context, body, m.str("output"))
}

/// `export`.
pub fn export(context: &mut Context, m: &Matches) -> Outcome {
    check_target(m.str("output"), "export")?;
    let body = context.send(Request::get(format!("/containers/{}/export", escape_path(m.arg(0)))))?.into_body();
    write_out(context, body, m.str("output"))
}

/// A terminal is no place for a tar.
fn check_target(output: &str, command: &str) -> Result<(), Failure> {
    if output.is_empty() {
        if printer::stdout_is_terminal() {
            return Err(Failure::new(format!(
                "cowardly refusing to {command} to a terminal. Use the -o flag or redirect"
            )));
        }
        return Ok(());
    }
    let folder = Path::new(output).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(format!(
            "failed to {command} {}: invalid output path: stat {}: no such file or directory",
            if command == "save" { "image" } else { "container" },
            folder.display()
        )));
    }
    Ok(())
}

/// Writes to standard output, or to a new file that takes the target's name when it is whole.
fn write_out(context: &mut Context, mut body: BodyReader, output: &str) -> Outcome {
    if output.is_empty() {
        io::copy(&mut body, &mut context.printer)?;
        return Ok(0);
    }
    let target = Path::new(output);
    if target.exists() && !target.is_file() {
        let mut file = File::options()
            .write(true)
            .open(target)
            .map_err(|e| Failure::new(format!("open {output}: {}", go_io(&e))))?;
        io::copy(&mut body, &mut file)?;
        return Ok(0);
    }
    let temp = target.with_file_name(format!(
        ".{}.{}",
        target.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let problem = |e: io::Error| Failure::new(format!("{output}: {}", go_io(&e)));
    let written = File::create(&temp)
        .and_then(|mut file| io::copy(&mut body, &mut file))
        .and_then(|_| std::fs::rename(&temp, target));
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written.map_err(problem)?;
    Ok(0)
}

/// `linux/arm64/v8` as the API's JSON.
pub(super) fn platform_json(text: &str) -> Result<String, Failure> {
    let platform = naru_base::Platform::parse(text)?;
    Ok(serde_json::json!({"os": platform.os, "architecture": platform.architecture, "variant": platform.variant})
        .to_string())
}

/// `load`.
pub fn load(context: &mut Context, m: &Matches) -> Outcome {
    let mut stdin = io::stdin();
    let mut file;
    let input: &mut dyn Read = match m.str("input") {
        "" if term::stdin_is_terminal() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        "" | "-" => &mut stdin,
        path => {
            file = File::open(path).map_err(|e| Failure::new(format!("open {path}: {}", go_io(&e))))?;
            &mut file
        }
    };
    let quiet = m.bool("quiet") || !printer::stdout_is_terminal();
    let mut query = Query::new().with("quiet", if quiet { "1" } else { "0" });
    if !m.str("platform").is_empty() {
        query.push("platform", &platform_json(m.str("platform"))?);
    }
    let request = Request::post(format!("/images/load{}", query.as_str()))
        .header("Content-Type", "application/x-tar")
        .reader(input);
    let response = context.send(request)?;
    let is_json = response.header("content-type").is_some_and(|t| t.starts_with("application/json"));
    context.printer.flush()?;
    let mut body = response.into_body();
    if is_json {
        Display { out: &mut io::stdout(), terminal: terminal(), aux: &mut |_| {} }.run(body)?;
    } else {
        io::copy(&mut body, &mut context.printer)?;
    }
    Ok(0)
}

/// `import`.
pub fn import(context: &mut Context, m: &Matches) -> Outcome {
    let source = m.arg(0);
    let name = m.arg(1);
    if !name.is_empty() {
        Reference::parse(name)?;
    }
    let mut query = Query::new().with("fromSrc", if is_url(source) { source } else { "-" });
    query = query.with_some("message", m.str("message"));
    for change in m.list("change") {
        query.push("changes", change);
    }
    query = query.with_some("repo", name).with_some("platform", &m.str("platform").to_lowercase());
    let path = format!("/images/create{}", query.as_str());
    let mut stdin = io::stdin();
    let mut file;
    let request = Request::post(path).header("Content-Type", "text/plain");
    let response = if is_url(source) {
        context.send(request)?
    } else if source == "-" {
        context.send(request.reader(&mut stdin))?
    } else {
        file = File::open(source).map_err(|e| Failure::new(format!("open {source}: {}", go_io(&e))))?;
        context.send(request.reader(&mut file))?
    };
    context.printer.flush()?;
    let mut out = io::stdout();
    Display { out: &mut out, terminal: terminal(), aux: &mut |_| {} }.run(response.into_body())?;
    out.flush()?;
    Ok(0)
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}
