//! What a start costs: `start [runs] [pause in ms]` runs `busybox true` in a default container, and tells percentiles.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for developers")]

use naru_runtime::defaults::{self, MountDefaults};
use naru_runtime::plan::{
    CgroupPlan, Descriptors, Namespace, Namespaces, PLAN_VERSION, Plan, Process, Resources, Rootfs,
};
use naru_runtime::{ExecTarget, Stdio, exec, prepare};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().unwrap());
    let (runs, pause) = (args.next().unwrap_or(50), Duration::from_millis(args.next().unwrap_or(60)));
    let base = std::env::temp_dir().join(format!("naru-start-{}", std::process::id()));
    let lower = base.join("lower");
    for folder in ["bin", "etc", "proc", "sys", "dev"] {
        std::fs::create_dir_all(lower.join(folder)).unwrap();
    }
    std::fs::copy("/usr/bin/busybox", lower.join("bin/busybox")).unwrap();
    std::fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(lower.join("etc/group"), "root:x:0:\n").unwrap();

    let mut samples = [const { Vec::new() }; 4];
    for run in 0..runs {
        let plan = plan(&base, run);
        std::thread::sleep(pause);
        let begin = Instant::now();
        let prepared = prepare(&plan, Descriptors::default(), Stdio::Null).unwrap();
        let ready = Instant::now();
        let started = prepared.start().unwrap();
        let running = Instant::now();
        waitid(WaitId::PidFd(started.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        let ended = Instant::now();
        started.cgroup.unwrap().remove().unwrap();
        for (list, duration) in samples.iter_mut().zip([ready - begin, running - ready, ended - running, ended - begin])
        {
            list.push(duration);
        }
    }
    for (name, list) in ["prepare", "start", "exit", "all"].iter().zip(&mut samples) {
        report(name, list);
    }
    measure_exec(&base, runs, pause);
    std::fs::remove_dir_all(&base).unwrap();
}

fn measure_exec(base: &Path, runs: u64, pause: Duration) {
    let mut plan = plan(base, runs);
    plan.process.args = ["/bin/busybox", "sleep", "1000"].map(str::to_owned).into();
    let started = prepare(&plan, Descriptors::default(), Stdio::Null).unwrap().start().unwrap();
    let target = ExecTarget {
        pid: started.pid,
        pidfd: started.pidfd.as_fd(),
        cgroup_path: &plan.cgroup.path,
        namespaces: &plan.namespaces,
    };
    let process = Process { args: ["/bin/busybox", "true"].map(str::to_owned).into(), ..plan.process.clone() };
    let mut samples = [const { Vec::new() }; 2];
    for _ in 0..runs {
        std::thread::sleep(pause);
        let begin = Instant::now();
        let further = exec(&target, &process, Stdio::Null).unwrap();
        let running = Instant::now();
        waitid(WaitId::PidFd(further.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        samples[0].push(running - begin);
        samples[1].push(begin.elapsed());
    }
    report("exec", &mut samples[0]);
    report("exec, all", &mut samples[1]);
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL).unwrap();
    waitid(WaitId::PidFd(started.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    started.cgroup.unwrap().remove().unwrap();
}

fn report(name: &str, list: &mut [Duration]) {
    list.sort();
    let at = |percent: usize| list[(list.len() * percent / 100).min(list.len() - 1)].as_micros();
    println!("{name:>10}: p10 {:>6} p50 {:>6} p90 {:>6} p99 {:>6} us", at(10), at(50), at(90), at(99));
}

fn plan(base: &Path, run: u64) -> Plan {
    let (upper, work) = (base.join(format!("{run}-upper")), base.join(format!("{run}-work")));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    Plan {
        mount_label: None,
        version: PLAN_VERSION,
        id: "measure".to_owned(),
        rootfs: Rootfs::Overlay { lower: vec![base.join("lower")], upper, work, volatile: true },
        readonly_rootfs: false,
        rootfs_propagation: Default::default(),
        mounts: defaults::default_mounts(MountDefaults::default()),
        devices: defaults::default_devices(),
        masked_paths: defaults::masked_paths(),
        readonly_paths: defaults::readonly_paths(),
        hostname: Some("measure".to_owned()),
        domainname: None,
        namespaces: Namespaces { net: Namespace::Host, cgroup: Namespace::Host, ..Default::default() },
        sysctls: Default::default(),
        cgroup: CgroupPlan {
            path: format!("/naru-start-{}-{run}", std::process::id()),
            resources: Resources { devices: defaults::default_device_rules(), ..Default::default() },
            scope: None,
        },
        process: Process {
            args: ["/bin/busybox", "true"].map(str::to_owned).into(),
            env: vec![defaults::DEFAULT_PATH.to_owned()],
            cwd: "/".into(),
            capabilities: defaults::capability_sets(defaults::DEFAULT_CAPABILITIES),
            ..Default::default()
        },
        init: false,
    }
}
