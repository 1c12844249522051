//! Response bodies as readers; a connection whose body was read to its end goes back to be used again.

use crate::endpoint::Stream;
use crate::http::Framing;
use std::cell::RefCell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// Connections that wait for their next request.
pub(crate) type Idle = Rc<RefCell<Vec<Stream>>>;

/// The longest line that may announce a chunk.
const MAX_CHUNK_LINE: usize = 1024;

/// A response's body.
#[derive(Debug)]
pub struct BodyReader {
    stream: Option<Stream>,
    buf: Vec<u8>,
    at: usize,
    state: State,
    reuse: Option<Idle>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// This many bytes are left.
    Length(u64),
    /// A chunk's size line comes next; `first` when no chunk came yet (no line end precedes it).
    ChunkSize {
        first: bool,
    },
    /// This many bytes of the chunk are left.
    Chunk(u64),
    UntilClose,
    Done,
}

impl BodyReader {
    pub(crate) fn new(stream: Stream, rest: Vec<u8>, framing: Framing, reuse: Option<Idle>) -> Self {
        let state = match framing {
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkSize { first: true },
            Framing::UntilClose => State::UntilClose,
        };
        let mut reader = Self { stream: Some(stream), buf: rest, at: 0, state, reuse };
        if let State::Length(0) = state {
            reader.finish();
        }
        reader
    }

    /// Whether bytes are at hand without waiting for the socket.
    pub fn has_buffered(&self) -> bool {
        self.at < self.buf.len() || matches!(self.state, State::Done)
    }

    /// The socket to wait for, until the body has ended.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    fn finish(&mut self) {
        self.state = State::Done;
        if let (Some(stream), Some(idle)) = (self.stream.take(), self.reuse.take())
            && self.at >= self.buf.len()
        {
            idle.borrow_mut().push(stream);
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buf.resize(16 * 1024, 0);
        self.at = 0;
        let n = loop {
            match self.stream.as_mut().map_or(Ok(0), |s| s.read(&mut self.buf)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buf.truncate(*n.as_ref().unwrap_or(&0));
        n
    }

    /// Raw bytes: from the buffer, or straight from the socket for large reads.
    fn raw(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.buf.len() {
            if out.len() >= 16 * 1024 {
                return self.stream.as_mut().map_or(Ok(0), |s| s.read(out));
            }
            if self.fill()? == 0 {
                return Ok(0);
            }
        }
        let n = out.len().min(self.buf.len() - self.at);
        out[..n].copy_from_slice(&self.buf[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.raw(&mut byte)? == 1 {
            match byte[0] {
                b'\n' => return Ok(line),
                b'\r' => {}
                b => line.push(b),
            }
            if line.len() > MAX_CHUNK_LINE {
                return Err(malformed("a chunk's size line is too long"));
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.line()?.is_empty() {
            return Err(malformed("a chunk does not end with its line"));
        }
        let line = self.line()?;
        let text = std::str::from_utf8(&line).unwrap_or_default();
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk's size"))?;
        if size > 0 {
            self.state = State::Chunk(size);
            return Ok(());
        }
        while !self.line()?.is_empty() {}
        self.finish();
        Ok(())
    }

    /// Reads up to `left` bytes; the connection may not end before.
    fn bounded(&mut self, out: &mut [u8], left: u64) -> io::Result<(usize, u64)> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let n = self.raw(&mut out[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((n, left - n as u64))
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed response body: {what}"))
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Done => return Ok(0),
                State::ChunkSize { first } => self.next_chunk(first)?,
                State::Chunk(left) => {
                    let (n, left) = self.bounded(out, left)?;
                    self.state = if left == 0 { State::ChunkSize { first: false } } else { State::Chunk(left) };
                    return Ok(n);
                }
                State::Length(left) => {
                    let (n, left) = self.bounded(out, left)?;
                    self.state = State::Length(left);
                    if left == 0 {
                        self.finish();
                    }
                    return Ok(n);
                }
                State::UntilClose => {
                    let n = self.raw(out)?;
                    if n == 0 {
                        self.reuse = None;
                        self.finish();
                    }
                    return Ok(n);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn read_all(sent: &[u8], rest: &[u8], framing: Framing) -> (io::Result<Vec<u8>>, usize) {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(sent).unwrap();
        drop(a);
        let idle = Idle::default();
        let mut reader = BodyReader::new(Stream::Unix(b), rest.to_vec(), framing, Some(idle.clone()));
        let mut out = Vec::new();
        let result = reader.read_to_end(&mut out).map(|_| out);
        let kept = idle.borrow().len();
        (result, kept)
    }

    #[test]
    fn chunks_are_joined() {
        let whole = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: z\r\n\r\n";
        for cut in 0..whole.len() {
            let (body, kept) = read_all(&whole[cut..], &whole[..cut], Framing::Chunked);
            assert_eq!((body.unwrap().as_slice(), kept), (b"hello world".as_slice(), 1), "cut at {cut}");
        }
    }

    #[test]
    fn broken_chunks_are_errors() {
        for bad in ["z\r\n", "5\r\nhel", "5\r\nhello6\r\n", "ffffffffffffffffff\r\n", "5\r\nhello\r\n"] {
            assert!(read_all(bad.as_bytes(), b"", Framing::Chunked).0.is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_and_ends() {
        let (body, kept) = read_all(b"lo", b"hel", Framing::Length(5));
        assert_eq!((body.unwrap().as_slice(), kept), (b"hello".as_slice(), 1));
        assert!(read_all(b"l", b"hel", Framing::Length(5)).0.is_err());
        let (body, kept) = read_all(b"lo", b"hel", Framing::UntilClose);
        assert_eq!((body.unwrap().as_slice(), kept), (b"hello".as_slice(), 0));
    }
}
