//! Paths inside a root, resolved by the child: as `naru_fs::Root` does it, but without allocating.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// The longest path that is walked, with everything that links add to it.
const PATH_LIMIT: usize = 4096;
/// As many links as the kernel follows (path_resolution(7)).
const LINK_LIMIT: u32 = 40;
/// How often a lookup that raced with a rename is tried again (openat2(2), `EAGAIN`).
const RETRY_LIMIT: u32 = 32;

/// What a missing place is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Opens `path` inside `root`; links stay inside, links of procfs that jump are refused (`ELOOP`).
pub(crate) fn open(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    open_how(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` inside `root` if no component of it is a link (`ELOOP`).
pub(crate) fn open_ordinary(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    open_how(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn open_how(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode, resolve: ResolveFlags) -> Result<OwnedFd> {
    // openat2 has no empty path; `.` below a root is the root.
    let path = if path.is_empty() { c"." } else { path };
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRY_LIMIT => tries += 1,
            other => return other,
        }
    }
}

/// A handle (`O_PATH`) of `path`, which is made with what is missing above it; links on the way, dangling ones too, are followed
/// inside the root.
pub(crate) fn ensure(root: impl AsFd, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    let root = root.as_fd();
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => walk(root, path, kind),
        other => other,
    }
}

/// The slow way of [`ensure`]: component by component, making what isn't there. `done` never holds a link, and is looked up from the
/// root anew each time, so nothing that moves meanwhile leads outside.
fn walk(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    let mut done = Buffer::new();
    let mut todo = Buffer::new();
    todo.replace_head(0, path.to_bytes())?;
    let mut links = 0;
    while let Some((start, end)) = todo.next_component() {
        let name = todo.slice(start, end);
        let last = todo.slice(end, todo.len).iter().all(|b| *b == b'/');
        match name {
            b"." => {}
            b".." => done.pop(),
            _ => {
                let parent = open(root, done.as_cstr()?, OFlags::PATH | OFlags::DIRECTORY)?;
                let mut terminated = Buffer::new();
                terminated.replace_head(0, name)?;
                let name = terminated.as_cstr()?;
                match make(parent.as_fd(), name, if last { kind } else { Kind::Directory }) {
                    Ok(()) => done.push(name.to_bytes())?,
                    Err(Errno::EXIST) => {
                        let mut target = [0_u8; PATH_LIMIT];
                        match read_link(parent.as_fd(), name, &mut target)? {
                            None => done.push(name.to_bytes())?,
                            Some(target) => {
                                links += 1;
                                if links > LINK_LIMIT {
                                    return Err(Errno::LOOP);
                                }
                                if target.first() == Some(&b'/') {
                                    done.clear();
                                }
                                todo.replace_head(end, target)?;
                                continue;
                            }
                        }
                    }
                    Err(errno) => return Err(errno),
                }
            }
        }
        todo.replace_head(end, b"")?;
    }
    open_how(
        root,
        done.as_cstr()?,
        OFlags::PATH,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    )
}

fn make(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<()> {
    match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(parent, name, rustix::fs::FileType::RegularFile, mode, 0)
        }
    }
}

/// The target of the link `name`, or `None` if it is no link.
fn read_link<'b>(parent: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
    match rustix::fs::readlinkat_raw(parent, name, &mut *buffer) {
        Ok(length) if length < buffer.len() => Ok(buffer.get(..length)),
        Ok(_) => Err(Errno::NAMETOOLONG),
        Err(Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A path on the stack, always followed by a null byte.
struct Buffer {
    bytes: [u8; PATH_LIMIT],
    len: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: [0; PATH_LIMIT], len: 0 }
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn as_cstr(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::NAMETOOLONG)
    }

    fn clear(&mut self) {
        self.bytes[0] = 0;
        self.len = 0;
    }

    /// Where the first component begins and ends.
    fn next_component(&self) -> Option<(usize, usize)> {
        let all = self.slice(0, self.len);
        let start = all.iter().position(|b| *b != b'/')?;
        let length = all.get(start..)?.iter().position(|b| *b == b'/').unwrap_or(self.len - start);
        Some((start, start + length))
    }

    /// Puts `head` in place of the first `end` bytes.
    fn replace_head(&mut self, end: usize, head: &[u8]) -> Result<()> {
        let tail = self.len.checked_sub(end).ok_or(Errno::INVAL)?;
        let len = head.len() + tail;
        if len >= PATH_LIMIT {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes.copy_within(end..end + tail, head.len());
        self.bytes[..head.len()].copy_from_slice(head);
        self.bytes[len] = 0;
        self.len = len;
        Ok(())
    }

    fn push(&mut self, name: &[u8]) -> Result<()> {
        let slash = usize::from(self.len > 0);
        let len = self.len + slash + name.len();
        if len >= PATH_LIMIT {
            return Err(Errno::NAMETOOLONG);
        }
        if slash == 1 {
            self.bytes[self.len] = b'/';
        }
        self.bytes[self.len + slash..len].copy_from_slice(name);
        self.bytes[len] = 0;
        self.len = len;
        Ok(())
    }

    /// Removes the last component; the root stays.
    fn pop(&mut self) {
        self.len = self.slice(0, self.len).iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.bytes[self.len] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("naru-inside-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }

        fn root(&self) -> PathBuf {
            self.0.join("root")
        }

        fn open(&self) -> OwnedFd {
            rustix::fs::open(self.root(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ensure_at(scratch: &Scratch, path: &str, kind: Kind) -> Result<OwnedFd> {
        ensure(scratch.open(), &CString::new(path).unwrap(), kind)
    }

    #[test]
    fn missing_folders_and_files_are_made() {
        let scratch = Scratch::new("plain");
        ensure_at(&scratch, "/a/b//c/./d", Kind::Directory).unwrap();
        ensure_at(&scratch, "a/x/../y/file", Kind::File).unwrap();
        assert!(scratch.root().join("a/b/c/d").is_dir());
        assert!(scratch.root().join("a/y/file").is_file());
        ensure_at(&scratch, "/", Kind::Directory).unwrap();
    }

    #[test]
    fn links_stay_inside_and_dangling_ones_are_followed() {
        let scratch = Scratch::new("links");
        let root = scratch.root();
        symlink("../../../run/x/resolv.conf", root.join("resolv.conf")).unwrap();
        symlink("/other/deep", root.join("abs")).unwrap();
        symlink("/../../..", root.join("up")).unwrap();
        ensure_at(&scratch, "/resolv.conf", Kind::File).unwrap();
        assert!(root.join("run/x/resolv.conf").is_file());
        ensure_at(&scratch, "/abs/er", Kind::Directory).unwrap();
        assert!(root.join("other/deep/er").is_dir());
        assert!(!Path::new("/other").exists());
        ensure_at(&scratch, "/up/made", Kind::Directory).unwrap();
        assert!(root.join("made").is_dir());
        assert!(!scratch.0.join("made").exists());
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let scratch = Scratch::new("loops");
        symlink("two", scratch.root().join("one")).unwrap();
        symlink("one", scratch.root().join("two")).unwrap();
        std::fs::write(scratch.root().join("file"), "").unwrap();
        assert_eq!(ensure_at(&scratch, "/one/x", Kind::Directory).unwrap_err(), Errno::LOOP);
        assert_eq!(ensure_at(&scratch, "/file/x", Kind::Directory).unwrap_err(), Errno::NOTDIR);
        let long = "x/".repeat(3000);
        assert_eq!(ensure_at(&scratch, &long, Kind::Directory).unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn magic_links_are_refused() {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(open(&proc, c"self/fd/0", OFlags::PATH).unwrap_err(), Errno::LOOP);
        assert_eq!(open_ordinary(&proc, c"self", OFlags::PATH).unwrap_err(), Errno::LOOP);
    }
}
