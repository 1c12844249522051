//! A tiny root file system, a default plan on it, and a way to run it and hear what it says.
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a helper of tests: what fails, fails the test")]

use naru_runtime::defaults::{self, MountDefaults};
use naru_runtime::plan::{
    CgroupPlan, Descriptors, Mount, MountFlags, MountSource, Namespace, Namespaces, PLAN_VERSION, Plan, Process,
    Propagation, Resources, Rootfs,
};
use naru_runtime::{StartError, Started, Stdio, prepare};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder of one test with a lower layer that has busybox.
pub struct World {
    pub base: PathBuf,
    pub name: String,
}

impl World {
    pub fn new() -> Self {
        let name = format!("naru-rt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(&name);
        let world = Self { base, name };
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
            std::fs::create_dir_all(world.lower().join(folder)).unwrap();
        }
        std::fs::hard_link("/usr/bin/busybox", world.lower().join("bin/busybox"))
            .or_else(|_| std::fs::copy("/usr/bin/busybox", world.lower().join("bin/busybox")).map(drop))
            .unwrap();
        std::os::unix::fs::symlink("busybox", world.lower().join("bin/sh")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
        world.write("etc/passwd", passwd);
        world.write("etc/group", "root:x:0:\nwheel:x:10:app\napp:x:1001:\n");
        world
    }

    pub fn lower(&self) -> PathBuf {
        self.base.join("lower")
    }

    pub fn upper(&self) -> PathBuf {
        self.base.join("upper")
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.lower().join(path), text).unwrap();
    }

    /// A default container that runs `script`.
    pub fn plan(&self, script: &str) -> Plan {
        let work = self.base.join("work");
        std::fs::create_dir_all(self.upper()).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        Plan {
            mount_label: None,
            version: PLAN_VERSION,
            id: self.name.clone(),
            rootfs: Rootfs::Overlay { lower: vec![self.lower()], upper: self.upper(), work, volatile: true },
            readonly_rootfs: false,
            rootfs_propagation: Propagation::default(),
            mounts: defaults::default_mounts(MountDefaults::default()),
            devices: defaults::default_devices(),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            hostname: Some("box".to_owned()),
            domainname: None,
            namespaces: Namespaces { cgroup: Namespace::Host, ..Namespaces::default() },
            sysctls: Default::default(),
            cgroup: CgroupPlan {
                path: format!("/{}", self.name),
                resources: Resources { devices: defaults::default_device_rules(), ..Default::default() },
                scope: None,
            },
            process: process(script),
            init: false,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// A shell that runs `script` with docker's default capabilities.
pub fn process(script: &str) -> Process {
    Process {
        args: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).into(),
        env: vec![defaults::DEFAULT_PATH.to_owned()],
        cwd: "/".into(),
        capabilities: defaults::capability_sets(defaults::DEFAULT_CAPABILITIES),
        ..Default::default()
    }
}

/// A bind of `source` at `target`.
pub fn bind(source: &Path, target: &str) -> Mount {
    let source = MountSource::Bind {
        path: source.to_owned(),
        subpath: PathBuf::new(),
        recursive: true,
        propagation: Propagation::Rprivate,
    };
    Mount { target: target.into(), source, flags: MountFlags::default() }
}

/// What a run said, and its exit code (or 128 and the signal).
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: i32,
    pub warnings: Vec<String>,
}

impl Said {
    /// Lines of the output.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

pub fn run(plan: &Plan) -> Result<Said, StartError> {
    run_with(plan, Descriptors::default())
}

pub fn run_with(plan: &Plan, fds: Descriptors) -> Result<Said, StartError> {
    let (stdio, out, err) = pipes();
    let started = prepare(plan, fds, stdio)?.start()?;
    Ok(finish(started, out, err))
}

pub fn pipes() -> (Stdio, OwnedFd, OwnedFd) {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (err, stderr) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (stdin, _) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (Stdio::Pipes { stdin, stdout, stderr }, out, err)
}

/// Reads all, reaps, removes the group.
pub fn finish(started: Started, out: OwnedFd, err: OwnedFd) -> Said {
    let read = |fd: OwnedFd| {
        let mut text = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let (out, err) = (read(out), read(err));
    let code = reap(started.pidfd.as_fd());
    if let Some(cgroup) = &started.cgroup {
        cgroup.remove().unwrap();
    }
    Said { out, err, code, warnings: started.warnings }
}

pub fn reap(pidfd: rustix::fd::BorrowedFd<'_>) -> i32 {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

/// A container that stays until it is dropped.
pub struct Running {
    pub plan: Plan,
    pub started: Started,
}

impl Running {
    pub fn new(mut plan: Plan) -> Self {
        plan.process.args = ["/bin/busybox", "sleep", "1000"].map(str::to_owned).into();
        let started = prepare(&plan, Descriptors::default(), Stdio::Null).unwrap().start().unwrap();
        Self { plan, started }
    }

    pub fn exec(&self, process: &Process) -> Result<Said, StartError> {
        let (stdio, out, err) = pipes();
        Ok(finish(naru_runtime::exec(&self.target(), process, stdio)?, out, err))
    }

    pub fn target(&self) -> naru_runtime::ExecTarget<'_> {
        naru_runtime::ExecTarget {
            pid: self.started.pid,
            pidfd: self.started.pidfd.as_fd(),
            cgroup_path: &self.plan.cgroup.path,
            namespaces: &self.plan.namespaces,
        }
    }

    /// The descriptor of one of its namespaces.
    pub fn namespace(&self, kind: &str) -> OwnedFd {
        let path = format!("/proc/{}/ns/{kind}", self.started.pid.as_raw_nonzero());
        std::fs::File::open(path).unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.started.pidfd, rustix::process::Signal::KILL);
        reap(self.started.pidfd.as_fd());
        if let Some(cgroup) = self.started.cgroup.take() {
            cgroup.remove().unwrap();
        }
    }
}
