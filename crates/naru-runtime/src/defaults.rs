//! What docker gives every container unless told otherwise, as parts of a plan (moby `daemon/pkg/oci`, runc's `specconv`).

use crate::capabilities;
use crate::plan::{Capabilities, Device, DeviceRule, Mount, MountFlags, MountSource};
use naru_base::Result;
use naru_base::error::Context;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// PATH of a process whose image sets none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The set of capabilities of a container that asks for none.
pub const DEFAULT_CAPABILITIES: u64 = capabilities::DEFAULT;

/// Bytes of `/dev/shm` unless told otherwise.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Hidden from containers that aren't privileged. [`masked_paths`] adds those that depend on the host.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only in containers that aren't privileged.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How the default mounts are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountDefaults {
    /// Bytes of `/dev/shm`; `None` leaves it out (its folder comes from elsewhere).
    pub shm_size: Option<u64>,
    /// `/sys` and `/sys/fs/cgroup` can be written.
    pub privileged: bool,
    /// The root is read-only, and with it all but /proc, /dev, /dev/pts, /dev/shm and /dev/mqueue.
    pub readonly_rootfs: bool,
    /// `/dev/mqueue` shows the container's IPC namespace.
    pub mqueue: bool,
}

impl Default for MountDefaults {
    fn default() -> Self {
        Self { shm_size: Some(DEFAULT_SHM_SIZE), privileged: false, readonly_rootfs: false, mqueue: true }
    }
}

/// `/proc`, `/dev` and what is in it, `/sys` and the cgroup view, in docker's order.
pub fn default_mounts(defaults: MountDefaults) -> Vec<Mount> {
    let MountDefaults { shm_size, privileged, readonly_rootfs, mqueue } = defaults;
    let closed = MountFlags { nosuid: true, noexec: true, nodev: true, ..MountFlags::default() };
    let sys = MountFlags { readonly: !privileged || readonly_rootfs, ..closed };
    let dev = MountFlags { nosuid: true, strictatime: true, ..MountFlags::default() };
    let pts = MountFlags { nosuid: true, noexec: true, ..MountFlags::default() };
    let pts_options = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut mounts = vec![
        filesystem("/proc", "proc", "proc", &[], closed),
        filesystem("/dev", "tmpfs", "tmpfs", &["mode=755", "size=65536k"], dev),
        filesystem("/dev/pts", "devpts", "devpts", &pts_options, pts),
        filesystem("/sys", "sysfs", "sysfs", &[], sys),
        Mount { target: "/sys/fs/cgroup".into(), source: MountSource::Cgroup, flags: sys },
    ];
    if mqueue {
        mounts.push(filesystem("/dev/mqueue", "mqueue", "mqueue", &[], closed));
    }
    if let Some(size) = shm_size {
        mounts.push(filesystem("/dev/shm", "tmpfs", "shm", &["mode=1777", &format!("size={size}")], closed));
    }
    mounts
}

fn filesystem(target: &str, kind: &str, name: &str, options: &[&str], flags: MountFlags) -> Mount {
    let data = options.iter().map(|option| (*option).to_owned()).collect();
    let source = MountSource::Filesystem { kind: kind.to_owned(), name: name.to_owned(), data };
    Mount { target: target.into(), source, flags }
}

/// `null`, `zero`, `full`, `tty`, `random`, `urandom`.
pub fn default_devices() -> Vec<Device> {
    let device = |name: &str, major, minor| Device {
        path: Path::new("/dev").join(name),
        kind: 'c',
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    vec![
        device("null", 1, 3),
        device("zero", 1, 5),
        device("full", 1, 7),
        device("tty", 5, 0),
        device("random", 1, 8),
        device("urandom", 1, 9),
    ]
}

/// Access to devices: nothing, then docker's list, then runc's.
pub fn default_device_rules() -> Vec<DeviceRule> {
    let rule =
        |allow, kind, major, minor, access: &str| DeviceRule { allow, kind, major, minor, access: access.to_owned() };
    vec![
        rule(false, 'a', None, None, "rwm"),
        rule(true, 'c', Some(1), Some(5), "rwm"),
        rule(true, 'c', Some(1), Some(3), "rwm"),
        rule(true, 'c', Some(1), Some(9), "rwm"),
        rule(true, 'c', Some(1), Some(8), "rwm"),
        rule(true, 'c', Some(5), Some(0), "rwm"),
        rule(true, 'c', Some(5), Some(1), "rwm"),
        rule(false, 'c', Some(10), Some(229), "rwm"),
        rule(true, 'c', None, None, "m"),
        rule(true, 'b', None, None, "m"),
        rule(true, 'c', Some(1), Some(7), "rwm"),
        rule(true, 'c', Some(136), None, "rwm"),
        rule(true, 'c', Some(5), Some(2), "rwm"),
        rule(true, 'c', Some(10), Some(200), "rwm"),
    ]
}

/// A privileged container's: everything.
pub fn privileged_device_rules() -> Vec<DeviceRule> {
    vec![DeviceRule { allow: true, kind: 'a', major: None, minor: None, access: "rwm".to_owned() }]
}

/// All device nodes of the host below `/dev`, for a privileged container, without what a container has of its own: terminals, shared
/// memory, message queues, the console.
///
/// # Errors
/// `/dev` can't be read.
pub fn host_devices() -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    devices_below(Path::new("/dev"), &mut devices)?;
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(devices)
}

/// The device at `path`, or all below it if it is a folder (`--device`).
///
/// # Errors
/// There is nothing, or it is neither.
pub fn devices_at(path: &Path) -> Result<Vec<Device>> {
    let metadata = std::fs::metadata(path).system(format!("device {}", path.display()))?;
    let mut devices = Vec::new();
    if metadata.is_dir() {
        devices_below(path, &mut devices)?;
    } else {
        devices.extend(device_of(path, &metadata));
    }
    if devices.is_empty() {
        return Err(naru_base::Error::invalid(format!("not a device node: {}", path.display())));
    }
    Ok(devices)
}

/// Names that are never taken from the host (runc, `devices.GetDevices`).
const OWN_NAMES: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];

fn devices_below(folder: &Path, devices: &mut Vec<Device>) -> Result<()> {
    let entries = std::fs::read_dir(folder).system(format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.system(format!("read {}", folder.display()))?;
        if OWN_NAMES.iter().any(|name| entry.file_name() == **name) {
            continue;
        }
        // A node may vanish meanwhile (hot plugging).
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            devices_below(&entry.path(), devices)?;
        } else {
            devices.extend(device_of(&entry.path(), &metadata));
        }
    }
    Ok(())
}

fn device_of(path: &Path, metadata: &std::fs::Metadata) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let (uid, gid) = (metadata.uid(), metadata.gid());
    Some(Device { path: path.to_owned(), kind, major, minor, mode: metadata.mode() & 0o7777, uid, gid })
}

/// [`MASKED_PATHS`] and each processor's `thermal_throttle` that this host has.
pub fn masked_paths() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = MASKED_PATHS.iter().map(PathBuf::from).collect();
    // Without processors there is nothing to hide.
    for entry in std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten() {
        let path = entry.path().join("thermal_throttle");
        if entry.file_name().as_encoded_bytes().starts_with(b"cpu") && path.exists() {
            paths.push(path);
        }
    }
    paths
}

/// [`READONLY_PATHS`], owned.
pub fn readonly_paths() -> Vec<PathBuf> {
    READONLY_PATHS.iter().map(PathBuf::from).collect()
}

/// `set` as a container's processes have it: bounding, permitted, effective; nothing inheritable or ambient.
pub fn capability_sets(set: u64) -> Capabilities {
    Capabilities { bounding: set, effective: set, permitted: set, ambient: 0, inheritable: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_dockers() {
        let targets: Vec<_> = default_mounts(MountDefaults::default()).into_iter().map(|m| m.target).collect();
        let expected =
            ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"].map(PathBuf::from);
        assert_eq!(targets, expected);
    }

    #[test]
    fn privileged_may_write_sys() {
        let sys = |privileged, readonly_rootfs| {
            let defaults = MountDefaults { privileged, readonly_rootfs, ..MountDefaults::default() };
            default_mounts(defaults).iter().find(|m| m.target == Path::new("/sys")).map(|m| m.flags.readonly)
        };
        assert_eq!(sys(false, false), Some(true));
        assert_eq!(sys(true, false), Some(false));
        assert_eq!(sys(true, true), Some(true));
    }

    #[test]
    fn hosts_devices_have_the_null_device_and_no_terminals() {
        let devices = host_devices().unwrap();
        let null = devices.iter().find(|d| d.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.kind, null.major, null.minor), ('c', 1, 3));
        assert!(!devices.iter().any(|d| d.path.starts_with("/dev/pts") || d.path.ends_with("console")));
        assert!(devices_at(Path::new("/etc/passwd")).is_err());
        assert_eq!(devices_at(Path::new("/dev/null")).unwrap(), std::slice::from_ref(null));
    }

    #[test]
    fn everything_is_denied_first() {
        let rules = default_device_rules();
        assert!(!rules[0].allow && rules[0].kind == 'a');
    }
}
