//! Runs a program as the kernel would: for the tests.

use super::bpf::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, RETURN};
use naru_sys::seccomp::Instruction;

/// BPF_RET | BPF_A, BPF_JSET, BPF_ALU operations and scratch memory: what other compilers use besides.
const RETURN_A: u16 = 0x16;
const JUMP_SET: u16 = 0x45;
const STORE: u16 = 0x02;
const LOAD_SCRATCH: u16 = 0x60;

/// What a filter is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let argument = self.args[(offset as usize - 16) / 8];
                if (offset - 16).is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        }
    }
}

/// The value that `program` returns. Panics on what the kernel's checker would refuse.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut a, mut scratch) = (0, 0_u32, [0_u32; 16]);
    loop {
        let i = program[at];
        at += 1;
        let mut branch = |condition: bool| at += usize::from(if condition { i.jt } else { i.jf });
        match i.code {
            LOAD => a = call.word(i.k),
            LOAD_SCRATCH => a = scratch[i.k as usize],
            STORE => scratch[i.k as usize] = a,
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            JUMP_EQUAL => branch(a == i.k),
            JUMP_GREATER => branch(a > i.k),
            JUMP_GREATER_OR_EQUAL => branch(a >= i.k),
            JUMP_SET => branch(a & i.k != 0),
            RETURN => return i.k,
            RETURN_A => return a,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}
