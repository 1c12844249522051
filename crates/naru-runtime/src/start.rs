//! Starting a container: [`prepare`] in the monitor, [`Prepared::start`] makes the child and waits until it has executed.

use crate::cgroup::{Cgroup, Hierarchies};
use crate::child::{self, Setup};
use crate::hooks::{Hooks, PreparedHooks};
use crate::identity;
use crate::namespaces::{self, PidNamespace};
use crate::plan::{Descriptors, Namespace, PLAN_VERSION, Plan, Rootfs};
use crate::process::{self, Streams};
use crate::report::{self, Record, errno_text};
use crate::{
    StartError, StartOptions, cgroup_view, console, copy_up, describe, devices, hidden_paths, mounts,
    mounts::PreparedMount, overlay, sysctls,
};
use naru_fs::Root;
use naru_sys::clone::{Child, CloneFlags, clone3};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use std::os::unix::ffi::OsStrExt;

/// What the process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// The child's ends of three pipes (or whatever else the caller opened).
    Pipes {
        /// Read end for standard input.
        stdin: OwnedFd,
        /// Write end for standard output.
        stdout: OwnedFd,
        /// Write end for standard error.
        stderr: OwnedFd,
    },
    /// The slave of a pseudo-terminal out of the container's devpts; its master is [`Started::console`].
    Terminal,
    /// `/dev/null`, three times.
    Null,
}

/// A container that is ready to be started; dropping it removes its cgroup, and nothing else of it exists outside of descriptors.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    setup: Setup,
    hooks: Hooks,
    cgroup: CgroupGuard,
    cgroup_dir: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// A process that runs: its program has been executed.
#[derive(Debug)]
pub struct Started {
    /// Its process id as this process sees it.
    pub pid: Pid,
    /// A descriptor of it; it is a child of the caller, who reaps it.
    pub pidfd: OwnedFd,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat); 0 when it had ended before it could be read.
    pub start_time: u64,
    /// The master of its pseudo-terminal, for [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// Its cgroup, which the caller removes after the end; `None` for an exec.
    pub cgroup: Option<Cgroup>,
    /// What could not be had as asked for, one sentence each.
    pub warnings: Vec<String>,
}

/// Removes the group unless it has been handed on.
#[derive(Debug)]
struct CgroupGuard(Option<Cgroup>);

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.0 {
            // What failed before is what the caller wants to know.
            let _ = cgroup.remove();
        }
    }
}

/// Makes everything of a container that can be made before its first process exists.
///
/// # Errors
/// The plan can't be had on this host, or names something (a user, a source) that is not there.
pub fn prepare(plan: &Plan, fds: Descriptors, stdio: Stdio) -> Result<Prepared, StartError> {
    prepare_with(plan, fds, stdio, StartOptions::default())
}

/// As [`prepare`], with `options`.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_with(
    plan: &Plan,
    fds: Descriptors,
    stdio: Stdio,
    options: StartOptions,
) -> Result<Prepared, StartError> {
    if plan.version != PLAN_VERSION {
        return Err(StartError::invalid(format!("unknown version {} of the plan", plan.version)));
    }
    let mut cgroup = Cgroup::create(Hierarchies::host()?, &plan.cgroup)?;
    let mut warnings = cgroup.take_warnings();
    let cgroup = CgroupGuard(Some(cgroup));
    let group = cgroup.0.as_ref();
    let tasks = group.map(Cgroup::join_fds).transpose()?.unwrap_or_default();
    let cgroup_dir = group.map(Cgroup::v2_dir).transpose()?.flatten();

    let map = plan.namespaces.user.as_ref();
    let root = match map {
        Some(map) => overlay::mount_mapped_root(&plan.rootfs, map)?,
        None => overlay::mount_root(&plan.rootfs)?,
    };
    let mut spaces = namespaces::prepare(&plan.namespaces, fds)?;
    spaces.join_also(options.cgroup_namespace, options.time_namespace);
    let view = |attributes| match group {
        Some(group) => cgroup_view::prepare(group, map, attributes),
        None => Err(StartError::system("no cgroup")),
    };
    let mounts = mounts::prepare(&plan.mounts, map, view)?;
    let copy = rustix::io::fcntl_dupfd_cloexec(&root, 3)
        .map_err(|e| StartError::system(format!("duplicate the root: {}", errno_text(e))))?;
    let inside = Root::from_fd(copy);
    copy_up::fill(&plan.mounts, &mounts, &inside)?;
    let process = &plan.process;
    let identity = identity::look_up(&inside, &process.user, &process.additional_groups)?;
    let streams = Streams::open(stdio, || {
        let devpts = PreparedMount::devpts(&plan.mounts, &mounts);
        console::allocate(devpts.as_ref().map(|fd| fd.as_fd()), process.console_size)
    })?;
    let mut process = process::prepare(process, &identity, map, streams, plan.init, options.process, &mut warnings)?;
    process.gate = options.gate;
    process.start_hooks = PreparedHooks::prepare(&options.hooks.start_container)?;
    let root_place = match &plan.rootfs {
        Rootfs::Directory { path } if options.root_in_place => mounts::c_path(path.as_os_str().as_bytes())?,
        _ => c"/".into(),
    };
    let own_name = plan.namespaces.uts != Namespace::Host;
    let name = |name: &Option<String>| name.as_ref().filter(|_| own_name).map(|name| name.clone().into_bytes());
    let setup = Setup {
        spaces,
        tasks,
        root,
        root_propagation: plan.rootfs_propagation,
        readonly_root: plan.readonly_rootfs,
        mounts,
        devices: devices::prepare(&plan.devices, &plan.mounts)?,
        sysctls: sysctls::prepare(&plan.sysctls)?,
        hidden: hidden_paths::prepare(&plan.masked_paths, &plan.readonly_paths)?,
        host_name: name(&plan.hostname),
        domain_name: name(&plan.domainname),
        id_maps: plan.namespaces.user.as_ref().map(|_| parents_signal()).transpose()?,
        hooks_done: (!options.hooks.is_empty()).then(parents_signal).transpose()?,
        create_hooks: PreparedHooks::prepare(&options.hooks.create_container)?,
        root_place,
        time_offsets: options.time_offsets.map(String::into_bytes),
        process,
    };
    Ok(Prepared { plan: plan.clone(), setup, hooks: options.hooks, cgroup, cgroup_dir, warnings })
}

/// What the child waits for, and a way to see that it waits in vain.
fn parents_signal() -> Result<(OwnedFd, OwnedFd), StartError> {
    let fail = |e: Errno| StartError::system(format!("prepare a signal for the child: {}", errno_text(e)));
    let ready = eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?;
    Ok((ready, pidfd_open(getpid(), PidfdFlags::empty()).map_err(fail)?))
}

impl Prepared {
    /// Makes the process and waits until its program has been executed.
    ///
    /// # Errors
    /// A step of the set-up failed, or the program could not be executed; nothing is left behind.
    pub fn start(self) -> Result<Started, StartError> {
        let Self { plan, setup, hooks, mut cgroup, cgroup_dir, mut warnings } = self;
        let (reader, writer) = report_pipe()?;
        let other = setup.spaces.pid.as_ref().map(PidNamespace::enter).transpose()?;
        let into = cgroup_dir.as_ref().map(|dir| dir.as_fd());
        let child = clone_child(setup.spaces.flags, into, || child::run(&setup, writer.as_fd()))?;
        drop(other);
        drop(writer);
        if let (Some(map), Some((ready, _))) = (&plan.namespaces.user, &setup.id_maps) {
            let written = namespaces::write_id_maps(child.pid, map)
                .map(|()| warnings.extend(setup.process.set_oom_score_of(child.pid, &plan.process)));
            if let Err(error) = written.and_then(|()| signal(ready)) {
                give_up(&child);
                return Err(error);
            }
        }
        // The descriptors of mounts close while the child works with its own copies.
        let (process, create_hooks, hooks_done) = setup.into_needed();
        let pid = child.pid.as_raw_nonzero().get();
        let reached = || {
            hooks.run_in_runtime(pid)?;
            create_hooks.tell(&hooks.text(pid, "creating"))?;
            process.start_hooks.tell(&hooks.text(pid, "created"))?;
            hooks_done.as_ref().map_or(Ok(()), |(done, _)| signal(done))
        };
        let explain = |record: &Record| describe::container(&plan, record);
        wait_for_program(&child, &reader, &mut warnings, explain, reached)?;
        let console = process.into_console();
        let start_time = start_time(child.pid);
        Ok(Started { pid: child.pid, pidfd: child.pidfd, start_time, console, cgroup: cgroup.0.take(), warnings })
    }
}

fn signal(ready: &OwnedFd) -> Result<(), StartError> {
    rustix::io::write(ready, &1_u64.to_ne_bytes())
        .map(drop)
        .map_err(|e| StartError::system(format!("signal the child: {}", errno_text(e))))
}

/// The pipe that the child reports through.
pub(crate) fn report_pipe() -> Result<(OwnedFd, OwnedFd), StartError> {
    let (reader, writer) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| StartError::system(format!("make a pipe: {}", errno_text(e))))?;
    // The child overwrites descriptors 0 to 2.
    let writer = rustix::io::fcntl_dupfd_cloexec(&writer, 3)
        .map_err(|e| StartError::system(format!("duplicate a pipe: {}", errno_text(e))))?;
    Ok((reader, writer))
}

/// clone3 with its errors in words.
pub(crate) fn clone_child<F>(flags: CloneFlags, into: Option<BorrowedFd<'_>>, run: F) -> Result<Child, StartError>
where
    F: FnOnce() -> std::convert::Infallible,
{
    clone3(flags, into, run).map_err(|e| StartError::system(format!("clone the first process: {}", errno_text(e))))
}

/// Reads the child's reports until its program has been executed, or it waits at its gate; warnings are added to `warnings`, and
/// `reached` is called when the child waits for it.
pub(crate) fn wait_for_program(
    child: &Child,
    reader: &OwnedFd,
    warnings: &mut Vec<String>,
    explain: impl Fn(&Record) -> StartError,
    mut reached: impl FnMut() -> Result<(), StartError>,
) -> Result<(), StartError> {
    let fail = |e: Errno| StartError::system(format!("read the child's report: {}", errno_text(e)));
    let mut read = || -> Result<(), StartError> {
        while let Some(record) = report::next(reader).map_err(fail)? {
            match record {
                Record { reached: true, .. } => reached()?,
                Record { warning: true, .. } => warnings.push(explain(&record).message),
                _ => return Err(explain(&record)),
            }
        }
        Ok(())
    };
    read().inspect_err(|_| give_up(child))
}

/// Ends and reaps a child that did not become a program.
fn give_up(child: &Child) {
    // Either call fails only for a child that has gone already.
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED));
}

/// Field 22 of /proc/PID/stat, counted from behind the name, which may hold anything.
pub(crate) fn start_time(pid: Pid) -> u64 {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let mut buffer = [0_u8; 1024];
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .and_then(|fd| rustix::io::read(fd, &mut buffer))
        .ok()
        .and_then(|length| std::str::from_utf8(buffer.get(..length)?).ok()?.rsplit_once(") "))
        .and_then(|(_, rest)| rest.split(' ').nth(19)?.parse().ok())
        .unwrap_or(0)
}
