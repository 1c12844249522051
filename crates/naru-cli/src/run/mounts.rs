//! `--volume`, `--mount` and `--tmpfs`.

use crate::flag::csv;
use naru_base::size;
use serde::Serialize;
use std::collections::BTreeMap;

/// A mount of the API.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, ….
    #[serde(rename = "Type")]
    pub kind: String,
    /// A path of the host, or a name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where in the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    #[serde(skip_serializing_if = "is_false")]
    read_only: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BindOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    propagation: String,
    #[serde(skip_serializing_if = "is_false")]
    non_recursive: bool,
    #[serde(skip_serializing_if = "is_false")]
    read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "is_false")]
    read_only_force_recursive: bool,
    #[serde(skip_serializing_if = "is_false")]
    create_mountpoint: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeOptions {
    #[serde(skip_serializing_if = "is_false")]
    no_copy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver_config: Option<Driver>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    subpath: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_zero")]
    size_bytes: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(b: &bool) -> bool {
    !*b
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Reads a `--mount` value.
///
/// # Errors
/// With docker's words.
pub fn parse_mount(value: &str) -> Result<Mount, String> {
    let fields = csv(value)?;
    if fields.is_empty() {
        return Err("value is empty".into());
    }
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in &fields {
        match field.split_once('=') {
            Some((key, value)) => mount.set(&key.to_lowercase(), value, field)?,
            None => mount.set_bare(&field.to_lowercase(), field)?,
        }
    }
    mount.check()?;
    Ok(mount)
}

impl Mount {
    fn set_bare(&mut self, key: &str, field: &str) -> Result<(), String> {
        match key {
            "readonly" | "ro" => self.read_only = true,
            "volume-nocopy" => self.volume().no_copy = true,
            // The old word for bind-recursive=disabled.
            "bind-nonrecursive" => self.bind_options.get_or_insert_default().non_recursive = true,
            "bind-create-src" => self.bind_options.get_or_insert_default().create_mountpoint = true,
            _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        match key {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => self.source = absolute(value),
            "target" | "dst" | "destination" => self.target = value.into(),
            "readonly" | "ro" => self.read_only = boolean(key, value)?,
            "consistency" => self.consistency = value.to_lowercase(),
            _ if key.starts_with("bind-") => return self.set_bind(key, value, field),
            _ if key.starts_with("volume-") => return self.set_volume(key, value, field),
            "image-subpath" => self.image_options.get_or_insert_default().subpath = value.into(),
            "tmpfs-size" => {
                let bytes = size::parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs_options.get_or_insert_default().size_bytes = bytes;
            }
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(value, 8).ok().filter(|m| (0..=i64::from(u32::MAX)).contains(m));
                let mode = mode.ok_or_else(|| format!("invalid value for {key}: {value}"))?;
                self.tmpfs_options.get_or_insert_default().mode = mode;
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn set_bind(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let options = self.bind_options.get_or_insert_default();
        match (key, value) {
            ("bind-propagation", _) => options.propagation = value.to_lowercase(),
            ("bind-nonrecursive", _) => options.non_recursive = boolean(key, value)?,
            ("bind-create-src", _) => options.create_mountpoint = boolean(key, value)?,
            ("bind-recursive", "enabled") => {
                if *options == BindOptions::default() {
                    self.bind_options = None;
                }
            }
            ("bind-recursive", "disabled") => options.non_recursive = true,
            ("bind-recursive", "writable") => options.read_only_non_recursive = true,
            ("bind-recursive", "readonly") => options.read_only_force_recursive = true,
            ("bind-recursive", _) => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn set_volume(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let pair = |map: &mut BTreeMap<String, String>| {
            let (k, v) = value.split_once('=').unwrap_or((value, ""));
            if !k.is_empty() {
                map.insert(k.into(), v.into());
            }
        };
        match key {
            "volume-subpath" => self.volume().subpath = value.into(),
            "volume-nocopy" => self.volume().no_copy = boolean(key, value)?,
            "volume-label" => pair(&mut self.volume().labels),
            "volume-driver" => self.volume().driver_config.get_or_insert_default().name = value.into(),
            "volume-opt" => pair(&mut self.volume().driver_config.get_or_insert_default().options),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    /// Docker's client always sends a driver with volume options, if only an empty one.
    fn volume(&mut self) -> &mut VolumeOptions {
        let options = self.volume_options.get_or_insert_default();
        options.driver_config.get_or_insert_default();
        options
    }

    fn check(&self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("type is required".into());
        }
        if self.target.is_empty() {
            return Err("target is required".into());
        }
        for (there, kind) in [
            (self.volume_options.is_some(), "volume"),
            (self.bind_options.is_some(), "bind"),
            (self.image_options.is_some(), "image"),
            (self.tmpfs_options.is_some(), "tmpfs"),
        ] {
            if there && self.kind != kind {
                return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", self.kind));
            }
        }
        let Some(bind) = &self.bind_options else { return Ok(()) };
        let needs = |option: &str, other: &str| {
            Err(format!("option 'bind-recursive={option}' requires '{other}' to be specified in conjunction"))
        };
        if bind.read_only_non_recursive && !self.read_only {
            return needs("writable", "readonly");
        }
        if bind.read_only_force_recursive && !self.read_only {
            return needs("readonly", "readonly");
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return needs("readonly", "bind-propagation=rprivate");
        }
        Ok(())
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}")),
    }
}

/// `./x` and `../x` as seen from the working folder.
fn absolute(path: &str) -> String {
    if path == "." || path.starts_with("./") || path == ".." || path.starts_with("../") {
        return clean(
            std::env::current_dir().map(|d| d.join(path)).unwrap_or_else(|_| path.into()).to_string_lossy().as_ref(),
        );
    }
    path.to_owned()
}

/// Go's `filepath.Clean` of an absolute path.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What a `--volume` value is.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// A path in the container, for an anonymous volume.
    Anonymous(String),
    /// `source:target[:options]`.
    Bind(String),
}

/// Reads a `--volume` value; a source like `./x` is made absolute.
///
/// # Errors
/// With docker's words.
pub fn parse_volume(value: &str) -> Result<Volume, String> {
    let bad = |why: &str| Err(format!("invalid spec: {value}: {why}"));
    if value.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    let parts: Vec<&str> = value.split(':').collect();
    if parts.iter().any(|p| p.is_empty()) {
        return bad("empty section between colons");
    }
    match parts[..] {
        [target] => Ok(Volume::Anonymous(target.to_owned())),
        [source, target] => Ok(Volume::Bind(format!("{}:{target}", bind_source(source)))),
        [source, target, options] => Ok(Volume::Bind(format!("{}:{target}:{options}", bind_source(source)))),
        _ => bad("too many colons"),
    }
}

fn bind_source(source: &str) -> String {
    if source.starts_with('.') {
        let joined = std::env::current_dir().map(|d| d.join(source)).unwrap_or_else(|_| source.into());
        return clean(&joined.to_string_lossy());
    }
    source.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &str) -> String {
        serde_json::to_string(&parse_mount(value).unwrap_or_else(|e| panic!("{value}: {e}"))).unwrap()
    }

    #[test]
    fn mounts() {
        assert_eq!(
            json("type=bind,src=/a,dst=/b,ro"),
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#
        );
        assert_eq!(
            json("source=v,target=/b,volume-nocopy,volume-label=a=b,volume-opt=o=x,volume-driver=d"),
            r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"DriverConfig":{"Name":"d","Options":{"o":"x"}}}}"#
        );
        assert_eq!(
            json("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777"),
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#
        );
        assert_eq!(
            json("type=bind,src=/a,dst=/b,bind-recursive=disabled,bind-propagation=rslave"),
            r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"rslave","NonRecursive":true}}"#
        );
        assert!(parse_mount("type=bind,src=./x,dst=/b").unwrap().source.starts_with('/'));
    }

    #[test]
    fn mount_refusals() {
        for (value, words) in [
            ("type=bind,src=/a", "target is required"),
            ("dst=/a,foo=b", "unexpected key 'foo' in 'foo=b'"),
            ("dst=/a,foo", "invalid field 'foo' must be a key=value pair"),
            ("dst=/a,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
            ("dst=/a,ro=x", "invalid value for ro: x"),
            ("type=tmpfs,dst=/a,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ] {
            assert_eq!(parse_mount(value).unwrap_err(), words, "{value}");
        }
    }

    #[test]
    fn volumes() {
        assert_eq!(parse_volume("/a"), Ok(Volume::Anonymous("/a".into())));
        assert_eq!(parse_volume("data:/a:ro,z"), Ok(Volume::Bind("data:/a:ro,z".into())));
        let Ok(Volume::Bind(text)) = parse_volume("./x:/y") else { panic!() };
        assert!(text.starts_with('/') && text.ends_with("/x:/y"), "{text}");
        assert!(parse_volume("").is_err() && parse_volume("a::b").is_err() && parse_volume("a:b:c:d").is_err());
        assert_eq!(clean("/a/./b/../c//"), "/a/c");
    }

    proptest::proptest! {
        #[test]
        fn no_volume_panics(value in "[a-z:./]{0,20}") {
            let _ = parse_volume(&value);
        }
    }
}
