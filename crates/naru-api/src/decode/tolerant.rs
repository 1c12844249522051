//! JSON read as Go reads it: names of members in any case, `null` for a value's default, unknown members ignored, and Go's error texts.

use naru_base::{Error, Result};
use serde::Deserialize as _;
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::{Map, Value};
use std::fmt;

/// Reads one JSON document.
///
/// # Errors
/// With docker's texts: for an empty document, for what is no JSON, for more than one document, for members of another type.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match documents.next() {
        None => return Err(Error::invalid("invalid JSON: got EOF while reading request body")),
        Some(Err(e)) if e.is_eof() => return Err(Error::invalid("invalid JSON: unexpected EOF")),
        Some(Err(e)) => return Err(Error::invalid(format!("invalid JSON: {e}"))),
        Some(Ok(value)) => value,
    };
    let rest = bytes.get(documents.byte_offset()..).unwrap_or_default();
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid("unexpected content after JSON"));
    }
    from_value(value)
}

/// Reads a JSON value.
///
/// # Errors
/// For members of another type.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(Tolerant { value, place: String::new() })
        .map_err(|e| Error::invalid(format!("invalid JSON: json: {e}")))
}

/// Why a value did not fit.
#[derive(Debug)]
pub(crate) struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self(format!("cannot unmarshal {unexpected} into {expected}"))
    }
}

/// A value, and where it stands (`HostConfig.Memory`), for messages.
struct Tolerant {
    value: Value,
    place: String,
}

impl Tolerant {
    fn misfit(&self, wanted: &str) -> Misfit {
        let got = match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(n) if n.is_f64() || wanted.contains("int") => return self.misfit_number(n, wanted),
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.text(got, wanted)
    }

    fn misfit_number(&self, number: &serde_json::Number, wanted: &str) -> Misfit {
        self.text(&format!("number {number}"), wanted)
    }

    fn text(&self, got: &str, wanted: &str) -> Misfit {
        let place = self.place.as_str();
        if place.is_empty() {
            return Misfit(format!("cannot unmarshal {got} into Go value of type {wanted}"));
        }
        Misfit(format!("cannot unmarshal {got} into Go struct field {place} of type {wanted}"))
    }

    fn child(&self, value: Value, name: &str) -> Self {
        let place = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        Self { value, place }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $as:ident $kind:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match &self.value {
                Value::Null => visitor.$visit(Default::default()),
                Value::Number(n) => match n.$as() {
                    Some(n) => visitor.$visit(n).map_err(|_: Misfit| self.misfit($kind)),
                    None => Err(self.misfit($kind)),
                },
                _ => Err(self.misfit($kind)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::String(s) => visitor.visit_string(s),
            Value::Number(ref n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), ..) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (.., Some(n)) => visitor.visit_f64(n),
                _ => Err(self.misfit("number")),
            },
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            _ => Err(self.misfit("bool")),
        }
    }

    numbers! {
        deserialize_i8 visit_i64 as_i64 "int8";
        deserialize_i16 visit_i64 as_i64 "int16";
        deserialize_i32 visit_i64 as_i64 "int";
        deserialize_i64 visit_i64 as_i64 "int64";
        deserialize_u8 visit_u64 as_u64 "uint8";
        deserialize_u16 visit_u64 as_u64 "uint16";
        deserialize_u32 visit_u64 as_u64 "uint32";
        deserialize_u64 visit_u64 as_u64 "uint64";
        deserialize_f32 visit_f64 as_f64 "float32";
        deserialize_f64 visit_f64 as_f64 "float64";
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_string(String::new()),
            Value::String(s) => visitor.visit_string(s),
            _ => Err(self.misfit("string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Misfit> {
        match std::mem::take(&mut self.value) {
            Value::Null => visitor.visit_seq(Elements { items: Vec::new().into_iter(), of: self }),
            Value::Array(items) => visitor.visit_seq(Elements { items: items.into_iter(), of: self }),
            other => {
                self.value = other;
                Err(self.misfit("[]"))
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Misfit> {
        let members = match std::mem::take(&mut self.value) {
            Value::Null => Map::new(),
            Value::Object(members) => members,
            other => {
                self.value = other;
                return Err(self.misfit("map"));
            }
        };
        visitor.visit_map(Members { items: members.into_iter().collect::<Vec<_>>().into_iter(), value: None, of: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let members = match std::mem::take(&mut self.value) {
            Value::Null => Map::new(),
            Value::Object(members) => members,
            other => {
                self.value = other;
                return Err(self.misfit(name));
            }
        };
        visitor.visit_map(Members { items: known(members, fields).into_iter(), value: None, of: self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct tuple_struct enum identifier }
}

/// Members under the names that the struct has; of several the last, as Go has it. `null` leaves the default.
fn known(members: Map<String, Value>, fields: &'static [&'static str]) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        let exact = fields.iter().find(|f| **f == name);
        let Some(field) = exact.or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(&name))) else { continue };
        if value.is_null() {
            continue;
        }
        match found.iter_mut().find(|(n, _)| n == field) {
            Some(slot) => slot.1 = value,
            None => found.push(((*field).to_owned(), value)),
        }
    }
    found
}

struct Elements {
    items: std::vec::IntoIter<Value>,
    of: Tolerant,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(value) = self.items.next() else { return Ok(None) };
        seed.deserialize(Tolerant { value, place: self.of.place.clone() }).map(Some)
    }
}

struct Members {
    items: std::vec::IntoIter<(String, Value)>,
    value: Option<Tolerant>,
    of: Tolerant,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((name, value)) = self.items.next() else { return Ok(None) };
        self.value = Some(self.of.child(value, &name));
        let name: StringDeserializer<Misfit> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(Misfit("value without a name".into())),
        }
    }
}

/// A list that may be written as one string (docker's `strslice`).
///
/// # Errors
/// For anything else.
pub(crate) fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(one) => Ok(Some(vec![one])),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                Value::Null => Ok(String::new()),
                other => {
                    Err(serde::de::Error::custom(format!("cannot unmarshal {other} into Go value of type string")))
                }
            })
            .collect::<Result<_, _>>()
            .map(Some),
        other => Err(serde::de::Error::custom(format!("cannot unmarshal {other} into Go value of type []string"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        image: String,
        count: i64,
        size: u16,
        tty: bool,
        labels: BTreeMap<String, String>,
        #[serde(deserialize_with = "string_or_list")]
        cmd: Option<Vec<String>>,
        env: Option<Vec<String>>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        memory: i64,
    }

    fn read(text: &str) -> Result<Outer> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn case_null_and_unknown_do_not_matter() {
        let got = read(r#"{"image":"a","COUNT":3,"Tty":null,"Labels":{"Image":"b","n":null},"cmd":"x","Env":["a",null],"zz":1,"INNER":{"MEMORY":5}}"#).unwrap();
        assert_eq!(got.image, "a");
        assert_eq!(got.count, 3);
        assert_eq!(got.labels, BTreeMap::from([("Image".into(), "b".into()), ("n".into(), String::new())]));
        assert_eq!(got.cmd, Some(vec!["x".into()]));
        assert_eq!(got.env, Some(vec!["a".into(), String::new()]));
        assert_eq!(got.inner, Some(Inner { memory: 5 }));
        assert_eq!(read(r#"{"Cmd":["a","b"],"Env":null}"#).unwrap().cmd.unwrap().len(), 2);
        assert_eq!(read("null").unwrap(), Outer::default());
        assert_eq!(read(r#"{"Image":"a","image":"b"}"#).unwrap().image, "b");
    }

    #[test]
    fn errors_read_like_gos() {
        for (text, message) in [
            ("", "invalid JSON: got EOF while reading request body"),
            ("{", "invalid JSON: unexpected EOF"),
            ("{} {}", "unexpected content after JSON"),
            (r#"{"Image":5}"#, "invalid JSON: json: cannot unmarshal number into Go struct field Image of type string"),
            (
                r#"{"Inner":{"Memory":"x"}}"#,
                "invalid JSON: json: cannot unmarshal string into Go struct field Inner.Memory of type int64",
            ),
            (
                r#"{"Count":1.5}"#,
                "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field Count of type int64",
            ),
            (
                r#"{"Size":70000}"#,
                "invalid JSON: json: cannot unmarshal number 70000 into Go struct field Size of type uint16",
            ),
            (
                r#"{"Size":-1}"#,
                "invalid JSON: json: cannot unmarshal number -1 into Go struct field Size of type uint16",
            ),
            (r#"{"Tty":"yes"}"#, "invalid JSON: json: cannot unmarshal string into Go struct field Tty of type bool"),
            (r#"[]"#, "invalid JSON: json: cannot unmarshal array into Go value of type Outer"),
        ] {
            assert_eq!(read(text).unwrap_err().message(), message, "{text}");
        }
        assert!(read("nope").unwrap_err().message().starts_with("invalid JSON: "));
        assert!(read(r#"{"Cmd":5}"#).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_slice::<Outer>(&bytes);
        }

        #[test]
        fn any_case_is_the_same(upper in proptest::collection::vec(any::<bool>(), 5)) {
            let name: String = "image".chars().zip(&upper).map(|(c, u)| if *u { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert_eq!(read(&format!("{{\"{name}\":\"x\"}}")).unwrap().image, "x");
        }
    }
}
