//! What we print against what dockerd 20.10 prints: the same members, of the same kinds.
//!
//! `tests/data/dockerd-20.10` has its answers with kinds for values; `*` stands for the keys of a map. Where the description of
//! API 1.50 differs from 20.10, the difference is listed here.

use super::{config, container, container_list, disk_usage, event, exec, image, info, network, stats, version, volume};
use crate::version::v1;
use naru_base::{Digest, Id, Platform};
use naru_engine::StatsSample;
use naru_engine::types::*;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A container to be shown.
pub(crate) fn container_view() -> ContainerView {
    ContainerView {
        id: Id::parse(&"ab".repeat(32)).unwrap(),
        name: "web".into(),
        created: 1_700_000_000_000_000_000,
        image_id: digest(),
        config: ContainerConfig::default(),
        host: HostSettings::default(),
        document: Value::Null,
        path: "sleep".into(),
        args: vec!["1000".into()],
        status: Status::Exited,
        pid: 0,
        exit_code: 0,
        error: String::new(),
        log_lost: Default::default(),
        oom_killed: false,
        started_at: 0,
        finished_at: 0,
        restart_count: 0,
        health: None,
        mounts: Vec::new(),
        endpoints: BTreeMap::new(),
        sandbox_id: String::new(),
        ports: BTreeMap::new(),
        files: ContainerFiles::default(),
        exec_ids: Vec::new(),
        lower: Vec::new(),
        size_rw: None,
        size_root: None,
        platform: Platform::host(),
        manifest_digest: None,
        process_label: String::new(),
        mount_label: String::new(),
    }
}

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "c".repeat(64))).unwrap()
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("x".to_owned(), "y".to_owned())])
}

/// The container that `docker-28-create.json` asks for, as the engine would show it.
fn full_view() -> ContainerView {
    let body = include_bytes!("../../tests/data/docker-28-create.json");
    let body: config::CreateBody = crate::decode::tolerant::from_slice(body).unwrap();
    let limits = crate::decode::resources::all_limits();
    let facts = || crate::decode::resources::Facts { cpus: 2, limits };
    let (request, warnings) = crate::decode::create::decode(body, None, None, facts).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut config = request.config;
    config.labels.extend(labels());
    let mount = MountView {
        kind: "volume".into(),
        name: "v1".into(),
        source: "/s".into(),
        target: "/t".into(),
        driver: "local".into(),
        mode: String::new(),
        writable: true,
        propagation: String::new(),
    };
    ContainerView {
        config,
        host: request.host,
        document: request.document,
        status: Status::Running,
        pid: 5,
        mounts: vec![mount],
        endpoints: BTreeMap::from([("host".into(), EndpointView::default())]),
        lower: vec!["/l".into()],
        size_rw: Some(0),
        size_root: Some(5),
        ..container_view()
    }
}

fn image_summary() -> ImageSummary {
    ImageSummary {
        id: digest(),
        parent: None,
        tags: vec!["bb:latest".into()],
        digests: Vec::new(),
        created: 1,
        size: 5,
        labels: labels(),
        containers: 3,
        has_children: false,
    }
}

fn network_view() -> NetworkView {
    let endpoint = ("plain".to_owned(), EndpointView::default());
    NetworkView {
        id: "ab".into(),
        name: "none".into(),
        driver: "null".into(),
        created: 1,
        containers: BTreeMap::from([("cd".into(), endpoint)]),
        ..NetworkView::default()
    }
}

fn volume_view() -> VolumeView {
    VolumeView {
        name: "v1".into(),
        mountpoint: "/v".into(),
        created: 1,
        labels: labels(),
        options: BTreeMap::new(),
        anonymous: false,
    }
}

/// Paths in `ours` that differ from `golden`: `-path` is missing, `+path` is new, `~path` is of another kind.
fn differences(ours: &Value, golden: &Value, path: &str, out: &mut BTreeSet<String>) {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) if golden.is_empty() || golden.contains_key("*") => {
            if let Some(kind) = golden.get("*") {
                assert!(!ours.is_empty(), "{path} has nothing to compare");
                ours.values().for_each(|v| differences(v, kind, path, out));
            }
        }
        (Value::Object(ours), Value::Object(golden)) => {
            for (key, kind) in golden {
                match ours.get(key) {
                    Some(value) => differences(value, kind, &at(key), out),
                    None => drop(out.insert(format!("-{}", at(key)))),
                }
            }
            out.extend(ours.keys().filter(|k| !golden.contains_key(*k)).map(|k| format!("+{}", at(k))));
        }
        (Value::Array(ours), Value::Array(golden)) => {
            if let Some(kind) = golden.first() {
                assert!(!ours.is_empty(), "{path} has nothing to compare");
                ours.iter().for_each(|v| differences(v, kind, path, out));
            }
        }
        (ours, Value::String(kind)) => {
            let own = match ours {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            if own != kind {
                out.insert(format!("~{path}"));
            }
        }
        _ => drop(out.insert(format!("~{path}"))),
    }
}

#[track_caller]
fn check(ours: &impl Serialize, golden: &str, expected: &[&str]) {
    let mut found = BTreeSet::new();
    differences(&serde_json::to_value(ours).unwrap(), &serde_json::from_str(golden).unwrap(), "", &mut found);
    let expected: BTreeSet<String> = expected.iter().map(|e| (*e).to_owned()).collect();
    let unexpected: Vec<_> = found.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&found).collect();
    assert!(unexpected.is_empty() && gone.is_empty(), "unexpected: {unexpected:?}; no longer: {gone:?}");
}

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../tests/data/dockerd-20.10/", $name, ".json"))
    };
}

#[test]
fn the_comparison_finds_differences() {
    let golden = r#"{"a":"string","b":["number"],"c":{"*":"bool"},"d":"null"}"#;
    check(&json!({"a": "x", "b": [1], "c": {"k": true}, "d": null}), golden, &[]);
    check(&json!({"a": 1, "b": ["x"], "c": {"k": 1}, "e": null}), golden, &["~a", "~b", "~c", "-d", "+e"]);
}

/// Members of an endpoint that 20.10 doesn't have.
const NEW_ENDPOINT: [&str; 2] = ["DNSNames", "GwPriority"];

#[test]
fn inspect_of_a_container() {
    let new = NEW_ENDPOINT.map(|m| format!("+NetworkSettings.Networks.{m}"));
    let mut expected: Vec<&str> = new.iter().map(String::as_str).collect();
    // Deprecated and gone when nothing is set; health comes with health checks.
    expected.extend(["-HostConfig.KernelMemory", "-HostConfig.KernelMemoryTCP", "-State.Health"]);
    check(&container::Container::of(full_view()), golden!("inspect_full"), &expected);
}

#[test]
fn list_of_containers() {
    let new = NEW_ENDPOINT.map(|m| format!("+NetworkSettings.Networks.{m}"));
    let mut expected: Vec<&str> = new.iter().map(String::as_str).collect();
    // 20.10 leaves a size of 0 out.
    expected.push("+SizeRw");
    check(&[container_list::Summary::of(full_view())], golden!("containers_json"), &expected);
}

#[test]
fn inspect_of_an_exec() {
    let view = ExecView {
        id: Id::parse(&"ab".repeat(32)).unwrap(),
        container: Id::parse(&"ab".repeat(32)).unwrap(),
        settings: ExecSettings { command: vec!["true".into()], ..ExecSettings::default() },
        running: false,
        exit_code: None,
        pid: 0,
    };
    check(&exec::ExecInspect::of(view), golden!("exec_inspect"), &[]);
}

#[test]
fn images() {
    // A list of none is empty since 1.43, where it was null.
    let old = image::Summary::of(image_summary(), v1(41), false);
    check(&[old], golden!("images"), &["~RepoDigests"]);
    check(&[image::Summary::of(image_summary(), v1(50), false)], golden!("images"), &["~RepoDigests", "-VirtualSize"]);
    let step = HistoryView {
        id: Some(digest()),
        created: 1,
        created_by: String::new(),
        tags: vec!["bb:latest".into()],
        size: 5,
        comment: String::new(),
    };
    check(&[image::History::of(step)], golden!("history"), &[]);
}

#[test]
fn inspect_of_an_image() {
    let document = json!({
        "architecture": "amd64", "os": "linux", "docker_version": "20.10", "author": "",
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"x": "y"}}
    });
    let view = || ImageView {
        summary: image_summary(),
        config: document.clone(),
        diff_ids: vec![digest()],
        layer_dirs: vec!["/l".into()],
        last_tagged: 1,
        manifest: None,
    };
    check(&image::Inspect::of(view(), v1(41)), golden!("image_inspect"), &[]);
    let pruned = [
        "AttachStderr",
        "AttachStdin",
        "AttachStdout",
        "Domainname",
        "Hostname",
        "Image",
        "OpenStdin",
        "StdinOnce",
        "Tty",
    ];
    let pruned = pruned.map(|m| format!("-Config.{m}"));
    let mut expected: Vec<&str> = pruned.iter().map(String::as_str).chain(["-Container", "-ContainerConfig"]).collect();
    expected.push("-VirtualSize");
    check(&image::Inspect::of(view(), v1(50)), golden!("image_inspect"), &expected);
}

#[test]
fn networks_and_volumes() {
    check(&network::Network::of(network_view(), true), golden!("network_none"), &["+EnableIPv4"]);
    check(&[network::Network::of(network_view(), false)], golden!("networks"), &["+EnableIPv4"]);
    check(&volume::Volume::of(volume_view()), golden!("volume"), &[]);
    check(
        &volume::VolumeList { volumes: vec![volume::Volume::of(volume_view())], warnings: None },
        golden!("volumes"),
        &[],
    );
}

#[test]
fn disk_usage() {
    let with_usage = volume::Volume::of(volume_view()).with_usage(volume::UsageData { ref_count: 1, size: 0 });
    let usage = disk_usage::DiskUsage {
        layers_size: 5,
        images: Some(vec![image::Summary::counted(image_summary(), v1(41), 0)]),
        containers: Some(vec![container_list::Summary::of(full_view())]),
        volumes: Some(vec![with_usage]),
        build_cache: None,
        builder_size: Some(0),
    };
    let new = NEW_ENDPOINT.map(|m| format!("+Containers.NetworkSettings.Networks.{m}"));
    let mut expected: Vec<&str> = new.iter().map(String::as_str).collect();
    expected.extend(["+Containers.SizeRw", "~Images.RepoDigests"]);
    check(&usage, golden!("df"), &expected);
}

#[test]
fn the_engine_itself() {
    let gone = [
        "-ContainerdCommit.Expected",
        "-InitCommit.Expected",
        "-KernelMemory",
        "-KernelMemoryTCP",
        "-RegistryConfig.AllowNondistributableArtifactsCIDRs",
        "-RegistryConfig.AllowNondistributableArtifactsHostnames",
        "-RuncCommit.Expected",
        "+CDISpecDirs",
    ];
    let facts = SystemInfo { insecure_registries: vec!["127.0.0.0/8".into()], ..SystemInfo::default() };
    check(&info::Info::of(facts.clone(), v1(41)), golden!("info"), &gone);
    check(&info::Info::of(facts.clone(), v1(50)), golden!("info"), &[&gone[..], &["+FirewallBackend"]].concat());
    // Every component tells what it knows; the first is the engine with all of it.
    let ours = serde_json::to_value(version::Version::of(&facts)).unwrap();
    check(&ours, golden!("version"), &[]);
    assert_eq!(ours["Components"][0]["Name"], "Engine");
}

#[test]
fn usage_of_a_container() {
    let mut sample = StatsSample {
        read: 1,
        cgroup: naru_runtime::cgroup::Stats::default(),
        system_cpu_ns: 1,
        online_cpus: 2,
        networks: BTreeMap::new(),
        memory_limit: 5,
    };
    sample.cgroup.cpu.per_cpu = vec![1, 2];
    sample.cgroup.memory.max_usage = Some(1);
    sample.cgroup.memory.detail = BTreeMap::from([("cache".into(), 1)]);
    check(&stats::Usage::of("a", "b", Some(&sample), Some(&sample)), golden!("stats"), &[]);
    check(&stats::Usage::of("a", "b", None, None), golden!("stats_done"), &[]);
}

#[test]
fn events() {
    let event = |kind: &str| Event {
        kind: kind.into(),
        action: "create".into(),
        id: "ab".into(),
        attributes: BTreeMap::from([("image".to_owned(), "bb".to_owned())]),
        time: 1,
    };
    check(&event::Message::of(&event("container")), golden!("event_container"), &[]);
    check(&event::Message::of(&event("volume")), golden!("event_volume"), &[]);
}
