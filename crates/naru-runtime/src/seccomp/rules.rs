//! From named rules to what happens for a number.
//!
//! What several rules for one system call amount to is runc's and libseccomp's way: a rule that does what the default does anyway is
//! dropped; one without comparisons rules the call alone; otherwise the first one that matches. A rule that compares one argument
//! twice stands for several with one comparison each (runc `libcontainer/seccomp/seccomp_linux.go`, `matchCall`).

use super::arch::{Arch, x86_multiplexed};
use super::profile::{Action, Argument, Operator, Rule};
use naru_base::{Error, Result};
use std::collections::BTreeMap;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// SECCOMP_RET_KILL_THREAD: for an architecture that the filter doesn't know, as libseccomp has it.
pub(super) const KILL_THREAD: u32 = 0;
/// SECCOMP_RET_ERRNO with ENOSYS: for system calls that the profile's author could not know.
pub(super) const NO_SUCH_CALL: u32 = 0x0005_0000 | ENOSYS;

/// What the filter returns for one system call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Behaviour {
    /// The first one whose comparisons all hold decides.
    pub(super) cases: Vec<Case>,
    /// What happens when none does: `None` for the profile's default.
    pub(super) otherwise: Option<u32>,
}

/// Comparisons and what is returned when all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) comparisons: Vec<Argument>,
    pub(super) result: u32,
}

/// What one architecture's part of the filter does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) arch: Arch,
    pub(super) calls: BTreeMap<u32, Behaviour>,
    /// The highest number that the profile names, whatever it says about it; never below one of `calls`.
    pub(super) last: Option<u32>,
}

/// The value that the filter returns for `action`.
pub(super) fn result(action: Action, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(EPERM);
    if errno > 4095 {
        return Err(Error::invalid(format!("errnoRet {errno} in the seccomp profile is no error number")));
    }
    match action {
        Action::KillThread => Ok(KILL_THREAD),
        Action::KillProcess => Ok(0x8000_0000),
        Action::Trap => Ok(0x0003_0000),
        Action::Errno => Ok(0x0005_0000 | errno),
        Action::Trace => Ok(0x7ff0_0000 | errno),
        Action::Allow => Ok(0x7fff_0000),
        Action::Log => Ok(0x7ffc_0000),
        Action::Notify => Ok(0x7fc0_0000),
        Action::Unset => Err(Error::invalid("a rule of the seccomp profile has no action")),
    }
}

/// Whether `action` lets calls through, so that calls unknown to the author must not be answered with ENOSYS. A tracer counts as
/// letting through.
pub(super) fn lets_through(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log | Action::Trace)
}

/// Whether a filter's value lets the call through: SECCOMP_RET_TRACE, LOG, ALLOW.
pub(super) fn permits(result: u32) -> bool {
    (0x7ff0_0000..0x8000_0000).contains(&result)
}

impl Table {
    /// The table of `arch` for `rules`, with `default` for everything else.
    pub(super) fn new<'a>(arch: Arch, rules: impl Iterator<Item = &'a Rule>, default: u32) -> Result<Self> {
        let mut table = Self { arch, calls: BTreeMap::new(), last: None };
        for rule in rules {
            let result = result(rule.action, rule.errno_ret)?;
            for name in rule.names() {
                table.add(name, rule.args(), result, default);
            }
        }
        Ok(table)
    }

    fn add(&mut self, name: &str, args: &[Argument], result: u32, default: u32) {
        // A name that this architecture doesn't have is no mistake: profiles are written for all of them.
        if let Some(number) = self.arch.number(name) {
            self.last = self.last.max(Some(number));
            if result != default {
                self.insert(number, args, result);
            }
        }
        self.add_multiplexed(name, args, result, default);
    }

    /// 32-bit x86 has a second entry, socketcall or ipc, to some calls. What is behind its pointer can't be compared: a rule that
    /// denies some arguments denies the call there as a whole, and one that allows some allows none.
    fn add_multiplexed(&mut self, name: &str, args: &[Argument], result: u32, default: u32) {
        if self.arch != Arch::X86 {
            return;
        }
        let Some((entry, call)) = x86_multiplexed(name) else { return };
        if let Some(number) = self.arch.number(entry) {
            // Who names a call knows its entries.
            self.last = self.last.max(Some(number));
            if result == default || (!args.is_empty() && permits(result)) {
                return;
            }
            let call = Argument { index: 0, value: u64::from(call), value_two: 0, op: Operator::Equal };
            self.insert(number, &[call], result);
        }
    }

    fn insert(&mut self, number: u32, args: &[Argument], result: u32) {
        let behaviour = self.calls.entry(number).or_default();
        if args.is_empty() {
            behaviour.otherwise.get_or_insert(result);
            behaviour.cases.clear();
        } else if behaviour.otherwise.is_none() {
            behaviour.cases.extend(alternatives(args).map(|comparisons| Case { comparisons, result }));
        }
    }
}

/// All comparisons at once, or, if two are about the same argument, each for itself.
pub(super) fn alternatives(args: &[Argument]) -> impl Iterator<Item = Vec<Argument>> {
    let repeated =
        args.iter().enumerate().any(|(at, arg)| args.iter().skip(at + 1).any(|other| other.index == arg.index));
    let groups: Vec<Vec<Argument>> =
        if repeated { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args.to_vec()] };
    groups.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{KernelVersion, Profile};

    #[test]
    fn an_entry_to_a_named_call_is_known() {
        let json =
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","semop"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let profile = Profile::parse(json).unwrap();
        let rules = profile.rules_for(0, KernelVersion { major: 6, minor: 18 });
        let table = Table::new(Arch::X86, rules, 0x0005_0001).unwrap();
        // semop itself has no number on x86, where it comes in through ipc.
        assert_eq!(table.calls.keys().copied().collect::<Vec<_>>(), [3, 117]);
        assert_eq!(table.last, Some(117));
    }
}
