//! Things a process does to itself.

use crate::call::check;
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// `_exit`: ends the process at once, without destructors or flushing. For children that must not run their parent's code.
/// After clone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and doesn't return; `std::process::exit` would run the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

/// The working folder as the kernel tells it, in `buffer`: a path that begins with `(unreachable)` lies outside of the root.
/// After clone.
///
/// # Errors
/// As getcwd(2): `ERANGE` for a buffer that is too small, `ENOENT` for a folder that has been removed.
pub fn getcwd(buffer: &mut [u8]) -> Result<&CStr> {
    // SAFETY: rustix's getcwd allocates. The pointer and the length are those of one writable slice.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    let written = buffer.get(..length as usize).ok_or(Errno::RANGE)?;
    CStr::from_bytes_with_nul(written).map_err(|_| Errno::INVAL)
}

/// Waits for any child (or, being a reaper, any orphan) to end; `None` when there is no child at all. Tells its id and wait status.
/// After clone.
///
/// # Errors
/// As waitpid(2), except `ECHILD`; `EINTR` is retried.
pub fn reap_any(block: bool) -> Result<Reaped> {
    let options = if block { 0 } else { libc::WNOHANG };
    loop {
        let mut status: libc::c_int = 0;
        // SAFETY: `status` is a valid place for the call's result; the process owns its children.
        match check(libc::c_long::from(unsafe { libc::waitpid(-1, &raw mut status, options) })) {
            Ok(0) => return Ok(Reaped::NoneEnded),
            Ok(pid) => return Ok(Reaped::Ended { pid: pid as i32, code: exit_code(status) }),
            Err(Errno::CHILD) => return Ok(Reaped::NoChild),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What [`reap_any`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Children exist, none has ended.
    NoneEnded,
    /// There is no child.
    NoChild,
    /// One has ended and is reaped.
    Ended {
        /// Its process id.
        pid: i32,
        /// Its exit code, or 128 and the number of the signal that ended it.
        code: i32,
    },
}

fn exit_code(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Makes `title` what `ps` shows for this process, as far as the arguments that it was started with leave room; its short name too.
/// The arguments themselves are overwritten: read them before.
///
/// # Errors
/// `/proc/self/stat` isn't there or makes no sense.
pub fn set_title(title: &CStr) -> std::io::Result<()> {
    rustix::thread::set_name(title)?;
    let (start, end) = argument_area()?;
    let title = title.to_bytes();
    let room = end - start;
    let length = title.len().min(room.saturating_sub(1));
    // SAFETY: the kernel says that `start..end` is where it put this process's arguments, at the top of the stack: mapped, writable, ours
    // until the end, and bytes. No Rust reference points there: std copies arguments when they are asked for.
    unsafe {
        let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
        area.write_bytes(0, room);
        area.copy_from_nonoverlapping(title.as_ptr(), length);
    }
    Ok(())
}

/// Fields 48 and 49 of /proc/self/stat.
fn argument_area() -> std::io::Result<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<usize> = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').skip(45).take(2).filter_map(|field| field.trim().parse().ok()).collect())
        .unwrap_or_default();
    match fields[..] {
        [start, end] if 0 < start && start < end => Ok((start, end)),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "/proc/self/stat tells no arguments")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_shown() {
        set_title(c"naru-sys-title").unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert!(shown.starts_with(b"naru-sys-title\0"), "{}", String::from_utf8_lossy(&shown));
        let end = shown.iter().position(|b| *b == 0).unwrap();
        assert!(shown[end..].iter().all(|b| *b == 0), "something of the arguments is left");
    }
}
