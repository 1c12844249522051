//! The part of YAML that tools write CDI specifications in: block and one-line flow collections, quoted and plain scalars, comments.
//!
//! Anchors, tags, block scalars and scalars of several lines are refused by name. Plain scalars but `true`, `false` and `null` stay text: who
//! wants a number reads it out of the text.
//!
//! Source: YAML 1.2.2.

use serde_json::{Map, Value};

/// Deepest nesting.
const DEPTH_LIMIT: usize = 64;

/// The document in `text`.
///
/// # Errors
/// What is wrong, with the number of the line.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let content = without_comment(line).trim_end();
        let indent = content.len() - content.trim_start_matches(' ').len();
        let content = &content[indent..];
        if content.starts_with('\t') {
            return Err(format!("line {number}: a tab in the indentation"));
        }
        match content {
            "" => {}
            "---" if lines.is_empty() => {}
            "..." => break,
            _ => lines.push(Line { number, indent, content }),
        }
    }
    let mut parser = Parser { lines, at: 0 };
    let Some(first) = parser.lines.first() else { return Ok(Value::Null) };
    let indent = first.indent;
    let value = parser.block(indent, 0)?;
    match parser.lines.get(parser.at) {
        None => Ok(value),
        Some(line) => Err(format!("line {}: unexpected {:?}", line.number, line.content)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Line<'t> {
    number: usize,
    indent: usize,
    content: &'t str,
}

struct Parser<'t> {
    lines: Vec<Line<'t>>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn line(&self) -> Option<Line<'t>> {
        self.lines.get(self.at).copied()
    }

    /// What begins at the current line, which has this indentation.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let Some(line) = self.line() else { return Ok(Value::Null) };
        if depth > DEPTH_LIMIT {
            return Err(format!("line {}: nested too deep", line.number));
        }
        if is_item(line.content) {
            return self.sequence(indent, depth);
        }
        if split_key(line.content).is_some() {
            return self.mapping(indent, depth);
        }
        self.at += 1;
        scalar(line.content).map_err(|why| format!("line {}: {why}", line.number))
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent && is_item(line.content)) {
            let rest = line.content[1..].trim_start();
            if rest.is_empty() {
                self.at += 1;
                items.push(self.below(indent + 1, depth)?);
            } else if let Some(current) = self.lines.get_mut(self.at) {
                // What stands behind the dash is a block of its own, as far to the right as it stands.
                let inner = indent + line.content.len() - rest.len();
                *current = Line { indent: inner, content: rest, ..line };
                items.push(self.block(inner, depth + 1)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent && !is_item(line.content)) {
            let at = |why: String| format!("line {}: {why}", line.number);
            let Some((key, rest)) = split_key(line.content) else {
                return Err(at(format!("{:?} is no `key: value`", line.content)));
            };
            let Value::String(key) = quoted_or_text(key).map_err(at)? else {
                return Err(at(format!("the key {key} is no text")));
            };
            self.at += 1;
            let value = if rest.is_empty() {
                // A list may stand as far left as its key.
                let list = self.line().is_some_and(|next| next.indent == indent && is_item(next.content));
                if list { self.sequence(indent, depth + 1)? } else { self.below(indent + 1, depth)? }
            } else {
                scalar(rest).map_err(at)?
            };
            if map.insert(key.clone(), value).is_some() {
                return Err(at(format!("{key:?} is there twice")));
            }
        }
        Ok(Value::Object(map))
    }

    /// A block that is indented at least so far, or nothing.
    fn below(&mut self, least: usize, depth: usize) -> Result<Value, String> {
        match self.line() {
            Some(next) if next.indent >= least => self.block(next.indent, depth + 1),
            _ => Ok(Value::Null),
        }
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// The text up to a `#` that begins a comment.
fn without_comment(line: &str) -> &str {
    let mut outside = Outside::default();
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if outside.sees(c, before) && c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// Follows quotes: a quote opens only where a scalar may begin.
#[derive(Default)]
struct Outside {
    quote: Option<char>,
    escaped: bool,
}

impl Outside {
    /// Whether `c`, behind `before`, is outside of quotes.
    fn sees(&mut self, c: char, before: char) -> bool {
        match self.quote {
            Some('"') if self.escaped => self.escaped = false,
            Some('"') if c == '\\' => self.escaped = true,
            Some(quote) if c == quote => self.quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') && (before.is_whitespace() || matches!(before, '[' | '{' | ',' | '\'')) => {
                self.quote = Some(c);
            }
            None => return true,
        }
        false
    }
}

/// `key` and what follows its colon.
fn split_key(content: &str) -> Option<(&str, &str)> {
    if content.starts_with(['[', '{']) {
        return None;
    }
    let mut outside = Outside::default();
    let mut before = ' ';
    for (at, c) in content.char_indices() {
        let rest = &content[at + c.len_utf8()..];
        if outside.sees(c, before) && c == ':' && (rest.is_empty() || rest.starts_with(' ')) {
            return Some((content[..at].trim_end(), rest.trim()));
        }
        before = c;
    }
    None
}

fn scalar(text: &str) -> Result<Value, String> {
    if text.starts_with(['[', '{']) {
        let mut flow = Flow { text, depth: 0 };
        let value = flow.value()?;
        return if flow.text.trim().is_empty() { Ok(value) } else { Err(format!("unexpected {:?}", flow.text)) };
    }
    quoted_or_text(text)
}

fn quoted_or_text(text: &str) -> Result<Value, String> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(&text[1..], quote)?;
            if rest.trim().is_empty() { Ok(Value::String(value)) } else { Err(format!("unexpected {rest:?}")) }
        }
        Some(c @ ('&' | '*' | '!' | '|' | '>' | '@' | '`' | '%' | '?')) => {
            Err(format!("{text:?}: {c:?} is not supported here"))
        }
        _ => Ok(plain(text)),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    }
}

/// The text in quotes, whose first has been taken, and what follows.
fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let rest = &text[at + 1..];
            // Two single quotes are one.
            if quote == '\'' && rest.starts_with('\'') {
                value.push('\'');
                chars.next();
                continue;
            }
            return Ok((value, rest));
        }
        if c != '\\' || quote == '\'' {
            value.push(c);
            continue;
        }
        let escape = chars.next().map(|(_, c)| c);
        value.push(match escape {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('0') => '\0',
            Some(c @ ('"' | '\\' | '/' | ' ')) => c,
            Some('u') => {
                let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("\\u{digits} is no character"))?
            }
            other => return Err(format!("unknown escape {other:?}")),
        });
    }
    Err("a quote is not closed".to_owned())
}

/// `[a, "b", {c: d}]` on one line.
struct Flow<'t> {
    text: &'t str,
    depth: usize,
}

impl Flow<'_> {
    fn value(&mut self) -> Result<Value, String> {
        self.text = self.text.trim_start();
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err("nested too deep".to_owned());
        }
        let value = match self.text.chars().next() {
            Some('[') => self.list()?,
            Some('{') => self.map()?,
            Some(quote @ ('"' | '\'')) => {
                let (value, rest) = quoted(&self.text[1..], quote)?;
                self.text = rest;
                Value::String(value)
            }
            _ => {
                let end = self.text.find([',', ']', '}']).ok_or("a bracket is not closed")?;
                let (word, rest) = self.text.split_at(end);
                self.text = rest;
                quoted_or_text(word.trim())?
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn take(&mut self, c: char) -> bool {
        self.text = self.text.trim_start();
        let rest = self.text.strip_prefix(c);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn list(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        self.take('[');
        while !self.take(']') {
            items.push(self.value()?);
            if !self.take(',') && !self.text.trim_start().starts_with(']') {
                return Err("a bracket is not closed".to_owned());
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self) -> Result<Value, String> {
        let mut map = Map::new();
        self.take('{');
        while !self.take('}') {
            let colon = self.text.find(':').ok_or("a brace is not closed")?;
            let (key, rest) = self.text.split_at(colon);
            let Value::String(key) = quoted_or_text(key.trim())? else { return Err("a key is no text".to_owned()) };
            self.text = &rest[1..];
            let value = self.value()?;
            map.insert(key, value);
            if !self.take(',') && !self.text.trim_start().starts_with('}') {
                return Err("a brace is not closed".to_owned());
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_specification_as_tools_write_it() {
        let text = r#"---
# made by a tool
cdiVersion: 0.5.0
kind: vendor.com/class
containerEdits:
  env:
  - A=b c   # not this
  - "QUOTED=\"x\"\n"
  deviceNodes:
  - path: /dev/one
    major: 1
  -   path: '/dev/it''s'
devices:
- name: "0"
  containerEdits: {env: [X=1, "Y=2,3"], mounts: []}
-
  name: all
  nothing:
  yes: true
"#;
        let value = parse(text).unwrap();
        assert_eq!(
            value,
            json!({
                "cdiVersion": "0.5.0",
                "kind": "vendor.com/class",
                "containerEdits": {
                    "env": ["A=b c", "QUOTED=\"x\"\n"],
                    "deviceNodes": [{"path": "/dev/one", "major": "1"}, {"path": "/dev/it's"}]
                },
                "devices": [
                    {"name": "0", "containerEdits": {"env": ["X=1", "Y=2,3"], "mounts": []}},
                    {"name": "all", "nothing": null, "yes": true}
                ]
            })
        );
    }

    #[test]
    fn details() {
        assert_eq!(parse("a: b:c#d").unwrap(), json!({"a": "b:c#d"}));
        assert_eq!(parse("- - x\n  - y\n- z").unwrap(), json!([["x", "y"], "z"]));
        assert_eq!(parse("a:\n    b: 1\nc: \"d: e # f\"").unwrap(), json!({"a": {"b": "1"}, "c": "d: e # f"}));
        assert_eq!(parse("it's: don't").unwrap(), json!({"it's": "don't"}));
        assert_eq!(parse("# only a comment").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, why) in [
            ("a: |\n  text", "line 1: \"|\": '|' is not supported here"),
            ("a: &x 1", "'&' is not supported here"),
            ("a:\n\tb: 1", "line 2: a tab in the indentation"),
            ("a: 1\na: 2", "line 2: \"a\" is there twice"),
            ("a: \"x", "line 1: a quote is not closed"),
            ("a: [x", "line 1: a bracket is not closed"),
            ("a: 1\n  b: 2", "line 2: unexpected"),
            ("a: 1\nb", "line 2: \"b\" is no `key: value`"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
        let deep = "- ".repeat(100) + "x";
        assert!(parse(&deep).unwrap_err().contains("nested too deep"));
        assert!(parse(&format!("a: {}", "[".repeat(100))).unwrap_err().contains("nested too deep"));
    }

    #[test]
    fn nothing_makes_it_panic() {
        for text in [
            "é: ü\n- ö",
            "\"\\u00e",
            "'",
            "{",
            "}",
            "[,]",
            "{a}",
            ":",
            ": x",
            "- :",
            "a: {b: c",
            "\u{feff}a: b",
            "a: {é: [ü",
        ] {
            let _ = parse(text);
        }
    }
}
