//! `--filter` values as the API takes them.

use serde_json::{Map, Value, json};

/// `["status=running", "label=a=b"]` as `{"label":{"a=b":true},"status":{"running":true}}`; empty without filters.
pub fn to_json(filters: &[&str]) -> String {
    let map = to_map(filters);
    if map.is_empty() { String::new() } else { Value::Object(map).to_string() }
}

/// The same, not yet a text.
pub fn to_map(filters: &[&str]) -> Map<String, Value> {
    let mut map = Map::new();
    for filter in filters {
        let Some((key, value)) = filter.split_once('=') else { continue };
        add(&mut map, &key.trim().to_lowercase(), value.trim());
    }
    map.sort_keys();
    map
}

/// Adds one.
pub fn add(map: &mut Map<String, Value>, key: &str, value: &str) {
    let slot = map.entry(key).or_insert_with(|| json!({}));
    if let Some(values) = slot.as_object_mut() {
        values.insert(value.to_owned(), true.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_grouped() {
        assert_eq!(
            to_json(&["Status=running", "label=a=b", "label=c", "x = y "]),
            r#"{"label":{"a=b":true,"c":true},"status":{"running":true},"x":{"y":true}}"#
        );
        assert_eq!(to_json(&[]), "");
    }
}
