//! `--env`, `--label` and the files they may come from.

use std::collections::BTreeMap;

/// Checks a `--env` value.
///
/// # Errors
/// When the name is empty.
pub fn check_variable(value: &str) -> Result<(), String> {
    match value.split('=').next() {
        Some("") | None => Err("invalid environment variable: ".to_owned() + value),
        Some(_) => Ok(()),
    }
}

/// Checks a `--label` value.
///
/// # Errors
/// When the key is empty.
pub fn check_label(value: &str) -> Result<(), String> {
    let key = value.split('=').next().unwrap_or_default().trim_start();
    if key.is_empty() { Err(format!("invalid label '{value}': empty name")) } else { Ok(()) }
}

/// The variables of `--env-file` files and then `--env` values; a name without a value takes the client's, or is left out.
///
/// # Errors
/// When a file cannot be read or a line is no variable.
pub fn variables(files: &[&str], values: &[&str]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for file in files {
        out.extend(read_file(file, true)?);
    }
    for value in values {
        out.extend(with_client_value(value));
    }
    Ok(out)
}

/// The labels of `--label-file` files and `--label` values.
///
/// # Errors
/// When a file cannot be read or a line is no label.
pub fn labels(files: &[&str], values: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(read_file(file, false)?);
    }
    lines.extend(values.iter().map(|v| (*v).to_owned()));
    Ok(pairs(&lines))
}

/// `k=v` texts as a map; without a value, the value is empty.
pub fn pairs(lines: &[impl AsRef<str>]) -> BTreeMap<String, String> {
    let split = |line: &str| {
        let (k, v) = line.split_once('=').unwrap_or((line, ""));
        (k.to_owned(), v.to_owned())
    };
    lines.iter().map(|l| split(l.as_ref())).collect()
}

fn with_client_value(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

fn read_file(path: &str, from_client: bool) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("open {path}: {}", crate::commands::go_io(&e)))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("env file {path} contains invalid utf8 bytes"))?;
    parse_file(&text, path, from_client)
}

fn parse_file(text: &str, path: &str, from_client: bool) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(n, v)| (n, Some(v)));
        if name.contains(char::is_whitespace) {
            return Err(format!("invalid environment variable: {path}: variable '{name}' contains whitespaces"));
        }
        if name.is_empty() {
            return Err(format!("invalid environment variable: {path}: no variable name on line '{line}'"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None if from_client => out.extend(with_client_value(name)),
            None => out.push(name.to_owned()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let text = "\u{feff}# comment\n  A=b # kept\n\nC=\nNARU_NOT_SET\r\nPATH\n";
        let read = parse_file(text, "f", true).unwrap();
        assert_eq!(read[..2], ["A=b # kept", "C="]);
        assert!(read[2].starts_with("PATH=") && read.len() == 3);
        assert_eq!(parse_file("X\n", "f", false).unwrap(), ["X"]);
        assert!(parse_file("a b=c", "f", true).unwrap_err().contains("contains whitespaces"));
        assert!(parse_file("=c", "f", true).is_err());
    }

    #[test]
    fn label_pairs() {
        assert_eq!(pairs(&["a=b=c", "d"]), BTreeMap::from([("a".into(), "b=c".into()), ("d".into(), String::new())]));
        assert!(check_label("=x").is_err() && check_variable("=x").is_err() && check_variable("A").is_ok());
    }
}
