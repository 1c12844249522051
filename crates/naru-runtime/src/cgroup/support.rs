//! Which limits this kernel can keep, found by the files that a group has.

use super::group::Cgroup;
use super::hierarchy::{Controller, Hierarchies};
use super::procs::children;
use std::path::Path;

/// Which limits the host can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Support {
    /// Memory.
    pub memory: bool,
    /// Memory and swap.
    pub swap: bool,
    /// A soft limit of memory.
    pub reservation: bool,
    /// Swappiness of a group (v1 only).
    pub swappiness: bool,
    /// Disabling the OOM killer (v1 only).
    pub oom_kill_disable: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// CPU quota and period.
    pub cpu_quota: bool,
    /// Real-time scheduling (v1 only, and kernels that are built so).
    pub cpu_realtime: bool,
    /// Processors and memory nodes.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Weight of block IO.
    pub blkio_weight: bool,
    /// Weight of block IO by device.
    pub blkio_weight_device: bool,
    /// Rates of block IO by device.
    pub blkio_throttle: bool,
}

impl Support {
    /// What holds for groups below the group at `parent`, which is made if it isn't there. The root of a tree lacks files that all other
    /// groups have, so it can't be asked.
    pub fn probe(hierarchies: &Hierarchies, parent: &str) -> Self {
        // Where no group can be made nothing can be limited.
        Cgroup::ensure(hierarchies, parent).map(|group| Self::of(&group)).unwrap_or_default()
    }

    /// What holds for groups that somebody else makes, with every controller: read off groups that are there.
    pub fn of_host(hierarchies: &Hierarchies) -> Self {
        Self::by(|controller, v1, v2| {
            let Some(hierarchy) = hierarchies.of(controller) else { return false };
            let names = if hierarchy.unified { v2 } else { v1 };
            let mut given = children(&hierarchy.base).filter(|dir| has_controller(dir, controller)).peekable();
            // Given to no group yet: what belongs to it is not to be seen, but can be had.
            given.peek().is_none() || given.any(|dir| names.iter().any(|name| dir.join(name).exists()))
        })
    }

    fn of(group: &Cgroup) -> Self {
        Self::by(|controller, v1, v2| {
            let Some(group) = group.of(controller) else { return false };
            let names = if group.hierarchy.unified { v2 } else { v1 };
            names.iter().any(|name| group.dir.join(name).exists())
        })
    }

    fn by(has: impl Fn(Controller, &[&str], &[&str]) -> bool) -> Self {
        use Controller::{Blkio, Cpu, Cpuset, Memory, Pids};
        let throttle = ["blkio.throttle.read_bps_device"];
        Self {
            memory: has(Memory, &["memory.limit_in_bytes"], &["memory.max"]),
            swap: has(Memory, &["memory.memsw.limit_in_bytes"], &["memory.swap.max"]),
            reservation: has(Memory, &["memory.soft_limit_in_bytes"], &["memory.low"]),
            swappiness: has(Memory, &["memory.swappiness"], &[]),
            oom_kill_disable: has(Memory, &["memory.oom_control"], &[]),
            cpu_shares: has(Cpu, &["cpu.shares"], &["cpu.weight"]),
            cpu_quota: has(Cpu, &["cpu.cfs_quota_us"], &["cpu.max"]),
            cpu_realtime: has(Cpu, &["cpu.rt_runtime_us"], &[]),
            cpuset: has(Cpuset, &["cpuset.cpus"], &["cpuset.cpus"]),
            pids: has(Pids, &["pids.max"], &["pids.max"]),
            blkio_weight: has(Blkio, &["blkio.weight", "blkio.bfq.weight"], &["io.bfq.weight", "io.weight"]),
            blkio_weight_device: has(
                Blkio,
                &["blkio.weight_device", "blkio.bfq.weight_device"],
                &["io.bfq.weight", "io.weight"],
            ),
            blkio_throttle: has(Blkio, &throttle, &["io.max"]),
        }
    }
}

fn has_controller(dir: &Path, controller: Controller) -> bool {
    let text = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().any(|name| name == controller.v2_name())
}
