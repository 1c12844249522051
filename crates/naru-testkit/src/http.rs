//! A small blocking HTTP client for a unix socket, which shows every byte: golden tests need headers as they were sent,
//! and hijacked connections raw.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::wait::PATIENCE;

/// Speaks to one socket; each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Http {
    socket: PathBuf,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header names as sent, with values.
    pub headers: Vec<(String, String)>,
    /// Body without transfer encoding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by a name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("an answer that is not JSON: {}", self.text()))
    }

    /// The text of the API's error, with the status checked.
    ///
    /// # Errors
    /// When the status is another one, or the body isn't `{"message": …}`.
    pub fn error(&self, status: u16) -> Result<String> {
        ensure!(self.status == status, "answered {} instead of {status}: {}", self.status, self.text());
        let body = self.json()?;
        Ok(body["message"].as_str().with_context(|| format!("no message in {body}"))?.to_owned())
    }
}

impl Http {
    /// A client for `socket`.
    pub fn new(socket: PathBuf) -> Http {
        Http { socket }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[], &[])
    }

    /// `POST path` with a JSON body; none when `body` is null.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        if body.is_null() {
            return self.request("POST", path, &[], &[]);
        }
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Any request.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let mut all = vec![("Connection", "close")];
        all.extend_from_slice(headers);
        let mut stream = self.send(method, path, &all, body)?;
        let head = stream.head()?;
        let bodiless = method == "HEAD" || matches!(head.status, 100..200 | 204 | 304);
        let body = if bodiless { Vec::new() } else { stream.body(&head)? };
        Ok(Answer { body, ..head })
    }

    /// Sends a request that turns the connection into a raw stream. `upgrade` says whether the client asks for it in the
    /// header (the answer is then 101) or not (200).
    ///
    /// # Errors
    /// When no head of an answer comes back.
    pub fn hijack(&self, path: &str, upgrade: bool, body: &Value) -> Result<(Answer, Raw)> {
        let mut headers = vec![("Content-Type", "application/json")];
        if upgrade {
            headers.extend([("Connection", "Upgrade"), ("Upgrade", "tcp")]);
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = self.send("POST", path, &headers, text.as_bytes())?;
        let head = stream.head()?;
        Ok((head, stream))
    }

    /// Sends a request and gives the stream once the answer's head is there: for answers that go on for long.
    ///
    /// # Errors
    /// When no head of an answer comes back.
    pub fn stream(&self, method: &str, path: &str) -> Result<(Answer, Raw)> {
        let mut stream = self.send(method, path, &[], &[])?;
        let head = stream.head()?;
        Ok((head, stream))
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Raw> {
        let stream =
            UnixStream::connect(&self.socket).with_context(|| format!("connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut raw = Raw { stream, ahead: Vec::new() };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        raw.stream.write_all(head.as_bytes())?;
        // A server may answer and close before it has read everything; the answer is what counts.
        let _ = raw.stream.write_all(body);
        Ok(raw)
    }
}

/// A connection after the head of the answer.
pub struct Raw {
    stream: UnixStream,
    ahead: Vec<u8>,
}

impl Raw {
    /// Writes to the stream.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write to the stream")
    }

    /// Closes the writing side only: what a client does when its own input ends.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn close_write(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("close the writing side")
    }

    /// Reads until the peer closes.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut all).context("read to the end of the stream")?;
        Ok(all)
    }

    /// Reads until `text` has come, and gives all read so far.
    ///
    /// # Errors
    /// When the stream ends before.
    pub fn until(&mut self, text: &str) -> Result<Vec<u8>> {
        let mut all = std::mem::take(&mut self.ahead);
        let mut chunk = [0; 4096];
        while crate::pty::find(&all, text.as_bytes()).is_none() {
            let n = self.stream.read(&mut chunk).with_context(|| format!("waiting for {text:?}"))?;
            ensure!(n > 0, "the stream ended without {text:?}: {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&chunk[..n]);
        }
        Ok(all)
    }

    /// Reads one frame of a multiplexed stream: its number and payload; none at the end.
    ///
    /// # Errors
    /// When the stream ends within a frame.
    pub fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 8];
        if self.read_some(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.fill(&mut head[1..])?;
        ensure!(head[0] <= 3 && head[1..4] == [0, 0, 0], "not a frame's head: {head:?}");
        let mut payload = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
        self.fill(&mut payload)?;
        Ok(Some((head[0], payload)))
    }

    /// Reads all frames to the end: what was written to standard output and to standard error.
    ///
    /// # Errors
    /// When a frame is broken.
    pub fn frames(&mut self) -> Result<(String, String)> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((number, payload)) = self.frame()? {
            match number {
                1 => out.extend(payload),
                2 => err.extend(payload),
                other => bail!("frame for stream {other}: {:?}", String::from_utf8_lossy(&payload)),
            }
        }
        Ok((String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.ahead.is_empty() {
            // A read with a time limit is cut short when the process was stopped and goes on (signal(7)).
            return rustix::io::retry_on_intr(|| rustix::io::read(&self.stream, &mut *into))
                .context("read from the stream");
        }
        let n = into.len().min(self.ahead.len());
        into[..n].copy_from_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        Ok(n)
    }

    fn fill(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let n = self.read_some(into)?;
            ensure!(n > 0, "the stream ended too early");
            into = &mut into[n..];
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.fill(&mut byte)?;
            match byte[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()),
                other => line.push(other),
            }
        }
    }

    fn head(&mut self) -> Result<Answer> {
        let first = self.line().context("the answer's first line")?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not an HTTP answer: {first:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => return Ok(Answer { status, headers, body: Vec::new() }),
            }
        }
    }

    /// Reads the body that belongs to `head`.
    ///
    /// # Errors
    /// When it is cut.
    pub fn body(&mut self, head: &Answer) -> Result<Vec<u8>> {
        if head.header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        match head.header("Content-Length").map(str::parse::<usize>) {
            Some(length) => {
                let mut body = vec![0; length.context("Content-Length")?];
                self.fill(&mut body)?;
                Ok(body)
            }
            None => self.to_end(),
        }
    }

    /// Reads one chunk of a chunked body; none at its end.
    ///
    /// # Errors
    /// When it is cut.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let mut chunk = vec![0; size.with_context(|| format!("a chunk's size: {line:?}"))?];
        self.fill(&mut chunk)?;
        self.line()?;
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
