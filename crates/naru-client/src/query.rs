//! Query strings and path segments, percent-encoded as Go's `net/url` does.

/// A query string under construction: `?a=1&b=2`.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key=value`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.push(key, value);
        self
    }

    /// Adds `key=value` unless the value is empty.
    #[must_use]
    pub fn with_some(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(key, value) }
    }

    /// Adds `key=1` when `on`.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.with(key, "1") } else { self }
    }

    /// Adds `key=value`.
    pub fn push(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        encode(&mut self.0, key, b"-_.~", true);
        self.0.push('=');
        encode(&mut self.0, value, b"-_.~", true);
    }

    /// The text to put after a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name as one segment of a path. A slash stays: the engine's routes take image names with slashes.
pub fn escape_path(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    encode(&mut out, name, b"-_.~/:@$&+=", false);
    out
}

fn encode(out: &mut String, text: &str, plain: &[u8], plus: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in text.as_bytes() {
        if b.is_ascii_alphanumeric() || plain.contains(&b) {
            out.push(char::from(b));
        } else if b == b' ' && plus {
            out.push('+');
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding() {
        let q = Query::new().with("filters", "{\"a\":[\"b c\"]}").flag("all", true).flag("x", false).with_some("y", "");
        assert_eq!(q.as_str(), "?filters=%7B%22a%22%3A%5B%22b+c%22%5D%7D&all=1");
        assert_eq!(escape_path("a/b:c d?é"), "a/b:c%20d%3F%C3%A9");
    }
}
