//! `events`: what a container uses, in runc's form.

use super::print;
use crate::args::{Flag, Parsed, switch, value};
use crate::container::load_in;
use crate::global::Global;
use crate::state::Status;
use naru_base::{Error, Result, duration};
use naru_runtime::cgroup::{BlkioEntry, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

pub(super) const FLAGS: &[Flag] =
    &[value("interval", "time between two lines, 5s by default"), switch("stats", "one line, and no more")];

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id()?;
    let interval = match parsed.get("interval") {
        Some(text) => duration::parse(text)?,
        None => 5_000_000_000,
    };
    if interval <= 0 {
        return Err(Error::invalid("duration interval must be greater than 0"));
    }
    let (state, ..) = load_in(global, id, &[Status::Created, Status::Running, Status::Paused])?;
    let cgroup = state.cgroup()?;
    let tell = || print(&format!("{}\n", json!({ "type": "stats", "id": id, "data": document(&cgroup.stats()?) })));
    if parsed.has("stats") {
        return tell();
    }
    let mut kills = cgroup.oom_kills()?;
    let limit = Timespec { tv_sec: interval / 1_000_000_000, tv_nsec: interval % 1_000_000_000 };
    while let Some((_, pidfd)) = state.pidfd() {
        tell()?;
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ended = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit)));
        let now = cgroup.oom_kills().unwrap_or(kills);
        if now > kills {
            print(&format!("{}\n", json!({ "type": "oom", "id": id })))?;
            kills = now;
        }
        if !matches!(ended, Ok(0)) {
            break;
        }
    }
    Ok(0)
}

fn document(stats: &Stats) -> Value {
    let Stats { cpu, memory, blkio, pids } = stats;
    let detail = |name: &str| memory.detail.get(name).copied();
    let entry = |e: &BlkioEntry| json!({ "major": e.major, "minor": e.minor, "op": e.op, "value": e.value });
    let entries = |list: &[BlkioEntry]| list.iter().map(entry).collect::<Vec<_>>();
    json!({
        "cpu": {
            "usage": { "total": cpu.usage, "percpu": cpu.per_cpu, "kernel": cpu.system, "user": cpu.user },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            },
        },
        "memory": {
            "cache": detail("cache").or_else(|| detail("file")).unwrap_or(0),
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.max_usage.unwrap_or(0),
                "failcnt": memory.failures,
            },
            "raw": memory.detail,
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": { "ioServiceBytesRecursive": entries(&blkio.bytes), "ioServicedRecursive": entries(&blkio.operations) },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}
