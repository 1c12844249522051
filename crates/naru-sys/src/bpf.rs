//! bpf(2), as far as device access of a cgroup needs it (`BPF_PROG_TYPE_CGROUP_DEVICE`).

use crate::call::check;
use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::{Errno, Result};

const BPF_PROG_LOAD: libc::c_uint = 5;
const BPF_PROG_ATTACH: libc::c_uint = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of ancestors and descendants all have to allow: an engine inside a container can restrict further, never less.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD; what follows is zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The beginning of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a device program.
///
/// # Errors
/// As bpf(2): `EPERM` without the privilege, `EINVAL` or `EACCES` for a program that the kernel's verifier refuses.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: rustix has no bpf(2). The structure is the union's first 48 bytes, whose length goes with it; it points to `program`, whose
    // layout is that of `struct bpf_insn` and whose length it has, and to a string that ends in NUL. The kernel only reads them.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, std::mem::size_of::<Load>())
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup (v2), beside what ancestors have.
///
/// # Errors
/// As bpf(2).
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    let attributes = Attach {
        target_fd: number(cgroup)?,
        attach_bpf_fd: number(program)?,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: rustix has no bpf(2). The structure is the union's first 16 bytes, whose length goes with it; both descriptors are open for
    // the length of the call. The kernel only reads it.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attributes, std::mem::size_of::<Attach>())
    })
    .map(drop)
}
