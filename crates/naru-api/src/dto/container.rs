//! A container as inspect shows it.

use super::config::Config;
use super::host_config::HostConfig;
use super::network::EndpointSettings;
use super::time::rfc3339;
use naru_engine::types::{ContainerView, EndpointView, HealthState, MountView, PortBinding, Status};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// docker's `ContainerInspectResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: i64,
    driver: &'static str,
    platform: String,
    mount_label: String,
    process_label: String,
    app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: Value,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountPoint>,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "docker's shape")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    /// Naru's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_lost: Option<LogLost>,
}

/// What of the container's output is in no log since its last start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogLost {
    records: u64,
    last_at: String,
    reason: String,
}

impl LogLost {
    fn of(view: &ContainerView) -> Option<Self> {
        let lost = &view.log_lost;
        let some = || Self { records: lost.records, last_at: rfc3339(lost.at), reason: lost.reason.clone() };
        (lost.records > 0).then(some)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
    log: Vec<HealthLog>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthLog {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

impl Health {
    fn of(state: &HealthState) -> Self {
        let log = state.log.iter().map(|result| HealthLog {
            start: rfc3339(result.start),
            end: rfc3339(result.end),
            exit_code: result.exit_code,
            output: result.output.clone(),
        });
        Self { status: state.status.as_str(), failing_streak: state.failing_streak, log: log.collect() }
    }
}

/// Where layers are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GraphDriver {
    pub(crate) data: BTreeMap<&'static str, String>,
    pub(crate) name: &'static str,
}

/// A mount.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    driver: String,
    mode: String,
    #[serde(rename = "RW")]
    rw: bool,
    propagation: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<Binding>>>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<()>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<()>,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    mac_address: String,
    networks: BTreeMap<String, EndpointSettings>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: String,
    host_port: String,
}

impl Container {
    pub(crate) fn of(view: ContainerView) -> Self {
        let text = |path: &Path| path.display().to_string();
        let mut config = view.config.clone();
        if config.hostname.is_empty() {
            config.hostname = view.id.short().to_owned();
        }
        Self {
            created: rfc3339(view.created),
            path: view.path.clone(),
            args: view.args.clone(),
            state: State::of(&view),
            image: view.image_id.to_string(),
            resolv_conf_path: text(&view.files.resolv_conf),
            hostname_path: text(&view.files.hostname),
            hosts_path: text(&view.files.hosts),
            // As in docker: where `local` has its files is its own business.
            log_path: if view.host.log.driver == "local" { String::new() } else { text(&view.files.log) },
            name: format!("/{}", view.name),
            restart_count: view.restart_count,
            driver: "overlay2",
            platform: view.platform.os.clone(),
            mount_label: view.mount_label.clone(),
            process_label: view.process_label.clone(),
            app_armor_profile: view.host.apparmor.clone().unwrap_or_default(),
            exec_ids: (!view.exec_ids.is_empty()).then(|| view.exec_ids.iter().map(ToString::to_string).collect()),
            host_config: host_config(&view.document),
            graph_driver: graph_driver(&view),
            size_rw: view.size_rw,
            size_root_fs: view.size_root,
            mounts: mount_points(&view),
            config: Config::of(&config),
            network_settings: NetworkSettings::of(&view),
            id: view.id.to_string(),
        }
    }
}

/// The document as it was completed at create; one from elsewhere is completed with defaults, so that no member is missing.
fn host_config(document: &Value) -> Value {
    if document.get("NetworkMode").is_some() {
        return document.clone();
    }
    let config: HostConfig = crate::decode::tolerant::from_value(document.clone()).unwrap_or_default();
    serde_json::to_value(config).unwrap_or_default()
}

fn graph_driver(view: &ContainerView) -> GraphDriver {
    let lower: Vec<String> = view.lower.iter().map(|p| p.display().to_string()).collect();
    // The overlay is mounted inside the container only; from outside it is seen through its first process.
    let merged = if view.pid > 0 { format!("/proc/{}/root", view.pid) } else { String::new() };
    let data = BTreeMap::from([
        ("ID", view.id.to_string()),
        ("LowerDir", lower.join(":")),
        ("MergedDir", merged),
        ("UpperDir", view.files.upper.display().to_string()),
        ("WorkDir", view.files.work.display().to_string()),
    ]);
    GraphDriver { data, name: "overlay2" }
}

impl State {
    fn of(view: &ContainerView) -> Self {
        Self {
            status: view.status.as_str(),
            running: view.status.is_running(),
            paused: view.status == Status::Paused,
            restarting: view.status == Status::Restarting,
            oom_killed: view.oom_killed,
            dead: view.status == Status::Dead,
            pid: view.pid,
            exit_code: view.exit_code,
            error: view.error.clone(),
            started_at: rfc3339(view.started_at),
            finished_at: rfc3339(view.finished_at),
            health: view.health.as_ref().map(Health::of),
            log_lost: LogLost::of(view),
        }
    }
}

/// Mounts as listed: a tmpfs of `--tmpfs` is not among docker's.
pub(crate) fn mount_points(view: &ContainerView) -> Vec<MountPoint> {
    let of_tmpfs = |m: &MountView| m.kind == "tmpfs" && view.document["Tmpfs"].get(&m.target).is_some();
    view.mounts
        .iter()
        .filter(|m| !of_tmpfs(m))
        .map(|m| MountPoint {
            r#type: m.kind.clone(),
            name: m.name.clone(),
            source: m.source.clone(),
            destination: m.target.clone(),
            driver: m.driver.clone(),
            mode: m.mode.clone(),
            rw: m.writable,
            propagation: m.propagation.clone(),
        })
        .collect()
}

impl NetworkSettings {
    fn of(view: &ContainerView) -> Self {
        let running = view.status.is_running();
        let bridge = view.endpoints.get("bridge").cloned().unwrap_or_default();
        let exposed = view.config.exposed_ports.iter().filter(|_| running).map(|p| (p.clone(), None));
        let published = view.ports.iter().map(|(port, bindings)| (port.clone(), Some(bindings_of(bindings))));
        let EndpointView { endpoint_id, gateway, ip, prefix, gateway6, ip6, prefix6, mac, .. } = bridge;
        Self {
            bridge: "",
            sandbox_id: view.sandbox_id.clone(),
            sandbox_key: view.files.sandbox_key.display().to_string(),
            ports: exposed.chain(published).collect(),
            hairpin_mode: false,
            link_local_ipv6_address: "",
            link_local_ipv6_prefix_len: 0,
            secondary_ip_addresses: None,
            secondary_ipv6_addresses: None,
            endpoint_id,
            gateway,
            global_ipv6_prefix_len: if ip6.is_empty() { 0 } else { prefix6 },
            global_ipv6_address: ip6,
            ip_prefix_len: if ip.is_empty() { 0 } else { prefix },
            ip_address: ip,
            ipv6_gateway: gateway6,
            mac_address: mac,
            networks: view.endpoints.iter().map(|(name, e)| (name.clone(), EndpointSettings::of(e))).collect(),
        }
    }
}

fn bindings_of(bindings: &[PortBinding]) -> Vec<Binding> {
    bindings.iter().map(|b| Binding { host_ip: b.host_ip.clone(), host_port: b.host_port.clone() }).collect()
}
