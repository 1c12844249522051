//! The progress of pulls, pushes and loads: one line per layer on a terminal, plain lines elsewhere.

use crate::context::Context;
use crate::failure::Failure;
use crate::{term, when};
use naru_base::{duration, size};
use naru_client::{Query, Request};
use serde::Deserialize;
use std::io::{BufReader, Read, Write};

/// One message of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    stream: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    progress: Option<Progress>,
    id: Option<String>,
    from: Option<String>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    aux: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: i32,
    message: String,
}

/// How far something is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Progress {
    current: i64,
    total: i64,
    start: i64,
    #[serde(rename = "hidecounts")]
    hide_counts: bool,
    units: String,
}

/// Where the messages go.
pub struct Display<'a> {
    /// Standard output, or standard error.
    pub out: &'a mut dyn Write,
    /// The width of the terminal that `out` is, if it is one.
    pub terminal: Option<usize>,
    /// Called with what is meant for programs.
    pub aux: &'a mut dyn FnMut(&serde_json::Value),
}

impl Display<'_> {
    /// Shows a stream of messages to its end.
    ///
    /// # Errors
    /// When the stream breaks, and when it carries an error: that is the operation's failure.
    pub fn run(&mut self, body: impl Read) -> Result<(), Failure> {
        let mut known: Vec<String> = Vec::new();
        for message in serde_json::Deserializer::from_reader(BufReader::new(body)).into_iter::<Message>() {
            let message = message.map_err(|e| match e.classify() {
                serde_json::error::Category::Io => Failure::new(format!("unexpected end of the progress stream: {e}")),
                _ => Failure::new(format!("malformed progress message: {e}")),
            })?;
            if let Some(aux) = &message.aux {
                (self.aux)(aux);
                continue;
            }
            self.show(&message, &mut known)?;
            if self.terminal.is_some() {
                self.out.flush()?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn show(&mut self, message: &Message, known: &mut Vec<String>) -> Result<(), Failure> {
        let id = message.id.as_deref().unwrap_or_default();
        let mut up = 0;
        if !id.is_empty() && message.progress.is_some() {
            let line = known.iter().position(|k| k == id).map_or_else(
                || {
                    known.push(id.to_owned());
                    if self.terminal.is_some() {
                        writeln!(self.out)?;
                    }
                    Ok::<_, std::io::Error>(known.len() - 1)
                },
                Ok,
            )?;
            up = known.len() - line;
            if self.terminal.is_some() {
                write!(self.out, "\x1b[{up}A")?;
            }
        } else {
            // What comes after a line of another kind must not be drawn over what was before it.
            known.clear();
        }
        let shown = self.line(message, id);
        if !id.is_empty() && self.terminal.is_some() && up > 0 {
            write!(self.out, "\x1b[{up}B")?;
        }
        shown
    }

    fn line(&mut self, message: &Message, id: &str) -> Result<(), Failure> {
        if let Some(detail) = &message.error_detail {
            let code = if detail.code > 0 { detail.code } else { 1 };
            return Err(Failure::new(detail.message.clone()).code(code));
        }
        if let Some(error) = &message.error {
            return Err(Failure::new(error.clone()));
        }
        let bar = message.progress.as_ref().map(|p| p.text(self.terminal.unwrap_or(200), when::now()));
        let stream = message.stream.as_deref().unwrap_or_default();
        let mut end = "";
        match (&bar, self.terminal) {
            (Some(_), Some(_)) if stream.is_empty() => {
                end = "\r";
                write!(self.out, "\x1b[2K\r")?;
            }
            // Numbers that change would fill a file with lines.
            (Some(text), None) if !text.is_empty() => return Ok(()),
            _ => {}
        }
        if !id.is_empty() {
            write!(self.out, "{id}: ")?;
        }
        if let Some(from) = message.from.as_deref().filter(|f| !f.is_empty()) {
            write!(self.out, "(from {from}) ")?;
        }
        let status = message.status.as_deref().unwrap_or_default();
        match bar {
            Some(bar) if self.terminal.is_some() => write!(self.out, "{status} {bar}{end}")?,
            _ if !stream.is_empty() => write!(self.out, "{stream}{end}")?,
            _ => writeln!(self.out, "{status}{end}")?,
        }
        Ok(())
    }
}

impl Progress {
    /// `[=====>    ]  1.2MB/3.4MB 5s`, as much as fits.
    fn text(&self, width: usize, now: i64) -> String {
        if self.current <= 0 && self.total <= 0 {
            return String::new();
        }
        let human = |n: i64| size::human_size(n as f64);
        let (current, total) = (self.current, self.total);
        if total <= 0 {
            return if self.units.is_empty() {
                format!("{:>8}", human(current))
            } else {
                format!("{current} {}", self.units)
            };
        }
        let half = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
        let bar =
            if width > 110 { format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half)) } else { String::new() };
        let numbers = match () {
            () if self.hide_counts => String::new(),
            () if self.units.is_empty() && current > total => format!("{:>8}", human(current)),
            () if self.units.is_empty() => format!("{:>8}/{}", human(current), human(total)),
            () if current > total => format!("{current} {}", self.units),
            () => format!("{current}/{total} {}", self.units),
        };
        let mut left = String::new();
        if width > 50 && current > 0 && self.start > 0 && half < 50 {
            let per_entry = (now - self.start).max(0).saturating_mul(duration::SECOND) / current;
            let nanos = (total - current).saturating_mul(per_entry);
            left = format!(" {}", duration::format(nanos / duration::SECOND * duration::SECOND));
        }
        format!("{bar}{numbers}{left}")
    }
}

/// Sends a request whose answer is one object. Called by its own name, the program shows how far the engine is on standard error: a line that
/// changes on a terminal, plain lines elsewhere. Standard output has docker's words alone.
///
/// # Errors
/// The operation's.
pub fn answer<T: serde::de::DeserializeOwned>(context: &mut Context, path: &str, query: Query) -> Result<T, Failure> {
    let query = query.flag("progress", context.program == "naru");
    context.printer.flush()?;
    let response = context.send(Request::post(format!("{path}{}", query.as_str())))?;
    if response.header("naru-progress").is_none() {
        return Ok(response.json()?);
    }
    let mut last = serde_json::Value::Null;
    let mut out = std::io::stderr();
    let terminal = term::stderr_columns();
    Display { out: &mut out, terminal, aux: &mut |value| last = value.clone() }.run(response.into_body())?;
    serde_json::from_value(last).map_err(|e| Failure::new(format!("malformed answer from the engine: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = r#"{"status":"Pulling from library/x","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"aaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbb"}
{"status":"Downloading","progressDetail":{"current":500,"total":1000},"progress":"x","id":"aaa"}
{"status":"Pull complete","progressDetail":{},"id":"aaa"}
{"status":"Digest: sha256:1"}
"#;

    fn show(text: &str, terminal: Option<usize>) -> (String, Result<(), Failure>) {
        let mut out = Vec::new();
        let result = Display { out: &mut out, terminal, aux: &mut |_| {} }.run(text.as_bytes());
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn plain_lines_without_numbers() {
        let (out, _) = show(PULL, None);
        assert_eq!(
            out,
            "latest: Pulling from library/x\naaa: Pulling fs layer\nbbb: Pulling fs layer\naaa: Pull complete\nDigest: sha256:1\n"
        );
    }

    #[test]
    fn a_terminal_redraws_its_lines() {
        let (out, _) = show(PULL, Some(120));
        let bar = format!("[{}>{}]", "=".repeat(25), " ".repeat(25));
        assert!(out.contains(&format!("\x1b[2A\x1b[2K\raaa: Downloading {bar}     500B/1kB\r\x1b[2B")), "{out:?}");
        assert!(out.ends_with("\x1b[2A\x1b[2K\raaa: Pull complete \r\x1b[2BDigest: sha256:1\n"), "{out:?}");
    }

    #[test]
    fn errors_are_the_result() {
        let (_, result) = show(r#"{"errorDetail":{"code":3,"message":"no"},"error":"no"}"#, None);
        assert_eq!(result.unwrap_err(), Failure::new("no").code(3));
        assert!(show("{\"status\":", None).1.is_err() && show("nonsense", None).1.is_err());
    }

    #[test]
    fn bars() {
        let p = Progress { current: 2_000_000, total: 4_000_000, start: 100, ..Progress::default() };
        assert_eq!(p.text(80, 110), "     2MB/4MB 10s");
        assert_eq!(p.text(40, 110), "     2MB/4MB");
        assert_eq!(Progress { current: 5, units: "files".into(), ..Progress::default() }.text(80, 0), "5 files");
        assert_eq!(Progress { current: 5, ..Progress::default() }.text(80, 0), "      5B");
    }
}
