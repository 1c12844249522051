//! Type signatures: text that says how bytes are to be read (specification, "Type system").

use crate::{Error, Result};

/// The longest signature.
pub(crate) const SIGNATURE_LIMIT: usize = 255;
/// How deep arrays, and how deep structures may be nested.
const NESTING_LIMIT: usize = 32;

/// The length of the first complete type in `signature`; `None` when it has none.
pub(crate) fn first_type(signature: &[u8]) -> Option<usize> {
    one(signature, 0, 0)
}

fn one(signature: &[u8], arrays: usize, structs: usize) -> Option<usize> {
    match signature.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'h' | b'v' => Some(1),
        b'a' if arrays < NESTING_LIMIT => {
            let rest = signature.get(1..)?;
            if rest.first() == Some(&b'{') {
                return Some(1 + entry(rest, arrays + 1, structs)?);
            }
            Some(1 + one(rest, arrays + 1, structs)?)
        }
        b'(' if structs < NESTING_LIMIT => {
            let mut at = 1;
            while *signature.get(at)? != b')' {
                at += one(signature.get(at..)?, arrays, structs + 1)?;
            }
            // A structure of nothing is none.
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}

/// `{kv}`, only in arrays; the key is a basic type.
fn entry(signature: &[u8], arrays: usize, structs: usize) -> Option<usize> {
    if structs >= NESTING_LIMIT || matches!(signature.get(1)?, b'a' | b'(' | b'v') {
        return None;
    }
    let key = one(signature.get(1..)?, arrays, structs + 1)?;
    let value = one(signature.get(1 + key..)?, arrays, structs + 1)?;
    let end = 1 + key + value;
    (*signature.get(end)? == b'}').then_some(end + 1)
}

/// Whether `signature` is a row of complete types.
pub(crate) fn check(signature: &[u8]) -> Result<()> {
    if signature.len() > SIGNATURE_LIMIT {
        return Err(Error::Malformed("a signature is too long"));
    }
    let mut rest = signature;
    while !rest.is_empty() {
        let length = first_type(rest).ok_or(Error::Malformed("a signature names no type"))?;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The alignment of the type that begins with `code`, in bytes.
pub(crate) fn alignment(code: u8) -> usize {
    match code {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_types() {
        for good in ["", "s", "ssa(sv)a(sa(sv))", "a{sv}", "aay", "(a(st)v)", "a{s(ii)}"] {
            check(good.as_bytes()).unwrap();
        }
        for bad in ["a", "(", ")", "()", "(s", "{sv}", "a{s}", "a{vs}", "a{sss}", "z", "a{(s)s}", "a{sv"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(&[b'a'; 256]).is_err());
        let deep = format!("{}y", "a".repeat(33));
        assert!(check(deep.as_bytes()).is_err());
        assert!(check(&deep.as_bytes()[1..]).is_ok());
        assert_eq!(first_type(b"a(st)u"), Some(5));
    }
}
