//! Device access on cgroup v2: a small program that the kernel asks at each open and mknod.
//!
//! Source: `struct bpf_cgroup_dev_ctx` in the kernel's `include/uapi/linux/bpf.h`, and bpf(2).

use super::devices::{DeviceSet, Exception, MKNOD, READ, WRITE};
use naru_sys::bpf::Instruction;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// Registers: the answer, the context that comes in, and what is taken out of it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// The context is not needed after the beginning.
const SCRATCH: u8 = 1;

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x56;
const JUMP_UNLESS_SAME: u8 = 0x5e;
const JUMP_IF: u8 = 0x16;
const EXIT: u8 = 0x95;

/// The program that answers as `set` says: 1 allows, 0 denies.
pub(super) fn compile(set: &DeviceSet) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        op(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        op(AND, TYPE, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    ];
    for exception in &set.exceptions {
        program.extend(block(exception, set.allow));
    }
    program.extend(answer(set.allow));
    program
}

/// One exception: the tests that lead past it, and its answer. Where the rest is denied it allows what asks for nothing else than it
/// names; where the rest is allowed it denies what asks for any of it.
fn block(exception: &Exception, allow: bool) -> Vec<Instruction> {
    let kind = if exception.kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR };
    let mut tests = vec![
        op(JUMP_UNLESS, TYPE, 0, 0, kind),
        op(COPY, SCRATCH, ACCESS, 0, 0),
        op(AND, SCRATCH, 0, 0, access(exception.access)),
        if allow { op(JUMP_IF, SCRATCH, 0, 0, 0) } else { op(JUMP_UNLESS_SAME, SCRATCH, ACCESS, 0, 0) },
    ];
    // As bits: the kernel compares 32 of them.
    tests.extend(exception.major.map(|n| op(JUMP_UNLESS, MAJOR, 0, 0, n.cast_signed())));
    tests.extend(exception.minor.map(|n| op(JUMP_UNLESS, MINOR, 0, 0, n.cast_signed())));
    let end = answer(!allow);
    let whole = tests.len() + end.len();
    for (at, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP_UNLESS | JUMP_UNLESS_SAME | JUMP_IF) {
            // A block has at most eight instructions.
            test.offset = i16::try_from(whole - at - 1).unwrap_or(i16::MAX);
        }
    }
    tests.extend(end);
    tests
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(SET, ANSWER, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

fn access(bits: u8) -> i32 {
    [(READ, ACCESS_READ), (WRITE, ACCESS_WRITE), (MKNOD, ACCESS_MKNOD)]
        .iter()
        .filter(|(ours, _)| bits & ours != 0)
        .fold(0, |all, (_, theirs)| all | theirs)
}

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | (source << 4), offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the few operations that are used.
    fn run(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let context = [(access as u32) << 16 | kind as u32, major, minor];
        let mut registers = [0u32; 6];
        let mut at = 0;
        loop {
            let i = program[at];
            let (d, s) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let immediate = i.immediate as u32;
            let mut jump = |taken: bool| at += if taken { usize::try_from(i.offset).unwrap() } else { 0 };
            match i.code {
                LOAD_WORD => registers[d] = context[usize::try_from(i.offset).unwrap() / 4],
                AND => registers[d] &= immediate,
                SHIFT_RIGHT => registers[d] >>= immediate,
                COPY => registers[d] = registers[s],
                SET => registers[d] = immediate,
                JUMP_UNLESS => jump(registers[d] != immediate),
                JUMP_UNLESS_SAME => jump(registers[d] != registers[s]),
                JUMP_IF => jump(registers[d] == immediate),
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
            at += 1;
        }
    }

    fn matches(e: &Exception, kind: char, major: u32, minor: u32) -> bool {
        e.kind == kind && e.major.is_none_or(|n| n == major) && e.minor.is_none_or(|n| n == minor)
    }

    fn exception() -> impl Strategy<Value = Exception> {
        let number = || prop::option::of(prop::sample::select(vec![0u32, 1, 5, 136, u32::MAX]));
        (prop::sample::select(vec!['c', 'b']), number(), number(), 1u8..8)
            .prop_map(|(kind, major, minor, access)| Exception { kind, major, minor, access })
    }

    proptest! {
        #[test]
        fn programs_answer_as_the_rules_read(allow: bool, exceptions in prop::collection::vec(exception(), 0..6), asked in 1u8..8,
                                             kind in prop::sample::select(vec!['c', 'b']),
                                             major in prop::sample::select(vec![0u32, 1, 5, 136, 7, u32::MAX]),
                                             minor in prop::sample::select(vec![0u32, 1, 5, 136, 7, u32::MAX])) {
            let set = DeviceSet { allow, exceptions };
            let fits: Vec<_> = set.exceptions.iter().filter(|e| matches(e, kind, major, minor)).collect();
            let expected = if allow {
                !fits.iter().any(|e| e.access & asked != 0)
            } else {
                fits.iter().any(|e| e.access & asked == asked)
            };
            let kind = if kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR };
            prop_assert_eq!(run(&compile(&set), kind, access(asked), major, minor), expected);
        }
    }
}

#[cfg(test)]
mod kernel_tests {
    use super::*;
    use naru_sys::clone::{CloneFlags, clone3};
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags, open};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::path::PathBuf;

    /// A v2 group of the test's own, removed at its end; `None` where there is no v2 tree.
    struct Group(PathBuf);

    impl Group {
        fn new() -> Option<Self> {
            let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
            let mount = mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?;
            let path = PathBuf::from(mount).join(format!("naru-device-test-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            Some(Self(path))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn the_kernel_asks_the_program() {
        let Some(group) = Group::new() else {
            eprintln!("SKIPPED: needs root and a cgroup2 file system");
            return;
        };
        let null = Exception { kind: 'c', major: Some(1), minor: Some(3), access: READ | WRITE };
        let set = DeviceSet { allow: false, exceptions: vec![null] };
        let program = naru_sys::bpf::load_device_program(&compile(&set)).unwrap();
        let dir = open(&group.0, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        naru_sys::bpf::attach_device_program(dir.as_fd(), program.as_fd()).unwrap();
        let child = clone3(CloneFlags::CLEAR_SIGHAND, Some(dir.as_fd()), || {
            let can = |path: &std::ffi::CStr, flags| open(path, flags, Mode::empty()).is_ok();
            let right = can(c"/dev/null", OFlags::RDWR)
                && !can(c"/dev/zero", OFlags::RDONLY)
                && open(c"/dev/full", OFlags::WRONLY, Mode::empty()).err() == Some(rustix::io::Errno::PERM);
            naru_sys::process::exit_now(if right { 0 } else { 1 })
        })
        .unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
