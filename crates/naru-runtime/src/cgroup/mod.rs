//! Control groups, v1 and v2 and both at once, through cgroupfs (cgroups(7), cgroup-v1 and cgroup-v2 of the kernel's documentation).
//!
//! Which version a controller is on is found per controller ([`Hierarchies`]), never for the host as a whole. A process is never
//! moved by writing its id into `cgroup.procs`, which waits for RCU (7-15 ms after a pause): on v1 the child writes `0` into
//! [`tasks`](Cgroup::join_fds) itself, on v2 it is [born inside](Cgroup::v2_dir).
//!
//! A limit that this kernel can't keep (no swap accounting, no such controller) is a warning in docker's words; one that it refuses
//! is an error that names the file and the value.

mod device_program;
mod devices;
mod extra;
mod file;
mod freeze;
mod group;
mod hierarchy;
mod limits;
mod path;
mod procs;
mod remove;
mod shortage;
mod stats;
mod support;
pub mod systemd;

#[cfg(test)]
mod kernel_tests;

pub use group::Cgroup;
pub use hierarchy::{Controller, Hierarchies, Hierarchy};
pub use shortage::{MemoryShortage, MemoryWatch};
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};
pub use support::Support;
