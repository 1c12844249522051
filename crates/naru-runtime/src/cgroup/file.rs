//! Reading and writing the files of cgroupfs.

use naru_base::{Error, Result};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::path::Path;

/// Writes `value` in one call, as cgroupfs wants it.
pub(super) fn write_raw(path: &Path, value: &str) -> Result<(), Errno> {
    naru_sys::fault::point();
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map(drop)
}

/// As [`write_raw`], with an error that names the file and the value.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    write_raw(path, value).map_err(|e| write_error(path, value, e))
}

/// The error of a write, with the file and the value.
pub(super) fn write_error(path: &Path, value: &str, error: Errno) -> Error {
    Error::system(format!("{} (value {value:?})", naru_fs::Error::new("write", path, error)))
}

/// Most of these files fit in so much.
const ROOM: usize = 4 << 10;

/// The whole file. These have no size to be asked for: read(2) is called until nothing more comes, most often twice.
fn read_to_string(path: &Path) -> std::io::Result<String> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(ROOM);
    loop {
        text.reserve(ROOM / 4);
        match rustix::io::read(&fd, spare_capacity(&mut text)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    String::from_utf8(text).map_err(std::io::Error::other)
}

/// The whole file.
pub(super) fn read(path: &Path) -> Result<String> {
    read_to_string(path).map_err(|e| Error::system(format!("read {}: {e}", path.display())))
}

/// The whole file, or `None` when there is no such file.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>> {
    match read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::system(format!("read {}: {e}", path.display()))),
    }
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A file that holds one number, or `max` (`None`).
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
        assert_eq!((number("12\n"), number("max\n")), (Some(12), None));
    }

    #[test]
    fn errors_name_file_and_value() {
        let error = write(Path::new("/nonexistent/memory.max"), "5").unwrap_err();
        assert!(error.message().starts_with("write /nonexistent/memory.max: "), "{error}");
        assert!(error.message().ends_with("(value \"5\")"), "{error}");
    }
}
