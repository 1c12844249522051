//! A further process in a running container.
//!
//! The caller enters the container's PID namespace for its children only, clones, and comes back; the child, already born there, enters
//! the other namespaces through the container's pidfd. So one clone is enough, and the process is the caller's own child.

use crate::cgroup::{Cgroup, Hierarchies};
use crate::child::{self, State, join_cgroup, run_steps};
use crate::namespaces::PidNamespace;
use crate::plan::{Namespace, Namespaces, Process};
use crate::process::{self, ProcessSetup, Streams};
use crate::report::{Failure, errno_text};
use crate::start::{clone_failed, report_channel, start_time, wait_for_program};
use crate::steps::{Step, Table};
use crate::{ProcessOptions, StartError, Started, Stdio, console, describe, identity};
use naru_base::Class;
use naru_fs::Root;
use naru_sys::clone::{CloneFlags, clone3};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// The container that is to be entered.
#[derive(Debug)]
pub struct ExecTarget<'a> {
    /// Its first process.
    pub pid: Pid,
    /// A descriptor of that process.
    pub pidfd: BorrowedFd<'a>,
    /// Path below the root of each cgroup hierarchy, as in its plan.
    pub cgroup_path: &'a str,
    /// Its namespaces, as in its plan.
    pub namespaces: &'a Namespaces,
}

/// Everything about a further process, prepared.
#[derive(Debug)]
pub(crate) struct Setup {
    target: OwnedFd,
    spaces: ThreadNameSpaceType,
    user_namespace: bool,
    tasks: Vec<OwnedFd>,
    process: ProcessSetup,
}

/// The steps before those of every process.
pub(crate) const STEPS: Table<Setup> = &[
    // Born in the container's PID namespace: its processes can see us from the first moment.
    (Step::Hide, |_, _| process::hide()),
    (Step::Cgroup, |setup, _| join_cgroup(&setup.tasks)),
    // Through the host's procfs.
    (Step::OomScore, |setup, state| process::set_oom_score(&setup.process, state)),
    // In a user namespace no limit can be raised.
    (Step::Limits, |setup, _| if setup.user_namespace { process::raise_limits(&setup.process) } else { Ok(()) }),
    // All at once; the root becomes the container's.
    (Step::Enter, enter),
    // In that root.
    (Step::OpenDirectory, |setup, state| process::open_directory(&setup.process, state)),
];

/// Runs `process` in the container as a child of the caller, and returns when its program has been executed.
///
/// # Errors
/// The container is gone, the user is unknown, or the program could not be executed.
pub fn exec(target: &ExecTarget<'_>, process: &Process, stdio: Stdio) -> Result<Started, StartError> {
    exec_with(target, process, stdio, ProcessOptions::default())
}

/// As [`exec`], with `options`.
///
/// # Errors
/// As [`exec`].
pub fn exec_with(
    target: &ExecTarget<'_>,
    process: &Process,
    stdio: Stdio,
    options: ProcessOptions,
) -> Result<Started, StartError> {
    let mut warnings = Vec::new();
    let cgroup = Cgroup::open(Hierarchies::host()?, target.cgroup_path)?;
    let root = container_root(target.pid)?;
    let copy = root.try_clone().map_err(|e| StartError::system(e.to_string()))?;
    let identity = identity::look_up(&root, &process.user, &process.additional_groups)?;
    let map = target.namespaces.user.as_ref();
    let streams = Streams::open(stdio, || console::allocate_in(copy.into_fd().as_fd(), process.console_size))?;
    let setup = Setup {
        target: rustix::io::fcntl_dupfd_cloexec(target.pidfd, 3).map_err(gone)?,
        spaces: spaces(target.namespaces),
        user_namespace: target.namespaces.user.is_some(),
        tasks: cgroup.join_fds()?,
        process: process::prepare(process, &identity, map, streams, false, options, &mut warnings)?,
    };
    let into = cgroup.v2_dir()?;
    let receiver = setup.process.options.listener.clone();
    let (reader, writer) = report_channel(receiver.as_ref())?;
    let own_pid_namespace = target.namespaces.pid != Namespace::Host;
    let other = own_pid_namespace.then(|| pid_namespace(target.pid)).transpose()?;
    let into = into.as_ref().map(|dir| dir.as_fd());
    let clone = |into: Option<BorrowedFd<'_>>| clone3(CloneFlags::CLEAR_SIGHAND, into, || run(&setup, writer.as_fd()));
    let child = match clone(into) {
        // An init has made groups below: then no process can be in the group itself.
        Err(Errno::BUSY) => clone(Some(cgroup.v2_dir_of(target.pid)?.as_fd())),
        cloned => cloned,
    };
    let child = child.map_err(clone_failed)?;
    drop(other);
    drop(writer);
    let console = setup.process.into_console();
    wait_for_program(
        &child,
        &reader,
        &mut warnings,
        |record| describe::process(process, record),
        (|| Ok(()), receiver.as_ref()),
    )?;
    let start_time = start_time(child.pid);
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        start_time,
        console,
        cgroup: None,
        warnings,
        spent: Vec::new(),
        mounts: None,
    })
}

fn gone(errno: Errno) -> StartError {
    match errno {
        Errno::NOENT | Errno::SRCH => StartError::new(Class::Conflict, "the container is not running"),
        errno => StartError::system(format!("enter the container: {}", errno_text(errno))),
    }
}

/// The container's root folder, as its first process has it. The process can't be another one: it is the caller's and not yet reaped.
fn container_root(pid: Pid) -> Result<Root, StartError> {
    let path = format!("/proc/{}/root", pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(Root::from_fd).map_err(gone)
}

fn pid_namespace(pid: Pid) -> Result<PidNamespace, StartError> {
    let path = format!("/proc/{}/ns/pid", pid.as_raw_nonzero());
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)?;
    PidNamespace::enter(&fd)
}

/// All that aren't the host's; entering one's own user namespace is refused (setns(2)).
fn spaces(namespaces: &Namespaces) -> ThreadNameSpaceType {
    let mut spaces = ThreadNameSpaceType::MOUNT;
    for (kind, flag) in [
        (namespaces.net, ThreadNameSpaceType::NETWORK),
        (namespaces.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (namespaces.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (namespaces.cgroup, ThreadNameSpaceType::CONTROL_GROUP),
    ] {
        if kind != Namespace::Host {
            spaces |= flag;
        }
    }
    if namespaces.user.is_some() {
        spaces |= ThreadNameSpaceType::USER;
    }
    spaces
}

fn run(setup: &Setup, report: BorrowedFd<'_>) -> ! {
    let mut state = State::new(report);
    run_steps(STEPS, setup, &mut state);
    run_steps(process::STEPS, &setup.process, &mut state);
    run_steps(process::LAST_STEPS, &setup.process, &mut state);
    naru_sys::process::exit_now(1)
}

fn enter(setup: &Setup, _: &mut State<'_>) -> Result<(), Failure> {
    move_into_thread_name_spaces(setup.target.as_fd(), setup.spaces)?;
    if setup.user_namespace {
        child::become_root()?;
    }
    Ok(())
}
