//! A container's first process, from clone3 on: it makes its surroundings, step by step, on prepared data.
//!
//! Nothing here allocates, locks or returns; what fails is reported as numbers.

use crate::devices::{self, Devices};
use crate::hidden_paths::{self, HiddenPaths};
use crate::hooks::PreparedHooks;
use crate::inside::{self, Kind};
use crate::mount_spaces::MountSpaces;
use crate::mounts::{self, PreparedMount};
use crate::namespaces::{self, MountSpace, Spaces};
use crate::process::{self, ProcessSetup};
use crate::report::{self, At, Failure, Op};
use crate::steps::{Step, Table};
use crate::sysctls::{self, Sysctls};
use crate::{console, plan::Propagation};
use naru_sys::clone::{CloneFlags, clone3};
use naru_sys::mount_attr::{MountAttr, MountChange, MountPropagation, mount_setattr};
use naru_sys::namespace::{NewNamespace, unshare};
use naru_sys::process::exit_now;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;

/// Everything about a container, prepared.
#[derive(Debug)]
pub(crate) struct Setup {
    pub spaces: Spaces,
    /// Written into by the child itself (v1); empty where it is born in its group.
    pub tasks: Vec<OwnedFd>,
    /// The file for the group's limit of processes, and the limit, where it could not hold before.
    pub process_limit: Option<(OwnedFd, Vec<u8>)>,
    pub root: OwnedFd,
    pub root_propagation: Propagation,
    pub readonly_root: bool,
    pub mounts: Vec<PreparedMount>,
    pub devices: Devices,
    pub sysctls: Sysctls,
    pub hidden: HiddenPaths,
    pub host_name: Option<Vec<u8>>,
    pub domain_name: Option<Vec<u8>>,
    /// Readable once hooks that the parent runs meanwhile have ended, and a way to see that they never will.
    pub hooks_done: Option<(OwnedFd, OwnedFd)>,
    /// Run by the child before its root changes.
    pub create_hooks: PreparedHooks,
    /// Where the root is put meanwhile.
    pub root_place: CString,
    /// A time namespace with these offsets.
    pub time_offsets: Option<Vec<u8>>,
    pub process: ProcessSetup,
}

/// What [`Setup::into_needed`] leaves.
type Needed = (ProcessSetup, PreparedHooks, Option<(OwnedFd, OwnedFd)>, Option<OwnedFd>);

impl Setup {
    /// What the parent still needs once the child exists, or must not close yet.
    pub(crate) fn into_needed(self) -> Needed {
        let own = match self.spaces.mount {
            MountSpace::Ahead(MountSpaces::Own { own, .. }) => Some(own),
            _ => None,
        };
        (self.process, self.create_hooks, self.hooks_done, own)
    }
}

/// So many of procfs and sysfs can be made where that has to be in another mount namespace.
pub(crate) const SYSTEM_MOUNTS: usize = 4;

/// What one step leaves for later ones.
pub(crate) struct State<'a> {
    pub(crate) report: BorrowedFd<'a>,
    /// The container's procfs.
    pub proc: Option<OwnedFd>,
    /// Mounts that had to be made before the others, by their number in the plan.
    pub made: [Option<(usize, OwnedFd)>; SYSTEM_MOUNTS],
    /// The working folder.
    pub cwd: Option<OwnedFd>,
    /// What the hooks before the program read, where their own descriptor is gone.
    pub hook_state: Option<OwnedFd>,
}

impl<'a> State<'a> {
    pub(crate) fn new(report: BorrowedFd<'a>) -> Self {
        Self { report, proc: None, made: [const { None }; SYSTEM_MOUNTS], cwd: None, hook_state: None }
    }

    /// Tells the parent what could not be had, and goes on.
    pub(crate) fn warn(&self, step: Step, failure: Failure) {
        report::send(self.report, true, step, failure);
    }

    /// Tells the parent what failed, and ends.
    pub(crate) fn fail(&self, step: Step, failure: Failure) -> ! {
        report::send(self.report, false, step, failure);
        exit_now(1)
    }
}

/// What a container in a user namespace of its own needs from before it: while we are still root of the host.
pub(crate) const OUTSIDE_STEPS: Table<Setup> = &[
    (Step::Hide, |_, _| process::hide()),
    // Inherited by the container's first process, as are the next two.
    (Step::Cgroup, |setup, _| join_cgroup(&setup.tasks)),
    (Step::OomScore, |setup, state| process::set_oom_score(&setup.process, state)),
    (Step::Limits, |setup, _| process::raise_limits(&setup.process)),
    // The root's place, which only the host's root may reach.
    (Step::WorkingFolder, |setup, _| rustix::process::chdir(&setup.root_place).at(Op::Target, 0)),
    // The last that is there of the host's.
    (Step::Propagation, |setup, _| match &setup.spaces.mount {
        MountSpace::Ahead(MountSpaces::Own { system, .. }) => namespaces::join_mounts(system),
        _ => Ok(()),
    }),
    (Step::UserNamespace, |setup, _| namespaces::enter_user(&setup.spaces)),
    // A copy that belongs to the user namespace.
    (Step::SystemMounts, |setup, _| match &setup.spaces.mount {
        MountSpace::Ahead(MountSpaces::Own { .. }) => unshare(NewNamespace::Mount).at(Op::Call, 0),
        _ => Ok(()),
    }),
];

/// The steps, in their order, of which `steps` has a test.
pub(crate) const STEPS: Table<Setup> = &[
    // At once: from here on a process of the container may share our PID namespace.
    (Step::Hide, |_, _| process::hide()),
    // Whatever follows is done as the namespace's root.
    (Step::UserNamespace, |setup, _| if setup.spaces.user.is_some() { become_root() } else { Ok(()) }),
    // Before anything that costs memory.
    (Step::Cgroup, |setup, _| settle_in_cgroup(setup)),
    // Through the host's procfs.
    (Step::OomScore, set_oom_score),
    // Before sysfs, mqueue and the host name, which show these namespaces.
    (Step::Join, |setup, _| namespaces::join(&setup.spaces)),
    // After the groups have been joined: they become its root.
    (Step::CgroupNamespace, leave_cgroup_namespace),
    // Through the host's procfs.
    (Step::TimeNamespace, |setup, _| set_clocks(setup)),
    // In a new network namespace.
    (Step::Loopback, start_loopback),
    // Before any mount: from here on nothing reaches the host.
    (Step::Propagation, |setup, _| cut_propagation(&setup.spaces)),
    // While procfs and sysfs are there to be seen: afterwards there is nothing.
    (Step::SystemMounts, make_system_mounts),
    (Step::Root, |setup, _| attach_root(setup)),
    // The root's descriptor leads to the attached root from here on.
    (Step::Mounts, |setup, state| mounts::attach_all(setup.root.as_fd(), &setup.mounts, state)),
    // In the `/dev` that was just mounted.
    (Step::Devices, |setup, _| devices::make_nodes(setup.root.as_fd(), &setup.devices)),
    (Step::DeviceLinks, |setup, _| devices::make_links(setup.root.as_fd(), &setup.devices)),
    // Needs devpts in its place.
    (Step::Console, bind_console),
    // Everything is in its place, and can still be changed.
    (Step::RuntimeHooks, wait_for_hooks),
    (Step::ContainerHooks, |setup, _| setup.create_hooks.run(setup.create_hooks.state_fd())),
    // Needs procfs, and precedes its becoming read-only.
    (Step::Sysctls, |setup, state| sysctls::write(state.proc.as_ref().map(|p| p.as_fd()), &setup.sysctls)),
    // After all mounts, so that none lies on top of a mask.
    (Step::MaskedPaths, |setup, _| hidden_paths::mask(setup.root.as_fd(), &setup.hidden)),
    (Step::ReadonlyPaths, |setup, _| hidden_paths::make_readonly(setup.root.as_fd(), &setup.hidden)),
    // May have to be made, in the root or in a volume.
    (Step::WorkingFolder, ensure_working_folder),
    // After the last thing that is made in it.
    (Step::ReadonlyRoot, |setup, _| make_root_readonly(setup)),
    // The host's tree goes, where it ever was in this namespace.
    (Step::Pivot, |setup, _| change_root(setup)),
    (Step::RootPropagation, |setup, _| set_root_propagation(setup)),
    (Step::HostName, |setup, _| set_host_name(setup)),
];

/// The child's life.
pub(crate) fn run(setup: &Setup, report: BorrowedFd<'_>) -> ! {
    // Modes of nodes and folders are exact.
    rustix::process::umask(Mode::empty());
    let mut state = State::new(report);
    run_steps(STEPS, setup, &mut state);
    run_steps(process::STEPS, &setup.process, &mut state);
    run_steps(process::LAST_STEPS, &setup.process, &mut state);
    exit_now(1)
}

/// The life of the process between: it enters the user namespace and makes the container's first process there as its own sibling, whose
/// process id it writes to `told`. So every namespace of the container belongs to its user namespace.
pub(crate) fn run_between(setup: &Setup, report: BorrowedFd<'_>, told: BorrowedFd<'_>) -> ! {
    let mut state = State::new(report);
    run_steps(OUTSIDE_STEPS, setup, &mut state);
    match clone3(setup.spaces.flags | CloneFlags::PARENT, None, || run(setup, report)) {
        Ok(child) => {
            naru_sys::fault::point_in_child();
            // Its reader is there, or nobody is.
            let _ = rustix::io::write(told, &child.pid.as_raw_nonzero().get().to_ne_bytes());
            // The caller ends it; until then it holds the namespaces that the first process leaves.
            process::wait_for_parents_end(&setup.process);
            exit_now(0)
        }
        Err(errno) => state.fail(Step::UserNamespace, Failure::new(Op::Create, 0, errno)),
    }
}

/// Runs `steps` until one fails.
pub(crate) fn run_steps<S>(steps: Table<S>, setup: &S, state: &mut State<'_>) {
    for (step, run) in steps {
        naru_sys::fault::point_in_child();
        if let Err(failure) = run(setup, state) {
            state.fail(*step, failure);
        }
    }
}

/// Waits until the parent has done its part; ends with it.
fn wait_for((ready, parent): &(OwnedFd, OwnedFd)) -> Result<(), Failure> {
    let mut fds = [PollFd::new(ready, PollFlags::IN), PollFd::new(parent, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    if fds[0].revents().is_empty() {
        exit_now(137);
    }
    Ok(())
}

fn wait_for_hooks(setup: &Setup, state: &mut State<'_>) -> Result<(), Failure> {
    let Some(signal) = &setup.hooks_done else { return Ok(()) };
    report::send_reached(state.report, Step::RuntimeHooks);
    wait_for(signal)
}

/// What is written holds for the namespace that the next program is executed in.
fn set_clocks(setup: &Setup) -> Result<(), Failure> {
    let Some(offsets) = &setup.time_offsets else { return Ok(()) };
    unshare(NewNamespace::Time).at(Op::Create, 0)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/timens_offsets", flags, Mode::empty()).at(Op::OpenFile, 0)?;
    rustix::io::write(&file, offsets).map(drop).at(Op::Write, 0)
}

/// Root of a user namespace whose maps are written. After clone.
pub(crate) fn become_root() -> Result<(), Failure> {
    rustix::thread::set_thread_groups(&[]).at(Op::Group, 0)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(Op::Group, 1)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(Op::User, 0)?;
    // A change of user puts what fs.suid_dumpable says in its place (proc_sys_fs(5)).
    process::hide()
}

/// In a user namespace it has been done before: the file isn't ours there.
fn set_oom_score(setup: &Setup, state: &mut State<'_>) -> Result<(), Failure> {
    if setup.spaces.user.is_some() {
        return Ok(());
    }
    process::set_oom_score(&setup.process, state)
}

/// `0` in `tasks` is the writer itself: no lock of the whole thread group, so no wait for RCU. After clone.
pub(crate) fn join_cgroup(tasks: &[OwnedFd]) -> Result<(), Failure> {
    for (index, file) in tasks.iter().enumerate() {
        rustix::io::write(file, b"0").at(Op::Write, index)?;
    }
    Ok(())
}

/// Who has helped with the start needs no more processes from here on.
fn settle_in_cgroup(setup: &Setup) -> Result<(), Failure> {
    if setup.spaces.user.is_none() {
        join_cgroup(&setup.tasks)?;
    }
    if let Some((file, limit)) = &setup.process_limit {
        rustix::io::write(file, limit).at(Op::Write, 0)?;
    }
    Ok(())
}

fn leave_cgroup_namespace(setup: &Setup, _: &mut State<'_>) -> Result<(), Failure> {
    if setup.spaces.cgroup {
        unshare(NewNamespace::Cgroup)?;
    }
    Ok(())
}

fn start_loopback(setup: &Setup, _: &mut State<'_>) -> Result<(), Failure> {
    if setup.spaces.loopback {
        naru_sys::interface::loopback_up()?;
    }
    Ok(())
}

fn cut_propagation(spaces: &Spaces) -> Result<(), Failure> {
    // Only now: what precedes needs the host's procfs.
    match &spaces.mount {
        // Private by its making, and the host's is left already.
        MountSpace::Ahead(MountSpaces::Own { .. }) => return Ok(()),
        MountSpace::Ahead(MountSpaces::Template(empty)) => {
            namespaces::join_mounts(empty)?;
            return unshare(NewNamespace::Mount).at(Op::Call, 0);
        }
        MountSpace::Joined { namespace, .. } => namespaces::join_mounts(namespace)?,
        MountSpace::New => {}
    }
    Ok(mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Makes procfs and sysfs where the kernel permits it, and leaves for the namespace in which they will be.
fn make_system_mounts(setup: &Setup, state: &mut State<'_>) -> Result<(), Failure> {
    match &setup.spaces.mount {
        MountSpace::Ahead(MountSpaces::Own { own, .. }) => {
            mounts::make_system(&setup.mounts, &mut state.made)?;
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).at(Op::Call, 0)
        }
        _ => Ok(()),
    }
}

/// On top of `/`, if not in its own place: this process's root stays the folder below, until it changes places.
fn attach_root(setup: &Setup) -> Result<(), Failure> {
    let place = match &setup.spaces.mount {
        MountSpace::Joined { place, .. } => return mounts::attach(setup.root.as_fd(), place.as_fd()).at(Op::Attach, 0),
        // Where setns(2) has led.
        MountSpace::Ahead(_) => c".",
        // Whoever is root in a user namespace may not reach the place by its path: it is the working folder then.
        MountSpace::New if setup.spaces.user.is_some() => c".",
        MountSpace::New => setup.root_place.as_c_str(),
    };
    move_mount(&setup.root, c"", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(Op::Attach, 0)
}

fn bind_console(setup: &Setup, _: &mut State<'_>) -> Result<(), Failure> {
    match setup.process.streams().console() {
        Some(terminal) if setup.devices.own_dev() => console::bind(setup.root.as_fd(), terminal),
        _ => Ok(()),
    }
}

fn ensure_working_folder(setup: &Setup, state: &mut State<'_>) -> Result<(), Failure> {
    let place = inside::ensure(&setup.root, &setup.process.cwd, Kind::Directory).at(Op::Target, 0)?;
    // Also tells what is no folder.
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    state.cwd = Some(inside::open(place, c".", flags).at(Op::Target, 0)?);
    Ok(())
}

fn make_root_readonly(setup: &Setup) -> Result<(), Failure> {
    if setup.readonly_root {
        let change = MountChange { set: MountAttr::RDONLY, ..MountChange::default() };
        mount_setattr(setup.root.as_fd(), c"", &change)?;
    }
    Ok(())
}

/// pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is detached from there. In a namespace that never
/// had another tree, the new root is on top already, and nothing is below it (`mount_spaces`).
fn change_root(setup: &Setup) -> Result<(), Failure> {
    rustix::process::fchdir(&setup.root).at(Op::Call, 0)?;
    if setup.spaces.has_mounts() {
        return rustix::process::chroot(c".").at(Op::Call, 1);
    }
    rustix::process::pivot_root(c".", c".").at(Op::Call, 1)?;
    unmount(c".", UnmountFlags::DETACH).at(Op::Call, 2)
}

fn set_root_propagation(setup: &Setup) -> Result<(), Failure> {
    let (kind, recursive) = match setup.root_propagation {
        // All of it is private already.
        Propagation::Private | Propagation::Rprivate => return Ok(()),
        Propagation::Shared => (MountPropagation::Shared, false),
        Propagation::Rshared => (MountPropagation::Shared, true),
        Propagation::Slave => (MountPropagation::Slave, false),
        Propagation::Rslave => (MountPropagation::Slave, true),
        Propagation::Unbindable => (MountPropagation::Unbindable, false),
        Propagation::Runbindable => (MountPropagation::Unbindable, true),
    };
    let change = MountChange { propagation: Some(kind), recursive, ..MountChange::default() };
    Ok(mount_setattr(setup.root.as_fd(), c"", &change)?)
}

fn set_host_name(setup: &Setup) -> Result<(), Failure> {
    if let Some(name) = &setup.host_name {
        rustix::system::sethostname(name).at(Op::Call, 0)?;
    }
    match &setup.domain_name {
        Some(name) => rustix::system::setdomainname(name).at(Op::Call, 1),
        None => Ok(()),
    }
}
