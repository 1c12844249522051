//! docker's `Config`: what runs.

use crate::decode::tolerant::string_or_list;
use naru_engine::types::{ContainerConfig, Healthcheck};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A set, which docker writes as an object of empty objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Set(pub(crate) BTreeSet<String>);

impl Serialize for Set {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|k| (k, BTreeMap::<String, String>::new())))
    }
}

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, serde::de::IgnoredAny>::deserialize(deserializer)?;
        Ok(Self(map.into_keys().collect()))
    }
}

/// docker's health check; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct HealthConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// What runs, as shown.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<Set>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthConfig>,
    image: String,
    volumes: Option<Set>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    network_disabled: bool,
    on_build: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
}

impl Config {
    pub(crate) fn of(config: &ContainerConfig) -> Self {
        let set = |s: &BTreeSet<String>| (!s.is_empty()).then(|| Set(s.clone()));
        Self {
            hostname: config.hostname.clone(),
            domainname: config.domainname.clone(),
            user: config.user.clone(),
            attach_stdin: config.attach_stdin,
            attach_stdout: config.attach_stdout,
            attach_stderr: config.attach_stderr,
            exposed_ports: set(&config.exposed_ports),
            tty: config.tty,
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            env: Some(config.env.clone()),
            cmd: config.cmd.clone(),
            healthcheck: config.healthcheck.as_ref().map(HealthConfig::of),
            image: config.image.clone(),
            volumes: set(&config.volumes),
            working_dir: config.working_dir.clone(),
            entrypoint: config.entrypoint.clone(),
            network_disabled: config.network_disabled,
            on_build: (!config.on_build.is_empty()).then(|| config.on_build.clone()),
            labels: config.labels.clone(),
            stop_signal: config.stop_signal.clone().filter(|s| !s.is_empty()),
            stop_timeout: config.stop_timeout,
            shell: config.shell.clone(),
        }
    }
}

impl HealthConfig {
    fn of(check: &Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }
    }

    pub(crate) fn into_engine(self) -> Healthcheck {
        Healthcheck {
            test: self.test,
            interval: self.interval,
            timeout: self.timeout,
            start_period: self.start_period,
            start_interval: self.start_interval,
            retries: self.retries,
        }
    }
}

/// What runs, as asked for; with the other members of a create's body.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct CreateBody {
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    pub(crate) user: String,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) exposed_ports: Set,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "string_or_list")]
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) healthcheck: Option<HealthConfig>,
    pub(crate) image: String,
    pub(crate) volumes: Set,
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "string_or_list")]
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) network_disabled: bool,
    pub(crate) mac_address: String,
    pub(crate) on_build: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) stop_signal: String,
    pub(crate) stop_timeout: Option<i64>,
    #[serde(deserialize_with = "string_or_list")]
    pub(crate) shell: Option<Vec<String>>,
    pub(crate) host_config: Option<super::host_config::HostConfig>,
    pub(crate) networking_config: NetworkingConfig,
}

/// Endpoints asked for, by network name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NetworkingConfig {
    pub(crate) endpoints_config: BTreeMap<String, Option<EndpointConfig>>,
}

/// An endpoint as asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct EndpointConfig {
    #[serde(rename = "IPAMConfig")]
    pub(crate) ipam_config: EndpointIpam,
    pub(crate) links: Vec<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) mac_address: String,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) gw_priority: i64,
}

/// Addresses asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointIpam {
    #[serde(rename = "IPv4Address")]
    pub(crate) ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub(crate) ipv6_address: String,
    #[serde(rename = "LinkLocalIPs")]
    pub(crate) link_local_ips: Vec<String>,
}
