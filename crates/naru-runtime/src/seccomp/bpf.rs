//! Classic BPF on `struct seccomp_data` (linux/seccomp.h): instructions, and comparisons of 64-bit arguments in halves.

use super::profile::{Argument, Operator};
use naru_sys::seccomp::Instruction;

/// BPF_LD | BPF_W | BPF_ABS.
pub(super) const LOAD: u16 = 0x20;
/// BPF_JMP | BPF_JA.
pub(super) const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K.
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K.
pub(super) const JUMP_GREATER: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K.
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
/// BPF_ALU | BPF_AND | BPF_K.
pub(super) const AND: u16 = 0x54;
/// BPF_RET | BPF_K.
pub(super) const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has the number, the architecture and the arguments.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A jump to the end of a case, until [`resolve`] knows where that is.
const FAIL: u8 = u8::MAX;

pub(super) const fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

pub(super) const fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

pub(super) const fn jump(distance: u32) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: distance }
}

pub(super) const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

const fn and(mask: u32) -> Instruction {
    Instruction { code: AND, jt: 0, jf: 0, k: mask }
}

/// Code that returns `result` if all `comparisons` hold, and otherwise goes on behind itself.
pub(super) fn case(comparisons: &[Argument], result: u32, is_32_bit: bool) -> Vec<Instruction> {
    let mut code = Vec::with_capacity(comparisons.len() * 6 + 1);
    for argument in comparisons {
        comparison(&mut code, argument, is_32_bit);
    }
    code.push(ret(result));
    resolve(&mut code);
    code
}

/// Six comparisons are at most 37 instructions: every distance fits into a byte, and [`FAIL`] is no real one.
fn resolve(code: &mut [Instruction]) {
    let length = code.len();
    for (at, instruction) in code.iter_mut().enumerate() {
        let distance = (length - at - 1) as u8;
        if matches!(instruction.code, JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_OR_EQUAL) {
            for target in [&mut instruction.jt, &mut instruction.jf] {
                if *target == FAIL {
                    *target = distance;
                }
            }
        }
    }
}

fn comparison(code: &mut Vec<Instruction>, argument: &Argument, is_32_bit: bool) {
    if is_32_bit { comparison_32(code, argument) } else { comparison_64(code, argument) }
}

/// The argument's lower half. The value's, too, where equality is asked for, so that -1 means what its author meant.
fn comparison_32(code: &mut Vec<Instruction>, argument: &Argument) {
    let (low, high) = halves(argument.value);
    let (operation, fails_if) = match argument.op {
        Operator::Less | Operator::LessOrEqual if high != 0 => return,
        // Never: whichever way the comparison ends.
        Operator::Greater | Operator::GreaterOrEqual if high != 0 => {
            code.push(branch(JUMP_EQUAL, 0, FAIL, FAIL));
            return;
        }
        Operator::Equal | Operator::MaskedEqual => (JUMP_EQUAL, false),
        Operator::NotEqual => (JUMP_EQUAL, true),
        Operator::Greater => (JUMP_GREATER, false),
        Operator::LessOrEqual => (JUMP_GREATER, true),
        Operator::GreaterOrEqual => (JUMP_GREATER_OR_EQUAL, false),
        Operator::Less => (JUMP_GREATER_OR_EQUAL, true),
    };
    code.push(load(ARGUMENTS + 8 * argument.index));
    let operand = if argument.op == Operator::MaskedEqual {
        code.push(and(low));
        halves(argument.value_two).0
    } else {
        low
    };
    code.push(if fails_if { branch(operation, operand, FAIL, 0) } else { branch(operation, operand, 0, FAIL) });
}

fn comparison_64(code: &mut Vec<Instruction>, argument: &Argument) {
    let low_offset = ARGUMENTS + 8 * argument.index;
    let (load_low, load_high) = (load(low_offset), load(low_offset + 4));
    let (low, high) = halves(argument.value);
    match argument.op {
        Operator::Equal => {
            code.extend([load_high, branch(JUMP_EQUAL, high, 0, FAIL), load_low, branch(JUMP_EQUAL, low, 0, FAIL)])
        }
        Operator::NotEqual => {
            code.extend([load_high, branch(JUMP_EQUAL, high, 0, 2), load_low, branch(JUMP_EQUAL, low, FAIL, 0)])
        }
        Operator::Greater | Operator::GreaterOrEqual => {
            let last = if argument.op == Operator::Greater { JUMP_GREATER } else { JUMP_GREATER_OR_EQUAL };
            code.extend([
                load_high,
                branch(JUMP_GREATER, high, 3, 0),
                branch(JUMP_EQUAL, high, 0, FAIL),
                load_low,
                branch(last, low, 0, FAIL),
            ]);
        }
        Operator::Less | Operator::LessOrEqual => {
            let last = if argument.op == Operator::Less { JUMP_GREATER_OR_EQUAL } else { JUMP_GREATER };
            code.extend([
                load_high,
                branch(JUMP_GREATER, high, FAIL, 0),
                branch(JUMP_EQUAL, high, 0, 2),
                load_low,
                branch(last, low, FAIL, 0),
            ]);
        }
        Operator::MaskedEqual => {
            let (wanted_low, wanted_high) = halves(argument.value_two);
            if (high, wanted_high) != (0, 0) {
                code.extend([load_high, and(high), branch(JUMP_EQUAL, wanted_high, 0, FAIL)]);
            }
            code.extend([load_low, and(low), branch(JUMP_EQUAL, wanted_low, 0, FAIL)]);
        }
    }
}

const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
