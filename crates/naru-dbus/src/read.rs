//! Bytes to values. Whatever comes: a value, or an error, and never more memory than some times the bytes that were there.

use crate::signature::{self, alignment};
use crate::write::is_object_path;
use crate::{Error, Result, Value};

/// How deep values may be nested in all (specification, "Valid signatures", and variants besides).
const DEPTH_LIMIT: usize = 64;

/// A place in a message.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

const SHORT: Error = Error::Malformed("it ends too early");

impl<'a> Reader<'a> {
    /// `bytes` begin where alignment is counted from.
    pub(crate) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn align(&mut self, to: usize) -> Result<()> {
        let next = self.at.next_multiple_of(to);
        let skipped = self.bytes.get(self.at..next).ok_or(SHORT)?;
        if skipped.iter().any(|byte| *byte != 0) {
            return Err(Error::Malformed("there is something between values"));
        }
        self.at = next;
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(*self.take(1)?.first().ok_or(SHORT)?)
    }

    /// A number of `N` bytes, in little-endian order.
    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.align(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().map_err(|_| SHORT)?;
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn rest_of_text(&mut self, length: usize) -> Result<String> {
        let text = self.take(length)?;
        if self.u8()? != 0 || text.contains(&0) {
            return Err(Error::Malformed("a text has no end"));
        }
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| Error::Malformed("a text is not UTF-8"))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        self.rest_of_text(length)
    }

    pub(crate) fn signature(&mut self) -> Result<String> {
        let length = usize::from(self.u8()?);
        let text = self.rest_of_text(length)?;
        signature::check(text.as_bytes())?;
        Ok(text)
    }

    /// Values of all types in `signature`, which has been checked.
    pub(crate) fn values(&mut self, signature: &str) -> Result<Vec<Value>> {
        self.row(signature.as_bytes(), 0)
    }

    fn row(&mut self, mut signature: &[u8], depth: usize) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let length = signature::first_type(signature).ok_or(Error::Malformed("a signature names no type"))?;
            let (first, rest) = signature.split_at_checked(length).ok_or(SHORT)?;
            values.push(self.value(first, depth)?);
            signature = rest;
        }
        Ok(values)
    }

    /// A value of the one complete type (or dictionary entry) `signature`.
    fn value(&mut self, signature: &[u8], depth: usize) -> Result<Value> {
        if depth > DEPTH_LIMIT {
            return Err(Error::Malformed("values are nested too deep"));
        }
        let (code, inner) = signature.split_first().ok_or(Error::Malformed("a signature names no type"))?;
        Ok(match code {
            b'y' => Value::Byte(self.u8()?),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Error::Malformed("a truth value is neither true nor false")),
            },
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.number()?)),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(
                Some(self.text()?)
                    .filter(|path| is_object_path(path))
                    .ok_or(Error::Malformed("an object path is none"))?,
            ),
            b'g' => Value::Signature(self.signature()?),
            b'h' => Value::Descriptor(self.u32()?),
            b'v' => {
                let signature = self.signature()?;
                if signature::first_type(signature.as_bytes()) != Some(signature.len()) {
                    return Err(Error::Malformed("a variant holds no complete type"));
                }
                Value::Variant(Box::new(self.value(signature.as_bytes(), depth + 1)?))
            }
            b'a' => self.array(inner, depth)?,
            b'(' => {
                self.align(8)?;
                Value::Struct(self.row(without_last(inner), depth + 1)?)
            }
            b'{' => {
                self.align(8)?;
                let mut pair = self.row(without_last(inner), depth + 1)?.into_iter();
                match (pair.next(), pair.next()) {
                    (Some(key), Some(value)) => Value::Entry(Box::new((key, value))),
                    _ => return Err(Error::Malformed("a dictionary entry is no pair")),
                }
            }
            _ => return Err(Error::Malformed("a signature names no type")),
        })
    }

    fn array(&mut self, element: &[u8], depth: usize) -> Result<Value> {
        let length = self.u32()? as usize;
        let code = *element.first().ok_or(Error::Malformed("a signature names no type"))?;
        self.align(alignment(code))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(SHORT)?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(element, depth + 1)?);
        }
        if self.at != end {
            return Err(Error::Malformed("an array's length is wrong"));
        }
        Ok(Value::Array(String::from_utf8_lossy(element).into_owned(), items))
    }
}

/// Without the closing bracket.
fn without_last(signature: &[u8]) -> &[u8] {
    signature.split_last().map_or(&[], |(_, rest)| rest)
}
