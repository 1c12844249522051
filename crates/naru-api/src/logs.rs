//! Logs.

use crate::call::Call;
use crate::dto::time::rfc3339_fixed;
use crate::reply::{Pieces, Reply};
use crate::streams::{STDERR, STDOUT, SYSTEM_ERROR, push_frame};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use naru_base::{Error, Result};
use naru_engine::types::{LogLine, LogOptions, LogPosition};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Bytes after which waiting lines are sent.
const BATCH: usize = 32 << 10;

/// GET /containers/{id}/logs
pub(crate) async fn logs(call: Call) -> Result<Reply> {
    let options = LogOptions {
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        follow: call.query.flag("follow"),
        tail: call.query.text("tail").parse().ok(),
        since: call.query.time("since")?,
        until: call.query.time("until")?,
        after: match call.query.text("after") {
            "" => None,
            text => Some(text.parse::<LogPosition>()?),
        },
        // Naru's own: a client that can come back is told where it is.
        marks: call.query.flag("positions"),
    };
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let (tty, lines) = call.engine.logs(&call.name, options)?;
    let id = call.engine.find_container(&call.name)?;
    let positions = call.query.flag("positions");
    let format = Format {
        framed: !tty || positions,
        timestamps: call.query.flag("timestamps"),
        details: call.query.flag("details"),
        positions,
    };
    let kind = if positions { POSITIONED } else { call.stream_type(tty) };
    Ok(Reply::stream(kind, pieces(lines, format)).with_header("naru-container", id.as_str()))
}

/// The type of a stream with positions: docker's frames, and after some lines one of stream [`POSITION`].
const POSITIONED: &str = "application/vnd.naru.positioned-stream";
/// Its frames tell where the last line before them is; what `after` takes.
const POSITION: u8 = 4;

/// How lines are written.
struct Format {
    framed: bool,
    timestamps: bool,
    /// With the attributes that each line has.
    details: bool,
    /// And where the last one is.
    positions: bool,
}

/// What `--log-opt labels=…,env=…` chose, as `key=value` with commas, in order of the keys, and a space.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = attributes.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    format!("{} ", pairs.join(","))
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

fn pieces(lines: mpsc::Receiver<Result<LogLine>>, format: Format) -> Pieces {
    let next = |(mut lines, format): (mpsc::Receiver<Result<LogLine>>, Format)| async move {
        let mut out = BytesMut::new();
        let mut line = lines.recv().await?;
        loop {
            format.push(&mut out, &line);
            if out.len() >= BATCH || line.is_err() {
                break;
            }
            match lines.try_recv() {
                Ok(next) => line = next,
                Err(_) => break,
            }
        }
        if let (true, Ok(line)) = (format.positions, &line) {
            push_frame(&mut out, POSITION, &[line.position.to_string().as_bytes()]);
        }
        Some((Ok::<Bytes, std::io::Error>(out.freeze()), (lines, format)))
    };
    Box::pin(stream::unfold((lines, format), next))
}

impl Format {
    fn push(&self, out: &mut BytesMut, line: &Result<LogLine>) {
        match line {
            Ok(line) if line.mark => {}
            Ok(line) => {
                let time = if self.timestamps { format!("{} ", rfc3339_fixed(line.time)) } else { String::new() };
                let stream = if line.stderr { STDERR } else { STDOUT };
                let details = if self.details { details(&line.attributes) } else { String::new() };
                self.write(out, stream, &[time.as_bytes(), details.as_bytes(), &line.text]);
            }
            Err(error) => {
                let text = format!("Error grabbing logs: {error}\n");
                self.write(out, SYSTEM_ERROR, &[text.as_bytes()]);
            }
        }
    }

    fn write(&self, out: &mut BytesMut, stream: u8, parts: &[&[u8]]) {
        if self.framed {
            push_frame(out, stream, parts);
        } else {
            for part in parts {
                out.extend_from_slice(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    fn line(stderr: bool, text: &str) -> Result<LogLine> {
        Ok(LogLine {
            stderr,
            time: 1_700_000_000_000_000_005,
            text: text.as_bytes().to_vec(),
            attributes: BTreeMap::new(),
            position: LogPosition::default(),
            mark: false,
        })
    }

    async fn written(format: Format, lines: Vec<Result<LogLine>>) -> Vec<u8> {
        let (sender, receiver) = mpsc::channel(16);
        for line in lines {
            sender.send(line).await.unwrap();
        }
        drop(sender);
        let pieces: Vec<_> = pieces(receiver, format).map(|p| p.unwrap().to_vec()).collect().await;
        pieces.concat()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_framed_or_raw() {
        let format = |framed, timestamps, details| Format { framed, timestamps, details, positions: false };
        let mut attributed = line(false, "a\n");
        if let Ok(line) = &mut attributed {
            line.attributes.insert("k".into(), "v".into());
        }
        let two = || vec![line(false, "a\n"), line(true, "b")];
        assert_eq!(written(format(true, false, false), two()).await, b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x01b");
        assert_eq!(written(format(false, false, false), two()).await, b"a\nb");
        assert_eq!(
            written(format(false, true, true), vec![attributed]).await,
            b"2023-11-14T22:13:20.000000005Z k=v a\n"
        );
        let positioned = Format { framed: true, timestamps: false, details: false, positions: true };
        assert_eq!(
            written(positioned, two()).await,
            b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x01b\x04\0\0\0\0\0\0\x050-0-0"
        );
        let failed = written(format(true, false, false), vec![Err(Error::system("x"))]).await;
        assert_eq!(failed, b"\x03\0\0\0\0\0\0\x17Error grabbing logs: x\n");
    }

    #[test]
    fn details_are_escaped() {
        assert_eq!(escape("a b/c~é"), "a+b%2Fc~%C3%A9");
    }
}
