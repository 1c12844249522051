//! On the kernel itself: needs root and a writable cgroup file system.

use super::{Cgroup, Controller, Hierarchies};
use crate::plan::{CgroupPlan, DeviceRule, Resources};
use naru_sys::clone::{Child, CloneFlags, clone3};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::path::Path;

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
        let plan = CgroupPlan { path: path(name), resources };
        Self(Cgroup::create(Hierarchies::host().unwrap(), &plan).unwrap())
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

#[test]
fn devices_are_denied() {
    if !usable() {
        return;
    }
    let mut null = deny_all();
    (null.allow, null.kind, null.major, null.minor) = (true, 'c', Some(1), Some(3));
    let scratch = Scratch::new("devices", Resources { devices: vec![deny_all(), null], ..Resources::default() });
    if scratch.0.of(Controller::Devices).is_some() {
        assert_eq!(content(&scratch.0, Controller::Devices, "devices.list"), "c 1:3 rwm");
    }
    let (v2, tasks) = (scratch.0.v2_dir().unwrap(), scratch.0.join_fds().unwrap());
    let child = clone3(CloneFlags::CLEAR_SIGHAND, v2.as_ref().map(AsFd::as_fd), || {
        let joined = tasks.iter().all(|fd| rustix::io::write(fd, b"0").is_ok());
        let open = |path: &Path| rustix::fs::open(path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        let right =
            open(Path::new("/dev/null")).is_ok() && open(Path::new("/dev/zero")).err() == Some(rustix::io::Errno::PERM);
        naru_sys::process::exit_now(if joined && right { 0 } else { 1 })
    })
    .unwrap();
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

/// Not an assertion: what creation costs, for whoever changes it (`--nocapture`).
#[test]
fn cost() {
    if !usable() {
        return;
    }
    let rule = |minor| DeviceRule { allow: true, kind: 'c', major: Some(1), minor: Some(minor), access: "rwm".into() };
    let rules: Vec<DeviceRule> = std::iter::once(deny_all()).chain((0..13).map(rule)).collect();
    let hierarchies = Hierarchies::host().unwrap();
    let mut times = Vec::new();
    for round in 0..20 {
        let plan = |devices: Vec<DeviceRule>| CgroupPlan {
            path: path(&format!("cost-{round}-{}", devices.len())),
            resources: Resources { devices, ..Resources::default() },
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
    eprintln!("create without and with 14 device rules, median: {:?}", times[times.len() / 2]);
    let begin = std::time::Instant::now();
    Hierarchies::detect().unwrap();
    eprintln!("detect: {:?}", begin.elapsed());
}
