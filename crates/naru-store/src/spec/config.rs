//! Image configurations (image specification, config.md, with docker's additions).

use super::manifest::null_is_default;
use naru_base::{Digest, Error, Platform, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No configuration may be larger.
const SIZE_LIMIT: usize = 8 << 20;

/// An image's configuration. Unknown keys live on in the raw bytes, which are what the image's id is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Processor, Go's name.
    #[serde(default)]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub comment: String,
    /// How a container of it runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The container that it was committed from.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub container: String,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The version of the program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub docker_version: String,
    /// How it was made, base first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Features of the operating system that it needs.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Version of the operating system that it needs.
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_version: String,
    /// The layers.
    pub rootfs: RootFs,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub variant: String,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command or instruction.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub created_by: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub comment: String,
    /// Whether it changed no file, so that no layer stands for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
}

/// `{}`: the value of a set that is written as a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// How a container of an image runs. A list that is absent differs from an empty one (an empty `Entrypoint` resets).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// User and group, by name or number.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// Ports that it listens on, `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Environment, `NAME=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The program, before `cmd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the program when there is no entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Free text by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What stops it, a signal's name or number.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Seconds to wait after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Whether `cmd` is escaped already (Windows).
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions that run when another image is built on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// What runs commands that are given as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// How a container's health is found out. Durations are nanoseconds; 0 means "inherit" or "default".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD` and arguments, or `CMD-SHELL` and a text.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub interval: i64,
    /// Longest time of one check.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub timeout: i64,
    /// Time in which failures don't count.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_period: i64,
    /// Time between checks in the start period.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// With docker's texts where it has one; and when there are more steps with a layer than layers.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(default)]
            rootfs: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() > SIZE_LIMIT {
            return Err(Error::invalid(format!("image configuration has more than {SIZE_LIMIT} bytes")));
        }
        let broken = |e: serde_json::Error| Error::invalid(format!("invalid image configuration: {e}"));
        let shape: Shape = serde_json::from_slice(bytes).map_err(broken)?;
        if shape.rootfs.is_none() {
            return Err(Error::invalid("invalid image JSON, no RootFS key"));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(broken)?;
        if config.rootfs.kind != "layers" {
            return Err(Error::invalid(format!("unsupported rootfs type {:?}", config.rootfs.kind)));
        }
        let with_layer = config.history.iter().filter(|h| !h.empty_layer).count();
        if with_layer > config.rootfs.diff_ids.len() {
            return Err(Error::invalid("too many non-empty layers in History section"));
        }
        Ok(config)
    }

    /// The bytes of a new configuration.
    ///
    /// # Errors
    /// Never in practice; JSON refuses only maps without text keys.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::system(format!("encode an image configuration: {e}")))
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant: self.variant.clone() }
    }

    /// When it was made, if it says so.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_and_oci_documents() {
        let text =
            br#"{"architecture":"amd64","config":{"Hostname":"x","Env":["A=b"],"Cmd":["sh"],"Image":"","Volumes":null,
            "WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}},
            "Healthcheck":{"Test":["CMD","true"],"Interval":1000000000}},
            "created":"2024-01-02T03:04:05.123456789Z","docker_version":"1","history":[{"created_by":"x"},
            {"created_by":"y","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":[
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]},"future":{"x":1}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(config.created_at().unwrap().as_second(), 1_704_164_645);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 1_000_000_000);
        let again = ImageConfig::parse(&config.to_bytes().unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let says = |text: &str| ImageConfig::parse(text.as_bytes()).unwrap_err().message().to_owned();
        assert_eq!(says(r#"{"os":"linux"}"#), "invalid image JSON, no RootFS key");
        assert_eq!(says(r#"{"rootfs":{"type":"x"}}"#), "unsupported rootfs type \"x\"");
        assert_eq!(
            says(r#"{"rootfs":{"type":"layers"},"history":[{}]}"#),
            "too many non-empty layers in History section"
        );
    }
}
