//! Which controllers this host has, where, and of which version.

use super::file;
use naru_base::{Error, Result};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// A controller that limits are set with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Block devices.
    Blkio,
    /// Processor time.
    Cpu,
    /// Accounting of processor time (v1 only; part of [`Controller::Cpu`] on v2).
    Cpuacct,
    /// Processors and memory nodes.
    Cpuset,
    /// Device access (v1 only).
    Devices,
    /// Freezing (v1 only; always there on v2).
    Freezer,
    /// Memory.
    Memory,
    /// Number of processes.
    Pids,
}

impl Controller {
    /// Those that v2 has as controllers of their own.
    const UNIFIED: [Self; 5] = [Self::Blkio, Self::Cpu, Self::Cpuset, Self::Memory, Self::Pids];

    const fn v1_name(self) -> &'static str {
        match self {
            Self::Blkio => "blkio",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    pub(super) const fn v2_name(self) -> &'static str {
        match self {
            Self::Blkio => "io",
            other => other.v1_name(),
        }
    }
}

/// One mounted tree of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// As the kernel lists them: `cpu`, `cpuacct`, `name=systemd`; for the v2 tree those that it has here (`memory`, `io`), none maybe.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The folder below which containers' groups are made: the root of the mount, or our own group if that isn't writable.
    pub base: PathBuf,
    /// Whether it is the v2 tree.
    pub unified: bool,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: Controller) -> bool {
        let name = if self.unified { controller.v2_name() } else { controller.v1_name() };
        self.controllers.iter().any(|c| c == name)
    }

    /// The controllers that we switch on for children of a v2 group, of those that are here.
    pub(super) fn delegated(&self) -> impl Iterator<Item = &'static str> {
        Controller::UNIFIED.into_iter().filter(|c| self.unified && self.has(*c)).map(Controller::v2_name)
    }
}

/// All trees of this host: several of v1, one of v2, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Those of this process, from `/proc/self/cgroup` and `/proc/self/mountinfo` (cgroups(7), proc_pid_mountinfo(5)).
    ///
    /// # Errors
    /// `/proc` isn't there, or no tree is mounted.
    pub fn detect() -> Result<Self> {
        let own = file::read(Path::new("/proc/self/cgroup"))?;
        let mounts = file::read(Path::new("/proc/self/mountinfo"))?;
        let mut found = Self::parse(&own, &mounts, is_writable);
        for hierarchy in found.list.iter_mut().filter(|h| h.unified) {
            let text = file::read(&hierarchy.base.join("cgroup.controllers"))?;
            hierarchy.controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        if found.list.is_empty() {
            return Err(Error::system("no cgroup file system is mounted"));
        }
        Ok(found)
    }

    /// As [`Hierarchies::detect`], found once per process (and kept by children made by fork).
    ///
    /// # Errors
    /// As [`Hierarchies::detect`].
    pub fn host() -> Result<&'static Self> {
        static HOST: OnceLock<Hierarchies> = OnceLock::new();
        match HOST.get() {
            Some(found) => Ok(found),
            None => {
                let found = Self::detect()?;
                Ok(HOST.get_or_init(|| found))
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// The tree of `controller`: a v1 tree that has it, or the v2 tree.
    pub fn of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.position(controller).and_then(|at| self.list.get(at))
    }

    pub(super) fn position(&self, controller: Controller) -> Option<usize> {
        let v1 = self.list.iter().position(|h| !h.unified && h.has(controller));
        v1.or_else(|| self.list.iter().position(|h| h.unified && h.has(controller)))
    }

    /// 2 if there is nothing but the v2 tree, otherwise 1, as docker's `CgroupVersion` has it.
    pub fn version(&self) -> u8 {
        if self.list.iter().all(|h| h.unified) { 2 } else { 1 }
    }

    /// The v2 tree alone, as on a host that has no other.
    #[cfg(test)]
    pub(super) fn only_unified(&self) -> Option<Self> {
        let list: Vec<Hierarchy> = self.list.iter().filter(|h| h.unified).cloned().collect();
        (!list.is_empty()).then_some(Self { list })
    }

    fn parse(own: &str, mounts: &str, writable: impl Fn(&Path) -> bool) -> Self {
        let mounts: Vec<CgroupMount> = mounts.lines().filter_map(CgroupMount::parse).collect();
        let list = own.lines().filter_map(|line| hierarchy(line, &mounts, &writable)).collect();
        Self { list }
    }
}

fn is_writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// A line of `/proc/self/mountinfo` that is about cgroups.
#[derive(Debug)]
struct CgroupMount {
    root: PathBuf,
    point: PathBuf,
    unified: bool,
    /// The controllers are among the super block's options.
    options: Vec<String>,
}

impl CgroupMount {
    /// `36 35 98:0 /root /point rw,noatime shared:1 - type source options`
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let unified = match right.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = right.nth(1).unwrap_or("").split(',').map(str::to_owned).collect();
        let mut left = left.split(' ').skip(3);
        Some(Self { root: unescape(left.next()?), point: unescape(left.next()?), unified, options })
    }
}

/// Undoes the octal escapes of the kernel's tables.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let octal = (*byte == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                plain.push(value);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// `7:cpu,cpuacct:/path`, or `0::/path` for v2.
fn hierarchy(line: &str, mounts: &[CgroupMount], writable: &impl Fn(&Path) -> bool) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, own) = (fields.next()?, fields.next()?, fields.next()?);
    let unified = number == "0" && controllers.is_empty();
    let controllers: Vec<String> = controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
    let serves = |mount: &&CgroupMount| {
        mount.unified == unified && (unified || controllers.iter().all(|c| mount.options.iter().any(|o| o == c)))
    };
    // The same tree may be mounted several times, parts of it too: the one that shows most serves best.
    let mount =
        mounts.iter().filter(serves).min_by_key(|m| (m.root.components().count(), m.point.components().count()))?;
    let base = if writable(&mount.point) { mount.point.clone() } else { own_group(mount, Path::new(own)) };
    let controllers = if unified { Vec::new() } else { controllers };
    Some(Hierarchy { controllers, mount: mount.point.clone(), base, unified })
}

/// Our own group's folder below `mount`; the mount itself when we are outside of what it shows.
fn own_group(mount: &CgroupMount, own: &Path) -> PathBuf {
    match own.strip_prefix(&mount.root) {
        Ok(below) if below.components().all(|c| matches!(c, Component::Normal(_))) && !below.as_os_str().is_empty() => {
            mount.point.join(below)
        }
        _ => mount.point.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_OWN: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/api/0dae\n2:cpu,cpuacct:/\n0::/\n";
    const HYBRID_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hybrid_is_found_per_controller() {
        let found = Hierarchies::parse(HYBRID_OWN, HYBRID_MOUNTS, |_| true);
        assert_eq!(found.list.len(), 5);
        assert_eq!(found.version(), 1);
        let cpu = found.of(Controller::Cpu).unwrap();
        assert_eq!((cpu.mount.to_str().unwrap(), cpu.unified), ("/sys/fs/cgroup/cpu,cpuacct", false));
        assert_eq!(found.of(Controller::Cpuacct), Some(cpu));
        assert_eq!(found.of(Controller::Memory).unwrap().base, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found.of(Controller::Devices), None);
        assert_eq!(found.iter().filter(|h| h.unified).count(), 1);
    }

    #[test]
    fn a_root_that_is_not_writable_leads_to_the_own_group() {
        let found = Hierarchies::parse(HYBRID_OWN, HYBRID_MOUNTS, |_| false);
        assert_eq!(found.of(Controller::Memory).unwrap().base, Path::new("/sys/fs/cgroup/memory/api/0dae"));
        assert_eq!(found.of(Controller::Pids).unwrap().base, Path::new("/sys/fs/cgroup/pids"));
    }

    #[test]
    fn pure_v2() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let mut found = Hierarchies::parse("0::/user.slice/a b\n", mounts, |_| true);
        assert_eq!(found.version(), 2);
        let unified = &mut found.list[0];
        unified.controllers = ["cpu", "io", "memory", "pids", "hugetlb"].map(str::to_owned).into();
        assert_eq!(unified.base, Path::new("/sys/fs/cgroup"));
        assert_eq!(unified.delegated().collect::<Vec<_>>(), ["io", "cpu", "memory", "pids"]);
        assert!(found.of(Controller::Memory).unwrap().unified);
        assert!(found.of(Controller::Blkio).unwrap().unified);
        assert_eq!((found.of(Controller::Cpuset), found.of(Controller::Freezer)), (None, None));
    }

    #[test]
    fn inside_a_container_the_mount_shows_a_part() {
        let mounts = "50 40 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = Hierarchies::parse("4:memory:/docker/ab/x\n", mounts, |_| false);
        assert_eq!(found.list[0].base, Path::new("/sys/fs/cgroup/memory/x"));
        let outside = Hierarchies::parse("4:memory:/../other\n", mounts, |_| false);
        assert_eq!(outside.list[0].base, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn escapes_of_the_mount_table() {
        assert_eq!(unescape("/a\\040b\\134"), Path::new("/a b\\"));
        assert_eq!(unescape("/a\\4"), Path::new("/a\\4"));
        assert_eq!(unescape("/é\\040"), Path::new("/é "));
    }

    #[test]
    fn nonsense_gives_nothing() {
        assert_eq!(Hierarchies::parse("x\n1:\n::\n", "a - b\n - \n1 2 3 - cgroup\n", |_| true), Hierarchies::default());
    }

    #[test]
    fn this_host_has_something() {
        let found = Hierarchies::host().unwrap();
        assert!(found.iter().all(|h| h.base.is_dir()), "{found:?}");
    }
}
