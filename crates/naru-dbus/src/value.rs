//! Values of every type that a message can carry.

/// A value. Arrays carry the signature of their elements, since there may be none.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`: without NUL.
    Text(String),
    /// `o`: the name of an object, `/org/…`.
    Path(String),
    /// `g`
    Signature(String),
    /// `h`: the place of a descriptor among those of the message.
    Descriptor(u32),
    /// `v`
    Variant(Box<Value>),
    /// `a`: the signature of an element, and the elements.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `{kv}`, an element of a dictionary.
    Entry(Box<(Value, Value)>),
}

impl Value {
    /// Its type.
    pub fn signature(&self) -> String {
        let code = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::F64(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Descriptor(_) => "h",
            Self::Variant(_) => "v",
            Self::Array(element, _) => return format!("a{element}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                return format!("({fields})");
            }
            Self::Entry(entry) => return format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
        };
        code.to_owned()
    }

    /// A text (`s`).
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Texts (`as`).
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Array("s".into(), texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }

    /// Bytes (`ay`).
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().copied().map(Self::Byte).collect())
    }

    /// The text of a text, a path or a signature.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// What is in a variant, or the value itself.
    pub fn inner(&self) -> &Self {
        match self {
            Self::Variant(value) => value.inner(),
            value => value,
        }
    }
}
