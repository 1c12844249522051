//! CDI specifications as they are written (Container Device Interface, SPEC.md, version 1.0).

use super::yaml;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Most bytes of a specification.
const SIZE_LIMIT: u64 = 4 << 20;

/// One file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    cdi_version: String,
    /// `vendor.com/class`.
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) container_edits: Option<Edits>,
}

/// One device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) container_edits: Option<Edits>,
}

/// What becomes of a container that gets a device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    pub(super) env: Option<Vec<String>>,
    pub(super) device_nodes: Option<Vec<Node>>,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) hooks: Option<Vec<Hook>>,
    #[serde(rename = "additionalGids", deserialize_with = "numbers")]
    pub(super) additional_gids: Vec<u32>,
    pub(super) net_devices: Option<Value>,
    pub(super) intel_rdt: Option<Value>,
}

/// A device node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "number")]
    pub(super) major: Option<u32>,
    #[serde(deserialize_with = "number")]
    pub(super) minor: Option<u32>,
    #[serde(deserialize_with = "number")]
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    #[serde(deserialize_with = "number")]
    pub(super) uid: Option<u32>,
    #[serde(deserialize_with = "number")]
    pub(super) gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) options: Option<Vec<String>>,
}

/// A hook.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    #[serde(deserialize_with = "number")]
    pub(super) timeout: Option<u32>,
}

/// A number, or a text of one (YAML's scalars are texts here).
fn as_number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        // Both ways to write an octal number.
        Value::String(text) => {
            match text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|t| !t.is_empty())) {
                Some(octal) => u32::from_str_radix(octal, 8).ok(),
                None => text.parse().ok(),
            }
        }
        _ => None,
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => as_number(&value).map(Some).ok_or_else(|| serde::de::Error::custom(format!("{value} is no number"))),
    }
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let list = Option::<Vec<Value>>::deserialize(deserializer)?.unwrap_or_default();
    let one = |v: &Value| as_number(v).ok_or_else(|| serde::de::Error::custom(format!("{v} is no number")));
    list.iter().map(one).collect()
}

impl Spec {
    /// The specification in the file at `path`, by its extension.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > SIZE_LIMIT {
            return Err(format!("{size} bytes are too many"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        Self::parse(&text, path.extension().is_some_and(|e| e == "json"))
    }

    /// The specification in `text`.
    ///
    /// # Errors
    /// As [`Spec::read`].
    pub(super) fn parse(text: &str, json: bool) -> Result<Self, String> {
        let value = if json { serde_json::from_str(text).map_err(|e| e.to_string())? } else { yaml::parse(text)? };
        let spec: Self = serde_json::from_value(value).map_err(|e| e.to_string())?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        if !self.cdi_version.trim_start_matches('v').starts_with(['0', '1']) {
            return Err(format!("unknown cdiVersion {:?}", self.cdi_version));
        }
        let (vendor, class) = self.kind.split_once('/').unwrap_or((&self.kind, ""));
        if !is_word(vendor, "_-.") || !is_word(class, "_-") {
            return Err(format!("invalid kind {:?}: it is VENDOR/CLASS", self.kind));
        }
        match self.devices.iter().find(|d| !is_word(&d.name, "_-.:")) {
            Some(bad) => Err(format!("invalid device name {:?}", bad.name)),
            None => Ok(()),
        }
    }
}

/// Letters, digits, and some of `marks` between them.
fn is_word(text: &str, marks: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let json = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":
            {"deviceNodes":[{"path":"/dev/x","major":1,"minor":3,"fileMode":438}],"additionalGids":[5]}}]}"#;
        let yaml = "cdiVersion: 0.6.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits:\n    deviceNodes:\n    - path: /dev/x\n      major: 1\n      minor: 3\n      fileMode: 0666\n    additionalGids: [5]\n";
        for spec in [Spec::parse(json, true).unwrap(), Spec::parse(yaml, false).unwrap()] {
            let edits = spec.devices[0].container_edits.clone().unwrap();
            let node = &edits.device_nodes.unwrap()[0];
            assert_eq!((node.major, node.minor, node.file_mode, node.uid), (Some(1), Some(3), Some(0o666), None));
            assert_eq!(edits.additional_gids, [5]);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let parse = |kind: &str, name: &str, version: &str| {
            let text = format!(r#"{{"cdiVersion":"{version}","kind":"{kind}","devices":[{{"name":"{name}"}}]}}"#);
            Spec::parse(&text, true).err()
        };
        assert_eq!(parse("v.com/c", "0", "1.0.0"), None);
        assert!(parse("vendor", "0", "0.5.0").unwrap().contains("invalid kind"));
        assert!(parse("v/c/d", "0", "0.5.0").unwrap().contains("invalid kind"));
        assert!(parse("v.com/c", "a b", "0.5.0").unwrap().contains("invalid device name"));
        assert!(parse("v.com/c", "0", "").unwrap().contains("unknown cdiVersion"));
        assert!(Spec::parse("devices: 5", false).is_err());
    }
}
