//! DNS messages (RFC 1035 section 4, RFC 6891), as far as a server of few records needs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in wire form.
const NAME_LIMIT: usize = 255;
const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const TYPE_OPT: u16 = 41;
/// Bytes of an answer by UDP to one who says nothing of a size.
pub const UDP_SIZE: usize = 512;
/// No answer by UDP is larger, whatever its asker takes: fragments get lost (dnsflagday.net/2020).
const UDP_LIMIT: usize = 1232;
/// Compression: the name of the question.
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER as u8];

/// How an answer ended (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No error.
    Success = 0,
    /// The question can't be read.
    Malformed = 1,
    /// Nobody could be asked, or no server answered.
    Failure = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// Another kind of request than a question.
    NotImplemented = 4,
    /// Too much at once.
    Refused = 5,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Anything else.
    Other(u16),
}

impl Kind {
    fn of(number: u16) -> Self {
        match number {
            1 => Self::A,
            12 => Self::Ptr,
            28 => Self::Aaaa,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ptr => 12,
            Self::Aaaa => 28,
            Self::Other(other) => other,
        }
    }
}

/// A message that asks one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its number, repeated in the answer.
    pub id: u16,
    /// The name without its last dot, in lower case. A label's bytes that are no printable ASCII come as `\ddd`.
    pub name: String,
    /// What is asked for.
    pub kind: Kind,
    /// Whether its class is that of the internet.
    pub internet: bool,
    /// Where its question ends in the message.
    question_end: usize,
    flags: u16,
    /// Bytes of an answer by UDP that the asker takes, when it says so (EDNS).
    edns: Option<u16>,
}

/// Why a message is no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not even a header, or itself an answer: nothing is said.
    Silent,
    /// An answer with this code.
    Answer(Code),
}

/// A place in a message.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.message.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.message.len())?;
        Some(())
    }

    /// A name without compression, which a question never needs.
    fn name(&mut self) -> Option<String> {
        let start = self.at;
        let mut name = String::new();
        loop {
            let length = self.u8()?;
            match length {
                0 => break,
                1..=63 => {}
                // A pointer, or a kind of label that nobody uses.
                _ => return None,
            }
            if !name.is_empty() {
                name.push('.');
            }
            for _ in 0..length {
                match self.u8()? {
                    byte @ (b'.' | b'\\') => name.extend(['\\', char::from(byte)]),
                    byte if byte.is_ascii_graphic() => name.push(char::from(byte.to_ascii_lowercase())),
                    byte => name.push_str(&format!("\\{byte:03}")),
                }
            }
        }
        (self.at - start <= NAME_LIMIT).then_some(name)
    }

    /// A record's name, which may be compressed and is of no interest.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                length @ 1..=63 => self.skip(length.into())?,
                192..=255 => return self.skip(1),
                _ => return None,
            }
        }
    }
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// What to do about one that is no query.
    pub fn read(message: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader { message, at: 0 };
        let mut header = [0; 6];
        for field in &mut header {
            *field = reader.u16().ok_or(Unreadable::Silent)?;
        }
        let [id, flags, questions, answers, authorities, additional] = header;
        if flags & 0x8000 != 0 {
            return Err(Unreadable::Silent);
        }
        if flags & 0x7800 != 0 {
            return Err(Unreadable::Answer(Code::NotImplemented));
        }
        let malformed = Unreadable::Answer(Code::Malformed);
        if questions != 1 || answers != 0 || authorities != 0 {
            return Err(malformed);
        }
        let name = reader.name().ok_or(malformed)?;
        let kind = Kind::of(reader.u16().ok_or(malformed)?);
        let class = reader.u16().ok_or(malformed)?;
        let question_end = reader.at;
        let mut edns = None;
        for _ in 0..additional.min(8) {
            reader.skip_name().ok_or(malformed)?;
            let kind = reader.u16().ok_or(malformed)?;
            let size = reader.u16().ok_or(malformed)?;
            reader.skip(4).ok_or(malformed)?;
            let length = reader.u16().ok_or(malformed)?;
            reader.skip(length.into()).ok_or(malformed)?;
            if kind == TYPE_OPT {
                edns = Some(size);
            }
        }
        Ok(Self { id, name, kind, internet: matches!(class, CLASS_IN | CLASS_ANY), question_end, flags, edns })
    }

    /// The longest answer by UDP that its asker takes, and that we send.
    pub fn udp_size(&self) -> usize {
        usize::from(self.edns.unwrap_or(0)).clamp(UDP_SIZE, UDP_LIMIT)
    }

    /// The address that a reverse name stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
    pub fn reverse_address(&self) -> Option<IpAddr> {
        if let Some(labels) = self.name.strip_suffix(".in-addr.arpa") {
            let mut octets = [0; 4];
            let mut parts = labels.rsplit('.');
            for octet in &mut octets {
                *octet = parts.next()?.parse().ok()?;
            }
            return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
        }
        let labels = self.name.strip_suffix(".ip6.arpa")?;
        let mut bits = 0u128;
        let mut count = 0;
        for label in labels.rsplit('.') {
            let digit = label.chars().next().filter(|_| label.len() == 1)?.to_digit(16)?;
            bits = bits << 4 | u128::from(digit);
            count += 1;
        }
        (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
    }
}

/// A record of an answer, about the name of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An address of either family.
    Address(IpAddr),
    /// A name.
    Name(String),
}

/// The answer to `query`, whose message is `asked`, of our own knowledge: with these records, all of which live `ttl` seconds. One that
/// is longer than `limit` bytes has none, and says so.
pub fn answer(asked: &[u8], query: &Query, code: Code, records: &[Record], ttl: u32, limit: usize) -> Vec<u8> {
    let mut out = header(query.id, query.flags, code, true);
    out.extend_from_slice(asked.get(HEADER..query.question_end).unwrap_or_default());
    out[5] = 1;
    let question_end = out.len();
    let edns_size = if query.edns.is_some() { 11 } else { 0 };
    let mut count: u16 = 0;
    for record in records {
        let Some(data) = data(record) else { continue };
        out.extend_from_slice(&QUESTION_NAME);
        let kind = match record {
            Record::Address(IpAddr::V4(_)) => Kind::A,
            Record::Address(IpAddr::V6(_)) => Kind::Aaaa,
            Record::Name(_) => Kind::Ptr,
        };
        out.extend_from_slice(&kind.number().to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        // The longest data is a name.
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
        count += 1;
        if out.len() + edns_size > limit || count == u16::MAX {
            out.truncate(question_end);
            out[2] |= 0x02;
            count = 0;
            break;
        }
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    if query.edns.is_some() {
        // Root name, OPT, our size, no extended code or version, no options.
        out.push(0);
        out.extend_from_slice(&TYPE_OPT.to_be_bytes());
        out.extend_from_slice(&(UDP_LIMIT as u16).to_be_bytes());
        out.extend_from_slice(&[0; 6]);
        out[11] = 1;
    }
    out
}

/// An answer that says no more than a code, to a message that may be none.
pub fn refusal(asked: &[u8], code: Code) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*asked.first()?, *asked.get(1)?]);
    let flags = u16::from_be_bytes([*asked.get(2)?, *asked.get(3)?]);
    Some(header(id, flags, code, false))
}

/// What another server's answer must be for it to be one to `query`, whose message is `asked`: an answer of that number, to that question.
pub fn is_answer_to(asked: &[u8], query: &Query, id: u16, message: &[u8]) -> bool {
    let flags = message.get(2).copied().unwrap_or(0);
    message.get(..2) == Some(&id.to_be_bytes()[..])
        && flags & 0x80 != 0
        // Its question, but for the case of letters; an error may come without one.
        && match message.get(4..6) {
            Some([0, 1]) => same_question(asked, query, message),
            Some([0, 0]) => code(message) != Some(Code::Success as u8),
            _ => false,
        }
}

fn same_question(asked: &[u8], query: &Query, message: &[u8]) -> bool {
    match (asked.get(HEADER..query.question_end), message.get(HEADER..query.question_end)) {
        (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
        _ => false,
    }
}

/// The code of an answer.
pub fn code(message: &[u8]) -> Option<u8> {
    message.get(3).map(|flags| flags & 0x0f)
}

/// Puts another number into a message.
pub fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Cuts an answer that is too long down to its question, and marks it as cut.
pub fn truncate(message: &mut Vec<u8>, query: &Query, limit: usize) {
    if message.len() > limit && message.len() >= query.question_end {
        message.truncate(query.question_end);
        message[2] |= 0x02;
        message[6..HEADER].fill(0);
    }
}

/// `known` marks an answer of our own knowledge.
fn header(id: u16, asked_flags: u16, code: Code, known: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&id.to_be_bytes());
    // An answer, recursion is available; whether recursion was desired and the DNSSEC check was off is repeated.
    let flags = 0x8080 | (asked_flags & 0x0110) | if known { 0x0400 } else { 0 } | code as u16;
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

fn data(record: &Record) -> Option<Vec<u8>> {
    match record {
        Record::Address(IpAddr::V4(ip)) => Some(ip.octets().to_vec()),
        Record::Address(IpAddr::V6(ip)) => Some(ip.octets().to_vec()),
        Record::Name(name) => wire_name(name),
    }
}

/// A name in wire form; none for one that has none.
pub fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        out.push(u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    (out.len() <= NAME_LIMIT).then_some(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question as a client sends it.
    pub(crate) fn question(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        out.extend_from_slice(&wire_name(name).unwrap());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        if let Some(size) = edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
        out
    }

    #[test]
    fn a_question_is_read() {
        let asked = question(0x1234, "Web.Example", 28, Some(4096));
        let query = Query::read(&asked).unwrap();
        assert_eq!((query.id, query.name.as_str(), query.kind), (0x1234, "web.example", Kind::Aaaa));
        assert_eq!(query.udp_size(), 1232);
        assert_eq!(Query::read(&question(1, "a", 1, None)).unwrap().udp_size(), 512);
        assert_eq!(Query::read(&question(1, "a", 1, Some(0))).unwrap().udp_size(), 512);
        let mut weird = question(1, "aXb", 1, None);
        weird[14] = b'.';
        assert_eq!(Query::read(&weird).unwrap().name, "a\\.b", "a dot in a label is no border");
    }

    #[test]
    fn what_is_no_question() {
        let good = question(7, "web", 1, None);
        assert_eq!(Query::read(&good[..11]), Err(Unreadable::Silent));
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert_eq!(Query::read(&answer), Err(Unreadable::Silent));
        let mut update = good.clone();
        update[2] |= 0x28;
        assert_eq!(Query::read(&update), Err(Unreadable::Answer(Code::NotImplemented)));
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(Query::read(&two), Err(Unreadable::Answer(Code::Malformed)));
        assert_eq!(Query::read(&good[..good.len() - 1]), Err(Unreadable::Answer(Code::Malformed)));
        let refused = refusal(&good, Code::Malformed).unwrap();
        assert_eq!((&refused[..2], refused[2] & 0x81, refused[3] & 0xf), (&good[..2], 0x81, 1));
    }

    #[test]
    fn an_answer_has_its_question_and_records() {
        let asked = question(9, "web", 1, Some(1232));
        let query = Query::read(&asked).unwrap();
        let records = [Record::Address("10.0.0.2".parse().unwrap()), Record::Address("10.0.0.3".parse().unwrap())];
        let out = answer(&asked, &query, Code::Success, &records, 600, query.udp_size());
        assert_eq!((&out[..2], out[5], out[7], out[11]), (&[0, 9][..], 1, 2, 1));
        assert_eq!(out[12..query.question_end], asked[12..query.question_end]);
        let first = &out[query.question_end..];
        assert_eq!(first[..16], [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 0, 2]);
        assert!(is_answer_to(&asked, &query, 9, &out) && !is_answer_to(&asked, &query, 8, &out));
        let other = question(9, "wex", 1, None);
        assert!(!is_answer_to(&other, &Query::read(&other).unwrap(), 9, &out));
    }

    #[test]
    fn a_long_answer_is_cut_and_says_so() {
        let asked = question(9, "web", 1, None);
        let query = Query::read(&asked).unwrap();
        let records: Vec<Record> = (0..100).map(|n| Record::Address(Ipv4Addr::new(10, 0, 0, n).into())).collect();
        let cut = answer(&asked, &query, Code::Success, &records, 600, query.udp_size());
        assert_eq!((cut[2] & 2, cut[7], cut.len()), (2, 0, query.question_end));
        let whole = answer(&asked, &query, Code::Success, &records, 600, 65535);
        assert_eq!((whole[2] & 2, whole[7]), (0, 100));
        let mut theirs = whole.clone();
        truncate(&mut theirs, &query, 512);
        assert_eq!((theirs[2] & 2, theirs[7], theirs.len()), (2, 0, query.question_end));
    }

    #[test]
    fn reverse_names() {
        let address = |name: &str| Query::read(&question(1, name, 12, None)).unwrap().reverse_address();
        assert_eq!(address("9.0.77.10.in-addr.arpa"), Some("10.77.0.9".parse().unwrap()));
        let v6 = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(address(v6), Some("fd00::9".parse().unwrap()));
        for bad in ["0.77.10.in-addr.arpa", "1.9.0.77.10.in-addr.arpa", "300.0.0.1.in-addr.arpa", "d.f.ip6.arpa", "web"]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(query) = Query::read(&bytes) {
                let record = Record::Address(Ipv4Addr::LOCALHOST.into());
                let out = answer(&bytes, &query, Code::Success, &[record], 1, query.udp_size());
                prop_assert!(is_answer_to(&bytes, &query, query.id, &out));
                let _ = query.reverse_address();
            } else {
                let _ = refusal(&bytes, Code::Malformed);
            }
        }

        #[test]
        fn a_changed_question_is_never_a_panic(
            at in 0usize..40, byte in any::<u8>(), cut in 0usize..60, kind in any::<u16>(), edns in any::<Option<u16>>(),
        ) {
            let mut asked = question(3, "db.harbour", kind, edns);
            if let Some(place) = asked.get_mut(at) {
                *place = byte;
            }
            asked.truncate(cut);
            if let Ok(query) = Query::read(&asked) {
                let mut answer = asked.clone();
                truncate(&mut answer, &query, 20);
                let _ = is_answer_to(&asked, &query, 3, &answer);
            }
        }

        #[test]
        fn names_there_and_back(name in "[a-z0-9_-]{1,30}(\\.[a-z0-9-]{1,30}){0,4}") {
            prop_assert_eq!(Query::read(&question(1, &name, 1, None)).unwrap().name, name);
        }
    }
}
