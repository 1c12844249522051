//! Writes netlink messages into one buffer.

/// Set in the kind of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// A message in a [`Batch`], for finding which one an answer is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub operation: &'static str,
    pub acknowledged: bool,
}

/// Requests that go to the kernel in one `send`, in order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) requests: Vec<Request>,
    pub(super) overflow: Option<&'static str>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(512), requests: Vec::with_capacity(4), overflow: None }
    }

    /// Appends a request: its message kind, its flags (`NLM_F_REQUEST` is added), the family's own header, then attributes.
    /// `operation` says in an error what could not be done ("create bridge").
    pub fn push(
        &mut self,
        operation: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: impl FnOnce(&mut Attrs<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        let mut writer = Attrs { bytes: &mut self.bytes, overflow: false };
        writer.raw(header);
        attributes(&mut writer);
        if writer.overflow {
            self.overflow = Some(operation);
        }
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.requests.push(Request { operation, acknowledged: flags & super::ACK != 0 });
        self
    }

    /// How many requests it holds.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Numbers the requests from `first` on.
    pub(super) fn number(&mut self, first: u32) {
        let mut at = 0;
        let mut sequence = first;
        while let Some(header) = self.bytes.get_mut(at..at + HEADER) {
            header[8..12].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            at += length.next_multiple_of(4).max(HEADER);
        }
    }
}

/// Writes the attributes of one message; each is padded to 4 bytes.
#[derive(Debug)]
pub struct Attrs<'a> {
    bytes: &'a mut Vec<u8>,
    overflow: bool,
}

impl Attrs<'_> {
    /// Bytes as they are (a family's header inside a nested attribute), padded.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute of bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// An attribute without a value.
    pub fn flag(&mut self, kind: u16) {
        self.bytes(kind, &[]);
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// 16 bits in the host's byte order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// 32 bits in the host's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// 32 bits in network byte order, as netfilter wants them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero byte.
    pub fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Attributes in an attribute.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attrs<'_>)) {
        let start = self.open(kind | NESTED);
        let mut writer = Attrs { bytes: self.bytes, overflow: false };
        inner(&mut writer);
        self.overflow |= writer.overflow;
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Attributes, Frames, attribute, read_u32};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::new();
        batch.push("first", 16, super::super::ACK, &[1, 2, 3], |a| {
            a.text(3, "naru0");
            a.nest(18, |n| n.u32(1, 7));
        });
        batch.push("second", 17, 0, &[0; 16], |_| {});
        batch.number(40);
        let frames: Vec<_> = Frames::new(&batch.bytes).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].kind, frames[0].flags, frames[0].sequence), (16, 5, 40));
        assert_eq!((frames[1].kind, frames[1].flags, frames[1].sequence), (17, 1, 41));
        assert_eq!(frames[0].payload[..4], [1, 2, 3, 0]);
        let attributes = &frames[0].payload[4..];
        assert_eq!(attribute(attributes, 3), Some(&b"naru0\0"[..]));
        let nested = attribute(attributes, 18).unwrap();
        assert_eq!(attribute(nested, 1).and_then(read_u32), Some(7));
        assert_eq!(Attributes::new(attributes).count(), 2);
    }

    #[test]
    fn an_attribute_that_is_too_long_is_told() {
        let mut batch = Batch::new();
        batch.push("fill", 1, 0, &[], |a| a.nest(1, |n| n.bytes(2, &vec![0; 70_000])));
        assert_eq!(batch.overflow, Some("fill"));
    }
}
