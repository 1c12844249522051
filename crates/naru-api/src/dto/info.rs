//! The answer to `/info`.

use super::time::{now, rfc3339};
use crate::version::{ApiVersion, ENGINE_VERSION, v1};
use naru_engine::types::SystemInfo;
use serde::Serialize;
use std::collections::BTreeMap;

/// The hub's address in credential stores and here.
const INDEX: &str = "https://index.docker.io/v1/";

/// docker's `SystemInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "docker's shape")]
pub(crate) struct Info {
    #[serde(rename = "ID")]
    id: String,
    containers: usize,
    containers_running: usize,
    containers_paused: usize,
    containers_stopped: usize,
    images: usize,
    driver: &'static str,
    driver_status: Vec<[String; 2]>,
    plugins: Plugins,
    memory_limit: bool,
    swap_limit: bool,
    cpu_cfs_period: bool,
    cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    cpu_set: bool,
    pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    ipv4_forwarding: bool,
    bridge_nf_iptables: bool,
    #[serde(rename = "BridgeNfIp6tables")]
    bridge_nf_ip6tables: bool,
    debug: bool,
    #[serde(rename = "NFd")]
    n_fd: usize,
    oom_kill_disable: bool,
    #[serde(rename = "NGoroutines")]
    n_goroutines: usize,
    system_time: String,
    logging_driver: String,
    cgroup_driver: &'static str,
    cgroup_version: String,
    #[serde(rename = "NEventsListener")]
    n_events_listener: usize,
    kernel_version: String,
    operating_system: String,
    #[serde(rename = "OSVersion")]
    os_version: String,
    #[serde(rename = "OSType")]
    os_type: &'static str,
    architecture: String,
    index_server_address: &'static str,
    registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    n_cpu: usize,
    mem_total: u64,
    generic_resources: Option<()>,
    docker_root_dir: String,
    http_proxy: &'static str,
    https_proxy: &'static str,
    no_proxy: &'static str,
    name: String,
    labels: Vec<String>,
    experimental_build: bool,
    server_version: &'static str,
    runtimes: BTreeMap<&'static str, Runtime>,
    default_runtime: &'static str,
    swarm: Swarm,
    live_restore_enabled: bool,
    isolation: &'static str,
    init_binary: &'static str,
    containerd_commit: Commit,
    runc_commit: Commit,
    init_commit: Commit,
    security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    cdi_spec_dirs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    discovered_devices: Vec<DiscoveredDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall_backend: Option<FirewallBackend>,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Plugins {
    volume: [&'static str; 1],
    network: [&'static str; 5],
    authorization: Option<()>,
    log: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    insecure_registry_cidrs: Vec<String>,
    index_configs: BTreeMap<String, Index>,
    mirrors: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    name: String,
    mirrors: Vec<String>,
    secure: bool,
    official: bool,
}

#[derive(Debug, Serialize)]
struct Runtime {
    path: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Swarm {
    #[serde(rename = "NodeID")]
    node_id: &'static str,
    node_addr: &'static str,
    local_node_state: &'static str,
    control_available: bool,
    error: &'static str,
    remote_managers: Option<()>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Commit {
    #[serde(rename = "ID")]
    id: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FirewallBackend {
    driver: &'static str,
}

impl Info {
    pub(crate) fn of(info: SystemInfo, version: ApiVersion) -> Self {
        let own = || Commit { id: env!("CARGO_PKG_VERSION") };
        let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
        if info.apparmor {
            // docker has it first.
            security.insert(0, "name=apparmor".into());
        }
        if info.selinux {
            security.push("name=selinux".into());
        }
        if info.user_namespaces {
            security.push("name=userns".into());
        }
        if info.cgroup_version == 2 {
            security.push("name=cgroupns".into());
        }
        Self {
            driver_status: driver_status(&info.backing_filesystem),
            registry_config: registry_config(&info),
            id: info.id,
            containers: info.containers,
            containers_running: info.running,
            containers_paused: info.paused,
            containers_stopped: info.stopped,
            images: info.images,
            driver: "overlay2",
            plugins: Plugins {
                volume: ["local"],
                network: ["bridge", "host", "ipvlan", "macvlan", "null"],
                authorization: None,
                log: naru_engine::log_drivers(),
            },
            memory_limit: info.limits.memory,
            swap_limit: info.limits.swap,
            cpu_cfs_period: info.limits.cpu_quota,
            cpu_cfs_quota: info.limits.cpu_quota,
            cpu_shares: info.limits.cpu_shares,
            cpu_set: info.limits.cpuset,
            pids_limit: info.limits.pids,
            ipv4_forwarding: sysctl_is_on("net/ipv4/ip_forward"),
            bridge_nf_iptables: sysctl_is_on("net/bridge/bridge-nf-call-iptables"),
            bridge_nf_ip6tables: sysctl_is_on("net/bridge/bridge-nf-call-ip6tables"),
            debug: info.debug,
            n_fd: open_descriptors(),
            oom_kill_disable: info.limits.oom_kill_disable,
            n_goroutines: 0,
            system_time: rfc3339(now()),
            logging_driver: info.log_driver,
            cgroup_driver: info.cgroup_driver.as_str(),
            cgroup_version: info.cgroup_version.to_string(),
            n_events_listener: info.event_listeners,
            kernel_version: info.kernel_version,
            operating_system: info.operating_system,
            os_version: info.os_version,
            os_type: "linux",
            architecture: info.architecture,
            index_server_address: INDEX,
            n_cpu: info.cpus,
            mem_total: info.memory,
            generic_resources: None,
            docker_root_dir: info.data_root.display().to_string(),
            http_proxy: "",
            https_proxy: "",
            no_proxy: "",
            name: info.name,
            labels: info.labels,
            experimental_build: false,
            server_version: ENGINE_VERSION,
            runtimes: BTreeMap::from([
                ("io.containerd.runc.v2", Runtime { path: "naru" }),
                ("runc", Runtime { path: "naru" }),
            ]),
            default_runtime: crate::decode::host::DEFAULT_RUNTIME,
            swarm: Swarm {
                node_id: "",
                node_addr: "",
                local_node_state: "inactive",
                control_available: false,
                error: "",
                remote_managers: None,
            },
            live_restore_enabled: true,
            isolation: "",
            init_binary: "naru",
            containerd_commit: own(),
            runc_commit: own(),
            init_commit: own(),
            security_options: security,
            cdi_spec_dirs: Some(info.cdi_spec_dirs.iter().map(|d| d.display().to_string()).collect()),
            discovered_devices: if version >= v1(50) { discovered(info.cdi_devices) } else { Vec::new() },
            firewall_backend: (version >= v1(49)).then_some(FirewallBackend { driver: "nftables" }),
            warnings: (!info.warnings.is_empty()).then_some(info.warnings),
        }
    }
}

/// A device that a specification describes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DiscoveredDevice {
    source: &'static str,
    #[serde(rename = "ID")]
    id: String,
}

fn discovered(names: Vec<String>) -> Vec<DiscoveredDevice> {
    names.into_iter().map(|id| DiscoveredDevice { source: "cdi", id }).collect()
}

fn driver_status(backing: &str) -> Vec<[String; 2]> {
    [
        ("Backing Filesystem", backing),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ]
    .map(|(k, v)| [k.to_owned(), v.to_owned()])
    .into()
}

/// Always spoken to without TLS if need be.
const LOOPBACK: [&str; 2] = ["::1/128", "127.0.0.0/8"];

fn registry_config(info: &SystemInfo) -> RegistryConfig {
    let (cidrs, hosts): (Vec<String>, Vec<String>) = info.insecure_registries.iter().cloned().partition(|r| is_cidr(r));
    let hub = Index { name: "docker.io".into(), mirrors: info.registry_mirrors.clone(), secure: true, official: true };
    let insecure = hosts
        .into_iter()
        .map(|host| (host.clone(), Index { name: host, mirrors: Vec::new(), secure: false, official: false }));
    RegistryConfig {
        insecure_registry_cidrs: LOOPBACK.map(str::to_owned).into_iter().chain(cidrs).collect(),
        index_configs: insecure.chain([("docker.io".into(), hub)]).collect(),
        mirrors: info.registry_mirrors.clone(),
    }
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(ip, bits)| ip.parse::<std::net::IpAddr>().is_ok() && bits.parse::<u8>().is_ok())
}

fn sysctl_is_on(name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|v| v.trim() == "1")
}

fn open_descriptors() -> usize {
    // The listing has one open itself.
    std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count().saturating_sub(1))
}
