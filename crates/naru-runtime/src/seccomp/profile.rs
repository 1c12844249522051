//! docker's JSON profiles.
//!
//! Source: moby `profiles/seccomp` (`seccomp.go` for the form, `seccomp_linux.go`, `setupSeccomp`, for what holds when).

use super::KernelVersion;
use super::arch::Arch;
use crate::capabilities;
use naru_base::{Error, Result};
use serde::Deserialize;
use std::sync::OnceLock;

/// A profile as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    pub(super) default_action: Action,
    pub(super) default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchFamily>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

/// An architecture and those that its kernel runs as well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchFamily {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

/// What happens for some system calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    name: String,
    names: Option<Vec<String>>,
    pub(super) action: Action,
    pub(super) errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: Operator,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// The argument, masked by `value`, is `value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// When a rule holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(super) enum Action {
    /// Not said.
    #[default]
    #[serde(rename = "")]
    Unset,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl Profile {
    /// Reads docker's form: with `archMap` or with `architectures`, with `names` or the old `name`.
    ///
    /// # Errors
    /// No such JSON, unknown actions or operators, both of two that exclude each other, a listener (which nobody would serve).
    pub fn parse(json: &str) -> Result<Self> {
        let profile = Self::parse_with_listener(json)?;
        if profile.notifies() || profile.listener().is_some() {
            return Err(Error::invalid("seccomp profiles with SCMP_ACT_NOTIFY are not supported"));
        }
        Ok(profile)
    }

    /// The same for somebody who takes the listener to where the profile says.
    ///
    /// # Errors
    /// As [`Profile::parse`]; calls that are notified without a listener, by default, or that the hand-over itself needs.
    pub fn parse_with_listener(json: &str) -> Result<Self> {
        let profile: Self =
            serde_json::from_str(json).map_err(|e| Error::invalid(format!("decoding seccomp profile failed: {e}")))?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether somebody else decides on calls (seccomp_unotify(2)).
    pub fn notifies(&self) -> bool {
        self.rules().iter().any(|r| r.action == Action::Notify)
    }

    /// The socket that the listener is sent to, and what is to be told there.
    pub fn listener(&self) -> Option<(&str, &str)> {
        let path = self.listener_path.as_deref().filter(|path| !path.is_empty())?;
        Some((path, self.listener_metadata.as_deref().unwrap_or_default()))
    }

    /// docker's default profile.
    pub fn default_profile() -> &'static Self {
        static DEFAULT: OnceLock<Profile> = OnceLock::new();
        // It is part of the binary, and a test reads it.
        DEFAULT.get_or_init(|| Self::parse(include_str!("default.json")).unwrap_or_default())
    }

    /// Whether it says nothing at all, which docker takes for "no filter".
    pub fn is_empty(&self) -> bool {
        self.default_action == Action::Unset && self.rules().is_empty()
    }

    fn check(&self) -> Result<()> {
        if self.architectures.as_ref().is_some_and(|a| !a.is_empty())
            && self.arch_map.as_ref().is_some_and(|a| !a.is_empty())
        {
            return Err(Error::invalid(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ));
        }
        if self.is_empty() {
            return Ok(());
        }
        if self.default_action == Action::Unset {
            return Err(Error::invalid("the seccomp profile has no defaultAction"));
        }
        // In runc's words.
        if self.default_action == Action::Notify {
            return Err(Error::invalid("SCMP_ACT_NOTIFY cannot be used as default action"));
        }
        let notified = |rule: &&Rule| rule.action == Action::Notify;
        if self.rules().iter().filter(notified).flat_map(Rule::names).any(|name| name == "write") {
            return Err(Error::invalid("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
        }
        if self.notifies() && self.listener().is_none() {
            return Err(Error::invalid("the seccomp profile has SCMP_ACT_NOTIFY, but no listenerPath"));
        }
        self.flag_bits()?;
        self.rules().iter().try_for_each(Rule::check)
    }

    fn rules(&self) -> &[Rule] {
        self.syscalls.as_deref().unwrap_or_default()
    }

    /// SECCOMP_FILTER_FLAG_*; without a word about them SPEC_ALLOW, as runc does.
    pub(super) fn flag_bits(&self) -> Result<u32> {
        const SPEC_ALLOW: u32 = 1 << 2;
        let listener = if self.notifies() { naru_sys::seccomp::NEW_LISTENER } else { 0 };
        let Some(flags) = &self.flags else { return Ok(SPEC_ALLOW | listener) };
        flags.iter().try_fold(listener, |bits, flag| match flag.as_str() {
            // The filter is set while there is one thread only.
            "" | "SECCOMP_FILTER_FLAG_TSYNC" => Ok(bits),
            "SECCOMP_FILTER_FLAG_LOG" => Ok(bits | 1 << 1),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(bits | SPEC_ALLOW),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if self.notifies() => Ok(bits | 1 << 5),
            other => Err(Error::invalid(format!("seccomp flag {other:?} is not supported"))),
        })
    }

    /// The architectures that the filter knows, the native one first and always. Those that this kernel can't run are left out.
    pub(super) fn arches(&self) -> Result<Vec<Arch>> {
        let mut arches = vec![Arch::NATIVE];
        let mut names: Vec<&String> = self.architectures.iter().flatten().collect();
        for family in self.arch_map.iter().flatten().filter(|f| f.architecture == Arch::NATIVE.name()) {
            names.extend(family.sub_architectures.iter().flatten());
        }
        for name in names {
            match Arch::by_name(name) {
                Some(arch) if Arch::NATIVE.runs(arch) && !arches.contains(&arch) => arches.push(arch),
                Some(_) => {}
                None if Arch::is_known_elsewhere(name) => {}
                None => {
                    return Err(Error::invalid(format!("string {name} is not a valid arch for seccomp")));
                }
            }
        }
        Ok(arches)
    }

    /// The rules that hold for a process with the bounding set `caps` on `kernel`.
    pub(super) fn rules_for(&self, caps: u64, kernel: KernelVersion) -> impl Iterator<Item = &Rule> {
        self.rules().iter().filter(move |rule| rule.holds(caps, kernel))
    }
}

impl Rule {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let one = Some(self.name.as_str()).filter(|name| !name.is_empty());
        one.into_iter().chain(self.names.iter().flatten().map(String::as_str))
    }

    pub(super) fn args(&self) -> &[Argument] {
        self.args.as_deref().unwrap_or_default()
    }

    fn check(&self) -> Result<()> {
        if !self.name.is_empty() && self.names.as_ref().is_some_and(|n| !n.is_empty()) {
            return Err(Error::invalid(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ));
        }
        if self.action == Action::Unset {
            return Err(Error::invalid("a rule of the seccomp profile has no action"));
        }
        if self.args().iter().any(|arg| arg.index > 5) {
            return Err(Error::invalid("a rule of the seccomp profile compares an argument after the sixth"));
        }
        for condition in [&self.includes, &self.excludes].into_iter().flatten() {
            if let Some(text) = &condition.min_kernel
                && KernelVersion::parse(text).is_none()
            {
                return Err(Error::invalid(format!("invalid kernel version {text:?} in the seccomp profile")));
            }
        }
        Ok(())
    }

    fn holds(&self, caps: u64, kernel: KernelVersion) -> bool {
        let excluded = self.excludes.as_ref().is_some_and(|c| {
            c.arches().iter().any(|a| a == Arch::NATIVE.go_name())
                || c.caps().iter().any(|name| has(caps, name))
                || c.min_kernel().is_some_and(|version| kernel >= version)
        });
        let included = self.includes.as_ref().is_none_or(|c| {
            (c.arches().is_empty() || c.arches().iter().any(|a| a == Arch::NATIVE.go_name()))
                && c.caps().iter().all(|name| has(caps, name))
                && c.min_kernel().is_none_or(|version| kernel >= version)
        });
        included && !excluded
    }
}

impl Condition {
    fn arches(&self) -> &[String] {
        self.arches.as_deref().unwrap_or_default()
    }

    fn caps(&self) -> &[String] {
        self.caps.as_deref().unwrap_or_default()
    }

    fn min_kernel(&self) -> Option<KernelVersion> {
        self.min_kernel.as_deref().and_then(KernelVersion::parse)
    }
}

fn has(caps: u64, name: &str) -> bool {
    capabilities::bit(name).is_some_and(|bit| caps >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

    fn refused(json: &str) -> String {
        Profile::parse(json).unwrap_err().message().to_owned()
    }

    #[test]
    fn the_default_profile_is_read() {
        let profile = Profile::default_profile();
        assert!(!profile.is_empty());
        assert_eq!((profile.default_action, profile.default_errno_ret), (Action::Errno, Some(1)));
        assert!(profile.rules().len() > 20);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(profile.arches().unwrap(), [Arch::X86_64, Arch::X86, Arch::X32]);
        }
    }

    #[test]
    fn rules_hold_by_capabilities_and_kernel() {
        let named = |caps, kernel, name: &str| {
            Profile::default_profile().rules_for(caps, kernel).filter(|r| r.names().any(|n| n == name)).count()
        };
        let admin = 1 << capabilities::bit("SYS_ADMIN").unwrap();
        assert_eq!((named(0, KERNEL, "mount"), named(admin, KERNEL, "mount")), (0, 1));
        assert_eq!((named(0, KERNEL, "clone"), named(admin, KERNEL, "clone")), (1, 1));
        let old = KernelVersion { major: 4, minor: 4 };
        assert_eq!((named(0, KERNEL, "ptrace"), named(0, old, "ptrace")), (1, 0));
    }

    #[test]
    fn both_forms() {
        let profile = Profile::parse(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_MIPS"],
                "syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","args":null},{"names":["chown"],"action":"SCMP_ACT_KILL"}]}"#,
        )
        .unwrap();
        let names: Vec<&str> = profile.rules().iter().flat_map(Rule::names).collect();
        assert_eq!(names, ["chmod", "chown"]);
        assert!(Profile::parse("{}").unwrap().is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refused("[").starts_with("decoding seccomp profile failed"));
        assert!(refused(r#"{"defaultAction":"SCMP_ACT_NONSENSE"}"#).contains("unknown variant"));
        let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#;
        assert!(refused(both).contains("use either 'architectures' or 'archMap'"));
        let both =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#;
        assert!(refused(both).contains("use either 'name' or 'names'"));
        assert!(refused(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).contains("NOTIFY"));
        let index = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert!(refused(index).contains("sixth"));
        let arch = Profile::parse(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_PDP11"]}"#).unwrap();
        assert!(arch.arches().is_err());
    }
}
