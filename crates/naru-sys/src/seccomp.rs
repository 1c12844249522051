//! seccomp(2).

use crate::call::check;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

/// Asks for a listener (`SECCOMP_FILTER_FLAG_NEW_LISTENER`, seccomp_unotify(2)).
pub const NEW_LISTENER: u32 = 1 << 3;

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Installs a filter on the calling thread, which needs CAP_SYS_ADMIN or no_new_privs. Gives the listener, which is close-on-exec, if `flags` ask
/// for one. After clone.
///
/// # Errors
/// As seccomp(2): `EACCES` without the privilege, `EINVAL` for a program that the kernel's checker refuses or that is too long.
pub fn set_filter(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let fprog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: rustix has no seccomp(2). `Instruction` has the layout of `struct sock_filter`, the length is that of the slice, and the
    // kernel only reads it.
    let returned =
        check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with that flag the kernel gives a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(returned as libc::c_int) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{CloneFlags, clone3};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_filter_takes_effect() {
        // Load the number; getppid gives errno 33; everything else is allowed.
        let program = [
            Instruction { code: 0x20, jt: 0, jf: 0, k: 0 },
            Instruction { code: 0x15, jt: 0, jf: 1, k: libc::SYS_getppid as u32 },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | 33 },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        let child = clone3(CloneFlags::CLEAR_SIGHAND, None, || {
            let _ = rustix::thread::set_no_new_privs(true);
            let installed = set_filter(&program, 0).is_ok();
            // SAFETY: getppid has no preconditions.
            let denied = unsafe { libc::syscall(libc::SYS_getppid) } == -1;
            crate::process::exit_now(if installed && denied { 0 } else { 1 })
        })
        .unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(set_filter(&vec![program[0]; 70_000], 0).map(drop), Err(Errno::INVAL));
    }
}
