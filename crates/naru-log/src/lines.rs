//! Output as it arrives, cut into lines, and lines of more than 16 KiB into pieces (moby, daemon/logger/copier.go).

use crate::entry::{Entry, Partial, Stream};
use memchr::memchr;

/// docker's buffer for one line.
pub const LINE_LIMIT: usize = 16 << 10;

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
    /// The line that is cut into several, once it is.
    cut: Option<Cut>,
}

/// A line that is cut: its pieces share a time and an id.
#[derive(Debug)]
struct Cut {
    time: i64,
    id: String,
    ordinal: i32,
}

impl Lines {
    /// Hands every piece that is whole to `take`.
    pub(crate) fn push(&mut self, stream: Stream, time: i64, output: &[u8], mut take: impl FnMut(Entry<'_>)) {
        let mut rest = output;
        while !rest.is_empty() {
            let room = LINE_LIMIT - self.text.len();
            let window = &rest[..rest.len().min(room)];
            let newline = memchr(b'\n', window);
            let taken = newline.map_or(window.len(), |at| at + 1);
            let (piece, after) = rest.split_at(taken);
            rest = after;
            if newline.is_none() && taken < room {
                self.text.extend_from_slice(piece);
            } else if self.text.is_empty() && self.cut.is_none() && newline.is_some() {
                take(Entry { stream, time, text: piece.into(), ..Entry::default() });
            } else {
                self.text.extend_from_slice(piece);
                self.emit(stream, time, newline.is_some(), &mut take);
            }
        }
    }

    /// No more comes: the beginning of a line is all there will be of it.
    pub(crate) fn end(&mut self, stream: Stream, time: i64, mut take: impl FnMut(Entry<'_>)) {
        if !self.text.is_empty() {
            self.emit(stream, time, false, &mut take);
        }
        *self = Self::default();
    }

    fn emit(&mut self, stream: Stream, time: i64, ends: bool, take: &mut impl FnMut(Entry<'_>)) {
        if !ends && self.cut.is_none() {
            self.cut = Some(Cut { time, id: random_id(), ordinal: 0 });
        }
        let mut entry = Entry { stream, time, text: self.text.as_slice().into(), ..Entry::default() };
        if let Some(cut) = &mut self.cut {
            cut.ordinal = cut.ordinal.saturating_add(1);
            entry.time = cut.time;
            entry.partial = Some(Partial { id: cut.id.as_str().into(), ordinal: cut.ordinal, last: ends });
        }
        take(entry);
        self.text.clear();
        if ends {
            self.cut = None;
        }
    }
}

/// 64 hexadecimal digits, as docker's. Where the kernel gives no random bytes, it is all zeros: pieces still follow each other.
fn random_id() -> String {
    let mut bytes = [0u8; 32];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
