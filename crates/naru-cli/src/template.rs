//! Go templates with docker's functions.

use crate::failure::Failure;
use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Marks a map whose JSON is printed with `<`, `>` and `&` escaped, as docker's rows are.
pub const ROW_MARK: &str = "\0row";

/// What template values lose of the JSON that they come from, by the address of the map or list that holds them: the order of
/// an object's keys (template maps are sorted, but `json` prints an object as the engine sent it), and whether an empty map or
/// list was `null` (a template prints `[]` for it, `json` prints `null`).
#[derive(Default)]
struct Origin {
    keys: HashMap<usize, Vec<Arc<str>>>,
    nulls: HashSet<usize>,
}

#[derive(Clone, Default)]
struct Origins(Arc<Mutex<Origin>>);

impl Origins {
    fn lock(&self) -> std::sync::MutexGuard<'_, Origin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self, map: &Arc<BTreeMap<Arc<str>, Value>>) -> Vec<Arc<str>> {
        let known = self.lock().keys.get(&Arc::as_ptr(map).addr()).cloned();
        known.unwrap_or_else(|| map.keys().cloned().collect())
    }

    fn is_null(&self, address: usize) -> bool {
        self.lock().nulls.contains(&address)
    }
}

/// Fields that hold lists, so that their `null` is an empty list to a template.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
    "Warnings",
];

/// Fields that hold maps, likewise.
const MAPS: &[&str] = &[
    "Annotations",
    "Containers",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "Ports",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// A parsed template, ready to be run on many rows.
pub struct Parsed {
    template: Template,
    name: &'static str,
    origins: Origins,
}

/// `\t` and `\n` in a template argument are a tab and a line end.
pub fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

impl Parsed {
    /// Parses. A missing key is an error at execution.
    ///
    /// # Errors
    /// With the template's own message: `template: :1: unclosed action`.
    pub fn new(name: &'static str, text: &str) -> Result<Self, String> {
        let origins = Origins::default();
        let template = functions(Template::new(name), origins.clone()).missing_key(MissingKey::Error);
        let template = template.parse(&call_label(text)).map_err(|e| parse_problem(name, &e))?;
        Ok(Self { template, name, origins })
    }

    /// Runs it on an object of the API.
    ///
    /// # Errors
    /// As [`Parsed::execute`].
    pub fn execute_json(&self, data: &Json) -> Result<String, String> {
        let mut origin = Origin::default();
        let value = convert("", data, &mut origin);
        *self.origins.lock() = origin;
        // Docker's objects have pointers where ours have nothing.
        self.execute(&value).map(|text| text.replace("<no value>", "<nil>"))
    }

    /// Runs it on `data`.
    ///
    /// # Errors
    /// When a field is missing or a function refuses.
    pub fn execute(&self, data: &Value) -> Result<String, String> {
        self.template.execute_to_string(data).map_err(|e| match e {
            TemplateError::MissingKey { key } => {
                let name = self.name;
                format!("template: {name}:1:2: executing {name:?} at <.{key}>: map has no entry for key {key:?}")
            }
            other => format!("template: {}:1:2: executing {:?}: {other}", self.name, self.name),
        })
    }
}

fn parse_problem(name: &str, e: &TemplateError) -> String {
    match e {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: {name}:{line}: {message}")
        }
        TemplateError::UndefinedFunction(function) => format!("template: {name}:1: function {function:?} not defined"),
        other => format!("template: {name}:1: {other}"),
    }
}

/// Rewrites `.Label "k"`, a method with an argument in docker's templates, into a call of the row's function.
fn call_label(text: &str) -> String {
    if !text.contains(".Label ") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        let end = action.find("}}").map_or(action.len(), |i| i + 2);
        out.push_str(before);
        out.push_str(&call_label_in(&action[..end]));
        rest = &action[end..];
    }
    out.push_str(rest);
    out
}

fn call_label_in(action: &str) -> String {
    let mut out = String::with_capacity(action.len() + 8);
    let mut quoted = None;
    for (i, c) in action.char_indices() {
        match quoted {
            Some(q) if c == q => quoted = None,
            None if c == '"' || c == '`' => quoted = Some(c),
            None if action[i..].starts_with(".Label ") && !out.ends_with(|b: char| b.is_alphanumeric() || b == ')') => {
                out.push_str("call ");
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

fn functions(template: Template, origins: Origins) -> Template {
    template
        .func("json", move |args| match args {
            [value] => Ok(text(go_json(value, &origins))),
            _ => Err(TemplateError::Exec(format!("wrong number of args for json: want 1 got {}", args.len()))),
        })
        .func("split", |args| {
            let (s, sep) = (string(args, 0), string(args, 1));
            let parts: Vec<Value> = if sep.is_empty() {
                s.chars().map(|c| text(c.to_string())).collect()
            } else {
                s.split(sep.as_str()).map(|p| text(p.to_owned())).collect()
            };
            Ok(Value::List(parts.into()))
        })
        .func("join", |args| {
            let items = match args.first() {
                Some(Value::List(items)) => items.iter().map(ToString::to_string).collect::<Vec<_>>(),
                _ => Vec::new(),
            };
            Ok(text(items.join(&string(args, 1))))
        })
        .func("title", |args| Ok(text(title(&string(args, 0)))))
        .func("lower", |args| Ok(text(string(args, 0).to_lowercase())))
        .func("upper", |args| Ok(text(string(args, 0).to_uppercase())))
        .func("pad", |args| {
            let count = |i| args.get(i).and_then(Value::as_int).and_then(|n: i64| usize::try_from(n).ok()).unwrap_or(0);
            let s = string(args, 0);
            let pad = |n: usize| " ".repeat(if s.is_empty() { 0 } else { n.min(4096) });
            Ok(text(format!("{}{s}{}", pad(count(1)), pad(count(2)))))
        })
        .func("truncate", |args| {
            let limit = args.get(1).and_then(Value::as_int).and_then(|n: i64| usize::try_from(n).ok()).unwrap_or(0);
            Ok(text(string(args, 0).chars().take(limit).collect()))
        })
}

fn string(args: &[Value], index: usize) -> String {
    args.get(index).map(ToString::to_string).unwrap_or_default()
}

/// A text as a template's value.
pub fn text(s: String) -> Value {
    Value::String(Arc::from(s))
}

fn title(s: &str) -> String {
    let mut start = true;
    s.chars()
        .map(|c| {
            let here = std::mem::replace(&mut start, !(c.is_alphanumeric() || c == '_' || c == '\''));
            if here { c.to_uppercase().next().unwrap_or(c) } else { c }
        })
        .collect()
}

/// A value as Go's encoder prints it, compact.
fn go_json(value: &Value, origins: &Origins) -> String {
    let mut out = String::new();
    write_json(&mut out, value, origins, false);
    out
}

fn write_json(out: &mut String, value: &Value, origins: &Origins, html: bool) {
    match value {
        Value::Nil | Value::Function(_) => out.push_str("null"),
        Value::String(s) => json_string(out, s, html),
        Value::List(items) if items.is_empty() && origins.is_null(Arc::as_ptr(items).addr()) => out.push_str("null"),
        Value::Map(map) if map.is_empty() && origins.is_null(Arc::as_ptr(map).addr()) => out.push_str("null"),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, item, origins, html);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let html = html || map.contains_key(ROW_MARK);
            out.push('{');
            let mut first = true;
            for key in origins.keys(map) {
                let Some(item) = map.get(&key) else { continue };
                if matches!(item, Value::Function(_)) || &*key == ROW_MARK {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                json_string(out, &key, html);
                out.push(':');
                write_json(out, item, origins, html);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn json_string(out: &mut String, s: &str, html: bool) {
    let quoted = serde_json::to_string(s).unwrap_or_default();
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' if html => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
}

/// JSON as a template's value; `field` is the name of the field that holds it.
fn convert(field: &str, json: &Json, origin: &mut Origin) -> Value {
    match json {
        Json::Null if LISTS.contains(&field) => {
            let list: Arc<[Value]> = Arc::new([]);
            origin.nulls.insert(Arc::as_ptr(&list).addr());
            Value::List(list)
        }
        Json::Null if MAPS.contains(&field) => {
            let map = Arc::new(BTreeMap::new());
            origin.nulls.insert(Arc::as_ptr(&map).addr());
            Value::Map(map)
        }
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(n)) => Value::Uint(n),
            (None, None) => Value::Float(n.as_f64().unwrap_or(0.0)),
        },
        Json::String(s) => text(s.clone()),
        Json::Array(items) => Value::List(items.iter().map(|i| convert("", i, origin)).collect()),
        Json::Object(object) => {
            let keys: Vec<Arc<str>> = object.keys().map(|k| Arc::from(k.as_str())).collect();
            let values = object.iter().map(|(k, v)| convert(k, v, origin));
            let map: Arc<BTreeMap<_, _>> = Arc::new(keys.iter().cloned().zip(values.collect::<Vec<_>>()).collect());
            origin.keys.insert(Arc::as_ptr(&map).addr(), keys);
            Value::Map(map)
        }
    }
}

/// A failed template of a list command.
pub fn failure(kind: &str, message: String) -> Failure {
    Failure::new(format!("failed to {kind} template: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str, json: &str) -> Result<String, String> {
        Parsed::new("", template)?.execute_json(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn docker_functions() {
        let data = r#"{"s":"a,b","l":["x","y"],"m":{"k":"<v>"},"n":3,"t":true,"e":null,"Env":null,"Labels":null,"o":{"z":1,"a":{"y":2,"b":3}}}"#;
        for (template, text) in [
            ("{{json .m}} {{json .o}}", r#"{"k":"<v>"} {"z":1,"a":{"y":2,"b":3}}"#),
            ("{{json .l}} {{json .n}} {{json .e}}", r#"["x","y"] 3 null"#),
            ("{{join .l \"/\"}}", "x/y"),
            ("{{range split .s \",\"}}<{{.}}>{{end}}", "<a><b>"),
            ("{{upper .s}} {{title \"ab cd\"}} {{lower \"QQ\"}}", "A,B Ab Cd qq"),
            ("{{pad \"x\" 1 2}}|{{truncate \"hello\" 3}}", " x  |hel"),
            ("{{if .t}}{{printf \"%s-%d\" .s .n}}{{end}}", "a,b-3"),
            ("{{index .m \"k\"}} {{len .l}} {{.e}}", "<v> 2 <nil>"),
            ("{{println .n}}", "3\n"),
            ("{{.Env}} {{json .Env}} {{.Labels}} {{json .Labels}}", "[] null map[] null"),
            ("{{.m}} {{.l}}", "map[k:<v>] [x y]"),
        ] {
            assert_eq!(run(template, data).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn problems_read_like_go() {
        assert_eq!(
            run("{{.Foo}}", "{}"),
            Err("template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"".into())
        );
        assert_eq!(run("{{.Names", "{}"), Err("template: :1: unclosed action".into()));
    }

    #[test]
    fn labels_are_calls() {
        assert_eq!(call_label("{{.Label \"a\"}}.Label x"), "{{call .Label \"a\"}}.Label x");
        assert_eq!(call_label("{{if (.Label \".Label \")}}"), "{{if (call .Label \".Label \")}}");
        assert_eq!(call_label("{{.Labels}}"), "{{.Labels}}");
    }

    proptest::proptest! {
        #[test]
        fn any_template_is_answered(text in "[{}a.\" |()$]{0,24}") {
            let _ = run(&text, r#"{"a":1}"#);
        }
    }
}
