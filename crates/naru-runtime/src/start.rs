//! Starting a container: [`prepare`] in the monitor, [`Prepared::start`] makes the child and waits until it has executed.

use crate::cgroup::{Cgroup, Hierarchies};
use crate::child::{self, Setup};
use crate::hooks::{Hooks, PreparedHooks};
use crate::identity;
use crate::idmap::Mapping;
use crate::listener::{self, ListenerReceiver, report_socket};
use crate::namespaces::{self, PidNamespace};
use crate::plan::{Descriptors, Namespace, PLAN_VERSION, Plan, Rootfs};
use crate::process::{self, Streams};
use crate::report::{self, Record, errno_text};
use crate::steps::Step;
use crate::{
    MountSpaces, StartError, StartOptions, cgroup_view, console, copy_up, describe, devices, hidden_paths, mount_maps,
    mounts, mounts::PreparedMount, overlay, sysctls,
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
    spent: Vec<OwnedFd>,
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
    /// Clones of layers and a mount namespace that nobody needs any more. Whoever closes the last descriptor of one waits for an RCU grace
    /// period, which is milliseconds on a busy host: so nobody does while somebody waits for the container.
    pub spent: Vec<OwnedFd>,
    /// The container's mount namespace, where it was made ahead. Who holds it keeps all that is mounted in it beyond the end of the last
    /// process, which then waits for no grace period either.
    pub mounts: Option<OwnedFd>,
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
    mut fds: Descriptors,
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
    let process_limit = group.map(Cgroup::process_limit).transpose()?.flatten();

    let map = plan.namespaces.user.as_ref();
    let ahead = fds.mounts.take();
    let mut spaces = namespaces::prepare(&plan.namespaces, fds)?;
    spaces.join_also(options.cgroup_namespace, options.time_namespace);
    let mapping = match map.zip(spaces.user.as_ref()) {
        Some((map, user)) => {
            let namespace = rustix::io::fcntl_dupfd_cloexec(user, 3)
                .map_err(|e| StartError::system(format!("duplicate the user namespace: {}", errno_text(e))))?;
            Some(Mapping { map, namespace })
        }
        None => None,
    };
    let mount_namespace = options.mount_namespace.as_ref();
    let label = plan.mount_label.as_deref();
    let (root, spent) = namespaces::in_mounts(mount_namespace, || match &mapping {
        Some(mapping) if !options.root_unmapped => overlay::mount_mapped_root(&plan.rootfs, mapping, label),
        _ => Ok((overlay::mount_labelled_root(&plan.rootfs, label)?, Vec::new())),
    })??;
    let view = |attributes| match group {
        Some(group) => cgroup_view::prepare(group, (map, label), plan.namespaces.cgroup == Namespace::Host, attributes),
        None => Err(StartError::system("no cgroup")),
    };
    let mounts = namespaces::in_mounts(mount_namespace, || {
        mounts::prepare(&plan.mounts, (mapping.as_ref(), label), view, &mut warnings)
    })??;
    mount_maps::apply(&options.mount_maps, &plan.mounts, &mounts)?;
    let mut devices = devices::prepare(&plan.devices, &plan.mounts)?;
    if let Some(map) = map {
        devices.make_outside(PreparedMount::dev(&plan.mounts, &mounts), map)?;
    }
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
        _ => match &options.root_place {
            Some(place) => mounts::c_path(place.as_os_str().as_bytes())?,
            None => c"/".into(),
        },
    };
    let root_anywhere = !options.root_in_place && options.root_place.is_none();
    if let Some(namespace) = options.mount_namespace {
        spaces.join_mounts(namespace, &root_place)?;
    } else if let Some(ahead) = ahead
        // Hooks look for the host's tree in the container's namespace.
        && matches!(ahead, MountSpaces::Own { .. }) == map.is_some()
        && (options.hooks.is_empty() && root_anywhere && mounts::few_system(&mounts))
    {
        spaces.use_mounts(ahead);
    }
    let own_name = plan.namespaces.uts != Namespace::Host;
    let name = |name: &Option<String>| name.as_ref().filter(|_| own_name).map(|name| name.clone().into_bytes());
    let setup = Setup {
        spaces,
        tasks,
        process_limit,
        root,
        root_propagation: plan.rootfs_propagation,
        readonly_root: plan.readonly_rootfs,
        mounts,
        devices,
        sysctls: sysctls::prepare(&plan.sysctls, &plan.namespaces)?,
        hidden: hidden_paths::prepare(&plan.masked_paths, &plan.readonly_paths)?,
        host_name: name(&plan.hostname),
        domain_name: name(&plan.domainname),
        hooks_done: (!options.hooks.is_empty()).then(parents_signal).transpose()?,
        create_hooks: PreparedHooks::prepare(&options.hooks.create_container)?,
        root_place,
        time_offsets: options.time_offsets.map(String::into_bytes),
        process,
    };
    Ok(Prepared { plan: plan.clone(), setup, hooks: options.hooks, cgroup, cgroup_dir, warnings, spent })
}

/// What the child waits for, and a way to see that it waits in vain.
fn parents_signal() -> Result<(OwnedFd, OwnedFd), StartError> {
    let fail = |e: Errno| StartError::system(format!("prepare a signal for the child: {}", errno_text(e)));
    let ready = eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?;
    Ok((ready, pidfd_open(getpid(), PidfdFlags::empty()).map_err(fail)?))
}

impl Prepared {
    /// Its group, which is made already.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.0.as_ref()
    }

    /// Makes the process and waits until its program has been executed.
    ///
    /// # Errors
    /// A step of the set-up failed, or the program could not be executed; nothing is left behind.
    pub fn start(self) -> Result<Started, StartError> {
        let Self { plan, setup, hooks, mut cgroup, cgroup_dir, mut warnings, mut spent } = self;
        let receiver = setup.process.options.listener.clone();
        let (reader, writer) = report_channel(receiver.as_ref())?;
        let into = cgroup_dir.as_ref().map(|dir| dir.as_fd());
        let explain = |record: &Record| describe::container(&plan, record);
        let child = if setup.spaces.user.is_some() {
            let (child, left) = clone_in_user_namespace(&setup, into, (&reader, writer), explain)?;
            spent.extend(left);
            child
        } else {
            let other = setup.spaces.pid.as_ref().map(PidNamespace::enter).transpose()?;
            let child = clone_child(setup.spaces.flags, into, || child::run(&setup, writer.as_fd()))?;
            drop(other);
            drop(writer);
            child
        };
        // The descriptors of mounts close while the child works with its own copies.
        let (process, create_hooks, hooks_done, mounts) = setup.into_needed();
        let pid = child.pid.as_raw_nonzero().get();
        if let Some(group) = &mut cgroup.0 {
            group.first_process_is_there(pid);
        }
        let reached = || {
            hooks.run_in_runtime(pid)?;
            create_hooks.tell(&hooks.text(pid, "creating"))?;
            process.start_hooks.tell(&hooks.text(pid, "created"))?;
            hooks_done.as_ref().map_or(Ok(()), |(done, _)| signal(done))
        };
        wait_for_program(&child, &reader, &mut warnings, explain, (reached, receiver.as_ref()))?;
        let console = process.into_console();
        let start_time = start_time(child.pid);
        Ok(Started {
            pid: child.pid,
            pidfd: child.pidfd,
            start_time,
            console,
            cgroup: cgroup.0.take(),
            warnings,
            spent,
            mounts,
        })
    }
}

fn signal(ready: &OwnedFd) -> Result<(), StartError> {
    rustix::io::write(ready, &1_u64.to_ne_bytes())
        .map(drop)
        .map_err(|e| StartError::system(format!("signal the child: {}", errno_text(e))))
}

/// The container's first process, born in its user namespace: the sibling of a process that has gone there before it. And a mount
/// namespace that it leaves on its way: whoever leaves one last waits for a grace period.
fn clone_in_user_namespace(
    setup: &Setup,
    into: Option<BorrowedFd<'_>>,
    (reader, writer): (&OwnedFd, OwnedFd),
    explain: impl Fn(&Record) -> StartError,
) -> Result<(Child, Option<OwnedFd>), StartError> {
    let (told, tell) = report_pipe()?;
    let between =
        clone_child(CloneFlags::CLEAR_SIGHAND, into, || child::run_between(setup, writer.as_fd(), tell.as_fd()))?;
    drop((writer, tell));
    let mut pid = [0; 4];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut pid)).unwrap_or(0);
    let Some(pid) = Pid::from_raw(i32::from_ne_bytes(pid)).filter(|_| length == pid.len()) else {
        wait_for_program(&between, reader, &mut Vec::new(), explain, (|| Ok(()), None))?;
        give_up(&between);
        return Err(StartError::system("enter the user namespace: the process was killed"));
    };
    let left = setup.spaces.has_mounts().then(|| mounts_of(between.pid)).flatten();
    give_up(&between);
    // A child of ours that nobody else reaps: the number is its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| StartError::system(format!("open the first process: {}", errno_text(e))))?;
    Ok((Child { pid, pidfd }, left))
}

/// The mount namespace of a process, if it is there.
fn mounts_of(pid: Pid) -> Option<OwnedFd> {
    let path = format!("/proc/{}/ns/mnt", pid.as_raw_nonzero());
    rustix::fs::open(path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
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

/// The same for a process whose filter may have a listener.
pub(crate) fn report_channel(receiver: Option<&ListenerReceiver>) -> Result<(OwnedFd, OwnedFd), StartError> {
    if receiver.is_none() {
        return report_pipe();
    }
    let (reader, writer) = report_socket()?;
    let writer = rustix::io::fcntl_dupfd_cloexec(&writer, 3)
        .map_err(|e| StartError::system(format!("duplicate a socket: {}", errno_text(e))))?;
    Ok((reader, writer))
}

/// clone3 with its errors in words.
pub(crate) fn clone_child<F>(flags: CloneFlags, into: Option<BorrowedFd<'_>>, run: F) -> Result<Child, StartError>
where
    F: FnOnce() -> std::convert::Infallible,
{
    clone3(flags, into, run).map_err(clone_failed)
}

pub(crate) fn clone_failed(errno: Errno) -> StartError {
    StartError::system(format!("clone the first process: {}", errno_text(errno)))
}

/// Reads the child's reports until its program has been executed, or it waits at its gate; warnings are added to `warnings`, and
/// `reached` is called when the child waits for it, the receiver for the listener of its filter.
pub(crate) fn wait_for_program(
    child: &Child,
    reader: &OwnedFd,
    warnings: &mut Vec<String>,
    explain: impl Fn(&Record) -> StartError,
    (mut reached, receiver): (impl FnMut() -> Result<(), StartError>, Option<&ListenerReceiver>),
) -> Result<(), StartError> {
    let fail = |e: Errno| StartError::system(format!("read the child's report: {}", errno_text(e)));
    let mut read = || -> Result<(), StartError> {
        while let Some(record) = report::next(reader).map_err(fail)? {
            match record {
                Record { reached: true, step: Step::Filter, failure, .. } => {
                    let pid = child.pid.as_raw_nonzero().get();
                    listener::hand_on(receiver, (pid, child.pidfd.as_fd()), failure.index, reader)?;
                }
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

/// When a process was started, in clock ticks since boot (field 22 of /proc/PID/stat, proc_pid_stat(5)); `None` where there is none, or only
/// one that has ended and waits for its parent.
pub fn start_time_of(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| !ended)
}

/// The same for a process that has just been made; 0 when it can't be read.
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
