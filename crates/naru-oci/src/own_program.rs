//! Whatever enters containers runs from a file that nothing in them can write (CVE-2019-5736): this program executes itself again from
//! a read-only mount, unless it runs from such a file already.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_runtime::own_binary;
use naru_sys::execve::{CStringArray, execveat};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, SealFlags, StatVfsMountFlags};
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Returns if this process can't be used to overwrite its own program.
///
/// # Errors
/// The program can't be executed again.
pub(crate) fn protect() -> Result<()> {
    let own = rustix::fs::open(c"/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .system("open /proc/self/exe")?;
    let read_only = rustix::fs::fstatvfs(&own).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    let sealed = rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    if read_only || sealed {
        return Ok(());
    }
    drop(own);
    let program = own_binary::open()?;
    let c_string = |bytes: &[u8]| CString::new(bytes).system("argument with a null byte");
    let argv = std::env::args_os().map(|arg| c_string(arg.as_bytes())).collect::<Result<_>>()?;
    let envp = std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        c_string(&key.into_vec())
    });
    let envp = envp.collect::<Result<_>>()?;
    let errno = execveat(program.as_fd(), &CStringArray::new(argv), &CStringArray::new(envp));
    Err(Error::system(format!("execute this program from a read-only mount: {errno}")))
}
