//! DNS messages (RFC 1035 section 4), as far as a stub resolver needs them. What a server sends is hostile input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in wire form.
const NAME_LIMIT: usize = 255;
/// How many aliases are followed.
const ALIAS_LIMIT: usize = 16;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;

/// The kind of address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 no error, 2 server failure, 3 no such name, …
    pub(crate) code: u8,
    /// Ask again over TCP.
    pub(crate) truncated: bool,
    /// In the server's order.
    pub(crate) addresses: Vec<IpAddr>,
}

/// A recursive query for `name`, or nothing if that can't be a host name.
pub(crate) fn encode_query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let start = out.len();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return None;
        }
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() - start > NAME_LIMIT {
        return None;
    }
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    Some(out)
}

/// Reads the answer to `query`; nothing if it isn't one (another id or question, malformed).
pub(crate) fn decode_answer(query: &[u8], packet: &[u8]) -> Option<Answer> {
    let mut r = Reader { packet, at: 0 };
    let id = r.u16()?;
    let flags = r.u16()?;
    let counts = [r.u16()?, r.u16()?, r.u16()?, r.u16()?];
    let mut asked = Reader { packet: query, at: 12 };
    if id.to_be_bytes()[..] != *query.get(..2)? || flags & 0x8000 == 0 || counts[0] != 1 {
        return None;
    }
    let (name, kind) = (asked.name()?, asked.u16()?);
    if r.name()? != name || r.u16()? != kind || r.u16()? != CLASS_IN {
        return None;
    }
    let truncated = flags & 0x0200 != 0;
    let code = (flags & 0xf) as u8;
    let mut records = Vec::new();
    for _ in 0..counts[1] {
        match r.record() {
            Some(record) => records.push(record),
            // What doesn't fit is cut off; the rest comes over TCP.
            None if truncated => break,
            None => return None,
        }
    }
    Some(Answer { code, truncated, addresses: follow(name, kind, &records) })
}

/// The addresses of `name` or of what it is an alias of.
fn follow(mut name: Vec<u8>, kind: u16, records: &[Record]) -> Vec<IpAddr> {
    for _ in 0..ALIAS_LIMIT {
        let mine: Vec<_> = records.iter().filter(|r| r.owner == name && r.kind == kind).collect();
        if !mine.is_empty() {
            return mine.iter().filter_map(|r| address(&r.data)).collect();
        }
        match records.iter().find(|r| r.owner == name && r.kind == TYPE_CNAME) {
            Some(alias) => name.clone_from(&alias.data),
            None => break,
        }
    }
    Vec::new()
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(data).ok().map(|v6| Ipv6Addr::from(v6).into())
}

struct Record {
    owner: Vec<u8>,
    kind: u16,
    /// For an alias, the name in the form of [`Reader::name`].
    data: Vec<u8>,
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// A name, lower case, as length-prefixed labels. Pointers must point backwards, so that every name ends.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut side = Reader { packet: self.packet, at: self.at };
        let mut jumped = false;
        let mut lowest = self.at;
        loop {
            let length = side.u8()?;
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    out.push(length);
                    out.extend(side.take(usize::from(length))?.iter().map(u8::to_ascii_lowercase));
                    if out.len() > NAME_LIMIT {
                        return None;
                    }
                }
                3 => {
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, side.u8()?]));
                    if !jumped {
                        self.at = side.at;
                        jumped = true;
                    }
                    if target >= lowest {
                        return None;
                    }
                    lowest = target;
                    side.at = target;
                }
                _ => return None,
            }
        }
        if !jumped {
            self.at = side.at;
        }
        Some(out)
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        self.take(4)?;
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length)?;
        let data = match (kind, class) {
            (TYPE_CNAME, CLASS_IN) => self.name()?,
            (_, CLASS_IN) => self.take(length)?.to_vec(),
            _ => self.take(length).map(|_| Vec::new())?,
        };
        (self.at == end).then_some(Record { owner, kind, data })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to `query` that has `records` (owner, type, data); the owner `None` is a pointer to the question.
    pub(crate) fn answer(query: &[u8], code: u8, flags: u8, records: &[(Option<&str>, u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = query.to_vec();
        out[2] = 0x80 | flags;
        out[3] = code;
        out[7] = records.len() as u8;
        for (owner, kind, data) in records {
            match owner {
                None => out.extend([0xc0, 12]),
                Some(name) => out.extend(wire(name)),
            }
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(data);
        }
        out
    }

    pub(crate) fn wire(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
        out
    }

    fn query() -> Vec<u8> {
        encode_query(0x1234, "Reg.example", Kind::A).unwrap()
    }

    #[test]
    fn query_is_rfc_1035() {
        let expected = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3][..], b"Reg\x07example\0\0\x01\0\x01"].concat();
        assert_eq!(query(), expected);
        let long = format!("{}.x", "a".repeat(64));
        for bad in ["", ".", "a..b", "a b", "ü.de", &long, &"a.".repeat(130)] {
            assert_eq!(encode_query(1, bad, Kind::A), None, "{bad}");
        }
    }

    #[test]
    fn addresses_and_aliases_are_read_in_any_order() {
        let records = [
            (Some("c.example"), 1, vec![10, 0, 0, 2]),
            (Some("b.example"), TYPE_CNAME, wire("c.example")),
            (Some("evil.example"), 1, vec![6, 6, 6, 6]),
            (None, TYPE_CNAME, wire("B.example")),
            (Some("c.example"), 1, vec![10, 0, 0, 3]),
        ];
        let a = decode_answer(&query(), &answer(&query(), 0, 0, &records)).unwrap();
        assert_eq!(a.addresses, [IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3])]);
        let q6 = encode_query(9, "x", Kind::Aaaa).unwrap();
        let a = decode_answer(&q6, &answer(&q6, 0, 0, &[(None, 28, Ipv6Addr::LOCALHOST.octets().to_vec())])).unwrap();
        assert_eq!(a.addresses, [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn foreign_answers_are_refused() {
        let good = answer(&query(), 0, 0, &[(None, 1, vec![1, 2, 3, 4])]);
        assert!(decode_answer(&query(), &good).is_some());
        for (at, value) in [(0, 0xff), (2, 0x01), (5, 0), (13, b'x'), (good.len() - 5, 200)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(decode_answer(&query(), &bad), None, "byte {at}");
        }
        let other = answer(&encode_query(0x1234, "reg.example", Kind::Aaaa).unwrap(), 0, 0, &[]);
        assert_eq!(decode_answer(&query(), &other), None);
    }

    #[test]
    fn pointer_and_alias_loops_end() {
        let mut packet = answer(&query(), 0, 0, &[(None, 1, vec![1, 2, 3, 4])]);
        let at = query().len();
        packet[at + 1] = at as u8;
        assert_eq!(decode_answer(&query(), &packet), None);
        let records = [(None, TYPE_CNAME, wire("b")), (Some("b"), TYPE_CNAME, wire("reg.example"))];
        assert!(decode_answer(&query(), &answer(&query(), 0, 0, &records)).unwrap().addresses.is_empty());
    }

    #[test]
    fn codes_and_truncation() {
        assert_eq!(decode_answer(&query(), &answer(&query(), 3, 0, &[])).unwrap().code, 3);
        let whole = answer(&query(), 0, 2, &[(None, 1, vec![1, 2, 3, 4]), (None, 1, vec![1, 2, 3, 5])]);
        let cut = decode_answer(&query(), &whole[..whole.len() - 3]).unwrap();
        assert!(cut.truncated && cut.addresses.len() == 1);
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300), counts in any::<[u8; 6]>()) {
            let q = query();
            let mut packet = q.clone();
            packet[2] = 0x80;
            packet[6..12].copy_from_slice(&counts);
            packet.extend(tail);
            decode_answer(&q, &packet);
            decode_answer(&packet, &q);
        }

        #[test]
        fn arbitrary_bytes_never_panic(q in prop::collection::vec(any::<u8>(), 0..40), p in prop::collection::vec(any::<u8>(), 0..100)) {
            decode_answer(&q, &p);
        }

        #[test]
        fn queries_answer_themselves(name in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,20}){0,4}\\.?") {
            let q = encode_query(7, &name, Kind::A).unwrap();
            let a = decode_answer(&q, &answer(&q, 0, 0, &[(None, 1, vec![1, 1, 1, 1])])).unwrap();
            prop_assert_eq!(a.addresses.len(), 1);
        }
    }
}
