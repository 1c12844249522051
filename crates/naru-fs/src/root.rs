//! [`Root`]: a directory inside which every path is resolved by the kernel.

use crate::{Error, Result, remove_tree};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows in one resolution (path_resolution(7)).
const LINK_LIMIT: u32 = 40;
/// How often a resolution that raced with a rename is tried again before its EAGAIN is handed on (openat2(2)).
const RETRY_LIMIT: u32 = 128;

/// A directory that is `/` for every path resolved in it: absolute paths and links begin there, `..` does not leave it.
///
/// Each call resolves with openat2(2) `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`; nothing is resolved as text, so a link
/// that is swapped in meanwhile can't lead outside. Paths may be given with or without their first slash.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The host directory at `path` (resolved as the host does).
    ///
    /// # Errors
    /// When it can't be opened as a directory (open(2)).
    pub fn open_host(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::new("open", path, e))?;
        Ok(Self { fd })
    }

    /// The directory behind `fd` (also an `O_PATH` one, or a detached mount).
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The directory's descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Another handle of the same directory.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(|e| Error::new("duplicate", "/", e))?;
        Ok(Self { fd })
    }

    /// Opens `path`; `CLOEXEC` is added to `flags`.
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_retry(self.fd.as_fd(), nonempty(path), flags, mode, resolve).map_err(|e| Error::new("open", path, e))
    }

    /// Opens the directory at `path` for reading.
    ///
    /// # Errors
    /// openat2(2)'s; `ENOTDIR` when it is something else.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// A handle of what is at `path`, without opening it (`O_PATH`).
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, Mode::empty())
    }

    /// A handle (`O_PATH`) of what is at the relative `path`; other than everywhere else, what would lead out of this directory is an error,
    /// not kept inside.
    ///
    /// # Errors
    /// `EXDEV` for a path or link that leads outside; openat2(2)'s.
    pub fn open_beneath(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = path.as_ref();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        open_retry(self.fd.as_fd(), nonempty(path), OFlags::PATH, Mode::empty(), resolve)
            .map_err(|e| Error::new("open", path, e))
    }

    /// The directory at `path` as a root of its own.
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn sub(&self, path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { fd: self.open_dir(path)? })
    }

    /// The folder that holds `path`'s last component, and that component; the component itself is not followed.
    ///
    /// # Errors
    /// `EINVAL` for the root itself and for a path that ends in `..`; openat2(2)'s for the folder.
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
        let path = path.as_ref();
        let (parent, name) = split_last(path).ok_or_else(|| Error::new("resolve", path, Errno::INVAL))?;
        Ok((self.open_dir(parent)?, name))
    }

    /// Makes the directory `path` and those above it that are missing, each with exactly `mode`; links on the way are
    /// followed inside the root, dangling ones too. What exists keeps its mode.
    ///
    /// # Errors
    /// mkdirat(2)'s and openat2(2)'s; `ELOOP` when the links do not end.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let whole = path.as_ref();
        match self.open_dir(whole) {
            Err(e) if e.is_not_found() => {}
            other => return other,
        }
        let fail = |e: Errno| Error::new("mkdir", whole, e);
        let mut links = 0;
        let mut done = PathBuf::from("/");
        let mut todo = reversed_components(whole);
        while let Some(name) = todo.pop() {
            let next = done.join(&name);
            match self.open_dir(&next) {
                Ok(_) => done = next,
                Err(e) if e.is_not_found() => {
                    let parent = self.open_dir(&done)?;
                    match make_dir(parent.as_fd(), &name, mode) {
                        Ok(()) => done = next,
                        Err(Errno::EXIST) => {
                            links += 1;
                            if links > LINK_LIMIT {
                                return Err(fail(Errno::LOOP));
                            }
                            let target = match rustix::fs::readlinkat(&parent, &name, Vec::new()) {
                                Ok(target) => PathBuf::from(OsString::from_vec(target.into_bytes())),
                                // Someone else made the directory meanwhile.
                                Err(Errno::INVAL) => {
                                    done = next;
                                    continue;
                                }
                                Err(e) => return Err(fail(e)),
                            };
                            if target.is_absolute() {
                                done = PathBuf::from("/");
                            }
                            todo.extend(reversed_components(&target));
                        }
                        Err(e) => return Err(fail(e)),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        self.open_dir(&done)
    }

    /// Makes the file `path` with exactly `mode`, open for writing.
    ///
    /// # Errors
    /// `EEXIST` when there is something, a link included; openat2(2)'s.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        let fd = self.open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
        rustix::fs::fchmod(&fd, mode).map_err(|e| Error::new("chmod", path, e))?;
        Ok(fd)
    }

    /// A handle (`O_PATH`) of what `path` leads to, after making an empty file there if there is nothing: what a bind of
    /// a file is mounted on. Links are followed inside the root, dangling ones too; the folder must exist.
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn ensure_file(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        match self.open_path(path) {
            Err(e) if e.is_not_found() => {}
            other => return other,
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        drop(self.open(path, flags, mode)?);
        self.open_path(path)
    }

    /// Whether `path` leads to something.
    ///
    /// # Errors
    /// When that can't be told: a loop of links, no permission, IO.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.open_path(path) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() || e.is(Errno::NOTDIR) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The status of what `path` leads to.
    ///
    /// # Errors
    /// openat2(2)'s and fstat(2)'s.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        let fd = self.open_path(path)?;
        rustix::fs::fstat(&fd).map_err(|e| Error::new("stat", path, e))
    }

    /// The status of `path` itself: a link is not followed.
    ///
    /// # Errors
    /// openat2(2)'s and fstat(2)'s.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        let fd = self.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        rustix::fs::fstat(&fd).map_err(|e| Error::new("stat", path, e))
    }

    /// Where the link `path` points, as written.
    ///
    /// # Errors
    /// `EINVAL` when it is no link (readlink(2)).
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(&parent, &name, Vec::new()).map_err(|e| Error::new("readlink", path, e))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Where `path` leads to, as a path without links inside the root; what is missing at its end is kept as written. To be shown, or given
    /// to another call of this type: by then the tree may be another.
    ///
    /// # Errors
    /// `ELOOP` when the links do not end; openat2(2)'s.
    pub fn canonical(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let mut links = 0;
        let mut done = PathBuf::from("/");
        let mut todo = reversed_components(path);
        while let Some(name) = todo.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let target = match self.read_link(done.join(&name)) {
                Ok(target) => target,
                Err(e) if e.is(Errno::INVAL) || e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => {
                    done.push(name);
                    continue;
                }
                Err(e) => return Err(e),
            };
            links += 1;
            if links > LINK_LIMIT {
                return Err(Error::new("resolve", path, Errno::LOOP));
            }
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            todo.extend(reversed_components(&target));
        }
        Ok(done)
    }

    /// The bytes of the regular file `path`.
    ///
    /// # Errors
    /// When it is no regular file (nothing else is opened, so that a fifo can't block), has more than `limit` bytes, or
    /// can't be read.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let regular = |fd: BorrowedFd<'_>| -> Result<()> {
            let stat = rustix::fs::fstat(fd).map_err(|e| Error::new("stat", path, e))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(()),
                FileType::Directory => Err(Error::new("read", path, Errno::ISDIR)),
                _ => Err(Error::text("read", path, "not a regular file")),
            }
        };
        regular(self.open_path(path)?.as_fd())?;
        let fd = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        regular(fd.as_fd())?;
        read_limited(fd, path, limit)
    }

    /// The text of the regular file `path`.
    ///
    /// # Errors
    /// As [`Root::read`], and when it is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>, limit: usize) -> Result<String> {
        let path = path.as_ref();
        String::from_utf8(self.read(path, limit)?).map_err(|_| Error::text("read", path, "not valid UTF-8"))
    }

    /// Makes `path` a link to `target` (as written, unchecked: it is resolved inside the root when it is used).
    ///
    /// # Errors
    /// symlinkat(2)'s.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target.as_ref(), &parent, &name).map_err(|e| Error::new("symlink", path, e))
    }

    /// Makes the device, fifo or socket `path` with exactly `mode`.
    ///
    /// # Errors
    /// mknodat(2)'s.
    pub fn mknod(&self, path: impl AsRef<Path>, kind: FileType, mode: Mode, device: rustix::fs::Dev) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::mknodat(&parent, &name, kind, mode, device).map_err(|e| Error::new("mknod", path, e))?;
        // The name is in a folder that others may write to: don't follow what it may have become.
        let fd = open_beneath(parent.as_fd(), &name, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(|e| Error::new("open", path, e))?;
        chmod_handle(fd.as_fd(), mode).map_err(|e| Error::new("chmod", path, e))
    }

    /// Removes `path` and, if it is a directory, all below it; a link itself is removed, not what it leads to. Nothing
    /// there is no error.
    ///
    /// # Errors
    /// As [`remove_tree`].
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        match self.parent(path) {
            Ok((parent, name)) => remove_tree(parent, &name),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The names in the directory `path`, sorted.
    ///
    /// # Errors
    /// openat2(2)'s and getdents64(2)'s.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let path = path.as_ref();
        let fail = |e| Error::new("list", path, e);
        let dir = rustix::fs::Dir::new(self.open_dir(path)?).map_err(fail)?;
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// openat2(2) that tries again when a signal or a concurrent rename disturbed the resolution; `CLOEXEC` is added.
///
/// # Errors
/// The call's.
pub fn open_retry(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    // openat2, other than open, refuses a mode that can have no effect.
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if !flags.contains(OFlags::NONBLOCK) || tries < RETRY_LIMIT => {
                tries += 1;
                if tries > RETRY_LIMIT {
                    return Err(Errno::AGAIN);
                }
            }
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens `path` below `dir` following no link at all.
///
/// # Errors
/// openat2(2)'s; `ELOOP` when a part of the path is a link (the last one only without `O_NOFOLLOW | O_PATH`).
pub fn open_beneath(dir: BorrowedFd<'_>, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    open_retry(dir, nonempty(path.as_ref()), flags, Mode::empty(), resolve)
}

/// chmod for a handle that may be `O_PATH`: fchmodat2(2) needs Linux 6.6, so it goes by `/proc/self/fd`.
fn chmod_handle(fd: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
}

/// mkdirat with exactly `mode`, whatever the umask.
fn make_dir(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<(), Errno> {
    naru_sys::fault::point();
    rustix::fs::mkdirat(parent, name, mode)?;
    let fd = open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    rustix::fs::fchmod(&fd, mode)
}

pub(crate) fn read_limited(fd: OwnedFd, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(fd).take(limit as u64 + 1);
    file.read_to_end(&mut bytes).map_err(|e| Error::text("read", path, e.to_string()))?;
    if bytes.len() > limit {
        return Err(Error::text("read", path, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The path without its last component, and that; `None` when it names no entry (`/`, `.`, `a/..`).
fn split_last(path: &Path) -> Option<(PathBuf, OsString)> {
    // `Path::components` drops `.` parts and trailing slashes.
    let mut components = path.components();
    match components.next_back()? {
        Component::Normal(name) => Some((components.as_path().to_owned(), name.to_owned())),
        _ => None,
    }
}

/// The parts of `path`, last first, without its slash at the start.
fn reversed_components(path: &Path) -> Vec<OsString> {
    let part = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn nothing_leads_outside() {
        let scratch = Scratch::new("outside");
        let top = scratch.path().join("root");
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(scratch.path().join("secret"), "outside").unwrap();
        fs::write(top.join("secret"), "inside").unwrap();
        symlink("/secret", top.join("etc/absolute")).unwrap();
        symlink("../../../../secret", top.join("etc/dots")).unwrap();
        let root = Root::open_host(&top).unwrap();
        for path in ["secret", "/secret", "../../secret", "etc/absolute", "/etc/dots", "etc/../../secret"] {
            assert_eq!(root.read_to_string(path, 100).unwrap(), "inside", "{path}");
        }
        symlink("/proc/self/root", top.join("magic")).unwrap();
        assert!(root.read_to_string("magic/secret", 100).is_err());
    }

    #[test]
    fn directories_are_made_through_links() {
        let scratch = Scratch::new("mkdir");
        let top = scratch.path();
        symlink("/real/deep", top.join("abs")).unwrap();
        symlink("abs/more", top.join("rel")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let root = Root::open_host(top).unwrap();
        root.create_dir_all("/rel/x/y", Mode::from_raw_mode(0o771)).unwrap();
        let made = top.join("real/deep/more/x/y");
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o771);
        assert!(root.create_dir_all("loop/a", Mode::RWXU).unwrap_err().is(Errno::LOOP));
        fs::write(top.join("file"), "").unwrap();
        assert!(root.create_dir_all("file/a", Mode::RWXU).unwrap_err().is(Errno::NOTDIR));
        root.create_dir_all("/", Mode::RWXU).unwrap();
        root.create_dir_all("../a/../b", Mode::RWXU).unwrap();
        assert!(top.join("a").is_dir() && top.join("b").is_dir());
    }

    #[test]
    fn where_links_lead_is_told_inside_the_root() {
        let scratch = Scratch::new("canonical");
        let top = scratch.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        symlink("/a/b", top.join("abs")).unwrap();
        symlink("../../../../abs/x", top.join("a/up")).unwrap();
        symlink("self", top.join("self")).unwrap();
        let root = Root::open_host(top).unwrap();
        for (path, want) in
            [("/abs", "/a/b"), ("a/up", "/a/b/x"), ("abs/../c", "/a/c"), ("none/of/it", "/none/of/it"), ("/", "/")]
        {
            assert_eq!(root.canonical(path).unwrap(), Path::new(want), "{path}");
        }
        assert!(root.canonical("self").unwrap_err().is(Errno::LOOP));
    }

    #[test]
    fn a_fifo_does_not_block_a_read() {
        let scratch = Scratch::new("fifo");
        let root = Root::open_host(scratch.path()).unwrap();
        root.mknod("pipe", FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
        assert_eq!(root.lstat("pipe").unwrap().st_mode & 0o7777, 0o622);
        assert!(root.read("pipe", 10).unwrap_err().to_string().contains("not a regular file"));
        fs::write(scratch.path().join("long"), "0123456789x").unwrap();
        assert!(root.read("long", 10).is_err());
        assert_eq!(root.read("long", 11).unwrap().len(), 11);
    }

    #[test]
    fn the_last_component_is_split_off() {
        for (path, want) in [
            ("/a/b", Some(("/a", "b"))),
            ("a", Some(("", "a"))),
            ("/a/b/", Some(("/a", "b"))),
            ("a/./b/.", Some(("a", "b"))),
            ("/", None),
            ("", None),
            ("a/..", None),
        ] {
            let want = want.map(|(p, n)| (PathBuf::from(p), OsString::from(n)));
            assert_eq!(split_last(Path::new(path)), want, "{path}");
        }
    }

    #[test]
    fn a_target_for_a_bind_is_made_once() {
        let scratch = Scratch::new("ensure");
        let top = scratch.path();
        symlink("/there", top.join("dangling")).unwrap();
        let root = Root::open_host(top).unwrap();
        root.ensure_file("dangling", Mode::from_raw_mode(0o644)).unwrap();
        assert!(top.join("there").is_file());
        fs::write(top.join("there"), "kept").unwrap();
        root.ensure_file("/dangling", Mode::from_raw_mode(0o644)).unwrap();
        assert_eq!(fs::read_to_string(top.join("there")).unwrap(), "kept");
        assert!(root.create_file("dangling", Mode::RUSR).unwrap_err().is(Errno::EXIST));
    }
}
