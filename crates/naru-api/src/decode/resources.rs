//! Limits, with docker's checks.

use super::devices::block_device;
use crate::dto::host_config::{HostConfig, ThrottleDevice};
use naru_base::{Error, Result, ulimit};
use naru_engine::types::LimitSupport;
use naru_runtime::plan::{DeviceValue, Resources, Rlimit};

/// Least memory of a container.
const MIN_MEMORY: i64 = 6 << 20;
/// Microseconds of a period when `NanoCpus` is given.
const CPU_PERIOD: i64 = 100_000;

/// What of the host matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Processors.
    pub(crate) cpus: usize,
    /// What can be limited.
    pub(crate) limits: LimitSupport,
}

/// Whether any limit is asked for, so that the host must be looked at.
pub(crate) fn any(host: &HostConfig) -> bool {
    let numbers = [
        host.cpu_shares,
        host.memory,
        host.nano_cpus,
        host.cpu_period,
        host.cpu_quota,
        host.cpu_realtime_period,
        host.cpu_realtime_runtime,
        host.cpu_percent,
        host.memory_reservation,
        host.memory_swap,
    ];
    let lists = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    numbers.iter().any(|n| *n != 0)
        || host.blkio_weight != 0
        || host.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty())
        || lists.iter().any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
        || !host.cpuset_cpus.is_empty()
        || !host.cpuset_mems.is_empty()
        || host.memory_swappiness.is_some()
        || host.oom_kill_disable == Some(true)
        || host.pids_limit.is_some()
}

/// Turns the client's ways of saying nothing into nothing.
pub(crate) fn normalise(host: &mut HostConfig) {
    host.memory_swappiness = host.memory_swappiness.filter(|n| *n != -1);
    host.pids_limit = host.pids_limit.filter(|n| *n > 0);
}

/// `Your kernel does not support X or the cgroup is not mounted. Y discarded.`, if it doesn't: docker's words for most limits.
fn discards(warnings: &mut Vec<String>, asked: bool, supported: bool, text: &str) -> bool {
    let discards = asked && !supported;
    if discards {
        warnings.push(format!("Your kernel does not support {text}"));
    }
    discards
}

/// Checks the limits, writes what is discarded or completed back, and adds warnings.
///
/// # Errors
/// With docker's texts.
pub(crate) fn check(host: &mut HostConfig, facts: Facts, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    memory(host, facts.limits, update, warnings)?;
    memory_details(host, facts.limits, warnings)?;
    let pids = "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";
    if discards(warnings, host.pids_limit.is_some_and(|n| n > 0), facts.limits.pids, pids) {
        host.pids_limit = None;
    }
    cpu(host, facts, warnings)?;
    realtime(host, facts.limits)?;
    cpuset(host, facts, warnings)?;
    blkio(host, facts.limits, warnings)
}

/// Refuses a change that contradicts what the container has.
///
/// # Errors
/// With docker's texts, as conflicts.
pub(crate) fn check_update(asked: &HostConfig, existing: &HostConfig) -> Result<()> {
    let conflict = |text: &str| Err(Error::conflict(text));
    if asked.nano_cpus > 0 && existing.cpu_period > 0 {
        return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if asked.nano_cpus > 0 && existing.cpu_quota > 0 {
        return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if asked.cpu_period > 0 && existing.nano_cpus > 0 {
        return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if asked.cpu_quota > 0 && existing.nano_cpus > 0 {
        return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    if asked.memory != 0 && asked.memory > existing.memory_swap && asked.memory_swap == 0 {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    Ok(())
}

fn memory(host: &mut HostConfig, limits: LimitSupport, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    let none = "memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
    if discards(warnings, host.memory > 0, limits.memory, none) {
        host.memory = 0;
        host.memory_swap = -1;
    }
    let none = "swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
    if discards(warnings, host.memory > 0 && host.memory_swap != -1, limits.swap, none) {
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return Err(Error::invalid("You should always set the Memory limit when using Memoryswap limit, see usage"));
    }
    if host.memory > 0 && host.memory_swap == 0 && !update {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    Ok(())
}

fn memory_details(host: &mut HostConfig, limits: LimitSupport, warnings: &mut Vec<String>) -> Result<()> {
    let swappiness = host.memory_swappiness.filter(|n| *n != -1);
    let none = "memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.";
    if discards(warnings, swappiness.is_some(), limits.swappiness, none) {
        host.memory_swappiness = None;
    } else if let Some(n) = swappiness.filter(|n| !(0..=100).contains(n)) {
        return Err(Error::invalid(format!("Invalid value: {n}, valid memory swappiness range is 0-100")));
    }
    let none = "memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.";
    if discards(warnings, host.memory_reservation > 0, limits.reservation, none) {
        host.memory_reservation = 0;
    }
    if host.memory_reservation != 0 && host.memory_reservation < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return Err(Error::invalid("Minimum memory limit can not be less than memory reservation limit, see usage"));
    }
    if host.oom_kill_disable == Some(true) {
        if discards(warnings, true, limits.oom_kill_disable, "OomKillDisable. OomKillDisable discarded.") {
            host.oom_kill_disable = None;
        } else if host.memory == 0 {
            warnings.push(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of \
                 resources."
                    .into(),
            );
        }
    }
    Ok(())
}

fn cpu(host: &mut HostConfig, facts: Facts, warnings: &mut Vec<String>) -> Result<()> {
    for (other, text) in [(host.cpu_period, "CPU Period"), (host.cpu_quota, "CPU Quota")] {
        if host.nano_cpus > 0 && other > 0 {
            return Err(Error::invalid(format!("Conflicting options: Nano CPUs and {text} cannot both be set")));
        }
    }
    if host.nano_cpus > 0 && !facts.limits.cpu_quota {
        return Err(Error::invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        ));
    }
    let most = i64::try_from(facts.cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    // The kernel takes no quota below a millisecond, which is a hundredth of the usual period.
    let too_few = host.nano_cpus != 0 && host.nano_cpus < 10_000_000;
    if too_few || host.nano_cpus > most {
        let cpus = facts.cpus;
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if host.cpu_shares < 0 {
        return Err(Error::invalid("CPU shares can not be negative"));
    }
    let none = "CPU shares or the cgroup is not mounted. Shares discarded.";
    if discards(warnings, host.cpu_shares > 0, facts.limits.cpu_shares, none) {
        host.cpu_shares = 0;
    }
    let none = "CPU CFS scheduler. CPU period/quota discarded.";
    if discards(warnings, host.cpu_period != 0 || host.cpu_quota != 0, facts.limits.cpu_quota, none) {
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        host.cpu_percent = 0;
    }
    Ok(())
}

fn realtime(host: &HostConfig, limits: LimitSupport) -> Result<()> {
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !limits.cpu_realtime {
        return Err(Error::invalid("Your kernel does not support CPU real-time scheduler"));
    }
    if period != 0 && runtime > period {
        return Err(Error::invalid("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    Ok(())
}

fn cpuset(host: &mut HostConfig, facts: Facts, warnings: &mut Vec<String>) -> Result<()> {
    let asked = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    let none = "cpuset or the cgroup is not mounted. CPUset discarded.";
    if discards(warnings, asked, facts.limits.cpuset, none) {
        (host.cpuset_cpus, host.cpuset_mems) = (String::new(), String::new());
        return Ok(());
    }
    let last = facts.cpus.saturating_sub(1);
    let available = if last == 0 { "0".to_owned() } else { format!("0-{last}") };
    available_ones("CPUs", "cpus", &host.cpuset_cpus, &available)?;
    if host.cpuset_mems.is_empty() {
        return Ok(());
    }
    let nodes = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    let nodes = if nodes.trim().is_empty() { "0" } else { nodes.trim() };
    available_ones("memory nodes", "mems", &host.cpuset_mems, nodes)
}

/// Whether `available`, a list as in cpuset(7), has what is asked for.
fn available_ones(what: &str, file: &str, asked: &str, available: &str) -> Result<()> {
    match highest(asked) {
        None => Err(Error::invalid(format!("Invalid value {asked} for cpuset {file}"))),
        Some(n) if highest(available).is_some_and(|last| n > last) => Err(Error::invalid(format!(
            "Requested {what} are not available - requested {asked}, available: {available}"
        ))),
        Some(_) => Ok(()),
    }
}

fn blkio(host: &mut HostConfig, limits: LimitSupport, warnings: &mut Vec<String>) -> Result<()> {
    let none = "Block I/O weight or the cgroup is not mounted. Weight discarded.";
    if discards(warnings, host.blkio_weight > 0, limits.blkio_weight, none) {
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    let weights = host.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty());
    let none = "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.";
    if discards(warnings, weights, limits.blkio_weight_device, none) {
        host.blkio_weight_device = Some(Vec::new());
    }
    for (list, kind, way) in [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read limit", "BPS read"),
        (&mut host.blkio_device_write_bps, "BPS Block I/O write limit", "BPS write"),
        (&mut host.blkio_device_read_iops, "IOPS Block read limit", "IOPS read"),
        (&mut host.blkio_device_write_iops, "IOPS Block write limit", "IOPS write"),
    ] {
        let text = format!("{kind} or the cgroup is not mounted. Block I/O {way} limit discarded.");
        if discards(warnings, list.as_ref().is_some_and(|l| !l.is_empty()), limits.blkio_throttle, &text) {
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

/// The highest number of a list as in cpuset(7); 0 for an empty one, `None` for what is no list.
fn highest(list: &str) -> Option<usize> {
    if list.is_empty() {
        return Some(0);
    }
    let mut most = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<usize>().ok()).flatten();
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        most = most.max(last);
    }
    Some(most)
}

/// The checked limits as the engine has them.
///
/// # Errors
/// For devices that aren't there.
pub(crate) fn decode(host: &HostConfig) -> Result<Resources> {
    let some = |n: i64| (n != 0).then_some(n);
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    let quota = host.nano_cpus.saturating_mul(CPU_PERIOD) / 1_000_000_000;
    let weights = host.blkio_weight_device.iter().flatten().map(|d| {
        let (major, minor) = block_device(&d.path)?;
        Ok(DeviceValue { major, minor, value: d.weight.into() })
    });
    Ok(Resources {
        memory: some(host.memory),
        memory_swap: some(host.memory_swap),
        memory_reservation: some(host.memory_reservation),
        memory_swappiness: host.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
        oom_kill_disable: host.oom_kill_disable.filter(|d| *d),
        cpu_shares: positive(host.cpu_shares),
        cpu_quota: if host.nano_cpus > 0 { Some(quota) } else { some(host.cpu_quota) },
        cpu_period: if host.nano_cpus > 0 { positive(CPU_PERIOD) } else { positive(host.cpu_period) },
        cpu_rt_runtime: some(host.cpu_realtime_runtime),
        cpu_rt_period: positive(host.cpu_realtime_period),
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        pids_limit: host.pids_limit.map(|n| if n <= 0 { -1 } else { n }),
        blkio_weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        blkio_weight_device: weights.collect::<Result<_>>()?,
        blkio_read_bps: throttles(host.blkio_device_read_bps.as_ref())?,
        blkio_write_bps: throttles(host.blkio_device_write_bps.as_ref())?,
        blkio_read_iops: throttles(host.blkio_device_read_iops.as_ref())?,
        blkio_write_iops: throttles(host.blkio_device_write_iops.as_ref())?,
        devices: Vec::new(),
    })
}

fn throttles(list: Option<&Vec<ThrottleDevice>>) -> Result<Vec<DeviceValue>> {
    let value = |d: &ThrottleDevice| {
        let (major, minor) = block_device(&d.path)?;
        Ok(DeviceValue { major, minor, value: d.rate })
    };
    list.into_iter().flatten().map(value).collect()
}

/// ulimits.
///
/// # Errors
/// For unknown names, and a soft limit above the hard one.
pub(crate) fn rlimits(host: &HostConfig) -> Result<Vec<Rlimit>> {
    let limit = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let decode = |u: &crate::dto::host_config::Ulimit| {
        if u.name != "as" && !ulimit::NAMES.contains(&u.name.as_str()) {
            return Err(Error::invalid(format!("invalid ulimit type: {}", u.name)));
        }
        let (soft, hard) = (limit(u.soft), limit(u.hard));
        if soft > hard {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: {}, hard: {}",
                u.soft, u.hard
            )));
        }
        Ok(Rlimit { name: u.name.clone(), soft, hard })
    };
    host.ulimits.iter().flatten().map(decode).collect()
}

/// A host that can do everything.
#[cfg(test)]
pub(crate) const fn all_limits() -> LimitSupport {
    LimitSupport {
        memory: true,
        swap: true,
        reservation: true,
        swappiness: true,
        oom_kill_disable: true,
        cpu_shares: true,
        cpu_quota: true,
        cpu_realtime: true,
        cpuset: true,
        pids: true,
        blkio_weight: true,
        blkio_weight_device: true,
        blkio_throttle: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::host_config::Ulimit;

    fn checked(change: impl FnOnce(&mut HostConfig)) -> Result<(HostConfig, Vec<String>)> {
        with(all_limits(), change)
    }

    fn with(limits: LimitSupport, change: impl FnOnce(&mut HostConfig)) -> Result<(HostConfig, Vec<String>)> {
        let mut host = HostConfig::default();
        change(&mut host);
        let mut warnings = Vec::new();
        normalise(&mut host);
        check(&mut host, Facts { cpus: 2, limits }, false, &mut warnings)?;
        Ok((host, warnings))
    }

    #[test]
    fn bounds_are_dockers() {
        let refused = |change: fn(&mut HostConfig)| checked(change).unwrap_err().message().to_owned();
        assert_eq!(refused(|h| h.memory = 1), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            refused(|h| (h.memory, h.memory_swap) = (10_000_000, 5000)),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert_eq!(
            refused(|h| h.memory_swap = 50_000_000),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            refused(|h| h.memory_swappiness = Some(101)),
            "Invalid value: 101, valid memory swappiness range is 0-100"
        );
        assert_eq!(refused(|h| h.memory_reservation = 1), "Minimum memory reservation allowed is 6MB");
        assert_eq!(
            refused(|h| h.nano_cpus = 90_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert!(refused(|h| h.nano_cpus = 9_999_999).starts_with("range of CPUs is from 0.01"));
        assert_eq!(
            refused(|h| (h.nano_cpus, h.cpu_quota) = (1, 1)),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
        );
        assert!(refused(|h| h.cpu_period = 1).starts_with("CPU cfs period"));
        assert!(refused(|h| h.cpu_quota = 1).starts_with("CPU cfs quota"));
        assert_eq!(refused(|h| h.blkio_weight = 1), "Range of blkio weight is from 10 to 1000");
        assert_eq!(refused(|h| h.cpuset_cpus = "x".into()), "Invalid value x for cpuset cpus");
        assert_eq!(
            refused(|h| h.cpuset_cpus = "0,77".into()),
            "Requested CPUs are not available - requested 0,77, available: 0-1"
        );
    }

    #[test]
    fn defaults_are_completed() {
        let (host, warnings) = checked(|h| {
            h.memory = 64 << 20;
            h.pids_limit = Some(0);
            h.nano_cpus = 500_000_000;
        })
        .unwrap();
        assert_eq!((host.memory_swap, host.pids_limit), (128 << 20, None));
        assert!(warnings.is_empty());
        let limits = decode(&host).unwrap();
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(50_000), Some(100_000)));
        assert_eq!(limits.memory_swappiness, None);
        assert_eq!(decode(&HostConfig::default()).unwrap(), Resources::default());
    }

    #[test]
    fn what_the_kernel_lacks_is_discarded_with_a_warning() {
        let none = LimitSupport::default();
        let (host, warnings) = with(none, |h| {
            h.memory = 64 << 20;
            h.pids_limit = Some(5);
            h.cpu_shares = 5;
            h.cpuset_cpus = "0".into();
            h.memory_swappiness = Some(5);
            h.blkio_weight = 100;
            h.blkio_device_write_iops = Some(vec![ThrottleDevice { path: "/dev/null".into(), rate: 1 }]);
        })
        .unwrap();
        assert_eq!((host.memory, host.pids_limit, host.cpu_shares, host.cpuset_cpus.as_str()), (0, None, 0, ""));
        assert_eq!((host.memory_swappiness, host.blkio_weight), (None, 0));
        assert_eq!(host.blkio_device_write_iops, Some(vec![]));
        assert_eq!(
            warnings.last().unwrap(),
            "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded."
        );
        assert_eq!(warnings.len(), 7);
        let refused = with(none, |h| h.cpu_realtime_period = 1000).unwrap_err();
        assert_eq!(refused.message(), "Your kernel does not support CPU real-time scheduler");
    }

    #[test]
    fn updates_do_not_contradict_what_is_set() {
        let refused = |asked: HostConfig, existing: HostConfig| {
            check_update(&asked, &existing).err().map(|e| e.message().to_owned())
        };
        let cpus = || HostConfig { nano_cpus: 1, ..HostConfig::default() };
        let quota = || HostConfig { cpu_quota: 5000, ..HostConfig::default() };
        assert!(refused(cpus(), quota()).unwrap().ends_with("cannot be updated as CPU Quota has already been set"));
        assert!(refused(quota(), cpus()).unwrap().ends_with("cannot be updated as NanoCPUs has already been set"));
        assert_eq!(refused(cpus(), cpus()), None);
        let memory = |memory, memory_swap| HostConfig { memory, memory_swap, ..HostConfig::default() };
        assert!(refused(memory(9, 0), memory(4, 8)).unwrap().starts_with("Memory limit should be smaller"));
        assert_eq!(refused(memory(9, 12), memory(4, 8)), None);
        assert_eq!(refused(memory(6, 0), memory(4, 8)), None);
    }

    #[test]
    fn ulimits_have_names_and_an_order() {
        let read = |name: &str, soft, hard| {
            rlimits(&HostConfig {
                ulimits: Some(vec![Ulimit { name: name.into(), soft, hard }]),
                ..HostConfig::default()
            })
        };
        assert_eq!(read("nofile", 1, -1).unwrap()[0].hard, u64::MAX);
        assert_eq!(read("foo", 1, 1).unwrap_err().message(), "invalid ulimit type: foo");
        assert!(read("nofile", 2, 1).is_err() && read("nofile", -1, 1).is_err());
    }
}
