//! The options of `run` and `create` as the one request that makes the container.

use super::devices::{self, Device, DeviceRequest, Throttle, Ulimit, Weight};
use super::mounts::{self, Mount, Volume};
use super::networks::{self, Endpoint};
use super::ports::{self, Bindings};
use super::{environment, security};
use crate::flag::{Matches, parse_cpus};
use serde::Serialize;
use std::collections::BTreeMap;

type Strings = Option<Vec<String>>;
type Empty = BTreeMap<(), ()>;

/// `POST /containers/create`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Create {
    hostname: String,
    domainname: String,
    user: String,
    /// Whether the container's input comes from this client.
    pub attach_stdin: bool,
    /// Whether this client wants its output.
    pub attach_stdout: bool,
    /// Whether this client wants its error output.
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open.
    pub open_stdin: bool,
    /// Whether its input ends when this client's does.
    pub stdin_once: bool,
    env: Strings,
    cmd: Strings,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Health>,
    /// The image.
    pub image: String,
    volumes: BTreeMap<String, Empty>,
    working_dir: String,
    entrypoint: Strings,
    on_build: Strings,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    /// What depends on the host.
    pub host_config: HostConfig,
    networking_config: Networking,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networking {
    endpoints_config: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The part of the request that depends on the host.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    binds: Strings,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: String,
    log_config: LogConfig,
    network_mode: String,
    port_bindings: Bindings,
    restart_policy: RestartPolicy,
    /// Whether the container goes when it ends.
    pub auto_remove: bool,
    volume_driver: String,
    volumes_from: Strings,
    /// Height and width of the terminal.
    pub console_size: [u16; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    cap_add: Strings,
    cap_drop: Strings,
    cgroupns_mode: String,
    dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    extra_hosts: Strings,
    group_add: Strings,
    ipc_mode: String,
    cgroup: String,
    links: Strings,
    oom_score_adj: i64,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Strings,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    userns_mode: String,
    shm_size: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    runtime: String,
    isolation: String,
    #[serde(flatten)]
    resources: Resources,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
    masked_paths: Strings,
    readonly_paths: Strings,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    #[serde(rename = "Type")]
    kind: String,
    config: BTreeMap<String, String>,
}

/// When the engine starts a container again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    name: String,
    maximum_retry_count: i64,
}

/// The limits of a container.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Resources {
    cpu_shares: i64,
    memory: i64,
    nano_cpus: i64,
    cgroup_parent: String,
    blkio_weight: i64,
    blkio_weight_device: Vec<Weight>,
    blkio_device_read_bps: Vec<Throttle>,
    blkio_device_write_bps: Vec<Throttle>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<Throttle>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<Throttle>,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    devices: Vec<Device>,
    device_cgroup_rules: Strings,
    device_requests: Option<Vec<DeviceRequest>>,
    #[serde(skip_serializing_if = "is_zero")]
    kernel_memory: i64,
    memory_reservation: i64,
    memory_swap: i64,
    memory_swappiness: i64,
    oom_kill_disable: bool,
    pids_limit: i64,
    ulimits: Vec<Ulimit>,
    cpu_count: i64,
    cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: i64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: i64,
}

/// Builds the request. `detached` is `run --detach`; `proxies` are the configuration file's variables.
///
/// # Errors
/// With docker's words, for values that are wrong or don't go together.
pub fn build(m: &Matches, detached: bool, proxies: &[(String, String)]) -> Result<Create, String> {
    let mut create = Create { image: m.arg(0).to_owned(), ..Create::default() };
    set_streams(&mut create, m, detached);
    let swappiness = m.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let (binds, volumes) = volumes(m)?;
    create.volumes = volumes;
    create.cmd = some(m.args[1..].to_vec());
    create.entrypoint = m.opt("entrypoint").map(|e| vec![e.to_owned()]);
    let (port_bindings, exposed) = ports(m)?;
    create.exposed_ports = exposed;
    check_modes(m)?;
    create.env = some(variables(m, proxies)?);
    create.labels = environment::labels(&m.list("label-file"), &m.list("label"))?;
    if !m.str("health-on-failure").is_empty() {
        create.labels.insert("naru.health-on-failure".into(), m.str("health-on-failure").into());
    }
    create.hostname = m.str("hostname").to_owned();
    create.domainname = m.str("domainname").to_owned();
    create.user = m.str("user").to_owned();
    create.working_dir = m.str("workdir").to_owned();
    create.healthcheck = health(m)?;
    create.stop_signal = m.str("stop-signal").to_owned();
    create.stop_timeout = m.given("stop-timeout").then(|| m.int("stop-timeout"));
    create.host_config = host_config(m)?;
    create.host_config.binds = some(binds);
    create.host_config.port_bindings = port_bindings;
    let (mode, endpoints) = networks::endpoints(m)?;
    create.host_config.network_mode = mode;
    create.networking_config.endpoints_config = endpoints;
    Ok(create)
}

fn some(list: Vec<String>) -> Strings {
    (!list.is_empty()).then_some(list)
}

fn owned(m: &Matches, flag: &str) -> Vec<String> {
    m.list(flag).into_iter().map(str::to_owned).collect()
}

fn set_streams(create: &mut Create, m: &Matches, detached: bool) {
    let chosen: Vec<String> = m.list("attach").iter().map(|s| s.to_lowercase()).collect();
    let has = |name: &str| chosen.iter().any(|c| c == name);
    create.tty = m.bool("tty");
    create.open_stdin = m.bool("interactive");
    if detached {
        return;
    }
    let all = chosen.is_empty();
    create.attach_stdin = has("stdin") || (all && create.open_stdin);
    create.attach_stdout = has("stdout") || all;
    create.attach_stderr = has("stderr") || all;
    create.stdin_once = create.open_stdin && create.attach_stdin;
}

fn volumes(m: &Matches) -> Result<(Vec<String>, BTreeMap<String, Empty>), String> {
    let mut binds = Vec::new();
    let mut anonymous = BTreeMap::new();
    for value in m.list("volume") {
        match mounts::parse_volume(value)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(target) => {
                anonymous.insert(target, Empty::new());
            }
        }
    }
    Ok((binds, anonymous))
}

fn ports(m: &Matches) -> Result<(Bindings, BTreeMap<String, Empty>), String> {
    let mut bindings = Bindings::new();
    for value in m.list("publish") {
        ports::publish(&mut bindings, value)?;
    }
    let mut exposed: BTreeMap<String, Empty> = bindings.keys().map(|p| (p.clone(), Empty::new())).collect();
    for value in m.list("expose") {
        exposed.extend(ports::expose(value)?.into_iter().map(|p| (p, Empty::new())));
    }
    Ok((bindings, exposed))
}

fn variables(m: &Matches, proxies: &[(String, String)]) -> Result<Vec<String>, String> {
    let given = m.list("env");
    let mut out = environment::variables(&m.list("env-file"), &given)?;
    let named = |name: &str| given.iter().any(|v| v.split('=').next() == Some(name));
    out.extend(proxies.iter().filter(|(name, _)| !named(name)).map(|(name, value)| format!("{name}={value}")));
    Ok(out)
}

/// Namespace modes that have only a few forms.
fn check_modes(m: &Matches) -> Result<(), String> {
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|c| !c.is_empty());
    let pid = m.str("pid");
    if !(matches!(pid, "" | "host") || container(pid)) {
        return Err("--pid: invalid PID mode".into());
    }
    if !matches!(m.str("uts"), "" | "host") {
        return Err("--uts: invalid UTS mode".into());
    }
    if !matches!(m.str("userns"), "" | "auto" | "host") {
        return Err("--userns: invalid USER mode".into());
    }
    if !matches!(m.str("cgroupns"), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    Ok(())
}

fn health(m: &Matches) -> Result<Option<Health>, String> {
    let command = m.str("health-cmd");
    let health = Health {
        test: if command.is_empty() { Vec::new() } else { vec!["CMD-SHELL".into(), command.into()] },
        interval: m.nanos("health-interval"),
        timeout: m.nanos("health-timeout"),
        start_period: m.nanos("health-start-period"),
        start_interval: m.nanos("health-start-interval"),
        retries: m.int("health-retries"),
    };
    let numbers = [
        ("health-interval", health.interval),
        ("health-timeout", health.timeout),
        ("health-retries", health.retries),
        ("health-start-period", health.start_period),
        ("health-start-interval", health.start_interval),
    ];
    let any = !health.test.is_empty() || numbers.iter().any(|(_, n)| *n != 0);
    if m.bool("no-healthcheck") {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(Health { test: vec!["NONE".into()], ..Health::default() }));
    }
    if let Some((name, _)) = numbers.iter().find(|(_, n)| *n < 0) {
        return Err(format!("--{name} cannot be negative"));
    }
    Ok(any.then_some(health))
}

fn host_config(m: &Matches) -> Result<HostConfig, String> {
    let text = |flag: &str| m.str(flag).to_owned();
    let security = security::parse(&m.list("security-opt"))?;
    let empty_if = security.unconfined_paths.then(Vec::new);
    let restart_policy = restart_policy(m.str("restart"))?;
    if m.bool("rm") && restart_policy.name != "no" && !restart_policy.name.is_empty() {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let host_or_error = |v: &&str| networks::extra_host(v);
    Ok(HostConfig {
        container_id_file: text("cidfile"),
        log_config: log_config(m)?,
        restart_policy,
        auto_remove: m.bool("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: some(owned(m, "volumes-from")),
        annotations: environment::pairs(&m.list("annotation")),
        cap_add: some(capabilities(&m.list("cap-add"))),
        cap_drop: some(capabilities(&m.list("cap-drop"))),
        cgroupns_mode: text("cgroupns"),
        dns: owned(m, "dns"),
        dns_options: owned(m, "dns-option"),
        dns_search: owned(m, "dns-search"),
        extra_hosts: some(m.list("add-host").iter().map(host_or_error).collect::<Result<_, _>>()?),
        group_add: some(owned(m, "group-add")),
        ipc_mode: text("ipc"),
        links: some(owned(m, "link")),
        oom_score_adj: m.int("oom-score-adj"),
        pid_mode: text("pid"),
        privileged: m.bool("privileged"),
        publish_all_ports: m.bool("publish-all"),
        readonly_rootfs: m.bool("read-only"),
        security_opt: some(security.options),
        storage_opt: storage_options(m)?,
        tmpfs: tmpfs(m),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        shm_size: m.bytes("shm-size"),
        sysctls: environment::pairs(&m.list("sysctl")),
        runtime: text("runtime"),
        isolation: text("isolation"),
        resources: resources(m)?,
        mounts: m.list("mount").iter().map(|v| mounts::parse_mount(v)).collect::<Result<_, _>>()?,
        masked_paths: empty_if.clone(),
        readonly_paths: empty_if,
        init: m.given("init").then(|| m.bool("init")),
        ..HostConfig::default()
    })
}

fn log_config(m: &Matches) -> Result<LogConfig, String> {
    let kind = m.str("log-driver").to_owned();
    let config = environment::pairs(&m.list("log-opt"));
    if kind == "none" && !config.is_empty() {
        return Err(format!("invalid logging opts for driver {kind}"));
    }
    Ok(LogConfig { kind, config })
}

/// `net_admin` as `CAP_NET_ADMIN`, each once and in order; `ALL` takes the place of all others.
fn capabilities(names: &[&str]) -> Vec<String> {
    let normal = |name: &&str| match name.trim().to_uppercase() {
        all if all == "ALL" => all,
        whole if whole.starts_with("CAP_") => whole,
        bare => format!("CAP_{bare}"),
    };
    let mut out: Vec<String> = names.iter().map(normal).collect();
    if out.iter().any(|c| c == "ALL") {
        return vec!["ALL".into()];
    }
    out.sort();
    out.dedup();
    out
}

fn storage_options(m: &Matches) -> Result<BTreeMap<String, String>, String> {
    let options = m.list("storage-opt");
    if options.iter().any(|o| !o.contains('=')) {
        return Err("invalid storage option".into());
    }
    Ok(environment::pairs(&options))
}

fn tmpfs(m: &Matches) -> BTreeMap<String, String> {
    let split =
        |t: &str| t.split_once(':').map_or((t.to_owned(), String::new()), |(p, o)| (p.to_owned(), o.to_owned()));
    m.list("tmpfs").into_iter().map(split).collect()
}

/// Reads `no`, `always`, `unless-stopped`, `on-failure[:n]`.
///
/// # Errors
/// With docker's words.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').map_or((text, None), |(n, c)| (n, Some(c)));
    if count.is_some() && name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let maximum_retry_count = match count {
        None | Some("") => 0,
        Some(count) => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn resources(m: &Matches) -> Result<Resources, String> {
    fn each<T>(m: &Matches, flag: &str, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        m.list(flag).into_iter().map(read).collect()
    }
    let given = m.list("device");
    let (cdi, plain): (Vec<&str>, Vec<&str>) = given.into_iter().partition(|d| devices::is_cdi(d));
    let mut requests = each(m, "gpus", devices::parse_gpus)?;
    if !cdi.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(cdi.into_iter().map(str::to_owned).collect()),
            ..DeviceRequest::default()
        });
    }
    let mut ulimits = each(m, "ulimit", devices::parse_ulimit)?;
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Resources {
        cpu_shares: m.int("cpu-shares"),
        memory: m.bytes("memory"),
        nano_cpus: m.opt("cpus").map_or(Ok(0), parse_cpus)?,
        cgroup_parent: m.str("cgroup-parent").to_owned(),
        blkio_weight: m.int("blkio-weight"),
        blkio_weight_device: each(m, "blkio-weight-device", devices::parse_weight)?,
        blkio_device_read_bps: each(m, "device-read-bps", devices::parse_rate)?,
        blkio_device_write_bps: each(m, "device-write-bps", devices::parse_rate)?,
        blkio_device_read_iops: each(m, "device-read-iops", devices::parse_iops)?,
        blkio_device_write_iops: each(m, "device-write-iops", devices::parse_iops)?,
        cpu_period: m.int("cpu-period"),
        cpu_quota: m.int("cpu-quota"),
        cpu_realtime_period: m.int("cpu-rt-period"),
        cpu_realtime_runtime: m.int("cpu-rt-runtime"),
        cpuset_cpus: m.str("cpuset-cpus").to_owned(),
        cpuset_mems: m.str("cpuset-mems").to_owned(),
        devices: plain.into_iter().filter_map(|d| devices::parse_device(d).transpose()).collect::<Result<_, _>>()?,
        device_cgroup_rules: some(owned(m, "device-cgroup-rule")),
        device_requests: (!requests.is_empty()).then_some(requests),
        kernel_memory: m.bytes("kernel-memory"),
        memory_reservation: m.bytes("memory-reservation"),
        memory_swap: m.bytes("memory-swap"),
        memory_swappiness: m.int("memory-swappiness"),
        oom_kill_disable: m.bool("oom-kill-disable"),
        pids_limit: m.int("pids-limit"),
        ulimits,
        cpu_count: m.int("cpu-count"),
        cpu_percent: m.int("cpu-percent"),
        io_maximum_iops: m.int("io-maxiops"),
        io_maximum_bandwidth: m.bytes("io-maxbandwidth"),
    })
}

/// The body of `POST /containers/{id}/update`: only the limits.
///
/// # Errors
/// With docker's words.
pub fn update(m: &Matches) -> Result<serde_json::Value, String> {
    let mut limits = serde_json::to_value(resources(m)?).map_err(|e| e.to_string())?;
    let policy = if m.given("restart") { restart_policy(m.str("restart"))? } else { RestartPolicy::default() };
    limits["RestartPolicy"] = serde_json::to_value(policy).map_err(|e| e.to_string())?;
    Ok(limits)
}
