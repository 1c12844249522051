//! What a profile says about one call, found by reading it from top to bottom: what programs are compared with in the tests.

use super::KernelVersion;
use super::arch::{Arch, X32_BIT, x86_multiplexed};
use super::interpreter::Call;
use super::profile::{Argument, Operator, Profile};
use super::rules;

/// One name of one rule on one architecture.
struct Line<'p> {
    number: Option<u32>,
    /// The entry and the selector of a call that also comes in through another one.
    inside: Option<(u32, u64)>,
    /// The highest number that the name stands for.
    highest: Option<u32>,
    args: &'p [Argument],
    result: u32,
}

/// A profile's lines for each architecture that it has.
pub(super) struct Linear<'p> {
    arches: Vec<(Arch, Vec<Line<'p>>)>,
    default: u32,
}

impl<'p> Linear<'p> {
    pub(super) fn new(profile: &'p Profile, caps: u64, kernel: KernelVersion) -> Self {
        let lines = |arch: Arch| {
            let rules = profile.rules_for(caps, kernel);
            let lines = rules.flat_map(move |rule| rule.names().map(move |name| (rule, name))).map(|(rule, name)| {
                let result = rules::result(rule.action, rule.errno_ret).unwrap();
                let entry = x86_multiplexed(name)
                    .filter(|_| arch == Arch::X86)
                    .map(|(entry, selector)| (arch.number(entry).unwrap(), u64::from(selector)));
                let inside = entry.filter(|_| rule.args().is_empty() || !rules::permits(result));
                let number = arch.number(name);
                Line { number, inside, highest: number.max(entry.map(|e| e.0)), args: rule.args(), result }
            });
            (arch, lines.collect())
        };
        Self {
            arches: profile.arches().unwrap().into_iter().map(lines).collect(),
            default: rules::result(profile.default_action, profile.default_errno_ret).unwrap(),
        }
    }

    /// Whether the answer for `number` may depend on arguments.
    pub(super) fn is_conditional(&self, number: u32) -> bool {
        let about = |line: &Line<'_>| {
            line.number == Some(number) && !line.args.is_empty()
                || line.inside.is_some_and(|(entry, _)| entry == number)
        };
        self.arches.iter().any(|(_, lines)| lines.iter().any(about))
    }

    /// The answer to `call`; `no_such_call`: whether numbers above all that the profile names are answered with ENOSYS.
    pub(super) fn answer(&self, no_such_call: bool, call: &Call) -> u32 {
        let is_x32 = call.arch == Arch::X86_64.token() && call.number >= X32_BIT;
        let serves = |arch: Arch| arch.token() == call.arch && (arch == Arch::X32) == is_x32;
        let Some((arch, lines)) = self.arches.iter().find(|(arch, _)| serves(*arch)) else {
            return if is_x32 && call.number == u32::MAX { self.default } else { rules::KILL_THREAD };
        };
        let acting = || lines.iter().filter(|line| line.result != self.default);
        let always = acting().find(|line| line.number == Some(call.number) && line.args.is_empty());
        let conditional = acting().find(|line| {
            line.number == Some(call.number) && !line.args.is_empty() && matches(line.args, call, *arch)
                || line.inside == Some((call.number, call.args[0]))
        });
        let last = lines.iter().filter_map(|line| line.highest).max();
        let beyond = no_such_call && last.is_some_and(|last| call.number > last);
        let otherwise = if beyond { rules::NO_SUCH_CALL } else { self.default };
        always.or(conditional).map_or(otherwise, |line| line.result)
    }
}

fn matches(args: &[Argument], call: &Call, arch: Arch) -> bool {
    let mut indices: Vec<u32> = args.iter().map(|a| a.index).collect();
    indices.sort_unstable();
    indices.dedup();
    let holds = |argument: &Argument| {
        let mask = if arch.is_32_bit() { u64::from(u32::MAX) } else { u64::MAX };
        let value = call.args[argument.index as usize] & mask;
        match argument.op {
            Operator::NotEqual => value != argument.value & mask,
            Operator::Equal => value == argument.value & mask,
            Operator::Less => value < argument.value,
            Operator::LessOrEqual => value <= argument.value,
            Operator::GreaterOrEqual => value >= argument.value,
            Operator::Greater => value > argument.value,
            Operator::MaskedEqual => value & argument.value == argument.value_two & mask,
        }
    };
    if indices.len() < args.len() { args.iter().any(holds) } else { args.iter().all(holds) }
}
