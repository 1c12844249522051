//! On the kernel itself: needs root and a writable cgroup file system.

use super::{Cgroup, Controller, Hierarchies};
use crate::plan::{CgroupPlan, DeviceRule, Resources};
use naru_sys::clone::{Child, CloneFlags, clone3};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, unlink};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::ffi::{CStr, CString};

fn usable() -> bool {
    let usable = rustix::process::geteuid().is_root() && Hierarchies::host().is_ok();
    if !usable {
        eprintln!("SKIPPED: needs root and a cgroup file system");
    }
    usable
}

fn path(name: &str) -> String {
    format!("/naru-test-{}/{name}", rustix::process::getpid().as_raw_nonzero())
}

/// A group that goes when the test does, however it ends.
struct Scratch(Cgroup);

impl Scratch {
    fn new(name: &str, resources: Resources) -> Self {
        Self::on(Hierarchies::host().unwrap(), name, resources)
    }

    fn on(hierarchies: &Hierarchies, name: &str, resources: Resources) -> Self {
        Self(Cgroup::create(hierarchies, &CgroupPlan { path: path(name), resources, scope: None }).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let _ = self.0.remove();
        // The parent goes with the last test that uses it.
        for (_, dir) in self.0.dirs() {
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
    }
}

/// A process in the group that waits to be killed.
fn sleeper(cgroup: &Cgroup) -> Child {
    let v2 = cgroup.v2_dir().unwrap();
    let tasks = cgroup.join_fds().unwrap();
    let (ready, joined) = rustix::pipe::pipe().unwrap();
    let child = clone3(CloneFlags::CLEAR_SIGHAND, v2.as_ref().map(AsFd::as_fd), || {
        let failed = tasks.iter().any(|fd| rustix::io::write(fd, b"0").is_err());
        let _ = rustix::io::write(&joined, if failed { b"f" } else { b"j" });
        loop {
            std::thread::sleep(std::time::Duration::from_secs(100));
        }
    })
    .unwrap();
    let mut answer = [0];
    rustix::io::read(&ready, &mut answer).unwrap();
    assert_eq!(&answer, b"j");
    child
}

fn reap(pidfd: &OwnedFd) {
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
}

fn content(cgroup: &Cgroup, controller: Controller, name: &str) -> String {
    std::fs::read_to_string(cgroup.of(controller).unwrap().dir.join(name)).unwrap().trim().to_owned()
}

fn deny_all() -> DeviceRule {
    DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".into() }
}

#[test]
fn limits_are_set_and_changed() {
    if !usable() {
        return;
    }
    let resources = Resources {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        pids_limit: Some(50),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        ..Resources::default()
    };
    let mut scratch = Scratch::new("limits", resources);
    let cgroup = &mut scratch.0;
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (Some(64 << 20), Some(50)));
    let changed = Resources { memory: Some(256 << 20), memory_swap: Some(512 << 20), ..Resources::default() };
    cgroup.update(&changed).unwrap();
    let changed = Resources { memory: Some(-1), pids_limit: Some(-1), ..Resources::default() };
    cgroup.update(&changed).unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (None, None));
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    let refused = cgroup.update(&Resources { cpuset_cpus: Some("4000".into()), ..Resources::default() }).unwrap_err();
    assert!(refused.message().contains("cpuset.cpus") && refused.message().contains("4000"), "{refused}");
}

#[test]
fn a_failed_creation_leaves_nothing() {
    if !usable() {
        return;
    }
    let plan = CgroupPlan {
        path: path("refused"),
        resources: Resources { cpuset_cpus: Some("nonsense".into()), ..Resources::default() },
        scope: None,
    };
    let hierarchies = Hierarchies::host().unwrap();
    assert!(Cgroup::create(hierarchies, &plan).is_err());
    let group = Cgroup::open(hierarchies, &plan.path).unwrap();
    assert!(group.dirs().all(|(_, dir)| !dir.exists()));
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}

#[test]
fn processes_join_freeze_and_die() {
    if !usable() {
        return;
    }
    let scratch = Scratch::new("processes", Resources::default());
    let cgroup = &scratch.0;
    let (one, two) = (sleeper(cgroup), sleeper(cgroup));
    let mut expected = [one.pid.as_raw_nonzero().get(), two.pid.as_raw_nonzero().get()];
    expected.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), expected);
    for (hierarchy, dir) in cgroup.dirs() {
        let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        assert_eq!(members.lines().count(), 2, "{hierarchy:?}");
    }
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    pidfd_send_signal(&one.pidfd, Signal::TERM).unwrap();
    let reaper = std::thread::spawn(move || {
        reap(&one.pidfd);
        reap(&two.pidfd);
    });
    cgroup.kill_all().unwrap();
    reaper.join().unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.remove().unwrap();
    assert!(cgroup.dirs().all(|(_, dir)| !dir.exists()));
}

#[test]
fn groups_below_are_removed_too() {
    if !usable() {
        return;
    }
    let scratch = Scratch::new("nested", Resources::default());
    for (_, dir) in scratch.0.dirs() {
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
    }
    scratch.0.remove().unwrap();
    assert!(scratch.0.dirs().all(|(_, dir)| !dir.exists()));
}

fn allow(minor: u32, access: &str) -> DeviceRule {
    DeviceRule { allow: true, kind: 'c', major: Some(1), minor: Some(minor), access: access.into() }
}

/// Runs `check` in a process of the group.
fn inside(cgroup: &Cgroup, check: impl FnOnce() -> bool) -> bool {
    let (v2, tasks) = (cgroup.v2_dir().unwrap(), cgroup.join_fds().unwrap());
    let child = clone3(CloneFlags::CLEAR_SIGHAND, v2.as_ref().map(AsFd::as_fd), || {
        let joined = tasks.iter().all(|fd| rustix::io::write(fd, b"0").is_ok());
        naru_sys::process::exit_now(if joined && check() { 0 } else { 1 })
    })
    .unwrap();
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status() == Some(0)
}

fn opening(path: &CStr, flags: OFlags) -> Result<(), Errno> {
    open(path, flags, Mode::empty()).map(drop)
}

#[test]
fn devices_are_denied() {
    if !usable() {
        return;
    }
    let rules = vec![deny_all(), allow(3, "rwm")];
    let scratch = Scratch::new("devices", Resources { devices: rules, ..Resources::default() });
    if scratch.0.of(Controller::Devices).is_some() {
        assert_eq!(content(&scratch.0, Controller::Devices, "devices.list"), "c 1:3 rwm");
    }
    assert!(inside(&scratch.0, || opening(c"/dev/null", OFlags::RDONLY).is_ok()));
    assert!(inside(&scratch.0, || opening(c"/dev/zero", OFlags::RDONLY) == Err(Errno::PERM)));
}

/// The v2 tree alone, if programs may be attached.
fn v2_with_programs() -> Option<Hierarchies> {
    let unified = usable().then(|| Hierarchies::host().unwrap().only_unified()).flatten();
    let program = super::device_program::compile(&[]);
    let usable = unified.filter(|_| naru_sys::bpf::load_device_program(&program, "probe").is_ok());
    if usable.is_none() {
        eprintln!("SKIPPED: needs cgroup v2 and bpf(2)");
    }
    usable
}

#[test]
fn devices_are_denied_on_v2() {
    let Some(hierarchies) = v2_with_programs() else { return };
    let any_node = DeviceRule { major: None, minor: None, ..allow(0, "m") };
    let rules = vec![deny_all(), allow(3, "rw"), allow(5, "r"), any_node];
    let scratch = Scratch::on(&hierarchies, "devices-v2", Resources { devices: rules, ..Resources::default() });
    let cgroup = &scratch.0;
    assert!(inside(cgroup, || opening(c"/dev/null", OFlags::RDWR).is_ok()));
    assert!(inside(cgroup, || opening(c"/dev/zero", OFlags::RDONLY).is_ok()));
    assert!(inside(cgroup, || opening(c"/dev/zero", OFlags::RDWR) == Err(Errno::PERM)));
    assert!(inside(cgroup, || opening(c"/dev/full", OFlags::RDONLY) == Err(Errno::PERM)));

    let node = std::env::temp_dir().join(format!("naru-test-node-{}", rustix::process::getpid().as_raw_nonzero()));
    let name = CString::new(node.to_str().unwrap()).unwrap();
    let make = |kind| {
        let made = mknodat(CWD, &name, kind, Mode::RUSR, makedev(1, 7));
        let _ = unlink(&name);
        made
    };
    assert!(inside(cgroup, || make(FileType::CharacterDevice).is_ok()));
    assert!(inside(cgroup, || make(FileType::BlockDevice) == Err(Errno::PERM)));
}

#[test]
fn device_rules_of_a_group_on_v2_are_replaced() {
    let Some(hierarchies) = v2_with_programs() else { return };
    let with = |devices| Resources { devices, ..Resources::default() };
    let scratch = Scratch::on(&hierarchies, "replaced", with(vec![deny_all()]));
    let programs = |cgroup: &Cgroup| naru_sys::bpf::device_programs(cgroup.v2_dir().unwrap().unwrap().as_fd()).unwrap();
    let can_open_null = |cgroup: &Cgroup| inside(cgroup, || opening(c"/dev/null", OFlags::RDONLY).is_ok());
    assert!(!can_open_null(&scratch.0));
    for (rules, programs_then, allowed) in [
        (vec![deny_all(), allow(3, "rwm")], 1, true),
        (vec![deny_all(), allow(5, "rwm")], 1, false),
        (crate::defaults::privileged_device_rules(), 0, true),
        (Vec::new(), 0, true),
        (vec![deny_all()], 1, false),
        // None asked for: as it was.
        (Vec::new(), 1, false),
    ] {
        let again =
            Cgroup::create(&hierarchies, &CgroupPlan { path: path("replaced"), resources: with(rules), scope: None })
                .unwrap();
        assert_eq!((programs(&again).len(), can_open_null(&again)), (programs_then, allowed));
    }
}

/// Not an assertion: what creation costs, for whoever changes it (`--nocapture`).
#[test]
fn cost() {
    if !usable() {
        return;
    }
    let hierarchies = Hierarchies::host().unwrap();
    creation_cost(hierarchies, "this host");
    if let Some(unified) = v2_with_programs() {
        creation_cost(&unified, "v2 alone");
    }
    let begin = std::time::Instant::now();
    Hierarchies::detect().unwrap();
    eprintln!("detect: {:?}", begin.elapsed());
}

fn creation_cost(hierarchies: &Hierarchies, what: &str) {
    let rules: Vec<DeviceRule> = std::iter::once(deny_all()).chain((0..13).map(|n| allow(n, "rwm"))).collect();
    let mut times = Vec::new();
    for round in 0..20 {
        let plan = |devices: Vec<DeviceRule>| CgroupPlan {
            path: path(&format!("cost-{round}-{}", devices.len())),
            resources: Resources { devices, ..Resources::default() },
            scope: None,
        };
        let begin = std::time::Instant::now();
        let plain = Cgroup::create(hierarchies, &plan(Vec::new())).unwrap();
        let middle = std::time::Instant::now();
        let ruled = Cgroup::create(hierarchies, &plan(rules.clone())).unwrap();
        times.push((middle - begin, middle.elapsed()));
        drop((Scratch(plain), Scratch(ruled)));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    times.sort();
    eprintln!("{what}: create without and with 14 device rules, median: {:?}", times[times.len() / 2]);
}
