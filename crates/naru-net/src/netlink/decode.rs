//! Reads netlink messages. Nothing here trusts a length.

use super::encode::HEADER;

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Message kind.
    pub kind: u16,
    /// Message flags.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header; shorter than announced when the kernel's answer did not fit the buffer.
    pub payload: &'a [u8],
}

/// The messages of one datagram.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let header = self.rest.get(..HEADER)?;
        let length = read_u32(header)? as usize;
        let kind = read_u16(&header[4..])?;
        let flags = read_u16(&header[6..])?;
        let sequence = read_u32(&header[8..])?;
        if length < HEADER {
            self.rest = &[];
            return None;
        }
        let end = length.min(self.rest.len());
        let payload = &self.rest[HEADER..end];
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Frame { kind, flags, sequence, payload })
    }
}

/// The attributes of a message or of a nested attribute, as (kind without its flag bits, value).
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.rest)?);
        let kind = read_u16(self.rest.get(2..)?)? & 0x3fff;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// The first attribute of `kind`.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes::new(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// 16 bits in the host's byte order.
pub fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// 32 bits in the host's byte order.
pub fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// A string up to its zero byte; what is not UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_in_finite_time_and_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut total = 0;
            for frame in Frames::new(&bytes) {
                total += frame.payload.len() + HEADER;
                for (_, value) in Attributes::new(frame.payload) {
                    prop_assert!(value.len() <= frame.payload.len());
                }
            }
            prop_assert!(total <= bytes.len());
        }

        #[test]
        fn hostile_lengths_end_the_walk(length in any::<u16>(), tail in proptest::collection::vec(any::<u8>(), 0..32)) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&tail);
            prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
