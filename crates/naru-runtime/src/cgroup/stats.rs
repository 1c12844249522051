//! What a group has used, in one form for v1 and v2.

use super::file;
use super::group::{Cgroup, Group};
use super::hierarchy::Controller;
use naru_base::Result;
use std::collections::BTreeMap;

/// Nanoseconds in a tick of `cpuacct.stat` (USER_HZ is 100 on every architecture that we run on).
const TICK: u64 = 10_000_000;

/// What a group has used, with everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Block devices.
    pub blkio: BlkioStats,
    /// Processes.
    pub pids: PidsStats,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor (v1 only).
    pub per_cpu: Vec<u64>,
    /// Periods with a quota in force.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long it was throttled.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Now.
    pub usage: u64,
    /// Most so far (`None` on v2 before Linux 5.19).
    pub max_usage: Option<u64>,
    /// The limit, `None` for none.
    pub limit: Option<u64>,
    /// How often the limit was hit (v1's `failcnt`, v2's `max` event).
    pub failures: u64,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: u64,
    /// `memory.stat` as it is.
    pub detail: BTreeMap<String, u64>,
}

/// Use of block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes.
    pub bytes: Vec<BlkioEntry>,
    /// Operations.
    pub operations: Vec<BlkioEntry>,
}

/// One number for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, … on v1; `read`, `write` on v2: as docker prints it.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit, `None` for none.
    pub limit: Option<u64>,
}

impl Cgroup {
    /// What the group has used. A controller that isn't there counts nothing.
    ///
    /// # Errors
    /// read(2)'s, except for files that aren't there.
    pub fn stats(&self) -> Result<Stats> {
        let blkio = self.of(Controller::Blkio).map(blkio).transpose()?.unwrap_or_default();
        let pids = self.of(Controller::Pids).map(pids).transpose()?.unwrap_or_default();
        Ok(Stats { cpu: self.cpu()?, memory: self.memory()?, blkio, pids })
    }

    /// How many processes of the group the kernel has killed for want of memory.
    ///
    /// # Errors
    /// read(2)'s, except for files that aren't there.
    pub fn oom_kills(&self) -> Result<u64> {
        let Some(group) = self.of(Controller::Memory) else { return Ok(0) };
        let name = if group.hierarchy.unified { "memory.events" } else { "memory.oom_control" };
        let kills = text(group, name).map(|text| file::keyed(&text, "oom_kill"));
        match (kills, &self.kernel_log) {
            (Ok(Some(kills)), _) => Ok(kills),
            (_, Some(log)) => Ok(log.kills(&below_mount(group), self.first)),
            (kills, None) => kills.map(Option::unwrap_or_default),
        }
    }

    fn cpu(&self) -> Result<CpuStats> {
        let Some(group) = self.of(Controller::Cpu) else { return Ok(CpuStats::default()) };
        if group.hierarchy.unified {
            return Ok(cpu_v2(&text(group, "cpu.stat")?));
        }
        let mut stats = cpu_v1(&text(group, "cpu.stat")?);
        if let Some(account) = self.of(Controller::Cpuacct) {
            stats.usage = file::number(&text(account, "cpuacct.usage")?).unwrap_or(0);
            let split = text(account, "cpuacct.stat")?;
            stats.user = file::keyed(&split, "user").unwrap_or(0) * TICK;
            stats.system = file::keyed(&split, "system").unwrap_or(0) * TICK;
            let per_cpu = text(account, "cpuacct.usage_percpu")?;
            stats.per_cpu = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        }
        Ok(stats)
    }

    fn memory(&self) -> Result<MemoryStats> {
        let Some(group) = self.of(Controller::Memory) else { return Ok(MemoryStats::default()) };
        let number = |name| text(group, name).map(|t| file::number(&t));
        let detail = key_values(&text(group, "memory.stat")?);
        if group.hierarchy.unified {
            let events = text(group, "memory.events")?;
            return Ok(MemoryStats {
                usage: number("memory.current")?.unwrap_or(0),
                max_usage: number("memory.peak")?,
                limit: number("memory.max")?,
                failures: file::keyed(&events, "max").unwrap_or(0),
                oom_kills: file::keyed(&events, "oom_kill").unwrap_or(0),
                detail,
            });
        }
        Ok(MemoryStats {
            usage: number("memory.usage_in_bytes")?.unwrap_or(0),
            max_usage: number("memory.max_usage_in_bytes")?,
            limit: number("memory.limit_in_bytes")?.filter(|limit| *limit < NO_LIMIT_V1),
            failures: number("memory.failcnt")?.unwrap_or(0),
            oom_kills: self.oom_kills()?,
            detail,
        })
    }
}

/// v1 has no word for "no limit": it is the largest multiple of a page, which is above this for any page size.
pub(super) const NO_LIMIT_V1: u64 = 1 << 62;

/// The group's path as the kernel writes it, in the cgroup namespace of the mount.
fn below_mount(group: &Group) -> String {
    let below = group.dir.strip_prefix(&group.hierarchy.mount).unwrap_or(&group.dir);
    format!("/{}", below.display())
}

fn text(group: &Group, name: &str) -> Result<String> {
    Ok(file::read_optional(&group.dir.join(name))?.unwrap_or_default())
}

fn key_values(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?)))
        .collect()
}

fn cpu_v1(stat: &str) -> CpuStats {
    CpuStats {
        periods: file::keyed(stat, "nr_periods").unwrap_or(0),
        throttled_periods: file::keyed(stat, "nr_throttled").unwrap_or(0),
        throttled: file::keyed(stat, "throttled_time").unwrap_or(0),
        ..CpuStats::default()
    }
}

fn cpu_v2(stat: &str) -> CpuStats {
    let microseconds = |key| file::keyed(stat, key).unwrap_or(0).saturating_mul(1000);
    CpuStats {
        usage: microseconds("usage_usec"),
        user: microseconds("user_usec"),
        system: microseconds("system_usec"),
        throttled: microseconds("throttled_usec"),
        ..cpu_v1(stat)
    }
}

fn pids(group: &Group) -> Result<PidsStats> {
    let current = file::number(&text(group, "pids.current")?).unwrap_or(0);
    Ok(PidsStats { current, limit: file::number(&text(group, "pids.max")?) })
}

fn blkio(group: &Group) -> Result<BlkioStats> {
    if group.hierarchy.unified {
        return Ok(io_stat(&text(group, "io.stat")?));
    }
    Ok(BlkioStats {
        bytes: blkio_entries(&text(group, "blkio.throttle.io_service_bytes_recursive")?),
        operations: blkio_entries(&text(group, "blkio.throttle.io_serviced_recursive")?),
    })
}

/// Lines of `8:0 Read 4096`, and a last one of `Total 4096`.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    text.lines().filter_map(blkio_entry).collect()
}

fn blkio_entry(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = device(words.next()?)?;
    Some(BlkioEntry { major, minor, op: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_stat(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry = |op: &str| BlkioEntry { major, minor, op: op.to_owned(), value };
            match key {
                "rbytes" => stats.bytes.push(entry("read")),
                "wbytes" => stats.bytes.push(entry("write")),
                "rios" => stats.operations.push(entry("read")),
                "wios" => stats.operations.push(entry("write")),
                _ => {}
            }
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_in_nanoseconds() {
        let v2 =
            cpu_v2("usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 1\nthrottled_usec 5\n");
        assert_eq!((v2.usage, v2.user, v2.system, v2.throttled), (30_000, 20_000, 10_000, 5_000));
        assert_eq!((v2.periods, v2.throttled_periods), (4, 1));
        let v1 = cpu_v1("nr_periods 4\nnr_throttled 1\nthrottled_time 77\n");
        assert_eq!((v1.periods, v1.throttled_periods, v1.throttled), (4, 1, 77));
    }

    #[test]
    fn block_devices() {
        let entries = blkio_entries("8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n");
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 });
        let stats = io_stat("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:0 \nnonsense\n");
        assert_eq!(
            stats.bytes.iter().map(|e| (e.op.as_str(), e.value)).collect::<Vec<_>>(),
            [("read", 1), ("write", 2)]
        );
        assert_eq!(stats.operations.iter().map(|e| e.value).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn details_skip_what_is_no_number() {
        assert_eq!(key_values("cache 1\nrss x\n\nfile_mapped 3\n").into_values().collect::<Vec<_>>(), [1, 3]);
    }
}
