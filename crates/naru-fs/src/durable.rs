//! The one place that writes state: a temporary file in the same folder, fsync, rename, fsync of the folder.

use crate::root::{open_beneath, read_limited};
use crate::{Error, Result};
use naru_sys::fault;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: when the call returns, the new content is on the disk.
    Synced,
    /// The death of the process only: for tmpfs, and for what a reboot removes anyway.
    Volatile,
}

/// What the name of every temporary file begins with.
const TEMPORARY: &str = ".tmp-";
/// The mode of state files.
const MODE: Mode = Mode::from_raw_mode(0o600);
/// No state file is larger: an index of 100,000 images takes a third of it.
const LIMIT: usize = 256 << 20;

/// Puts `bytes` at `name` in the folder `dir`: a reader, or a crash, sees either the old or the new content, whole.
///
/// # Errors
/// When one of the steps fails; the old content is then still there.
pub fn write(dir: impl AsFd, name: &str, bytes: &[u8], durability: Durability) -> Result<()> {
    write_with_mode(dir, name, bytes, durability, MODE)
}

/// As [`write`], with another mode than 0600.
///
/// # Errors
/// As [`write`].
pub fn write_with_mode(dir: impl AsFd, name: &str, bytes: &[u8], durability: Durability, mode: Mode) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let dir = dir.as_fd();
    let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("{TEMPORARY}{}-{serial}-{name}", rustix::process::getpid().as_raw_nonzero());
    let result = replace(dir, name, &temporary, bytes, durability, mode);
    if result.is_err() {
        // The write's own error is what counts; a left-over is swept at the next start.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    result
}

fn replace(
    dir: rustix::fd::BorrowedFd<'_>,
    name: &str,
    temporary: &str,
    bytes: &[u8],
    durability: Durability,
    mode: Mode,
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault::point();
    let fd = rustix::fs::openat(dir, temporary, flags, mode).map_err(|e| Error::new("create", temporary, e))?;
    rustix::fs::fchmod(&fd, mode).map_err(|e| Error::new("chmod", temporary, e))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(|e| write_error(name, &e))?;
    fault::point();
    if durability == Durability::Synced {
        rustix::fs::fsync(&file).map_err(|e| Error::new("fsync", name, e))?;
    }
    fault::point();
    rustix::fs::renameat(dir, temporary, dir, name).map_err(|e| Error::new("rename", name, e))?;
    fault::point();
    if durability == Durability::Synced {
        sync_dir(dir)?;
    }
    Ok(())
}

fn write_error(name: &str, e: &std::io::Error) -> Error {
    match e.raw_os_error() {
        Some(raw) => Error::new("write", name, Errno::from_raw_os_error(raw)),
        None => Error::text("write", name, e.to_string()),
    }
}

/// Makes the names in `dir` durable (fsync(2) of a directory).
///
/// # Errors
/// The call's.
pub fn sync_dir(dir: impl AsFd) -> Result<()> {
    fault::point();
    rustix::fs::fsync(dir).map_err(|e| Error::new("fsync", ".", e))
}

/// The bytes at `name` in the folder `dir`, or `None` when there is no such file.
///
/// # Errors
/// openat2(2)'s, and when it is implausibly large.
pub fn read(dir: impl AsFd, name: &str) -> Result<Option<Vec<u8>>> {
    match open_beneath(dir.as_fd(), name, OFlags::RDONLY | OFlags::NOFOLLOW) {
        Ok(fd) => read_limited(fd, Path::new(name), LIMIT).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::new("open", name, e)),
    }
}

/// Removes `name` from the folder `dir`; nothing there is no error.
///
/// # Errors
/// unlinkat(2)'s.
pub fn remove(dir: impl AsFd, name: &str, durability: Durability) -> Result<()> {
    fault::point();
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) if durability == Durability::Synced => sync_dir(dir),
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("unlink", name, e)),
    }
}

/// Gives the file `name` the second name `kept`, which stays with it when `name` is replaced. Nothing changes when there is a `kept` already, or no
/// `name`.
///
/// # Errors
/// linkat(2)'s.
pub fn keep(dir: impl AsFd, name: &str, kept: &str) -> Result<()> {
    fault::point();
    match rustix::fs::linkat(&dir, name, &dir, kept, AtFlags::empty()) {
        Ok(()) | Err(Errno::EXIST | Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("link", name, e)),
    }
}

/// Writes `value` as JSON.
///
/// # Errors
/// As [`write`]; and when `value` has no JSON form.
pub fn write_json<T: serde::Serialize + ?Sized>(
    dir: impl AsFd,
    name: &str,
    value: &T,
    durability: Durability,
) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::text("encode", name, e.to_string()))?;
    write(dir, name, &bytes, durability)
}

/// Reads what [`write_json`] wrote, or `None` when there is no such file.
///
/// # Errors
/// As [`read`]; and when the content is no such JSON.
pub fn read_json<T: serde::de::DeserializeOwned>(dir: impl AsFd, name: &str) -> Result<Option<T>> {
    let Some(bytes) = read(dir, name)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::text("decode", name, e.to_string()))
}

/// Whether a file's name is that of a write under way, or of one that was cut short.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Removes the temporary files that writes interrupted by a crash left in `dir`. For the start, before this process writes; what another process
/// is writing is left to it: a monitor may be at its exit record when an engine begins.
///
/// # Errors
/// getdents64(2)'s and unlinkat(2)'s.
pub fn sweep(dir: impl AsFd) -> Result<()> {
    let listing = rustix::fs::Dir::read_from(&dir).map_err(|e| Error::new("list", ".", e))?;
    for entry in listing {
        let entry = entry.map_err(|e| Error::new("list", ".", e))?;
        let name = entry.file_name();
        let Some(rest) = name.to_bytes().strip_prefix(TEMPORARY.as_bytes()) else { continue };
        if is_being_written(rest) {
            continue;
        }
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::new("unlink", name.to_string_lossy().as_ref(), e)),
        }
    }
    Ok(())
}

/// Whether the other process is there whose number a temporary file's name has behind its beginning.
fn is_being_written(rest: &[u8]) -> bool {
    let number = rest.split(|b| *b == b'-').next().and_then(|number| std::str::from_utf8(number).ok());
    let pid = number.and_then(|number| number.parse().ok()).and_then(Pid::from_raw);
    // Whom this process may not signal is there, too.
    pid.is_some_and(|pid| pid != getpid() && !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use crate::testing::Scratch;

    #[test]
    fn replaces_whole_and_leaves_nothing_else() {
        let scratch = Scratch::new("durable");
        let root = Root::open_host(scratch.path()).unwrap();
        write(&root, "state", b"one", Durability::Synced).unwrap();
        write(&root, "state", b"two", Durability::Volatile).unwrap();
        assert_eq!(read(&root, "state").unwrap().unwrap(), b"two");
        assert_eq!(root.list("/").unwrap(), ["state"]);
        assert_eq!(root.stat("state").unwrap().st_mode & 0o7777, 0o600);
        assert!(write(&root, "no/such", b"", Durability::Volatile).is_err());
        assert_eq!(root.list("/").unwrap(), ["state"]);
        remove(&root, "state", Durability::Synced).unwrap();
        assert!(read(&root, "state").unwrap().is_none());
    }

    #[test]
    fn left_overs_are_swept() {
        let scratch = Scratch::new("sweep");
        let root = Root::open_host(scratch.path()).unwrap();
        // Beyond the largest number of a process (proc_sys_kernel(5)): nobody writes it; and one that process 1 does.
        std::fs::write(scratch.path().join(".tmp-4194305-2-state"), "half").unwrap();
        std::fs::write(scratch.path().join(".tmp-1-2-other"), "half").unwrap();
        write(&root, "state", b"x", Durability::Volatile).unwrap();
        sweep(&root).unwrap();
        let mut left = root.list("/").unwrap();
        left.sort();
        assert_eq!(left, [".tmp-1-2-other", "state"]);
    }
}
