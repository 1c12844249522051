//! A container's resource usage as shown.

use super::time::{NEVER, rfc3339};
use naru_engine::StatsSample;
use naru_runtime::cgroup::{BlkioEntry, Stats};
use serde::Serialize;
use std::collections::BTreeMap;

/// docker's `StatsResponse`.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    name: String,
    id: String,
    read: String,
    preread: String,
    pids_stats: Pids,
    blkio_stats: Blkio,
    num_procs: u32,
    storage_stats: Empty,
    cpu_stats: Cpu,
    precpu_stats: Cpu,
    memory_stats: Memory,
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Debug, Default, Serialize)]
struct Empty {}

#[derive(Debug, Default, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<Entry>>,
    io_serviced_recursive: Option<Vec<Entry>>,
    io_queue_recursive: Option<Vec<Entry>>,
    io_service_time_recursive: Option<Vec<Entry>>,
    io_wait_time_recursive: Option<Vec<Entry>>,
    io_merged_recursive: Option<Vec<Entry>>,
    io_time_recursive: Option<Vec<Entry>>,
    sectors_recursive: Option<Vec<Entry>>,
}

#[derive(Debug, Clone, Serialize)]
struct Entry {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

/// Processor time.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cpu {
    cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_cpu_usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online_cpus: Option<u32>,
    throttling_data: Throttling,
}

#[derive(Debug, Clone, Default, Serialize)]
struct CpuUsage {
    total_usage: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_usage: Vec<u64>,
    usage_in_kernelmode: u64,
    usage_in_usermode: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Debug, Default, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failcnt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Network {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

impl Usage {
    /// A sample, and the one before it; `None` for a container that isn't running.
    pub(crate) fn of(name: &str, id: &str, sample: Option<&StatsSample>, before: Option<&StatsSample>) -> Self {
        let time = |s: Option<&StatsSample>| s.map_or_else(|| NEVER.to_owned(), |s| rfc3339(s.read));
        Self {
            name: format!("/{name}"),
            id: id.to_owned(),
            read: time(sample),
            preread: time(before),
            pids_stats: sample.map(|s| pids(&s.cgroup)).unwrap_or_default(),
            blkio_stats: sample.map(|s| blkio(&s.cgroup)).unwrap_or_default(),
            num_procs: 0,
            storage_stats: Empty {},
            cpu_stats: sample.map(Cpu::of).unwrap_or_default(),
            precpu_stats: before.map(Cpu::of).unwrap_or_default(),
            memory_stats: sample.map(memory).unwrap_or_default(),
            networks: sample.filter(|s| !s.networks.is_empty()).map(networks),
        }
    }
}

fn pids(stats: &Stats) -> Pids {
    Pids { current: Some(stats.pids.current), limit: stats.pids.limit }
}

fn blkio(stats: &Stats) -> Blkio {
    let entries = |list: &[BlkioEntry]| {
        let entry = |e: &BlkioEntry| Entry { major: e.major, minor: e.minor, op: e.op.clone(), value: e.value };
        Some(list.iter().map(entry).collect())
    };
    // What isn't counted is empty on cgroup v1, which alone counts by processor, and null on v2.
    let uncounted = || (!stats.cpu.per_cpu.is_empty()).then(Vec::new);
    Blkio {
        io_service_bytes_recursive: entries(&stats.blkio.bytes),
        io_serviced_recursive: entries(&stats.blkio.operations),
        io_queue_recursive: uncounted(),
        io_service_time_recursive: uncounted(),
        io_wait_time_recursive: uncounted(),
        io_merged_recursive: uncounted(),
        io_time_recursive: uncounted(),
        sectors_recursive: uncounted(),
    }
}

impl Cpu {
    fn of(sample: &StatsSample) -> Self {
        let cpu = &sample.cgroup.cpu;
        Self {
            cpu_usage: CpuUsage {
                total_usage: cpu.usage,
                percpu_usage: cpu.per_cpu.clone(),
                usage_in_kernelmode: cpu.system,
                usage_in_usermode: cpu.user,
            },
            system_cpu_usage: Some(sample.system_cpu_ns),
            online_cpus: Some(sample.online_cpus),
            throttling_data: Throttling {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled,
            },
        }
    }
}

fn memory(sample: &StatsSample) -> Memory {
    let memory = &sample.cgroup.memory;
    Memory {
        usage: Some(memory.usage),
        max_usage: memory.max_usage,
        stats: Some(memory.detail.clone()),
        failcnt: (memory.failures > 0).then_some(memory.failures),
        limit: Some(memory.limit.unwrap_or(u64::MAX).min(sample.memory_limit)),
    }
}

fn networks(sample: &StatsSample) -> BTreeMap<String, Network> {
    let network = |n: &[u64; 8]| Network {
        rx_bytes: n[0],
        rx_packets: n[1],
        rx_errors: n[2],
        rx_dropped: n[3],
        tx_bytes: n[4],
        tx_packets: n[5],
        tx_errors: n[6],
        tx_dropped: n[7],
    };
    sample.networks.iter().map(|(name, n)| (name.clone(), network(n))).collect()
}
