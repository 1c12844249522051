//! One process, from the end of its surroundings' set-up to execve: the same for a container's first process and for an exec.

use crate::StartError;
use crate::child::State;
use crate::console::Console;
use crate::credentials::{self, Credentials};
use crate::hooks::PreparedHooks;
use crate::identity::Identity;
use crate::init;
use crate::listener;
use crate::mounts::{c_path, private_proc};
use crate::plan::{IdMap, Process};
use crate::program::{self, Program};
use crate::report::{At, Failure, Op, errno_text};
use crate::rlimits::{self, Limits};
use crate::steps::{Step, Table};
use crate::{ProcessOptions, Stdio, gate, idmap, inside};
use naru_sys::{fds, keyring, process as own, scheduling, signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, PidfdFlags, Signal, getpid, pidfd_open};
use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// Room for the answer of getcwd(2).
const PATH_LIMIT: usize = 4096;

/// Everything about one process, prepared.
#[derive(Debug)]
pub(crate) struct ProcessSetup {
    stdio: Streams,
    pub cwd: CString,
    limits: Limits,
    pub credentials: Credentials,
    program: Program,
    oom_score: Option<CString>,
    lsm: Option<Label>,
    keyring: CString,
    /// The caller, to notice that it died before the death signal was asked for.
    parent: OwnedFd,
    /// Whether our own init stays as the parent of the program.
    init: bool,
    pub options: ProcessOptions,
    /// Where it waits before its program is executed.
    pub gate: Option<OwnedFd>,
    /// Run before its program is executed.
    pub start_hooks: PreparedHooks,
}

/// What becomes descriptors 0, 1 and 2.
#[derive(Debug)]
pub(crate) enum Streams {
    Files([OwnedFd; 3]),
    Terminal(Console),
}

/// Steps of every process. Those above have made its surroundings: the root is `/`, procfs and namespaces are the container's.
pub(crate) const STEPS: Table<ProcessSetup> = &[
    // A session of its own, before the terminal can become its controlling one.
    (Step::Session, start_session),
    // The inherited keys stay with the caller.
    (Step::Keyring, join_keyring),
    // Descriptors 0 to 2; the originals are close-on-exec.
    (Step::Stdio, install_stdio),
    // Raising limits needs capabilities.
    (Step::Limits, set_limits),
    // Needs CAP_SYS_NICE.
    (Step::Scheduling, set_scheduling),
    // As root, who may enter every folder; the root must be `/` by now.
    (Step::WorkingDirectory, change_directory),
    // Needs procfs and the privilege to choose a label.
    (Step::Label, choose_label),
    // Needs CAP_SETPCAP.
    (Step::Bounding, |setup, _| credentials::drop_bounding(&setup.credentials)),
    // Needs CAP_SETGID and CAP_SETUID; keeps the permitted set for the steps below.
    (Step::Ids, |setup, _| credentials::change_ids(&setup.credentials)),
    // For folders that only the user may enter (root squash).
    (Step::WorkingDirectoryAsUser, change_directory_again),
    // Whatever was inherited without close-on-exec must not reach the program.
    (Step::CloseOnExec, |setup, _| Ok(fds::close_on_exec_from(3 + setup.options.preserved_fds)?)),
    // Nothing is ignored or blocked in the program because its caller did so.
    (Step::Signals, reset_signals),
    // A change of user clears it, so it follows Ids.
    (Step::ParentDeath, die_with_parent),
    // Whoever makes a container that is started later wants to know now.
    (Step::FindProgram, find_program),
    // Doesn't return if there is one: the steps below are gone through behind it.
    (Step::Gate, gate::wait),
];

/// The last ones, behind the gate if there is one.
pub(crate) const LAST_STEPS: Table<ProcessSetup> = &[
    // Before the filter, which may forbid prctl.
    (Step::NoNewPrivileges, |setup, _| credentials::set_no_new_privileges(&setup.credentials)),
    // Needs CAP_SYS_ADMIN or no_new_privs; only what is below must get through it.
    (Step::Filter, listener::set_filter),
    // The last privileges go.
    (Step::Capabilities, |setup, _| credentials::set_capabilities(&setup.credentials)),
    // The container's own programs, with what its process may do and no more.
    (Step::StartHooks, run_start_hooks),
    // Doesn't return if all is well.
    (Step::Program, execute),
];

/// Resolves nothing later: streams, limits, ids, sets, filter and the places of the program.
pub(crate) fn prepare(
    process: &Process,
    identity: &Identity,
    map: Option<&IdMap>,
    streams: Streams,
    init: bool,
    options: ProcessOptions,
    warnings: &mut Vec<String>,
) -> Result<ProcessSetup, StartError> {
    let cwd = process.cwd.as_os_str().as_bytes();
    if !cwd.is_empty() && cwd.first() != Some(&b'/') {
        return Err(StartError::invalid(format!("working directory {} is not absolute", process.cwd.display())));
    }
    let credentials = credentials::prepare(
        identity,
        process.capabilities,
        process.no_new_privileges,
        process.seccomp.as_ref(),
        map.is_some(),
        warnings,
    )?;
    credentials
        .filter_is_possible()
        .map_err(|e| StartError::system(format!("seccomp filter without no_new_privs: {}", errno_text(e))))?;
    streams.give_to(idmap::owner(map, identity.uid, identity.gid).0);
    Ok(ProcessSetup {
        stdio: streams,
        cwd: c_path(if cwd.is_empty() { b"/" } else { cwd })?,
        limits: rlimits::prepare(&process.rlimits, warnings)?,
        credentials,
        program: program::prepare(&process.args, &process.env, &identity.home)?,
        oom_score: process.oom_score_adj.map(|score| c_path(score.to_string().as_bytes())).transpose()?,
        lsm: label(process, init)?,
        keyring: c"naru".into(),
        parent: pidfd_open(getpid(), PidfdFlags::empty())
            .map_err(|e| StartError::system(format!("open own pidfd: {}", errno_text(e))))?,
        init,
        options,
        gate: None,
        start_hooks: PreparedHooks::default(),
    })
}

/// What is written below `thread-self/attr`, and where: AppArmor has a folder of its own since Linux 5.8. SELinux has none, and the one of
/// AppArmor is there even where that is off.
#[derive(Debug)]
struct Label {
    text: CString,
    files: &'static [&'static CStr],
}

/// SELinux's label as it is, AppArmor's profile with a verb, for what is executed next. Our init executes nothing itself: with it, a
/// profile is that of this process at once, and of what it starts. A label is only that of what it starts: few policies let a process
/// change its own.
fn label(process: &Process, init: bool) -> Result<Option<Label>, StartError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty() && text != "unconfined");
    match (given(&process.selinux_label), given(&process.apparmor_profile)) {
        (Some(label), _) => {
            let files = &[c"thread-self/attr/exec"];
            Ok(Some(Label { text: c_path(label.as_bytes())?, files }))
        }
        (None, Some(profile)) if init => {
            let files = &[c"thread-self/attr/apparmor/current", c"thread-self/attr/current"];
            Ok(Some(Label { text: c_path(format!("changeprofile {profile}").as_bytes())?, files }))
        }
        (None, Some(profile)) => {
            let files = &[c"thread-self/attr/apparmor/exec", c"thread-self/attr/exec"];
            Ok(Some(Label { text: c_path(format!("exec {profile}").as_bytes())?, files }))
        }
        (None, None) => Ok(None),
    }
}

impl Streams {
    /// The streams that `stdio` stands for; `terminal` makes the terminal.
    pub(crate) fn open(
        stdio: Stdio,
        terminal: impl FnOnce() -> Result<Console, StartError>,
    ) -> Result<Self, StartError> {
        let fail = |e: Errno| StartError::system(format!("standard streams: {}", errno_text(e)));
        let files = match stdio {
            Stdio::Terminal => return terminal().map(Self::Terminal),
            Stdio::Pipes { stdin, stdout, stderr } => [stdin, stdout, stderr],
            Stdio::Null => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).map_err(fail)?;
                let copy = || rustix::io::fcntl_dupfd_cloexec(&null, 3).map_err(fail);
                [copy()?, copy()?, copy()?]
            }
        };
        // dup3 onto itself fails, and onto another's number would overwrite it.
        let above = |fd: OwnedFd| match fd.as_raw_fd() {
            0..=2 => rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(fail),
            _ => Ok(fd),
        };
        let [stdin, stdout, stderr] = files;
        Ok(Self::Files([above(stdin)?, above(stdout)?, above(stderr)?]))
    }

    /// Lets a user other than root open its own streams again (`/dev/stdout`), as runc's `fixStdioPermissions` does.
    fn give_to(&self, uid: Uid) {
        if uid.is_root() {
            return;
        }
        let give = |fd: BorrowedFd<'_>| {
            let Ok(stat) = rustix::fs::fstat(fd) else { return };
            let own = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Fifo | FileType::Socket => true,
                FileType::CharacterDevice => stat.st_rdev != makedev(1, 3),
                _ => false,
            };
            if own {
                // A stream that can't be given away still works as it was opened.
                let _ = rustix::fs::fchown(fd, Some(uid), None);
            }
        };
        match self {
            Self::Files(files) => files.iter().for_each(|fd| give(fd.as_fd())),
            Self::Terminal(console) => give(console.slave.as_fd()),
        }
    }

    /// The terminal.
    pub(crate) fn console(&self) -> Option<&Console> {
        match self {
            Self::Terminal(console) => Some(console),
            Self::Files(_) => None,
        }
    }

    fn get(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Files([stdin, stdout, stderr]) => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Self::Terminal(console) => [console.slave.as_fd(); 3],
        }
    }
}

impl ProcessSetup {
    /// The streams.
    pub(crate) fn streams(&self) -> &Streams {
        &self.stdio
    }

    /// Gives up everything but the terminal's master.
    pub(crate) fn into_console(self) -> Option<OwnedFd> {
        match self.stdio {
            Streams::Terminal(console) => Some(console.master),
            Streams::Files(_) => None,
        }
    }
}

/// Until execve this process is ours, and nobody in the container may trace it or look at its descriptors. After clone.
pub(crate) fn hide() -> Result<(), Failure> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Through the caller's procfs, so it precedes the change of root; lowering it may not be permitted. After clone.
pub(crate) fn set_oom_score(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let Some(score) = &setup.oom_score else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()).at(Op::OpenFile, 0)?;
    match rustix::io::write(&file, score.to_bytes()) {
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            state.warn(Step::OomScore, Failure::new(Op::Write, 0, errno));
            Ok(())
        }
        other => other.map(drop).at(Op::Write, 0),
    }
}

fn start_session(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    rustix::process::setsid().at(Op::Call, 0)?;
    if let Streams::Terminal(console) = &setup.stdio {
        rustix::process::ioctl_tiocsctty(&console.slave).at(Op::Attach, 0)?;
    }
    Ok(())
}

fn join_keyring(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    if setup.options.keeps_keyring {
        return Ok(());
    }
    match keyring::join_session_keyring(&setup.keyring) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        // A full quota, or a filter around ourselves: the keys that would be inherited are our own session's.
        Err(errno @ (Errno::DQUOT | Errno::PERM)) => {
            state.warn(Step::Keyring, errno.into());
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn install_stdio(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    let [stdin, stdout, stderr] = setup.stdio.get();
    rustix::stdio::dup2_stdin(stdin).at(Op::Call, 0)?;
    rustix::stdio::dup2_stdout(stdout).at(Op::Call, 1)?;
    rustix::stdio::dup2_stderr(stderr).at(Op::Call, 2)
}

/// Before a user namespace is entered, in which no limit can be raised. After clone.
pub(crate) fn raise_limits(setup: &ProcessSetup) -> Result<(), Failure> {
    rlimits::raise(&setup.limits)
}

fn set_limits(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    rlimits::set(&setup.limits)
}

fn set_scheduling(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    let ProcessOptions { personality, io_priority, scheduler, .. } = &setup.options;
    if let Some(domain) = personality {
        scheduling::set_personality(*domain).at(Op::Open, 0)?;
    }
    if let Some(priority) = io_priority {
        scheduling::set_io_priority(*priority).at(Op::Configure, 0)?;
    }
    match scheduler {
        Some(attributes) => scheduling::set_scheduler(attributes).at(Op::Call, 0),
        None => Ok(()),
    }
}

/// Opens the working folder of a further process, which must be there; the root is `/`. After clone.
pub(crate) fn open_directory(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let cwd = inside::open(&root, &setup.cwd, OFlags::PATH | OFlags::DIRECTORY).at(Op::OpenFile, 0)?;
    state.cwd = Some(cwd);
    Ok(())
}

fn change_directory(_: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let Some(cwd) = &state.cwd else { return Ok(()) };
    match rustix::process::fchdir(cwd) {
        Err(Errno::ACCESS) => return Ok(()),
        other => other.at(Op::Call, 0)?,
    }
    state.cwd = None;
    reachable()
}

fn change_directory_again(_: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let Some(cwd) = state.cwd.take() else { return Ok(()) };
    rustix::process::fchdir(cwd).at(Op::Call, 0)?;
    reachable()
}

/// A folder outside of the root would be a way out (CVE-2024-21626): the kernel says so in the path it tells.
fn reachable() -> Result<(), Failure> {
    let mut buffer = [0_u8; PATH_LIMIT];
    match own::getcwd(&mut buffer) {
        Ok(path) if path.to_bytes().first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(Failure::new(Op::Unreachable, 0, Errno::ACCESS)),
        // Deeper than a path can be long: inside, or the kernel would have put the mark in front just the same.
        Err(errno) => Err(Failure::new(Op::Unreachable, 0, errno)),
    }
}

fn choose_label(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    let Some(label) = &setup.lsm else { return Ok(()) };
    let proc = private_proc()?;
    let mut file = Err(Errno::NOENT);
    for path in label.files {
        if matches!(file, Err(Errno::NOENT)) {
            file = rustix::fs::openat(&proc, *path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        }
    }
    rustix::io::write(file.at(Op::OpenFile, 0)?, label.text.to_bytes()).map(drop).at(Op::Write, 0)
}

fn reset_signals(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    signals::reset_dispositions();
    rustix::process::umask(Mode::from_raw_mode(setup.options.umask.unwrap_or(0o022) & 0o777));
    Ok(signals::set_mask(0)?)
}

fn die_with_parent(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    if setup.options.outlives_caller {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before: then its descriptor is readable, and nobody is left to report to.
    let mut fds = [PollFd::new(&setup.parent, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => own::exit_now(137),
    }
}

/// Returns when the caller has ended. After clone.
pub(crate) fn wait_for_parents_end(setup: &ProcessSetup) {
    let mut fds = [PollFd::new(&setup.parent, PollFlags::IN)];
    // It fails only where there is no memory: then nobody is waited for.
    let _ = rustix::io::retry_on_intr(|| poll(&mut fds, None));
}

fn find_program(setup: &ProcessSetup, _: &mut State<'_>) -> Result<(), Failure> {
    if setup.gate.is_some() { program::find(&setup.program) } else { Ok(()) }
}

fn run_start_hooks(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    let kept = state.hook_state.as_ref().map(|fd| fd.as_fd());
    setup.start_hooks.run(kept.or_else(|| setup.start_hooks.state_fd()))
}

fn execute(setup: &ProcessSetup, state: &mut State<'_>) -> Result<(), Failure> {
    if setup.init {
        return init::run(&setup.program, state);
    }
    Err(program::execute(&setup.program))
}
