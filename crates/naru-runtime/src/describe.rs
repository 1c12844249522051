//! Numbers from the child become text again, with the subject out of the plan.

use crate::plan::{Plan, Process};
use crate::report::{Op, Record, errno_text};
use crate::steps::Step;
use crate::{StartError, devices, hidden_paths, mounts, program, sysctls};

/// What happened to a container's first process.
pub(crate) fn container(plan: &Plan, record: &Record) -> StartError {
    let Record { step, failure, .. } = *record;
    let index = failure.index as usize;
    let text = errno_text(failure.errno);
    let known = match step {
        Step::Propagation if failure.op == Op::Open => {
            Some(StartError::system(format!("join the mount namespace: {text}")))
        }
        Step::Mounts => plan.mounts.get(index).map(|mount| mounts::describe(mount, failure)),
        Step::SystemMounts if failure.op != Op::Call => {
            plan.mounts.get(index).map(|mount| mounts::describe(mount, failure))
        }
        Step::Devices => plan.devices.get(index).map(|device| devices::describe(device, failure)),
        Step::Sysctls => Some(sysctls::describe(&plan.sysctls, failure)),
        Step::MaskedPaths => Some(hidden_paths::describe("mask", plan.masked_paths.get(index), failure)),
        Step::ReadonlyPaths => Some(hidden_paths::describe("make read-only", plan.readonly_paths.get(index), failure)),
        Step::WorkingFolder => Some(working_folder(&plan.process, record)),
        Step::ContainerHooks => Some(crate::hooks::describe("createContainer", failure)),
        Step::StartHooks => Some(crate::hooks::describe("startContainer", failure)),
        _ => None,
    };
    known.unwrap_or_else(|| match surroundings(step) {
        Some(what) => StartError::system(format!("{what}: {text}")),
        None => process(&plan.process, record),
    })
}

/// What happened to any process.
pub(crate) fn process(process: &Process, record: &Record) -> StartError {
    let Record { step, failure, .. } = *record;
    let text = errno_text(failure.errno);
    match (step, failure.op) {
        (Step::Program | Step::FindProgram, _) => program::describe(&process.args, failure),
        (_, Op::Unreachable) => StartError::system(format!(
            "current working directory is outside of container mount namespace root: possible container breakout detected ({text})"
        )),
        (Step::OpenDirectory | Step::WorkingDirectory | Step::WorkingDirectoryAsUser, _) => StartError::invalid(
            format!("chdir to cwd (\"{}\") set in config.json failed: {text}", process.cwd.display()),
        ),
        (Step::Limits, _) => {
            let name = process.rlimits.get(failure.index as usize).map_or("", |limit| limit.name.as_str());
            StartError::system(format!("error setting rlimit type {name}: {text}"))
        }
        (Step::Label, _) => StartError::system(label(process, record)),
        (Step::OomScore, _) => StartError::system(format!(
            "oom_score_adj {} is not permitted on this host: {text}",
            process.oom_score_adj.unwrap_or(0)
        )),
        (step, op) => StartError::system(format!("{}: {text}", own(step, op))),
    }
}

fn label(process: &Process, record: &Record) -> String {
    let why = match record.failure.errno {
        rustix::io::Errno::NOENT if record.failure.op == Op::Write => "it is not loaded".to_owned(),
        errno => errno_text(errno),
    };
    match (&process.selinux_label, &process.apparmor_profile) {
        (Some(label), _) => format!("set the SELinux label \"{label}\": {}", errno_text(record.failure.errno)),
        (None, Some(profile)) => format!("apply the AppArmor profile \"{profile}\": {why}"),
        (None, None) => format!("set the security label: {why}"),
    }
}

fn working_folder(process: &Process, record: &Record) -> StartError {
    let cwd = process.cwd.display();
    if record.failure.errno == rustix::io::Errno::NOTDIR {
        return StartError::system(format!("Cannot mkdir: {cwd} is not a directory"));
    }
    StartError::system(format!("mkdir {cwd}: {}", errno_text(record.failure.errno)))
}

/// Steps of a container's surroundings that have no subject in the plan.
fn surroundings(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::UserNamespace => "enter the user namespace",
        Step::Join => "join a namespace",
        Step::CgroupNamespace => "make the cgroup namespace",
        Step::TimeNamespace => "set the clocks of the time namespace",
        Step::RuntimeHooks => "wait for hooks",
        Step::Loopback => "set the loopback interface up",
        Step::Propagation => "make mounts private",
        Step::SystemMounts => "enter the mount namespace",
        Step::Root => "attach the root file system",
        Step::DeviceLinks => "make links in /dev",
        Step::Console => "bind the terminal to /dev/console",
        Step::ReadonlyRoot => "make the root file system read-only",
        Step::Pivot => "change the root (pivot_root)",
        Step::RootPropagation => "set the propagation of the root",
        Step::HostName => "set the host name",
        _ => return None,
    })
}

fn own(step: Step, op: Op) -> &'static str {
    match step {
        Step::Hide => "make the process undumpable",
        Step::Cgroup => "join the cgroup",
        Step::Enter => "enter the container's namespaces",
        Step::Session => "start a session",
        Step::Keyring => "a session keyring of its own could not be had",
        Step::Stdio => "install the standard streams",
        Step::Scheduling => match op {
            Op::Open => "set the personality",
            Op::Configure => "set the I/O priority",
            _ => "set the scheduler",
        },
        Step::Gate => "wait for the start",
        Step::Bounding => "drop capabilities from the bounding set",
        Step::Ids => "change user and groups",
        Step::CloseOnExec => "mark descriptors close-on-exec",
        Step::Signals => "reset signals",
        Step::ParentDeath => "ask for a signal on the parent's death",
        Step::NoNewPrivileges => "set no_new_privs",
        Step::Filter => "install the seccomp filter",
        Step::Capabilities => "set capabilities",
        _ => "start the process",
    }
}
