//! `process`: who runs what, with which rights (config.md, "Process" and "Linux Process").

use crate::container::Request;
use crate::spec::{self, Personality};
use naru_base::{Error, Result};
use naru_runtime::plan::{Capabilities, Process, Rlimit, SeccompProgram};
use naru_runtime::{ProcessOptions, capabilities};
use naru_sys::scheduling::SchedulerAttributes;
use std::path::Path;

/// The process in the plan's words.
///
/// # Errors
/// What is missing or wrong.
pub(crate) fn plan(
    process: &spec::Process,
    seccomp: Option<&SeccompProgram>,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("args must not be empty"));
    }
    if !process.cwd.is_absolute() {
        return Err(Error::invalid(format!("cwd must be an absolute path, not {:?}", process.cwd)));
    }
    check_labels(process)?;
    let optional = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let size = process.console_size.filter(|size| size.height != 0 || size.width != 0);
    Ok(Process {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: process.cwd.clone(),
        user: format!("{}:{}", process.user.uid, process.user.gid),
        additional_groups: process.user.additional_gids.iter().map(u32::to_string).collect(),
        capabilities: sets(process.capabilities.as_ref(), warnings),
        no_new_privileges: process.no_new_privileges,
        seccomp: seccomp.cloned(),
        rlimits: rlimits(&process.rlimits)?,
        oom_score_adj: process.oom_score_adj,
        terminal: process.terminal,
        console_size: size.filter(|_| process.terminal).map(|size| (size.height, size.width)),
        apparmor_profile: optional(&process.apparmor_profile),
        selinux_label: optional(&process.selinux_label),
    })
}

fn check_labels(process: &spec::Process) -> Result<()> {
    if !process.selinux_label.is_empty() && !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::invalid("selinux label is specified in config, but selinux is disabled or not supported"));
    }
    let profile = process.apparmor_profile.as_str();
    if !matches!(profile, "" | "unconfined") && !Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        return Err(Error::invalid(format!(
            "apparmor profile {profile:?} is specified in config, but apparmor is not enabled on this host"
        )));
    }
    if process.exec_cpu_affinity.is_some() {
        return Err(Error::not_implemented("config.json: process.execCPUAffinity is not supported"));
    }
    Ok(())
}

fn rlimits(limits: &[spec::Rlimit]) -> Result<Vec<Rlimit>> {
    for (at, limit) in limits.iter().enumerate() {
        if limits.iter().take(at).any(|other| other.r#type == limit.r#type) {
            return Err(Error::invalid(format!("rlimit type {:?} is given twice", limit.r#type)));
        }
        if !limit.r#type.starts_with("RLIMIT_") {
            return Err(Error::invalid(format!("invalid rlimit type: {}", limit.r#type)));
        }
    }
    Ok(limits.iter().map(|l| Rlimit { name: l.r#type.clone(), soft: l.soft, hard: l.hard }).collect())
}

/// Unknown names are warnings (config.md: "MUST be logged as a warning"). Without a word about them there are none.
fn sets(wanted: Option<&spec::Capabilities>, warnings: &mut Vec<String>) -> Capabilities {
    let Some(wanted) = wanted else { return Capabilities::default() };
    let mut unknown = Vec::new();
    let mut set = |names: &[String]| {
        names.iter().fold(0_u64, |set, name| match capabilities::bit(name) {
            Some(bit) => set | 1 << bit,
            None => {
                if !unknown.contains(name) {
                    unknown.push(name.clone());
                }
                set
            }
        })
    };
    let sets = Capabilities {
        bounding: set(&wanted.bounding),
        effective: set(&wanted.effective),
        permitted: set(&wanted.permitted),
        ambient: set(&wanted.ambient),
        inheritable: set(&wanted.inheritable),
    };
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {}", unknown.join(", ")));
    }
    sets
}

/// `exec --cap`: into every set but the inheritable one; into the ambient one for users other than root, as nothing else lasts there.
pub(crate) fn merge_capabilities(process: &mut spec::Process, names: &[String]) {
    let sets = process.capabilities.get_or_insert_default();
    let add =
        |list: &mut Vec<String>| list.extend(names.iter().filter(|n| !list.contains(n)).cloned().collect::<Vec<_>>());
    for list in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        add(list);
    }
    if process.user.uid != 0 {
        add(&mut sets.ambient);
    }
}

/// What a plan has no word for.
///
/// # Errors
/// An unknown class, policy, flag or domain.
pub(crate) fn options(
    process: &spec::Process,
    personality: Option<&Personality>,
    request: &Request,
) -> Result<ProcessOptions> {
    Ok(ProcessOptions {
        outlives_caller: request.detached,
        preserved_fds: request.preserved_fds,
        keeps_keyring: request.keeps_keyring,
        umask: process.user.umask,
        personality: personality.map(domain).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        listener: None,
    })
}

/// PER_LINUX and PER_LINUX32 (personality(2)).
fn domain(personality: &Personality) -> Result<u64> {
    if let Some(flag) = personality.flags.first() {
        return Err(Error::invalid(format!("personality flag {flag:?} is not supported: there is none")));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::invalid(format!("invalid personality domain {other:?}: LINUX or LINUX32"))),
    }
}

fn io_priority(priority: &spec::IoPriority) -> Result<i32> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid(format!("invalid ioPriority.class: {other:?}"))),
    };
    if !(0..=7).contains(&priority.priority) {
        return Err(Error::invalid(format!("invalid ioPriority.priority: {}: 0 to 7", priority.priority)));
    }
    Ok(class << 13 | priority.priority)
}

fn scheduler(scheduler: &spec::Scheduler) -> Result<SchedulerAttributes> {
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Error::invalid(format!("invalid scheduler policy: {other:?}"))),
    };
    let flags = scheduler.flags.iter().try_fold(0, |bits, flag| match flag.as_str() {
        "SCHED_FLAG_RESET_ON_FORK" => Ok(bits | 0x01),
        "SCHED_FLAG_RECLAIM" => Ok(bits | 0x02),
        "SCHED_FLAG_DL_OVERRUN" => Ok(bits | 0x04),
        "SCHED_FLAG_KEEP_POLICY" => Ok(bits | 0x08),
        "SCHED_FLAG_KEEP_PARAMS" => Ok(bits | 0x10),
        "SCHED_FLAG_UTIL_CLAMP_MIN" => Ok(bits | 0x20),
        "SCHED_FLAG_UTIL_CLAMP_MAX" => Ok(bits | 0x40),
        other => Err(Error::invalid(format!("invalid scheduler flag: {other:?}"))),
    })?;
    if matches!(policy, 0 | 3) && scheduler.priority != 0 {
        return Err(Error::invalid("scheduler: priority is for the policies SCHED_FIFO and SCHED_RR only"));
    }
    Ok(SchedulerAttributes {
        policy,
        flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..SchedulerAttributes::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_capabilities_are_told_once() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let wanted = spec::Capabilities {
            bounding: names(&["CAP_CHOWN", "CAP_NOPE"]),
            permitted: names(&["CAP_NOPE", "CAP_KILL"]),
            ..spec::Capabilities::default()
        };
        let mut warnings = Vec::new();
        let sets = sets(Some(&wanted), &mut warnings);
        assert_eq!((sets.bounding, sets.permitted, sets.effective), (1, 1 << 5, 0));
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: CAP_NOPE"]);
    }

    #[test]
    fn nonsense_is_named() {
        let policy = |policy: &str| spec::Scheduler { policy: policy.into(), ..spec::Scheduler::default() };
        assert_eq!(scheduler(&policy("SCHED_BATCH")).unwrap().policy, 3);
        assert!(scheduler(&policy("X")).unwrap_err().message().contains("\"X\""));
        let class = |class: &str, priority| spec::IoPriority { class: class.into(), priority };
        assert_eq!(io_priority(&class("IOPRIO_CLASS_BE", 4)).unwrap(), 2 << 13 | 4);
        assert!(io_priority(&class("IOPRIO_CLASS_BE", 8)).is_err());
        let process = spec::Process { args: vec!["x".into()], cwd: "rel".into(), ..spec::Process::default() };
        assert!(plan(&process, None, &mut Vec::new()).is_err());
    }
}
