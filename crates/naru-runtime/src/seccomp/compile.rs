//! From a profile to a program.

use super::KernelVersion;
use super::arch::{Arch, X32_BIT};
use super::bpf::{self, ARCH, JUMP_EQUAL, NUMBER, branch, jump, load, ret};
use super::profile::Profile;
use super::rules::{self, Behaviour, KILL_THREAD, NO_SUCH_CALL, Table};
use super::tree::{Range, push, search};
use crate::plan::SeccompProgram;
use naru_base::{Error, Result};
use naru_sys::seccomp::Instruction;

/// BPF_MAXINSNS.
const LENGTH_LIMIT: usize = 4096;

/// The program of `profile` for processes with the bounding set `caps` (a bit per capability) on `kernel`.
///
/// # Errors
/// A profile that names an unknown architecture or error number, or that is too long for the kernel.
pub fn compile(profile: &Profile, caps: u64, kernel: KernelVersion) -> Result<SeccompProgram> {
    let code = Filter::new(profile, caps, kernel)?.program()?;
    Ok(SeccompProgram { hex: to_hex(&code), flags: profile.flag_bits()? })
}

/// The instructions of a compiled program.
///
/// # Errors
/// It is none.
pub fn instructions(program: &SeccompProgram) -> Result<Vec<Instruction>> {
    let invalid = || Error::invalid("invalid seccomp program");
    let bytes = program.hex.as_bytes();
    if !bytes.len().is_multiple_of(16) || bytes.is_empty() || bytes.len() / 16 > LENGTH_LIMIT {
        return Err(invalid());
    }
    bytes.chunks_exact(16).map(|digits| instruction(digits).ok_or_else(invalid)).collect()
}

fn instruction(digits: &[u8]) -> Option<Instruction> {
    let mut raw = [0_u8; 8];
    for (byte, pair) in raw.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    let [c0, c1, jt, jf, k0, k1, k2, k3] = raw;
    Some(Instruction { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) })
}

fn to_hex(code: &[Instruction]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(code.len() * 16);
    for i in code {
        let ([c0, c1], [k0, k1, k2, k3]) = (i.code.to_ne_bytes(), i.k.to_ne_bytes());
        for byte in [c0, c1, i.jt, i.jf, k0, k1, k2, k3] {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from));
            }
        }
    }
    hex
}

/// What a program must do, by architecture.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) tables: Vec<Table>,
    pub(super) default: u32,
    /// Whether numbers above a table's last are answered with ENOSYS, as runc does: programs try new calls and fall back to old ones
    /// when there is no such call, but not when it is forbidden.
    pub(super) unknown_is_no_such_call: bool,
}

/// What happens for a range of numbers.
#[derive(Debug, Clone, Copy)]
enum Leaf<'a> {
    Result(u32),
    Cases(&'a Behaviour, Arch),
}

impl PartialEq for Leaf<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Result(a), Self::Result(b)) => a == b,
            (Self::Cases(a, arch), Self::Cases(b, other)) => arch == other && a == b,
            _ => false,
        }
    }
}

impl Filter {
    pub(super) fn new(profile: &Profile, caps: u64, kernel: KernelVersion) -> Result<Self> {
        let default = rules::result(profile.default_action, profile.default_errno_ret)?;
        let table = |arch| Table::new(arch, profile.rules_for(caps, kernel), default);
        Ok(Self {
            tables: profile.arches()?.into_iter().map(table).collect::<Result<_>>()?,
            default,
            unknown_is_no_such_call: default != NO_SUCH_CALL && !rules::lets_through(profile.default_action),
        })
    }

    pub(super) fn program(&self) -> Result<Vec<Instruction>> {
        let mut code = vec![load(ARCH)];
        for block in self.blocks() {
            code.push(branch(JUMP_EQUAL, block.token, 1, 0));
            code.push(jump(block.code.len() as u32));
            code.extend(block.code);
        }
        code.push(ret(KILL_THREAD));
        if code.len() > LENGTH_LIMIT {
            return Err(Error::invalid(format!(
                "the seccomp profile is too long: {} instructions, the kernel takes {LENGTH_LIMIT}",
                code.len()
            )));
        }
        Ok(code)
    }

    /// The code for each token; x86_64 and x32 share theirs.
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for table in self.tables.iter().filter(|t| t.arch != Arch::X32) {
            let mut ranges = Vec::new();
            self.ranges(&mut ranges, table, 0);
            if table.arch == Arch::X86_64 {
                match self.tables.iter().find(|t| t.arch == Arch::X32) {
                    Some(x32) => self.ranges(&mut ranges, x32, X32_BIT),
                    None => {
                        push(&mut ranges, X32_BIT, Leaf::Result(KILL_THREAD));
                        // Not of x32: a tracer has cancelled the call.
                        push(&mut ranges, u32::MAX, Leaf::Result(self.default));
                    }
                }
            }
            blocks.push(self.block(table.arch.token(), &ranges));
        }
        blocks
    }

    fn block(&self, token: u32, ranges: &[Range<Leaf<'_>>]) -> Block {
        let mut code = vec![load(NUMBER)];
        code.extend(search(ranges, &|leaf| self.leaf(leaf)));
        Block { token, code }
    }

    /// Appends the ranges of `table`, whose numbers begin at `first`.
    fn ranges<'a>(&self, ranges: &mut Vec<Range<Leaf<'a>>>, table: &'a Table, first: u32) {
        let default = Leaf::Result(self.default);
        push(ranges, first, default);
        for (number, behaviour) in &table.calls {
            let leaf = match (behaviour.cases.as_slice(), behaviour.otherwise) {
                ([], Some(result)) => Leaf::Result(result),
                _ => Leaf::Cases(behaviour, table.arch),
            };
            push(ranges, *number, leaf);
            push(ranges, number.saturating_add(1), default);
        }
        if let Some(last) = table.last.filter(|_| self.unknown_is_no_such_call) {
            push(ranges, last.saturating_add(1), Leaf::Result(NO_SUCH_CALL));
        }
    }

    fn leaf(&self, leaf: Leaf<'_>) -> Vec<Instruction> {
        match leaf {
            Leaf::Result(result) => vec![ret(result)],
            Leaf::Cases(behaviour, arch) => {
                let cases = behaviour.cases.iter().flat_map(|c| bpf::case(&c.comparisons, c.result, arch.is_32_bit()));
                cases.chain([ret(behaviour.otherwise.unwrap_or(self.default))]).collect()
            }
        }
    }
}

/// The code for one architecture token.
struct Block {
    token: u32,
    code: Vec<Instruction>,
}
