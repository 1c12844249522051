//! `--format`: tables, JSON lines, raw lists and templates over rows.

use crate::failure::Failure;
use crate::printer::Printer;
use crate::tabwriter::Tabs;
use crate::template::{Parsed, ROW_MARK, failure, text, unescape};
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One row: every placeholder with its value.
#[derive(Default)]
pub struct Row(BTreeMap<Arc<str>, Value>);

impl Row {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a placeholder.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(Arc::from(name), text(value.into()));
        self
    }

    /// With a placeholder, when `format` has a use for it: what costs something is then not made for nothing in a long list.
    #[must_use]
    pub fn with_wanted<T: Into<String>>(self, format: &Format<'_>, name: &str, value: impl FnOnce() -> T) -> Self {
        if format.may_use(name) { self.with(name, value()) } else { self }
    }

    /// With a placeholder that is no text.
    #[must_use]
    pub fn with_value(mut self, name: &str, value: Value) -> Self {
        self.0.insert(Arc::from(name), value);
        self
    }

    /// With `.Label "k"`.
    #[must_use]
    pub fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        let function = move |args: &[Value]| {
            let key = args.first().map(ToString::to_string).unwrap_or_default();
            Ok(text(labels.get(&key).cloned().unwrap_or_default()))
        };
        self.0.insert(Arc::from("Label"), Value::Function(Arc::new(function)));
        self
    }

    fn into_value(mut self) -> Value {
        self.0.insert(Arc::from(ROW_MARK), Value::Nil);
        Value::Map(Arc::new(self.0))
    }
}

/// What a list command prints.
pub struct Listing<'a> {
    /// The template of its table.
    pub table: &'a str,
    /// The template of `raw`, when it has that form.
    pub raw: &'a str,
    /// The template with `--quiet`.
    pub quiet: &'a str,
    /// The header of each placeholder.
    pub headers: &'a [(&'a str, &'a str)],
    /// What docker calls the rows in a message about a field that they lack.
    pub row_type: &'a str,
}

/// A listing with the user's choice applied.
pub struct Format<'a> {
    listing: &'a Listing<'a>,
    template: String,
    is_table: bool,
    /// A row is used other than by the names of its placeholders.
    takes_rows: bool,
    parsed: Parsed,
}

impl<'a> Format<'a> {
    /// `format` is the user's, or the one from the configuration file, or empty.
    ///
    /// # Errors
    /// When the template does not parse.
    pub fn new(listing: &'a Listing<'a>, format: &str, quiet: bool) -> Result<Self, Failure> {
        let (template, is_table) = match format.trim() {
            "" | "table" if quiet => (listing.quiet.to_owned(), false),
            "" | "table" => (listing.table.to_owned(), true),
            "raw" if !listing.raw.is_empty() => {
                (if quiet { raw_quiet(listing) } else { listing.raw.to_owned() }, false)
            }
            "json" => ("{{json .}}".to_owned(), false),
            other => match other.strip_prefix("table") {
                Some(rest) if rest.starts_with([' ', '\t', '\\', '{']) => (unescape(rest.trim()), true),
                _ => (unescape(format), false),
            },
        };
        let parsed = Parsed::new("", &template).map_err(|e| failure("parse", e))?;
        let takes_rows = takes_rows(&template);
        Ok(Self { listing, template, is_table, takes_rows, parsed })
    }

    /// Whether the template mentions a placeholder.
    pub fn mentions(&self, name: &str) -> bool {
        self.template.contains(name)
    }

    /// Whether the template may come to use a placeholder: it has the word somewhere, or takes a row as a whole (`.`, `$`).
    pub fn may_use(&self, name: &str) -> bool {
        self.takes_rows || self.template.contains(name)
    }

    /// Prints `rows`.
    ///
    /// # Errors
    /// When the template asks for a field that there is not.
    pub fn print(&self, printer: &mut Printer, rows: impl IntoIterator<Item = Row>) -> Result<(), Failure> {
        let text = self.render(rows)?;
        printer.raw(text.as_bytes())?;
        Ok(())
    }

    /// The text that [`Format::print`] prints.
    ///
    /// # Errors
    /// As [`Format::print`].
    pub fn render(&self, rows: impl IntoIterator<Item = Row>) -> Result<String, Failure> {
        let mut out = String::new();
        if self.is_table {
            out.push_str(&self.header());
            out.push('\n');
        }
        for row in rows {
            let line = self.parsed.execute(&row.into_value()).map_err(|e| failure("execute", self.no_field(&e)))?;
            out.push_str(&line);
            out.push('\n');
        }
        Ok(if self.is_table { Tabs::TABLE.align(&out) } else { out })
    }

    fn no_field(&self, message: &str) -> String {
        match message.rsplit_once("map has no entry for key ") {
            Some((before, key)) => {
                let key = key.trim_matches('"');
                format!("{before}can't evaluate field {key} in type {}", self.listing.row_type)
            }
            None => message.to_owned(),
        }
    }

    fn header(&self) -> String {
        let mut row: BTreeMap<Arc<str>, Value> =
            self.listing.headers.iter().map(|(name, head)| (Arc::from(*name), text((*head).to_owned()))).collect();
        let label = |args: &[Value]| {
            let key = args.first().map(ToString::to_string).unwrap_or_default();
            Ok(text(key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")))
        };
        row.insert(Arc::from("Label"), Value::Function(Arc::new(label)));
        // In the header, functions such as json and range would spoil the words: what fails is shown as it is.
        let plain = strip_functions(&self.template);
        Parsed::new("", &plain).and_then(|t| t.execute(&Value::Map(Arc::new(row)))).unwrap_or_default()
    }
}

/// Whether there is a `$`, or a dot that no name follows.
fn takes_rows(template: &str) -> bool {
    let is_bare = |(at, _): (usize, &str)| !template[at + 1..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    template.contains('$') || template.match_indices('.').any(is_bare)
}

fn raw_quiet(listing: &Listing<'_>) -> String {
    listing.raw.lines().next().unwrap_or_default().to_owned()
}

/// Header cells are the header's words whatever function a cell goes through.
fn strip_functions(template: &str) -> String {
    template
        .replace("{{json .", "{{.")
        .replace("{{ json .", "{{ .")
        .replace("{{upper .", "{{.")
        .replace("{{lower .", "{{.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing<'_> = Listing {
        table: "{{.ID}}\t{{.Name}}",
        raw: "id: {{.ID}}\nname: {{.Name}}",
        quiet: "{{.ID}}",
        headers: &[("ID", "THE ID"), ("Name", "NAME")],
        row_type: "*formatter.thing",
    };

    fn render(format: &str, quiet: bool) -> Result<String, Failure> {
        let labels = BTreeMap::from([("a.b-c".to_owned(), "v".to_owned())]);
        let row = Row::new().with("ID", "1").with("Name", "<x>").with_labels(labels);
        Format::new(&LISTING, format, quiet)?.render([row])
    }

    #[test]
    fn forms() {
        for (format, quiet, text) in [
            ("", false, "THE ID    NAME\n1         <x>\n"),
            ("table", true, "1\n"),
            ("json", false, "{\"ID\":\"1\",\"Name\":\"\\u003cx\\u003e\"}\n"),
            ("{{json .Name}}", false, "\"<x>\"\n"),
            ("raw", false, "id: 1\nname: <x>\n"),
            ("table {{.Name}}\\t{{.Label \"a.b-c\"}}", false, "NAME      b c\n<x>       v\n"),
            ("{{.ID}}\\n", false, "1\n\n"),
        ] {
            assert_eq!(render(format, quiet).unwrap(), text, "{format}");
        }
    }

    #[test]
    fn what_may_be_used() {
        for (format, id, name) in [
            ("", true, true),
            ("{{.ID}}", true, false),
            ("table {{.Name | upper}}", false, true),
            ("{{index . \"ID\"}}", true, true),
            ("json", true, true),
            ("{{json .}}", true, true),
            ("{{$.ID}}", true, true),
            ("{{range $k, $v := .}}{{$k}}{{end}}", true, true),
        ] {
            let format = Format::new(&LISTING, format, false).unwrap();
            assert_eq!((format.may_use("ID"), format.may_use("Name")), (id, name), "{}", format.template);
        }
    }

    #[test]
    fn problems() {
        assert_eq!(
            render("{{.Foo}}", false).unwrap_err().message,
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.thing"
        );
        assert_eq!(
            render("{{.ID", false).unwrap_err().message,
            "failed to parse template: template: :1: unclosed action"
        );
    }
}
