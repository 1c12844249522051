//! Device rules as an eBPF program, which the kernel asks at each open and mknod in a v2 group.
//!
//! Sources: `struct bpf_cgroup_dev_ctx` and `BPF_DEVCG_*` in linux/bpf.h; the kernel's instruction-set.rst.

use super::devices::{MKNOD, READ, Rule, WRITE};
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
/// What is asked for and no rule has decided yet.
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// The context is not needed after the beginning.
const SCRATCH: u8 = 1;

// Operations, all on 32 bits; `_IF` and `_UNLESS` jump.
const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const IF_EQUAL: u8 = 0x16;
const UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Whether there is anything that `rules` deny.
pub(super) fn restricts(rules: &[Rule]) -> bool {
    rules.iter().rev().find(|rule| !rule.allow || rule.is_total()).is_none_or(|rule| !rule.allow)
}

/// The program that answers as `rules` say: 1 allows, 0 denies.
///
/// It goes through the rules from the last one, so that the first one that names the device and some of what is asked decides that
/// part; the rest goes on to the rules before. What is left at the end is denied.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, TYPE, CONTEXT, 0, 0),
        op(COPY, ASKED, TYPE, 0, 0),
        op(LOAD, MAJOR, CONTEXT, 4, 0),
        op(LOAD, MINOR, CONTEXT, 8, 0),
        op(AND, TYPE, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ASKED, 0, 0, 16),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
        if rule.is_total() {
            // Nothing gets past it; the kernel refuses instructions that nothing reaches.
            return program;
        }
    }
    program.extend(answer(false));
    program
}

/// One rule: the tests that lead past it, and what it decides.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::with_capacity(8);
    if let Some(kind) = rule.kind {
        block.push(op(UNLESS_EQUAL, TYPE, 0, 0, if kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR }));
    }
    // As bits: the kernel compares 32 of them.
    block.extend(rule.major.map(|n| op(UNLESS_EQUAL, MAJOR, 0, 0, n.cast_signed())));
    block.extend(rule.minor.map(|n| op(UNLESS_EQUAL, MINOR, 0, 0, n.cast_signed())));
    let access = access(rule.access);
    if rule.access != READ | WRITE | MKNOD {
        if rule.allow {
            block.extend([op(AND, ASKED, 0, 0, !access), op(UNLESS_EQUAL, ASKED, 0, 0, 0)]);
        } else {
            block.extend([
                op(COPY, SCRATCH, ASKED, 0, 0),
                op(AND, SCRATCH, 0, 0, access),
                op(IF_EQUAL, SCRATCH, 0, 0, 0),
            ]);
        }
    }
    block.extend(answer(rule.allow));
    for (to_end, instruction) in (0..).zip(block.iter_mut().rev()) {
        if matches!(instruction.code, UNLESS_EQUAL | IF_EQUAL) {
            instruction.offset = to_end;
        }
    }
    block
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

const fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction::new(code, destination, source, offset, immediate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::io::Errno;

    /// What is asked of the kernel.
    #[derive(Debug, Clone, Copy)]
    struct Request {
        kind: char,
        major: u32,
        minor: u32,
        access: u8,
    }

    /// Runs the few operations that are used, on registers that hold nothing until they are written.
    fn run(program: &[Instruction], request: Request) -> bool {
        let kind = if request.kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR };
        let context = [((access(request.access) << 16) | kind).cast_unsigned(), request.major, request.minor];
        let mut registers = [None; 6];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.destination()), usize::from(i.source()));
            let (old, immediate) = (registers[to], i.immediate.cast_unsigned());
            let mut jump = |taken: bool| at += if taken { usize::try_from(i.offset).unwrap() } else { 0 };
            match i.code {
                LOAD => registers[to] = Some(context[usize::try_from(i.offset).unwrap() / 4]),
                AND => registers[to] = Some(old.unwrap() & immediate),
                SHIFT_RIGHT => registers[to] = Some(old.unwrap() >> immediate),
                COPY => registers[to] = Some(registers[from].unwrap()),
                SET => registers[to] = Some(immediate),
                UNLESS_EQUAL => jump(old.unwrap() != immediate),
                IF_EQUAL => jump(old.unwrap() == immediate),
                EXIT => return registers[usize::from(ANSWER)].unwrap() == 1,
                other => panic!("{other:#x}"),
            }
            at += 1;
        }
    }

    /// What the rules mean, as they read.
    fn meaning(rules: &[Rule], request: Request) -> bool {
        let names = |rule: &Rule| {
            rule.kind.is_none_or(|k| k == request.kind)
                && rule.major.is_none_or(|n| n == request.major)
                && rule.minor.is_none_or(|n| n == request.minor)
        };
        let decided = |bit: u8| rules.iter().rfind(|r| names(r) && r.access & bit != 0);
        let mut asked = [READ, WRITE, MKNOD].into_iter().filter(|bit| request.access & bit != 0);
        asked.all(|bit| decided(bit).is_some_and(|rule| rule.allow))
    }

    const NUMBERS: [u32; 5] = [0, 1, 5, 136, u32::MAX];

    fn rule() -> impl Strategy<Value = Rule> {
        let number = || prop::option::of(prop::sample::select(&NUMBERS[..]));
        let kind = prop::option::of(prop::sample::select(vec!['c', 'b']));
        (any::<bool>(), kind, number(), number(), 1_u8..8).prop_map(|(allow, kind, major, minor, access)| Rule {
            allow,
            kind,
            major,
            minor,
            access,
        })
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        prop::collection::vec(rule(), 0..8)
    }

    fn request() -> impl Strategy<Value = Request> {
        let number = || prop::sample::select(vec![0, 1, 5, 136, 7, u32::MAX]);
        (prop::sample::select(vec!['c', 'b']), number(), number(), 1_u8..8)
            .prop_map(|(kind, major, minor, access)| Request { kind, major, minor, access })
    }

    proptest! {
        #[test]
        fn programs_answer_as_the_rules_read(rules in rules(), request in request()) {
            prop_assert_eq!(run(&compile(&rules), request), meaning(&rules, request));
        }

        #[test]
        fn what_restricts_nothing_denies_nothing(rules in rules(), request in request()) {
            prop_assert!(restricts(&rules) || meaning(&rules, request));
        }
    }

    fn one(allow: bool, kind: char, major: Option<u32>, access: u8) -> Rule {
        Rule { allow, kind: (kind != 'a').then_some(kind), major, minor: None, access }
    }

    #[test]
    fn only_all_of_everything_is_no_restriction() {
        let all = one(true, 'a', None, READ | WRITE | MKNOD);
        assert!(!restricts(&[all]));
        assert!(!restricts(&[one(false, 'c', None, READ), all, one(true, 'c', None, READ)]));
        assert!(restricts(&[]) && restricts(&[all, one(false, 'c', Some(1), READ)]));
        assert!(restricts(&[one(true, 'a', None, READ | WRITE)]) && restricts(&[one(true, 'c', None, 7)]));
    }

    #[test]
    fn rules_before_one_for_everything_are_not_in_the_program() {
        let none = one(false, 'a', None, READ | WRITE | MKNOD);
        let mine = one(true, 'c', Some(5), READ);
        assert_eq!(compile(&[mine, none, mine]), compile(&[none, mine]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_kernel_takes_every_program(rules in rules()) {
            match naru_sys::bpf::load_device_program(&compile(&rules), "test") {
                Ok(_) => {}
                Err(error @ (Errno::PERM | Errno::NOSYS)) => eprintln!("SKIPPED: bpf(2): {error}"),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn the_kernel_takes_long_programs() {
        // As many as a folder of devices may give, with access that leaves the decision open.
        let rules: Vec<Rule> = (0..500).map(|n| one(true, 'c', Some(n), READ)).collect();
        match naru_sys::bpf::load_device_program(&compile(&rules), "test") {
            Ok(_) => {}
            Err(error @ (Errno::PERM | Errno::NOSYS)) => eprintln!("SKIPPED: bpf(2): {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}
