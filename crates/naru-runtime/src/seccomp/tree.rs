//! A balanced tree of comparisons over ranges of numbers.

use super::bpf::{JUMP_GREATER_OR_EQUAL, branch, jump};
use naru_sys::seccomp::Instruction;

/// From `start` on, up to the next range's start, `leaf` happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range<L> {
    pub(super) start: u32,
    pub(super) leaf: L,
}

/// Appends a range, unless it goes on with what the last one does. One that starts where the last one does takes its place.
pub(super) fn push<L: PartialEq + Copy>(ranges: &mut Vec<Range<L>>, start: u32, leaf: L) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { start, leaf });
    }
}

/// Code that finds the range of the number in the accumulator and goes on with `emit`'s code for its leaf, which must not end.
/// The first range starts at 0; the ranges are in order.
pub(super) fn search<L: Copy>(ranges: &[Range<L>], emit: &impl Fn(L) -> Vec<Instruction>) -> Vec<Instruction> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some(first_above)) = (below.first(), above.first()) else {
        return ranges.first().map(|range| emit(range.leaf)).unwrap_or_default();
    };
    let (mut below, above) = (search(below, emit), search(above, emit));
    let mut code = Vec::with_capacity(below.len() + above.len() + 2);
    match u8::try_from(below.len()) {
        Ok(distance) => code.push(branch(JUMP_GREATER_OR_EQUAL, first_above.start, distance, 0)),
        // Conditional jumps reach 255 instructions only.
        Err(_) => {
            code.push(branch(JUMP_GREATER_OR_EQUAL, first_above.start, 0, 1));
            code.push(jump(below.len() as u32));
        }
    }
    code.append(&mut below);
    code.extend(above);
    code
}
