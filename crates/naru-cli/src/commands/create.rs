//! `create`, and what `run` shares with it: the request, the pull of a missing image, the id file.

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::run::{self, Create};
use crate::types::Created;
use crate::{printer, term};
use naru_base::Reference;
use naru_client::{Query, Request};
use std::io::Write;

/// Runs the command.
pub fn create(context: &mut Context, m: &Matches) -> Outcome {
    let made = prepare(context, m, false).and_then(|body| make(context, m, &body));
    let program = context.program;
    let command = context.command;
    match made {
        Ok(created) => {
            context.printer.line(created.id)?;
            Ok(0)
        }
        Err(e) if e.status.is_none() => Err(e.with_help(program, command).code(125)),
        Err(e) => Err(e),
    }
}

/// The request that the options make.
pub fn prepare(context: &Context, m: &Matches, detached: bool) -> Result<Create, Failure> {
    if !matches!(m.str("pull"), "always" | "missing" | "never" | "") {
        return Err(Failure::new(format!(
            "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
            m.str("pull")
        )));
    }
    if m.bool("use-api-socket") {
        return Err(Failure::new("--use-api-socket is not supported"));
    }
    let host = context.settings.host.clone().unwrap_or_default();
    let mut body = run::build(m, detached, &context.config().proxies(&host))?;
    if let Some((rows, columns)) = term::size() {
        body.host_config.console_size = [rows, columns];
    }
    Ok(body)
}

/// Creates the container, with its image pulled first where that is wanted.
pub fn make(context: &mut Context, m: &Matches, body: &Create) -> Result<Created, Failure> {
    let id_file = IdFile::open(m.str("cidfile"))?;
    let platform = match m.str("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    let policy = m.str("pull");
    if policy == "always" {
        pull_quietly(context, &body.image, &platform, m.bool("quiet"))?;
    }
    let query = Query::new().with_some("name", m.str("name")).with_some("platform", &platform);
    let request = || Request::post(format!("/containers/create{}", query.as_str())).json(body);
    let first = context.send(request()).and_then(|r| Ok(r.json::<Created>()?));
    let created = match first {
        Err(e) if e.status == Some(404) && policy == "missing" && is_missing_image(&e.message) => {
            if !m.bool("quiet") {
                context.printer.err(format!("Unable to find image '{}' locally", with_tag(&body.image)));
            }
            pull_quietly(context, &body.image, &platform, m.bool("quiet"))?;
            context.send(request()).and_then(|r| Ok(r.json::<Created>()?))?
        }
        other => other?,
    };
    for warning in &created.warnings {
        context.printer.err(format!("WARNING: {warning}"));
    }
    id_file.write(&created.id)?;
    Ok(created)
}

/// Whether a 404 speaks of the image, rather than of a network or another container.
fn is_missing_image(message: &str) -> bool {
    message.to_lowercase().contains("no such image")
}

fn with_tag(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |r| r.with_default_tag().familiar())
}

/// Pulls with the progress on standard error, so that standard output stays the container's.
fn pull_quietly(context: &mut Context, image: &str, platform: &str, quiet: bool) -> Result<(), Failure> {
    let reference = Reference::parse(image)?.with_default_tag();
    context.printer.flush()?;
    let terminal = printer::stderr_is_terminal().then(|| term::size().map_or(200, |(_, columns)| columns.into()));
    let mut nothing = std::io::sink();
    let mut stderr = std::io::stderr();
    let out: &mut dyn Write = if quiet { &mut nothing } else { &mut stderr };
    super::pull::pull_image(context, &reference, platform, out, if quiet { None } else { terminal })
}

/// The file that `--cidfile` names; removed again when no id was written to it.
struct IdFile<'a> {
    path: &'a str,
    file: Option<std::fs::File>,
    written: std::cell::Cell<bool>,
}

impl<'a> IdFile<'a> {
    fn open(path: &'a str) -> Result<Self, Failure> {
        if path.is_empty() {
            return Ok(Self { path, file: None, written: true.into() });
        }
        if std::fs::exists(path).unwrap_or(false) {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = std::fs::File::create_new(path).map_err(|e| {
            Failure::new(format!("failed to create the container ID file: open {path}: {}", super::go_io(&e)))
        })?;
        Ok(Self { path, file: Some(file), written: false.into() })
    }

    fn write(&self, id: &str) -> Result<(), Failure> {
        if let Some(mut file) = self.file.as_ref() {
            file.write_all(id.as_bytes()).map_err(|e| {
                Failure::new(format!("failed to write the container ID ({id}) to file: {}", super::go_io(&e)))
            })?;
            self.written.set(true);
        }
        Ok(())
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.written.get() {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
