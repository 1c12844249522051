//! From [`Resources`] to what is written where: docker's tables for v1 and v2, as data.
//!
//! Sources: opencontainers/cgroups `fs/*.go` and `fs2/*.go` for files and order; moby `daemon/daemon_unix.go` for the warnings.

use super::hierarchy::Controller;
use crate::plan::{DeviceValue, Resources};

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    /// The first one that exists is written.
    pub(super) files: &'static [&'static str],
    pub(super) value: String,
    /// A file with another scale, for when none of `files` exists.
    pub(super) otherwise: Option<(&'static str, String)>,
    /// docker's warning when the kernel has none of the files.
    pub(super) unsupported: &'static str,
}

const NO_MEMORY: &str =
    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAP: &str =
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
const NO_RESERVATION: &str =
    "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.";
const NO_OOM_DISABLE: &str = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
const NO_PIDS: &str =
    "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";
const NO_SHARES: &str = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.";
const NO_QUOTA: &str = "Your kernel does not support CPU CFS scheduler or the cgroup is not mounted. Quota discarded.";
const NO_REALTIME: &str = "Your kernel does not support CPU real-time scheduler. Realtime settings discarded.";
const NO_CPUSET: &str = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
const NO_WEIGHT: &str = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
const NO_WEIGHT_DEVICE: &str =
    "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.";
const NO_THROTTLE: &str =
    "Your kernel does not support Block I/O limits by device or the cgroup is not mounted. Block I/O limits discarded.";

/// `-1` and below are `max` on v2 and in `pids.max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Zero means "not set" in docker's requests.
fn nonzero(value: Option<i64>) -> Option<i64> {
    value.filter(|v| *v != 0)
}

struct List(Vec<Setting>);

impl List {
    fn add(
        &mut self,
        controller: Controller,
        files: &'static [&'static str],
        value: impl ToString,
        unsupported: &'static str,
    ) {
        self.0.push(Setting { controller, files, value: value.to_string(), otherwise: None, unsupported });
    }

    fn by_device(
        &mut self,
        file: &'static [&'static str],
        prefix: &str,
        values: &[DeviceValue],
        unsupported: &'static str,
    ) {
        for DeviceValue { major, minor, value } in values {
            self.add(Controller::Blkio, file, format!("{major}:{minor} {prefix}{value}"), unsupported);
        }
    }

    fn cpuset(&mut self, resources: &Resources) {
        for (file, value) in [(&["cpuset.cpus"], &resources.cpuset_cpus), (&["cpuset.mems"], &resources.cpuset_mems)] {
            if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                self.add(Controller::Cpuset, file, value, NO_CPUSET);
            }
        }
    }

    fn pids(&mut self, resources: &Resources) {
        if let Some(limit) = resources.pids_limit {
            self.add(Controller::Pids, &["pids.max"], or_max(if limit == 0 { -1 } else { limit }), NO_PIDS);
        }
    }
}

/// What is set of the group now, as far as the order of writes depends on it (v1).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Current {
    /// `memory.limit_in_bytes`; `None` for a new group.
    pub(super) memory: Option<u64>,
}

/// What is written for v1.
pub(super) fn v1(resources: &Resources, current: Current) -> Vec<Setting> {
    let mut list = List(Vec::new());
    list.cpuset(resources);
    memory_v1(&mut list, resources, current);
    cpu_v1(&mut list, resources);
    list.pids(resources);
    blkio_v1(&mut list, resources);
    list.0
}

fn memory_v1(list: &mut List, resources: &Resources, current: Current) {
    const LIMIT: &[&str] = &["memory.limit_in_bytes"];
    const SWAP: &[&str] = &["memory.memsw.limit_in_bytes"];
    let memory = nonzero(resources.memory);
    // Without a limit for memory, one for both makes no sense either.
    let swap = nonzero(resources.memory_swap).or(memory.filter(|m| *m < 0));
    // memory <= memory and swap must hold after each write.
    let swap_first =
        swap.is_some_and(|swap| memory.is_some() && current.memory.is_some_and(|now| swap < 0 || now < swap as u64));
    if let Some(swap) = swap.filter(|_| swap_first) {
        list.add(Controller::Memory, SWAP, swap, NO_SWAP);
    }
    if let Some(memory) = memory {
        list.add(Controller::Memory, LIMIT, memory, NO_MEMORY);
    }
    if let Some(swap) = swap.filter(|_| !swap_first) {
        list.add(Controller::Memory, SWAP, swap, NO_SWAP);
    }
    if let Some(reservation) = nonzero(resources.memory_reservation) {
        list.add(Controller::Memory, &["memory.soft_limit_in_bytes"], reservation, NO_RESERVATION);
    }
    if let Some(swappiness) = resources.memory_swappiness {
        list.add(Controller::Memory, &["memory.swappiness"], swappiness, NO_SWAPPINESS);
    }
    if let Some(disable) = resources.oom_kill_disable {
        // The default is not written: the root's file, and some kernels, refuse it.
        if disable || current.memory.is_some() {
            list.add(Controller::Memory, &["memory.oom_control"], u8::from(disable), NO_OOM_DISABLE);
        }
    }
}

fn cpu_v1(list: &mut List, resources: &Resources) {
    if let Some(shares) = resources.cpu_shares.filter(|s| *s != 0) {
        list.add(Controller::Cpu, &["cpu.shares"], shares, NO_SHARES);
    }
    if let Some(period) = resources.cpu_rt_period.filter(|p| *p != 0) {
        list.add(Controller::Cpu, &["cpu.rt_period_us"], period, NO_REALTIME);
    }
    if let Some(runtime) = nonzero(resources.cpu_rt_runtime) {
        list.add(Controller::Cpu, &["cpu.rt_runtime_us"], runtime, NO_REALTIME);
    }
    if let Some(period) = resources.cpu_period.filter(|p| *p != 0) {
        list.add(Controller::Cpu, &["cpu.cfs_period_us"], period, NO_QUOTA);
    }
    if let Some(quota) = nonzero(resources.cpu_quota) {
        list.add(Controller::Cpu, &["cpu.cfs_quota_us"], quota, NO_QUOTA);
    }
}

fn blkio_v1(list: &mut List, resources: &Resources) {
    if let Some(weight) = resources.blkio_weight.filter(|w| *w != 0) {
        list.add(Controller::Blkio, &["blkio.weight", "blkio.bfq.weight"], weight, NO_WEIGHT);
    }
    let weight_files = &["blkio.weight_device", "blkio.bfq.weight_device"];
    list.by_device(weight_files, "", &resources.blkio_weight_device, NO_WEIGHT_DEVICE);
    list.by_device(&["blkio.throttle.read_bps_device"], "", &resources.blkio_read_bps, NO_THROTTLE);
    list.by_device(&["blkio.throttle.write_bps_device"], "", &resources.blkio_write_bps, NO_THROTTLE);
    list.by_device(&["blkio.throttle.read_iops_device"], "", &resources.blkio_read_iops, NO_THROTTLE);
    list.by_device(&["blkio.throttle.write_iops_device"], "", &resources.blkio_write_iops, NO_THROTTLE);
}

/// What is written for v2, in the order of opencontainers/cgroups `fs2.Manager.Set`: pids, memory, io, cpu, cpuset.
pub(super) fn v2(resources: &Resources) -> Vec<Setting> {
    let mut list = List(Vec::new());
    list.pids(resources);
    memory_v2(&mut list, resources);
    io_v2(&mut list, resources);
    if let Some(shares) = resources.cpu_shares.filter(|s| *s != 0) {
        list.add(Controller::Cpu, &["cpu.weight"], cpu_weight(shares), NO_SHARES);
    }
    if let Some(value) = cpu_max(resources) {
        list.add(Controller::Cpu, &["cpu.max"], value, NO_QUOTA);
    }
    list.cpuset(resources);
    list.0
}

fn memory_v2(list: &mut List, resources: &Resources) {
    let memory = nonzero(resources.memory);
    if let Some(swap) = swap_alone(resources) {
        list.add(Controller::Memory, &["memory.swap.max"], or_max(swap), NO_SWAP);
    }
    if let Some(memory) = memory {
        list.add(Controller::Memory, &["memory.max"], or_max(memory), NO_MEMORY);
    }
    if let Some(reservation) = nonzero(resources.memory_reservation) {
        list.add(Controller::Memory, &["memory.low"], or_max(reservation), NO_RESERVATION);
    }
    if resources.memory_swappiness.is_some() {
        list.add(Controller::Memory, &[], "", NO_SWAPPINESS);
    }
    if resources.oom_kill_disable == Some(true) {
        list.add(Controller::Memory, &[], "", NO_OOM_DISABLE);
    }
}

/// docker's number is memory and swap together, the kernel's (of v2) is swap alone; negative for no limit.
pub(super) fn swap_alone(resources: &Resources) -> Option<i64> {
    match (nonzero(resources.memory), nonzero(resources.memory_swap)) {
        (_, Some(swap)) if swap < 0 => Some(-1),
        (Some(memory), None) if memory < 0 => Some(-1),
        (Some(memory), Some(both)) if memory > 0 => Some((both - memory).max(0)),
        _ => None,
    }
}

fn io_v2(list: &mut List, resources: &Resources) {
    if let Some(weight) = resources.blkio_weight.filter(|w| *w != 0) {
        list.0.push(Setting {
            controller: Controller::Blkio,
            // Only BFQ takes docker's numbers as they are.
            files: &["io.bfq.weight"],
            value: weight.to_string(),
            otherwise: Some(("io.weight", io_weight(weight).to_string())),
            unsupported: NO_WEIGHT,
        });
    }
    for DeviceValue { major, minor, value } in &resources.blkio_weight_device {
        let scaled = io_weight(u16::try_from(*value).unwrap_or(u16::MAX).min(1000));
        list.0.push(Setting {
            controller: Controller::Blkio,
            files: &["io.bfq.weight"],
            value: format!("{major}:{minor} {value}"),
            otherwise: Some(("io.weight", format!("{major}:{minor} {scaled}"))),
            unsupported: NO_WEIGHT_DEVICE,
        });
    }
    list.by_device(&["io.max"], "rbps=", &resources.blkio_read_bps, NO_THROTTLE);
    list.by_device(&["io.max"], "wbps=", &resources.blkio_write_bps, NO_THROTTLE);
    list.by_device(&["io.max"], "riops=", &resources.blkio_read_iops, NO_THROTTLE);
    list.by_device(&["io.max"], "wiops=", &resources.blkio_write_iops, NO_THROTTLE);
}

/// 10..1000 to 1..10,000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

fn cpu_max(resources: &Resources) -> Option<String> {
    let quota = nonzero(resources.cpu_quota);
    let period = resources.cpu_period.filter(|p| *p != 0);
    if quota.is_none() && period.is_none() {
        return None;
    }
    let quota = quota.filter(|q| *q > 0).map_or_else(|| "max".to_owned(), |q| q.to_string());
    Some(format!("{quota} {}", period.unwrap_or(100_000)))
}

/// The formula of opencontainers/cgroups since 0.0.3: 1024 shares are the weight 100.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(settings: &[Setting]) -> Vec<(&str, &str)> {
        settings.iter().map(|s| (s.files.first().copied().unwrap_or("-"), s.value.as_str())).collect()
    }

    fn memory_and_swap(memory: i64, swap: i64) -> Resources {
        Resources { memory: Some(memory), memory_swap: Some(swap), ..Resources::default() }
    }

    #[test]
    fn nothing_asked_nothing_written() {
        assert!(v1(&Resources::default(), Current::default()).is_empty());
        assert!(v2(&Resources::default()).is_empty());
    }

    #[test]
    fn memory_before_swap_unless_the_group_is_smaller() {
        let (limit, swap) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        let order = |resources: Resources, current| v1(&resources, Current { memory: current });
        let new = order(memory_and_swap(64, 128), None);
        assert_eq!(written(&new), [(limit, "64"), (swap, "128")]);
        let grown = order(memory_and_swap(256, 512), Some(64));
        assert_eq!(written(&grown), [(swap, "512"), (limit, "256")]);
        let shrunk = order(memory_and_swap(32, 64), Some(256));
        assert_eq!(written(&shrunk), [(limit, "32"), (swap, "64")]);
        let lifted = order(Resources { memory: Some(-1), ..Resources::default() }, Some(256));
        assert_eq!(written(&lifted), [(swap, "-1"), (limit, "-1")]);
    }

    #[test]
    fn v2_memory() {
        assert_eq!(written(&v2(&memory_and_swap(64, 128))), [("memory.swap.max", "64"), ("memory.max", "64")]);
        assert_eq!(written(&v2(&memory_and_swap(64, 64))), [("memory.swap.max", "0"), ("memory.max", "64")]);
        assert_eq!(written(&v2(&memory_and_swap(64, -1))), [("memory.swap.max", "max"), ("memory.max", "64")]);
    }

    #[test]
    fn processors() {
        let resources = Resources { cpu_quota: Some(50_000), cpu_shares: Some(1024), ..Resources::default() };
        assert_eq!(written(&v2(&resources)), [("cpu.weight", "100"), ("cpu.max", "50000 100000")]);
        let resources = Resources { cpu_quota: Some(-1), cpu_period: Some(20_000), ..Resources::default() };
        assert_eq!(written(&v2(&resources)), [("cpu.max", "max 20000")]);
        let v1 = v1(&resources, Current::default());
        assert_eq!(written(&v1), [("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "-1")]);
    }

    #[test]
    fn weights_stay_in_range_and_grow() {
        assert_eq!((cpu_weight(0), cpu_weight(2), cpu_weight(1024), cpu_weight(262_144)), (1, 1, 100, 10_000));
        assert!((2..262_144).step_by(97).map(cpu_weight).is_sorted());
        assert_eq!((io_weight(10), io_weight(500), io_weight(1000)), (1, 4950, 10_000));
    }

    #[test]
    fn processes_and_devices() {
        let disk = DeviceValue { major: 8, minor: 0, value: 1024 };
        let resources = Resources {
            pids_limit: Some(-1),
            blkio_read_bps: vec![disk],
            cpuset_cpus: Some(String::new()),
            ..Resources::default()
        };
        assert_eq!(written(&v2(&resources)), [("pids.max", "max"), ("io.max", "8:0 rbps=1024")]);
        let v1 = v1(&resources, Current::default());
        assert_eq!(written(&v1), [("pids.max", "max"), ("blkio.throttle.read_bps_device", "8:0 1024")]);
    }
}
