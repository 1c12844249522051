//! Groups that systemd makes: the `systemd` cgroup driver. On a host whose init is systemd, nobody else should make groups in its tree.
//!
//! A container is a transient scope ([`Scope`]), made by one call (`StartTransientUnit`) with all limits that systemd has a property for, so
//! that a `systemctl daemon-reload` writes what is there already; the rest of the limits, and the rules for devices, are written into the
//! scope's own files, which are ours by `Delegate=`. systemd makes no scope without a process: a [`Placeholder`] is in it until the container's
//! first process has been born there by CLONE_INTO_CGROUP. When the last process has ended, systemd removes the scope by itself.
//!
//! Only for cgroup v2 alone. Sources: org.freedesktop.systemd1(5), systemd.resource-control(5), systemd's CGROUP_DELEGATION.md;
//! opencontainers/cgroups `systemd/` for the names.

mod kernel_log;
mod manager;
mod placeholder;
mod properties;
mod slice;

pub(super) use kernel_log::KernelLog;
pub(super) use manager::Manager;
pub(super) use placeholder::Placeholder;
pub use slice::{Scope, check_slice};

use super::Hierarchies;
use naru_base::{Error, Result};

/// Whether this host's init is systemd (sd_booted(3)).
pub fn is_running() -> bool {
    std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|meta| meta.is_dir())
}

/// # Errors
/// systemd can't make groups on this host; the text says why, and what else to use.
pub fn check_host(hierarchies: &Hierarchies) -> Result<()> {
    let why = if !is_running() {
        "systemd is not this host's init"
    } else if hierarchies.version() != 2 {
        "it needs cgroup v2 alone, and this host has cgroup v1 too"
    } else {
        return Ok(());
    };
    Err(Error::not_implemented(format!("the systemd cgroup driver can't be used: {why}; use the cgroupfs driver")))
}
