//! Messages (specification, "Message format"): a header, and a body of values.

use crate::read::Reader;
use crate::signature;
use crate::write::Writer;
use crate::{Error, Result, Value};

/// The most bytes of a message that is written or read here. The specification allows 128 MiB; nothing that is asked for here comes near this.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// Bytes of a header without its fields' content.
pub(crate) const FIXED_HEADER: usize = 16;
const VERSION: u8 = 1;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call of a method.
    Call = 1,
    /// Its answer.
    Return = 2,
    /// Its failure.
    Error = 3,
    /// Something that has happened.
    Signal = 4,
}

/// A message. Fields that it doesn't have are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Flags, such as 1: no answer is expected.
    pub flags: u8,
    /// Its number among its sender's, never 0.
    pub serial: u32,
    /// The number of the call that it answers.
    pub reply_to: Option<u32>,
    /// The object that is called, or that tells something.
    pub path: String,
    /// The interface of `member`.
    pub interface: String,
    /// The method, or the signal's name.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// Who it is for.
    pub destination: String,
    /// Who it is from.
    pub sender: String,
    /// The values.
    pub body: Vec<Value>,
}

impl Message {
    /// An empty message.
    pub fn new(kind: Kind, serial: u32) -> Self {
        Self {
            kind,
            flags: 0,
            serial,
            reply_to: None,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            destination: String::new(),
            sender: String::new(),
            body: Vec::new(),
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// It has something that no message can carry.
    pub fn write(&self) -> Result<Vec<u8>> {
        let mut body = Writer::default();
        self.body.iter().try_for_each(|value| body.value(value))?;
        let mut fields = Vec::new();
        let mut field = |code: u8, value: Value| {
            fields.push(Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]));
        };
        if !self.path.is_empty() {
            field(1, Value::Path(self.path.clone()));
        }
        for (code, text) in
            [(2, &self.interface), (3, &self.member), (4, &self.error), (6, &self.destination), (7, &self.sender)]
        {
            if !text.is_empty() {
                field(code, Value::Text(text.clone()));
            }
        }
        if let Some(serial) = self.reply_to {
            field(5, Value::U32(serial));
        }
        if !self.body.is_empty() {
            field(8, Value::Signature(self.body.iter().map(Value::signature).collect()));
        }
        let mut whole = Writer { bytes: vec![b'l', self.kind as u8, self.flags, VERSION] };
        whole.u32(u32::try_from(body.bytes.len()).map_err(|_| Error::Malformed("too long"))?);
        whole.u32(self.serial);
        whole.value(&Value::Array("(yv)".into(), fields))?;
        whole.align(8);
        whole.bytes.extend_from_slice(&body.bytes);
        if whole.bytes.len() > MESSAGE_LIMIT { Err(Error::Malformed("too long")) } else { Ok(whole.bytes) }
    }

    /// How long the message is whose first [`FIXED_HEADER`] bytes are `header`.
    pub(crate) fn length(header: &[u8]) -> Result<usize> {
        let mut reader = Reader::new(header, is_big_endian(header)?);
        let _ = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        let body = reader.u32()? as usize;
        let _serial = reader.u32()?;
        let fields = reader.u32()? as usize;
        let too_long = Error::Malformed("it is longer than this client takes");
        let length =
            (FIXED_HEADER.checked_add(fields)).map(|n| n.next_multiple_of(8)).and_then(|n| n.checked_add(body));
        length.filter(|length| *length <= MESSAGE_LIMIT).ok_or(too_long)
    }

    /// The message of `bytes`, which are exactly one.
    ///
    /// # Errors
    /// They are none.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if Self::length(bytes)? != bytes.len() {
            return Err(Error::Malformed("its length is wrong"));
        }
        let big_endian = is_big_endian(bytes)?;
        let mut reader = Reader::new(bytes, big_endian);
        let _ = reader.u8()?;
        let kind = match reader.u8()? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Error::Malformed("its kind is unknown")),
        };
        let flags = reader.u8()?;
        if reader.u8()? != VERSION {
            return Err(Error::Malformed("its version is unknown"));
        }
        let body_length = reader.u32()? as usize;
        let serial = Some(reader.u32()?).filter(|serial| *serial != 0).ok_or(Error::Malformed("it has no number"))?;
        let mut message = Self { flags, ..Self::new(kind, serial) };
        let mut body_signature = String::new();
        for field in reader.values("a(yv)")? {
            let Value::Array(_, fields) = field else { continue };
            for field in fields {
                message.take_field(field, &mut body_signature)?;
            }
        }
        reader.align(8)?;
        let body = bytes.get(reader.position()..).unwrap_or_default();
        let mut reader = Reader::new(body, big_endian);
        signature::check(body_signature.as_bytes())?;
        message.body = reader.values(&body_signature)?;
        if reader.position() != body_length {
            return Err(Error::Malformed("its body is longer than its values"));
        }
        Ok(message)
    }

    fn take_field(&mut self, field: Value, body_signature: &mut String) -> Result<()> {
        let Value::Struct(parts) = field else { return Ok(()) };
        let mut parts = parts.into_iter();
        let (Some(Value::Byte(code)), Some(Value::Variant(value))) = (parts.next(), parts.next()) else {
            return Ok(());
        };
        match (code, *value) {
            (1, Value::Path(path)) => self.path = path,
            (2, Value::Text(text)) => self.interface = text,
            (3, Value::Text(text)) => self.member = text,
            (4, Value::Text(text)) => self.error = text,
            (5, Value::U32(serial)) => self.reply_to = Some(serial),
            (6, Value::Text(text)) => self.destination = text,
            (7, Value::Text(text)) => self.sender = text,
            (8, Value::Signature(text)) => *body_signature = text,
            (1..=8, _) => return Err(Error::Malformed("a field of the header has a wrong type")),
            // Those that we don't know are to be ignored.
            _ => {}
        }
        Ok(())
    }
}

fn is_big_endian(bytes: &[u8]) -> Result<bool> {
    match bytes.first() {
        Some(b'l') => Ok(false),
        Some(b'B') => Ok(true),
        _ => Err(Error::Malformed("it begins with neither l nor B")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..12)
            .prop_map(|chars| chars.into_iter().collect())
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (-1e9..1e9).prop_map(Value::F64),
            texts().prop_map(Value::Text),
            Just(Value::Path("/org/a_1".into())),
            Just(Value::Signature("a{sv}(ii)".into())),
            any::<u32>().prop_map(Value::Descriptor),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Value::bytes(&bytes)),
        ];
        leaf.prop_recursive(5, 48, 5, |inner| {
            prop_oneof![
                inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
                proptest::collection::vec(inner.clone(), 1..5).prop_map(Value::Struct),
                // Elements of one type: copies.
                (inner.clone(), 0_usize..4).prop_map(|(value, n)| Value::Array(value.signature(), vec![value; n])),
                (texts(), inner).prop_map(|(key, value)| {
                    let entry = Value::Entry(Box::new((Value::Text(key), value)));
                    Value::Array(entry.signature(), vec![entry])
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in proptest::collection::vec(values(), 0..5), serial in 1_u32.., reply in any::<Option<u32>>()) {
            let message = Message {
                path: "/a".into(),
                member: "M".into(),
                interface: "a.b".into(),
                destination: "x.y".into(),
                reply_to: reply,
                body,
                ..Message::new(Kind::Call, serial)
            };
            // More types than a signature can have are refused.
            let signature: String = message.body.iter().map(Value::signature).collect();
            prop_assume!(signature::check(signature.as_bytes()).is_ok());
            if let Ok(bytes) = message.write() {
                prop_assert_eq!(Message::length(&bytes[..FIXED_HEADER]).unwrap(), bytes.len());
                prop_assert_eq!(Message::read(&bytes).unwrap(), message);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), big in any::<bool>()) {
            let _ = Message::read(&bytes);
            if bytes.len() >= FIXED_HEADER {
                bytes[0] = if big { b'B' } else { b'l' };
                bytes[3] = 1;
                let _ = Message::read(&bytes);
            }
        }

        #[test]
        fn changed_messages_are_read_or_refused(at in 0_usize..120, to in any::<u8>()) {
            let mut bytes = example().write().unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            let _ = Message::read(&bytes);
        }
    }

    fn example() -> Message {
        let properties = Value::Array(
            "(sv)".into(),
            vec![Value::Struct(vec![Value::text("TasksMax"), Value::Variant(Box::new(Value::U64(5)))])],
        );
        Message {
            path: "/org/freedesktop/systemd1".into(),
            member: "StartTransientUnit".into(),
            body: vec![Value::text("a.scope"), properties],
            ..Message::new(Kind::Call, 1)
        }
    }

    /// As in the specification: a call without body, byte by byte.
    #[test]
    fn bytes_are_the_specifications() {
        let message = Message { member: "Hi".into(), ..Message::new(Kind::Call, 7) };
        let bytes = message.write().unwrap();
        assert_eq!(bytes, b"l\x01\0\x01\0\0\0\0\x07\0\0\0\x0b\0\0\0\x03\x01s\0\x02\0\0\0Hi\0\0\0\0\0\0");
        let big = b"B\x01\0\x01\0\0\0\0\0\0\0\x07\0\0\0\x0b\x03\x01s\0\0\0\0\x02Hi\0\0\0\0\0\0";
        assert_eq!(Message::read(big).unwrap(), message);
    }

    #[test]
    fn lengths_are_bounded() {
        let mut header = example().write().unwrap();
        header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::length(&header).is_err());
        assert!(Message::read(&header).is_err());
        let long = Message { body: vec![Value::text("x".repeat(MESSAGE_LIMIT))], ..Message::new(Kind::Call, 1) };
        assert!(long.write().is_err());
        for bad in [Value::text("a\0b"), Value::Path("x".into()), Value::Array("s".into(), vec![Value::Byte(1)])] {
            assert!(Message { body: vec![bad], ..Message::new(Kind::Call, 1) }.write().is_err());
        }
    }
}
