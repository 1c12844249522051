//! Against libseccomp: a C program (`oracle.c`) compiles the same rules, and both programs must answer alike.
//!
//! Where there is no C compiler or no libseccomp the tests say so and pass.

use super::KernelVersion;
use super::arch::{Arch, X32_BIT};
use super::compile::Filter;
use super::interpreter::{Call, run};
use super::linear::Linear;
use super::profile::{Operator, Profile};
use super::rules;
use crate::capabilities;
use naru_sys::seccomp::Instruction;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 18 };

/// The compiled C program.
fn oracle() -> Option<&'static Path> {
    static ORACLE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = ORACLE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/oracle.c");
        let program = std::env::temp_dir().join(format!("naru-seccomp-oracle-{}", std::process::id()));
        let built =
            Command::new("cc").arg("-o").arg(&program).arg(source).arg("-lseccomp").stderr(Stdio::null()).status();
        built.is_ok_and(|status| status.success()).then_some(program)
    });
    if built.is_none() {
        eprintln!("SKIPPED: no C compiler or no libseccomp-dev here, filters are not compared with libseccomp's");
    }
    built.as_deref()
}

/// libseccomp's program for `profile` on `arch` (and x32, if that is x86_64), and the names that it doesn't know.
///
/// For one architecture at a time: 2.5.4 shares code between them, and may then compare the architecture instead of the number.
fn ask(oracle: &Path, profile: &Profile, caps: u64, arch: Arch) -> (Vec<Instruction>, BTreeSet<String>) {
    let mut child =
        Command::new(oracle).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question(profile, caps, arch).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let instruction = |raw: &[u8]| Instruction {
        code: u16::from_ne_bytes([raw[0], raw[1]]),
        jt: raw[2],
        jf: raw[3],
        k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
    };
    (output.stdout.chunks_exact(8).map(instruction).collect(), said.lines().map(str::to_owned).collect())
}

/// The rules as runc gives them to libseccomp.
fn question(profile: &Profile, caps: u64, only: Arch) -> String {
    let default = rules::result(profile.default_action, profile.default_errno_ret).unwrap();
    let mut text = format!("default {default}\n");
    for arch in profile.arches().unwrap().into_iter().filter(|a| a.token() == only.token()) {
        let token = if arch == Arch::X32 { 0x4000_003e } else { arch.token() };
        writeln!(text, "arch {token}").unwrap();
    }
    for rule in profile.rules_for(caps, KERNEL) {
        let result = rules::result(rule.action, rule.errno_ret).unwrap();
        if result == default {
            continue;
        }
        for name in rule.names() {
            for comparisons in rules::alternatives(rule.args()) {
                write!(text, "rule {result} {name} {}", comparisons.len()).unwrap();
                for c in comparisons {
                    write!(text, " {} {} {} {}", c.index, operator(c.op), c.value, c.value_two).unwrap();
                }
                text.push('\n');
            }
        }
    }
    text
}

fn operator(operator: Operator) -> u32 {
    match operator {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    }
}

/// Both programs answer alike for `numbers` and `args` on every architecture.
fn compare(profile: &Profile, caps: u64, numbers: &[u32], args: &[[u64; 6]]) {
    let Some(oracle) = oracle() else { return };
    let mut filter = Filter::new(profile, caps, KERNEL).unwrap();
    filter.unknown_is_no_such_call = false;
    let ours = filter.program().unwrap();
    for arch in profile.arches().unwrap().into_iter().filter(|a| *a != Arch::X32) {
        let (theirs, unknown) = ask(oracle, profile, caps, arch);
        for number in numbers {
            let named = |name: &String| arch.number(name) == Some(*number) || Arch::X32.number(name) == Some(*number);
            // libseccomp lets rules with comparisons through socketcall and ipc, where we are stricter.
            let entries = [Arch::X86.number("socketcall"), Arch::X86.number("ipc")];
            if unknown.iter().any(named) || arch == Arch::X86 && entries.contains(&Some(*number)) {
                continue;
            }
            for args in args {
                let args = if arch.is_32_bit() { args.map(|a| a & 0xffff_ffff) } else { *args };
                let call = Call { arch: arch.token(), number: *number, args };
                assert_eq!(
                    run(&ours, &call),
                    run(&theirs, &call),
                    "ours and libseccomp's answer to {call:?} on {arch:?}"
                );
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile() {
    let admin = 1 << capabilities::bit("SYS_ADMIN").unwrap();
    let numbers: Vec<u32> = (0..480).chain(X32_BIT..X32_BIT + 560).collect();
    let mut args = vec![[0; 6]];
    for value in [1, 8, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0xffff_ffff, 0x1000_0000, 0x1_0000_0000, u64::MAX] {
        args.push([value, 0, 0, 0, 0, 0]);
    }
    for caps in [capabilities::DEFAULT, 0, admin, capabilities::ALL] {
        compare(Profile::default_profile(), caps, &numbers, &args);
    }
}

const NAMES: [&str; 12] = [
    "read",
    "socket",
    "personality",
    "ioctl",
    "semop",
    "clone",
    "execve",
    "_llseek",
    "openat",
    "connect",
    "mmap",
    "prctl",
];
const PLAIN_NAMES: [&str; 9] =
    ["read", "personality", "ioctl", "clone", "execve", "_llseek", "openat", "mmap", "prctl"];
const VALUES: [u64; 7] = [0, 1, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_ffff_0000_0001];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn argument(values: &'static [u64]) -> impl Strategy<Value = String> {
    (0..6_u32, prop::sample::select(values), prop::sample::select(values), 0..7_usize).prop_map(
        |(index, value, two, op)| {
            let two = if OPERATORS[op] == "MASKED_EQ" { two & value } else { two };
            format!(r#"{{"index":{index},"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{}"}}"#, OPERATORS[op])
        },
    )
}

fn rule(
    name: &'static str,
    arguments: Range<usize>,
    values: &'static [u64],
    action: &'static str,
) -> impl Strategy<Value = String> {
    prop::collection::vec(argument(values), arguments).prop_map(move |args| {
        format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_{action}","args":[{}]}}"#, args.join(","))
    })
}

fn profile(default: &str, arches: &str, rules: &[String]) -> Profile {
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_{default}","architectures":[{arches}],"syscalls":[{}]}}"#,
        rules.join(",")
    );
    Profile::parse(&json).unwrap()
}

fn arches() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", r#""SCMP_ARCH_X86""#, r#""SCMP_ARCH_X86","SCMP_ARCH_X32""#])
}

fn defaults() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["ERRNO", "KILL_PROCESS", "LOG", "ALLOW"])
}

fn arguments() -> impl Strategy<Value = Vec<[u64; 6]>> {
    prop::collection::vec(prop::array::uniform6(prop::sample::select(&VALUES[..])), 20)
}

fn numbers() -> Vec<u32> {
    let names = || NAMES.into_iter().chain(["socketcall", "ipc", "uselib", "pwritev2", "clone3"]);
    [Arch::X86_64, Arch::X86, Arch::X32]
        .into_iter()
        .flat_map(|arch| names().filter_map(move |name| arch.number(name)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// One rule with comparisons, of different arguments, within 32 bits. With more of them libseccomp 2.5.4 is wrong itself: it
    /// shares code between calls and then compares one call's argument with another's number, and it lets arg0=1, arg3=0 through
    /// for "arg0 <= 0, or arg3 != 0 and arg0 != 0".
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn as_libseccomp(rule in prop::sample::select(&PLAIN_NAMES[..]).prop_flat_map(single_rule), default in defaults(),
                     arches in prop::sample::select(vec!["", r#""SCMP_ARCH_X86""#]), args in arguments()) {
        compare(&profile(default, arches, &[rule]), 0, &numbers(), &args);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn as_it_reads(rules in prop::collection::vec(any_rule(), 0..30), default in defaults(), arches in arches(), args in arguments()) {
        let profile = profile(default, arches, &rules);
        let filter = Filter::new(&profile, 0, KERNEL).unwrap();
        let (program, linear) = (filter.program().unwrap(), Linear::new(&profile, 0, KERNEL));
        for arch in [Arch::X86_64, Arch::X86] {
            for number in numbers().into_iter().chain([u32::MAX, X32_BIT - 1]) {
                for args in &args {
                    let args = if arch == Arch::X86 { args.map(|a| a & 0xffff_ffff) } else { *args };
                    let call = Call { arch: arch.token(), number, args };
                    prop_assert_eq!(run(&program, &call), linear.answer(filter.unknown_is_no_such_call, &call), "{:?}", call);
                }
            }
        }
    }
}

/// A rule that compares one argument, or two different ones, or none.
fn single_rule(name: &'static str) -> impl Strategy<Value = String> {
    let argument = || argument(&VALUES[..6]);
    (0..3_usize, argument(), argument()).prop_map(move |(count, one, two)| {
        let both =
            [one.replacen(r#""index":4"#, r#""index":1"#, 1), two.replacen(r#""index":"#, r#""index":4,"was":"#, 1)];
        let args = both.get(..count).unwrap_or_default().join(",");
        format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_TRAP","args":[{args}]}}"#)
    })
}

fn any_rule() -> impl Strategy<Value = String> {
    let actions = prop::sample::select(vec!["ALLOW", "ERRNO", "KILL", "TRACE"]);
    (prop::sample::select(&NAMES[..]), actions).prop_flat_map(|(name, action)| rule(name, 0..4, &VALUES, action))
}
