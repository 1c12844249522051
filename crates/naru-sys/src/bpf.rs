//! bpf(2), as far as programs that decide on a cgroup's devices need it (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! Sources: linux/bpf.h for commands and layouts, Documentation/bpf/standardization/instruction-set.rst for the encoding.

use crate::call::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The most programs that one group takes (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination and source, half a byte each.
    registers: u8,
    /// Of a jump or a memory access.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction on the registers `destination` and `source` (0 to 10).
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // The two are bit fields: their order is that of the bytes.
        let (low, high) = if cfg!(target_endian = "little") { (destination, source) } else { (source, destination) };
        Self { code, registers: (high << 4) | (low & 0xf), offset, immediate }
    }

    /// The register that is changed, or compared.
    pub const fn destination(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 0xf } else { self.registers >> 4 }
    }

    /// The register that is read.
    pub const fn source(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 0xf }
    }
}

/// Room for `union bpf_attr` as it is and will be: kernels take a longer one as long as what they don't know is zero. Some (6.17, with
/// `query.revision`) write past the end of a shorter one.
const ATTR_WORDS: usize = 24;

/// The first members of `union bpf_attr`, which differ by command. Without padding, whose bytes could be anything: the kernel wants zeros.
trait Attr: Copy {}

#[repr(C)]
struct Padded<T: Attr> {
    command: T,
    rest: [u64; ATTR_WORDS],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Load {
    kind: u32,
    count: u32,
    instructions: *const Instruction,
    license: *const libc::c_char,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Attach {
    target: RawFd,
    program: RawFd,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Query {
    target: RawFd,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: *mut u32,
    count: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ById {
    id: u32,
    next_id: u32,
}

impl Attr for Load {}
impl Attr for Attach {}
impl Attr for Query {}
impl Attr for ById {}

// Pointers are `__aligned_u64` for the kernel.
const _: () = assert!(size_of::<usize>() == 8, "the layouts here are those of 64-bit machines");

/// Calls bpf(2) and gives back what it returned and what it made of the attributes.
///
/// # Safety
/// Each pointer in `command` is to memory that is valid for what `operation` does with it, during the call.
unsafe fn bpf<T: Attr>(operation: libc::c_int, command: T) -> Result<(libc::c_long, T)> {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let mut attr = Padded { command, rest: [0; ATTR_WORDS] };
    // SAFETY: rustix has no bpf(2). `attr` is at least as long as `union bpf_attr`, its length is passed, it outlives the call; the
    // pointers in it are the caller's promise.
    let returned = check(unsafe { libc::syscall(libc::SYS_bpf, operation, &raw mut attr, size_of::<Padded<T>>()) })?;
    Ok((returned, attr.command))
}

fn new_fd(returned: libc::c_long) -> OwnedFd {
    // SAFETY: the callers' commands return a new descriptor, which nobody else knows.
    unsafe { OwnedFd::from_raw_fd(returned as RawFd) }
}

/// Loads a program that answers 1 (may) or 0 (may not) for a `struct bpf_cgroup_dev_ctx`. `name` (15 bytes at most, the rest is cut
/// off; letters, digits, `_` and `.`) is what tools show. The descriptor is closed on exec.
///
/// # Errors
/// As bpf(2): `EPERM` without CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), `EINVAL` or `EACCES` for a program that the verifier refuses,
/// `E2BIG` for one that is too long, `ENOSYS` and `EINVAL` from a kernel without `CONFIG_CGROUP_BPF`.
pub fn load_device_program(program: &[Instruction], name: &str) -> Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let command = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr(),
        license: LICENSE.as_ptr(),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: short,
    };
    // SAFETY: `instructions` is to `count` instructions, `license` to a null-terminated string; both are only read.
    unsafe { bpf(BPF_PROG_LOAD, command) }.map(|(fd, _)| new_fd(fd))
}

/// Attaches a device program to a cgroup (v2), beside those that are there: a device may be used if all of them, and those of the groups
/// above, say so.
///
/// # Errors
/// As bpf(2): `EPERM` without the privilege or below a group whose program doesn't allow others, `EBADF` if `cgroup` isn't one,
/// `E2BIG` with too many programs on it, `EINVAL` if the program is attached already.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    change(BPF_PROG_ATTACH, cgroup, program, BPF_F_ALLOW_MULTI)
}

/// Takes a device program off a cgroup.
///
/// # Errors
/// As bpf(2): `ENOENT` if it isn't attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    change(BPF_PROG_DETACH, cgroup, program, 0)
}

fn change(operation: libc::c_int, cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, flags: u32) -> Result<()> {
    let command = Attach { target: cgroup.as_raw_fd(), program: program.as_raw_fd(), kind: BPF_CGROUP_DEVICE, flags };
    // SAFETY: there is no pointer in the command.
    unsafe { bpf(operation, command) }.map(drop)
}

/// The device programs that are attached to a cgroup itself, not to those above.
///
/// # Errors
/// As bpf(2): `EPERM` without CAP_SYS_ADMIN.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let command = Query {
        target: cgroup.as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr(),
        count: MAX_PROGRAMS as u32,
        unused: 0,
    };
    // SAFETY: `ids` is to `count` numbers that the kernel writes at most, and nobody else uses meanwhile.
    let (_, answer) = unsafe { bpf(BPF_PROG_QUERY, command) }?;
    let mut programs = Vec::new();
    for id in ids.iter().take(answer.count as usize) {
        // SAFETY: there is no pointer in the command.
        match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, ById { id: *id, next_id: 0 }) } {
            Ok((fd, _)) => programs.push(new_fd(fd)),
            // It went meanwhile.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn registers_are_where_the_kernel_has_them() {
        let instruction = Instruction::new(0xbf, 1, 3, 0, 0);
        assert_eq!((instruction.destination(), instruction.source()), (1, 3));
        assert_eq!((size_of::<Instruction>(), size_of::<Load>()), (8, 64));
        assert_eq!((std::mem::offset_of!(Query, ids), size_of::<Query>()), (16, 32));
    }

    #[test]
    fn what_is_no_cgroup_takes_no_program() {
        let allow = [Instruction::new(0xb7, 0, 0, 0, 1), Instruction::new(0x95, 0, 0, 0, 0)];
        let program = match load_device_program(&allow, "a_name_that_is_far_too_long") {
            Ok(program) => program,
            Err(error @ (Errno::PERM | Errno::NOSYS)) => return eprintln!("SKIPPED: bpf(2): {error}"),
            Err(error) => panic!("{error}"),
        };
        assert!(load_device_program(&allow[1..], "no_answer_set").is_err());
        assert!(rustix::io::fcntl_getfd(&program).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let root = std::fs::File::open("/").unwrap();
        assert!(attach_device_program(root.as_fd(), program.as_fd()).is_err());
        assert!(device_programs(root.as_fd()).is_err());
    }
}
