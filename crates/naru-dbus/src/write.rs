//! Values to bytes (specification, "Marshaling (wire format)"), little-endian.

use crate::signature::{self, SIGNATURE_LIMIT, alignment};
use crate::{Error, MESSAGE_LIMIT, Result, Value};

/// Bytes of a message, in the making.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend_from_slice(&bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) -> Result<()> {
        if text.contains('\0') {
            return Err(Error::Malformed("a text contains NUL"));
        }
        self.u32(length(text.len())?);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn signature(&mut self, text: &str) -> Result<()> {
        signature::check(text.as_bytes())?;
        let length = u8::try_from(text.len()).map_err(|_| Error::Malformed("a signature is too long"))?;
        self.bytes.push(length);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// It is none that a message can carry: a NUL in a text, elements of another type than their array's, too many bytes.
    pub(crate) fn value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(yes) => self.u32(u32::from(*yes)),
            Value::I16(number) => self.put(number.to_le_bytes()),
            Value::U16(number) => self.put(number.to_le_bytes()),
            Value::I32(number) => self.put(number.to_le_bytes()),
            Value::U32(number) | Value::Descriptor(number) => self.u32(*number),
            Value::I64(number) => self.put(number.to_le_bytes()),
            Value::U64(number) => self.put(number.to_le_bytes()),
            Value::F64(number) => self.put(number.to_le_bytes()),
            Value::Text(text) => self.text(text)?,
            Value::Path(path) if is_object_path(path) => self.text(path)?,
            Value::Path(_) => return Err(Error::Malformed("an object path is none")),
            Value::Signature(text) => self.signature(text)?,
            Value::Variant(inner) => {
                let signature = inner.signature();
                if signature.len() > SIGNATURE_LIMIT
                    || signature::first_type(signature.as_bytes()) != Some(signature.len())
                {
                    return Err(Error::Malformed("a variant holds no complete type"));
                }
                self.signature(&signature)?;
                self.value(inner)?;
            }
            Value::Array(element, items) => self.array(element, items)?,
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().try_for_each(|field| self.value(field))?;
            }
            Value::Entry(entry) => {
                self.align(8);
                self.value(&entry.0)?;
                self.value(&entry.1)?;
            }
        }
        if self.bytes.len() > MESSAGE_LIMIT { Err(Error::Malformed("too long")) } else { Ok(()) }
    }

    fn array(&mut self, element: &str, items: &[Value]) -> Result<()> {
        self.align(4);
        let place = self.bytes.len();
        self.u32(0);
        // The length doesn't count the space before the first element.
        self.align(element.bytes().next().map_or(1, alignment));
        let start = self.bytes.len();
        for item in items {
            if item.signature() != element {
                return Err(Error::Malformed("an array has elements of several types"));
            }
            self.value(item)?;
        }
        let length = length(self.bytes.len() - start)?.to_le_bytes();
        if let Some(field) = self.bytes.get_mut(place..place + 4) {
            field.copy_from_slice(&length);
        }
        Ok(())
    }
}

fn length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).ok().filter(|_| bytes <= MESSAGE_LIMIT).ok_or(Error::Malformed("too long"))
}

/// `/`, or parts of letters, digits and `_`, each after a `/`.
pub(crate) fn is_object_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}
