//! Which devices a group may use: v1's `devices` controller, or a program on the v2 group.
//!
//! A list of rules is read in order, and denies what none of them names. On v2 it means what it says: for each of reading, writing and
//! making nodes, the last rule that names the device decides. On v1 it adds up as the kernel adds it: a rule can take back only what a
//! rule for exactly the same devices has given, and a rule of type `a` stands for everything, whatever numbers and access it has.
//!
//! Source: `security/device_cgroup.c` of the kernel for how rules add up on v1.

use super::group::Cgroup;
use super::hierarchy::Controller;
use super::{device_program, file};
use crate::plan::DeviceRule;
use naru_base::{Error, Result};
use naru_sys::bpf;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::path::Path;

/// Reading.
pub(super) const READ: u8 = 1;
/// Writing.
pub(super) const WRITE: u8 = 2;
/// Making nodes.
pub(super) const MKNOD: u8 = 4;

/// A rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// `c` or `b`; `None` for both.
    pub(super) kind: Option<char>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

impl Rule {
    fn parse(rule: &DeviceRule) -> Result<Self> {
        let kind = match rule.kind {
            'a' => None,
            kind @ ('c' | 'b') => Some(kind),
            other => return Err(Error::invalid(format!("invalid device type {other:?} in a device rule"))),
        };
        let access = access_bits(&rule.access)?;
        Ok(Self { allow: rule.allow, kind, major: rule.major, minor: rule.minor, access })
    }

    fn parse_all(rules: &[DeviceRule]) -> Result<Vec<Self>> {
        rules.iter().map(Self::parse).collect()
    }

    /// Whether it names every device and every access.
    pub(super) fn is_total(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, READ | WRITE | MKNOD)
    }
}

/// A device, or several, and what may be done (or not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Exception {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// What rules amount to: a default, and exceptions from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct DeviceSet {
    /// Whether what isn't named is allowed.
    allow: bool,
    exceptions: Vec<Exception>,
}

impl DeviceSet {
    /// The sum of `rules`.
    fn of(rules: &[DeviceRule]) -> Result<Self> {
        let mut set = Self::default();
        for rule in Rule::parse_all(rules)? {
            let Some(kind) = rule.kind else {
                set = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            };
            let exception = Exception { kind, major: rule.major, minor: rule.minor, access: rule.access };
            if rule.allow == set.allow { set.take_away(exception) } else { set.add(exception) }
        }
        set.exceptions.sort_unstable();
        Ok(set)
    }

    /// What `devices.list` says: either `a *:* rwm`, or the exceptions of a group that denies all else.
    fn parse_list(text: &str) -> Self {
        let mut set = Self::default();
        for line in text.lines() {
            match parse_list_line(line) {
                Some(exception) if exception.kind == 'a' => return Self { allow: true, exceptions: Vec::new() },
                Some(exception) => set.exceptions.push(exception),
                None => {}
            }
        }
        set.exceptions.sort_unstable();
        set
    }

    fn add(&mut self, new: Exception) {
        match self.exceptions.iter_mut().find(|e| e.same_devices(&new)) {
            Some(existing) => existing.access |= new.access,
            None => self.exceptions.push(new),
        }
    }

    fn take_away(&mut self, gone: Exception) {
        for exception in self.exceptions.iter_mut().filter(|e| e.same_devices(&gone)) {
            exception.access &= !gone.access;
        }
        self.exceptions.retain(|e| e.access != 0);
    }
}

impl Exception {
    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// As the kernel reads and writes it: `c 1:* rw`.
    fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(b, _)| self.access & b != 0)
            .map(|(_, c)| *c)
            .collect();
        format!("{} {}:{} {letters}", self.kind, number(self.major), number(self.minor))
    }
}

fn access_bits(letters: &str) -> Result<u8> {
    letters.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(Error::invalid(format!("invalid device access {letters:?}"))),
    })
}

fn parse_list_line(line: &str) -> Option<Exception> {
    let mut words = line.split_whitespace();
    let (kind, numbers, access) = (words.next()?.chars().next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    Some(Exception { kind, major: number(major)?, minor: number(minor)?, access: access_bits(access).ok()? })
}

/// Makes `rules` hold for the group, instead of rules that it had. No rules: what the parent has.
pub(super) fn apply(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    if let Some(group) = cgroup.of(Controller::Devices) {
        return apply_v1(&group.dir, &DeviceSet::of(rules)?);
    }
    apply_v2(cgroup, &Rule::parse_all(rules)?)
}

/// A container that could open any device must not run: what can't be had is an error, no warning.
fn apply_v2(cgroup: &Cgroup, rules: &[Rule]) -> Result<()> {
    let refused = |what: &str, why: Errno| {
        Error::system(format!("device access can't be limited (only privileged containers can run): {what}: {why}"))
    };
    let restricts = device_program::restricts(rules);
    let Some(dir) = cgroup.v2_dir()? else {
        let none = "device access can't be limited (only privileged containers can run): this host has neither a devices controller \
                    nor cgroup v2";
        return if restricts { Err(Error::not_implemented(none)) } else { Ok(()) };
    };
    // Those of a group that was there before.
    let mut old = bpf::device_programs(dir.as_fd());
    if restricts {
        let program = bpf::load_device_program(&device_program::compile(rules), "naru_devices")
            .map_err(|e| refused("load an eBPF program", e))?;
        bpf::attach_device_program(dir.as_fd(), program.as_fd())
            .map_err(|e| refused("attach an eBPF program to the cgroup", e))?;
    } else if matches!(old, Err(Errno::PERM | Errno::NOSYS | Errno::INVAL)) {
        // Where they can't be asked for, we haven't attached any.
        old = Ok(Vec::new());
    }
    let old = old.map_err(|e| Error::system(format!("ask for the cgroup's device rules: {e}")))?;
    // Afterwards, so that there is no time without any: all that are attached must allow.
    old.iter().try_for_each(|program| match bpf::detach_device_program(dir.as_fd(), program.as_fd()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::system(format!("take the old device rules off the cgroup: {e}"))),
    })
}

/// A new group has its parent's list: often there is nothing to do.
fn apply_v1(dir: &Path, wanted: &DeviceSet) -> Result<()> {
    if DeviceSet::parse_list(&file::read(&dir.join("devices.list"))?) == *wanted {
        return Ok(());
    }
    let (first, others) =
        if wanted.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    file::write(&dir.join(first), "a")?;
    let others = dir.join(others);
    wanted.exceptions.iter().try_for_each(|exception| file::write(&others, &exception.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> DeviceRule {
        let e = parse_list_line(text).unwrap();
        let access = text.rsplit(' ').next().unwrap().to_owned();
        DeviceRule { allow, kind: e.kind, major: e.major, minor: e.minor, access }
    }

    #[test]
    fn rules_add_up_as_in_the_kernel() {
        let rules = [
            rule(false, "a *:* rwm"),
            rule(true, "c 1:3 r"),
            rule(true, "c 1:3 wm"),
            rule(true, "c *:* m"),
            rule(true, "b 8:0 rwm"),
            rule(false, "b 8:0 wm"),
            rule(false, "c 10:229 rwm"),
        ];
        let set = DeviceSet::of(&rules).unwrap();
        assert!(!set.allow);
        let lines: Vec<String> = set.exceptions.iter().map(Exception::line).collect();
        assert_eq!(lines, ["b 8:0 r", "c *:* m", "c 1:3 rwm"]);
        assert_eq!(DeviceSet::parse_list("c 1:3 rwm\nc *:* m\nb 8:0 r\n"), set);
        assert_eq!(DeviceSet::parse_list("a *:* rwm\n"), DeviceSet::of(&[rule(true, "a *:* rwm")]).unwrap());
    }

    #[test]
    fn denied_exceptions() {
        let set = DeviceSet::of(&[rule(true, "a *:* rwm"), rule(false, "c 5:1 w")]).unwrap();
        assert!(set.allow);
        assert_eq!(set.exceptions.len(), 1);
    }

    #[test]
    fn what_no_rule_names_is_denied() {
        let set = DeviceSet::of(&[rule(true, "c 1:3 rwm")]).unwrap();
        assert_eq!((set.allow, set.exceptions.len()), (false, 1));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut bad = rule(true, "c 1:3 rwm");
        bad.access = "rx".into();
        assert!(DeviceSet::of(&[bad.clone()]).is_err());
        bad.access = "r".into();
        bad.kind = 'p';
        assert!(DeviceSet::of(&[bad]).is_err());
    }
}
