//! A log whose stream says where it is, so that it can be gone on with after the engine went away: docker's frames, and after some of them one
//! with a position. What comes before a position is shown when that has come, so nothing is shown twice.

use crate::failure::Failure;
use crate::stream::Output;
use naru_client::BodyReader;
use std::io::{ErrorKind, Read};

/// The type of such a stream.
pub const TYPE: &str = "application/vnd.naru.positioned-stream";
/// The stream of frames that tell a position.
const POSITION: u8 = 4;
/// Stream, zeros, length.
const HEADER: usize = 8;
/// A frame is never longer: a piece of a line, its time and its attributes.
const FRAME_LIMIT: usize = 4 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is no more.
    Whole,
    /// The engine went away.
    Broken,
}

/// Shows the stream; `place` is where it has come to.
///
/// # Errors
/// When this process's output fails, and when the engine tells a failure in the stream.
pub fn copy(mut body: BodyReader, place: &mut String) -> Result<End, Failure> {
    let mut frames = Frames::default();
    let mut buf = vec![0; 32 * 1024];
    loop {
        match body.read(&mut buf) {
            Ok(0) => {
                frames.show_rest()?;
                return Ok(End::Whole);
            }
            Ok(count) => frames.accept(&buf[..count], place)?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(End::Broken),
        }
    }
}

/// Frames that wait for their position.
#[derive(Default)]
struct Frames {
    waiting: Vec<u8>,
    /// Whole frames without a position in them.
    scanned: usize,
}

impl Frames {
    fn accept(&mut self, bytes: &[u8], place: &mut String) -> Result<(), Failure> {
        self.waiting.extend_from_slice(bytes);
        while let Some(header) = self.waiting.get(self.scanned..self.scanned + HEADER) {
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let stream = header[0];
            if length > FRAME_LIMIT {
                return Err(Failure::new(format!("malformed log stream: a frame of {length} bytes")));
            }
            let (begin, end) = (self.scanned + HEADER, self.scanned + HEADER + length);
            let Some(data) = self.waiting.get(begin..end) else { return Ok(()) };
            if stream == POSITION {
                let position = String::from_utf8_lossy(data).into_owned();
                Output::new(false).accept(&self.waiting[..self.scanned])?;
                *place = position;
                self.waiting.drain(..end);
                self.scanned = 0;
            } else {
                self.scanned = end;
            }
        }
        Ok(())
    }

    fn show_rest(&mut self) -> Result<(), Failure> {
        Output::new(false).accept(&self.waiting[..self.scanned])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend(data);
        frame
    }

    #[test]
    fn what_has_no_position_yet_waits() {
        let all = [frame(1, b""), frame(POSITION, b"1-2-3"), frame(2, b"")].concat();
        for cut in 0..all.len() {
            let (mut frames, mut place) = (Frames::default(), String::new());
            frames.accept(&all[..cut], &mut place).unwrap();
            frames.accept(&all[cut..], &mut place).unwrap();
            assert_eq!((place.as_str(), frames.waiting.len()), ("1-2-3", HEADER));
        }
        let mut frames = Frames::default();
        assert!(frames.accept(&frame(3, b"no"), &mut String::new()).is_ok());
        assert_eq!(frames.show_rest().unwrap_err().message, "error from daemon in stream: no");
        assert!(Frames::default().accept(b"\x01\0\0\0\xff\xff\xff\xff", &mut String::new()).is_err());
    }
}
