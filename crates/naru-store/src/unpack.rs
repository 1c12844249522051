//! Unpacking into a tree that is in use: what `cp` copies goes into a container's files, or a user's.
//!
//! The tree may be hostile and change meanwhile. A parent folder is reached component by component by descriptors that follow no link; where
//! a component is a link, the kernel resolves the whole path below the tree's root ([`Root`]). So an entry lands somewhere in the
//! tree, whatever moves, and never outside.

use crate::decompress::Decompressor;
use crate::extract::{Attributes, io_error, join, set_xattrs, split, times, tolerate, write_at};
use crate::tar::{Entry, Error, Kind, Limits, Reader, Result, Sink};
use naru_fs::{Root, open_beneath, remove_tree, xattr};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One descriptor is kept open for each level of folders.
const DEPTH_LIMIT: usize = 512;
const PIECE: usize = 128 << 10;
const NEW_DIR: Mode = Mode::from_raw_mode(0o755);

/// Whose the unpacked files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whose the archive says.
    Archive,
    /// This user's and group's.
    Fixed(u32, u32),
    /// Whoever unpacks.
    Caller,
}

/// Other ids on some file systems than in archives: what a container in a user namespace has mounted itself shows the host's.
pub struct IdsOn {
    /// Device numbers of those file systems.
    pub devices: Vec<u64>,
    /// Translates a user's and a group's id.
    pub map: Box<MapIds>,
}

/// Translates a user's and a group's id.
pub type MapIds = dyn Fn(u32, u32) -> (u32, u32) + Send;

/// How to unpack.
pub struct Unpack<'a> {
    /// All links are resolved below it.
    pub root: &'a Root,
    /// The folder, inside the root, that the archive's names begin at.
    pub target: &'a Path,
    /// Refuses to replace a folder by something else, or something else by a folder.
    pub keep_kind: bool,
    /// Whose the files are.
    pub owner: Owner,
    /// Where ids are to be translated, from the archive's to the file system's.
    pub map: Option<IdsOn>,
    /// Gives what the archive holds another name.
    pub rename: Option<Rename>,
}

/// Another name for the entry that all of an archive is in.
#[derive(Debug, Clone)]
pub struct Rename {
    /// Its name in the archive; `None` when that is the folder itself, so that all entries go one level deeper.
    pub from: Option<Vec<u8>>,
    /// Its new one, without a slash.
    pub to: Vec<u8>,
}

impl Rename {
    fn apply<'p>(&'p self, mut components: Vec<&'p [u8]>) -> Vec<&'p [u8]> {
        match &self.from {
            None => components.insert(0, &self.to),
            Some(from) => {
                if let Some(first) = components.first_mut().filter(|first| **first == from.as_slice()) {
                    *first = &self.to;
                }
            }
        }
        components
    }
}

impl Unpack<'_> {
    /// Unpacks the archive that `input` gives, plain or compressed.
    ///
    /// # Errors
    /// When the archive is malformed, an entry may not or can't be made, or `input` fails. What was unpacked before that stays.
    pub fn run(self, mut input: impl Read) -> naru_base::Result<()> {
        let mut unpacker = Unpacker::open(self)?;
        let mut reader = Reader::new(Limits::default());
        let mut decompressor = Decompressor::default();
        let mut piece = vec![0; PIECE];
        loop {
            let count = match input.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(naru_base::Error::invalid(format!("read the archive: {e}"))),
            };
            decompressor.push(&piece[..count], &mut |bytes: &[u8]| reader.push(bytes, &mut unpacker))?;
        }
        decompressor.finish(&mut |bytes: &[u8]| reader.push(bytes, &mut unpacker))?;
        reader.finish()?;
        unpacker.settle();
        Ok(())
    }
}

struct Unpacker<'a> {
    how: Unpack<'a>,
    target: OwnedFd,
    /// The folder that was used last, level by level.
    stack: Vec<(Vec<u8>, OwnedFd)>,
    /// Folders whose times are set in the end, when nothing is made in them any more.
    folders: Vec<(Vec<u8>, Attributes)>,
    file: Option<OpenFile>,
}

struct OpenFile {
    fd: OwnedFd,
    path: Vec<u8>,
    attributes: Attributes,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    size: u64,
    end: u64,
    on_mapped: bool,
}

impl<'a> Unpacker<'a> {
    fn open(how: Unpack<'a>) -> Result<Self> {
        let target = how.root.open_dir(how.target)?;
        Ok(Self { how, target, stack: Vec::new(), folders: Vec::new(), file: None })
    }

    /// Times of folders; one that is gone or became something else needs none.
    fn settle(&mut self) {
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            let Ok(components) = split(&path) else { continue };
            let Some((name, parents)) = components.split_last() else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(parent) = self.walk(parents)
                && let Ok(fd) = open_beneath(parent, OsStr::from_bytes(name), flags)
            {
                let _ = rustix::fs::futimens(&fd, &times(attributes.mtime));
            }
        }
    }

    /// The folder with these components, made where it is missing.
    fn walk(&mut self, components: &[&[u8]]) -> Result<BorrowedFd<'_>> {
        if components.len() > DEPTH_LIMIT {
            return Err(Error::Limit(format!("a folder is more than {DEPTH_LIMIT} levels deep")));
        }
        let same = self.stack.iter().zip(components).take_while(|((have, _), want)| have == *want).count();
        self.stack.truncate(same);
        for at in same..components.len() {
            let above = self.stack.last().map_or(self.target.as_fd(), |(_, fd)| fd.as_fd());
            let fd = match open_folder(above, components[at]) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    let fail = |e| io_error("mkdir", &components[..=at].join(&b'/'), e);
                    match rustix::fs::mkdirat(above, components[at], NEW_DIR) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(fail(e)),
                    }
                    let fd = open_folder(above, components[at]).map_err(fail)?;
                    let on_mapped = self.is_mapped(above);
                    self.own(fd.as_fd(), 0, 0, on_mapped).map_err(fail)?;
                    fd
                }
                // A link, or what is no folder: the kernel follows it inside the root.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let rest: PathBuf = components[..=at].iter().map(|part| OsStr::from_bytes(part)).collect();
                    self.how.root.open_dir(self.how.target.join(rest))?
                }
                Err(e) => return Err(io_error("open", &components[..=at].join(&b'/'), e)),
            };
            self.stack.push((components[at].to_vec(), fd));
        }
        Ok(self.stack.last().map_or(self.target.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// As [`Unpacker::walk`], as a descriptor of its own.
    fn folder(&mut self, components: &[&[u8]]) -> Result<OwnedFd> {
        let folder = self.walk(components)?;
        rustix::io::fcntl_dupfd_cloexec(folder, 0).map_err(|e| io_error("open", &components.join(&b'/'), e))
    }

    /// Whether what is in the folder has translated ids.
    fn is_mapped(&self, folder: BorrowedFd<'_>) -> bool {
        let Some(ids) = &self.how.map else { return false };
        rustix::fs::fstat(folder).is_ok_and(|stat| ids.devices.contains(&stat.st_dev))
    }

    /// The ids that an entry is to have, as this file system's.
    fn ids(&self, uid: u32, gid: u32, on_mapped: bool) -> Option<(Option<Uid>, Option<Gid>)> {
        let (uid, gid) = match self.how.owner {
            Owner::Caller => return None,
            Owner::Archive => (uid, gid),
            Owner::Fixed(uid, gid) => (uid, gid),
        };
        let (uid, gid) = match &self.how.map {
            Some(ids) if on_mapped => (ids.map)(uid, gid),
            _ => (uid, gid),
        };
        Some((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    fn own(&self, fd: BorrowedFd<'_>, uid: u32, gid: u32, on_mapped: bool) -> Result<(), Errno> {
        match self.ids(uid, gid, on_mapped) {
            Some((uid, gid)) => rustix::fs::fchown(fd, uid, gid),
            None => Ok(()),
        }
    }

    /// Takes away what is at an entry's place and would be in its way.
    fn clear(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let keep_kind = self.how.keep_kind;
        let parent = self.walk(components)?;
        let there = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(io_error("stat", &join(components, name), e)),
        };
        let wanted = entry.kind == Kind::Directory;
        if keep_kind && there != wanted {
            let (old, new) = if there { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let path = String::from_utf8_lossy(name).into_owned();
            let whole = String::from_utf8_lossy(entry.path).into_owned();
            return Err(Error::Receiver(naru_base::Error::invalid(format!(
                "cannot overwrite {old} \"{path}\" with {new} \"{whole}\""
            ))));
        }
        if there && wanted {
            return Ok(());
        }
        remove_tree(parent, OsStr::from_bytes(name))?;
        Ok(())
    }

    fn directory(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        self.clear(components, name, entry)?;
        let path = join(components, name);
        let fail = |e| io_error("mkdir", &path, e);
        let parent = self.folder(components)?;
        match rustix::fs::mkdirat(&parent, name, NEW_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail(e)),
        }
        let fd = open_folder(parent.as_fd(), name).map_err(fail)?;
        let on_mapped = self.is_mapped(fd.as_fd());
        self.own(fd.as_fd(), entry.uid, entry.gid, on_mapped).map_err(fail)?;
        set_xattrs(&fd, &owned_xattrs(entry), &path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(fail)?;
        self.folders.push((path, Attributes::of(entry)));
        Ok(())
    }

    fn regular(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let path = join(components, name);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mounted = match self.clear(components, name, entry) {
            // A file that something is mounted on (a bind of a file) can't be replaced, only written anew.
            Err(Error::Io(e)) if e.is(Errno::BUSY) => true,
            other => other.map(|()| false)?,
        };
        let how = if mounted { flags | OFlags::TRUNC } else { flags | OFlags::CREATE | OFlags::EXCL };
        let parent = self.folder(components)?;
        let fd = rustix::fs::openat(&parent, name, how, Mode::RUSR | Mode::WUSR)
            .map_err(|e| io_error("create", &path, e))?;
        let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind != Ok(FileType::RegularFile) {
            return Err(io_error("create", &path, Errno::BUSY));
        }
        let on_mapped = !mounted && self.is_mapped(parent.as_fd());
        self.file = Some(OpenFile {
            fd,
            path,
            attributes: Attributes::of(entry),
            xattrs: owned_xattrs(entry),
            size: entry.size,
            end: 0,
            on_mapped,
        });
        Ok(())
    }

    fn symlink(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        if entry.link.is_empty() {
            return Err(Error::refused(entry.path, "a symbolic link without a target"));
        }
        self.clear(components, name, entry)?;
        let parent = self.walk(components)?;
        rustix::fs::symlinkat(entry.link, parent, name).map_err(|e| io_error("symlink", &join(components, name), e))?;
        self.finish_special(components, name, entry)
    }

    fn node(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        self.clear(components, name, entry)?;
        let (kind, device) = match entry.kind {
            Kind::CharDevice => (FileType::CharacterDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
            Kind::BlockDevice => (FileType::BlockDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
            _ => (FileType::Fifo, 0),
        };
        let parent = self.walk(components)?;
        rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(entry.mode), device)
            .map_err(|e| io_error("mknod", &join(components, name), e))?;
        self.finish_special(components, name, entry)
    }

    /// Owner, attributes, mode and time of an entry that can't be opened.
    fn finish_special(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let path = join(components, name);
        let fail = |e| io_error("set attributes of", &path, e);
        let parent = self.folder(components)?;
        let on_mapped = self.is_mapped(parent.as_fd());
        if let Some((uid, gid)) = self.ids(entry.uid, entry.gid, on_mapped) {
            rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        for (attribute, value) in owned_xattrs(entry) {
            tolerate(xattr::set_at(&parent, OsStr::from_bytes(name), OsStr::from_bytes(&attribute), &value))
                .map_err(fail)?;
        }
        if entry.kind != Kind::Symlink {
            // By a handle of the entry itself: chmod follows links.
            let handle =
                open_beneath(parent.as_fd(), OsStr::from_bytes(name), OFlags::PATH | OFlags::NOFOLLOW).map_err(fail)?;
            let own = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmodat(rustix::fs::CWD, own, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(fail)?;
        }
        rustix::fs::utimensat(&parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    fn hard_link(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let rename = self.how.rename.clone();
        let target = renamed(rename.as_ref(), split(entry.link)?);
        let Some((target_name, target_dir)) = target.split_last() else {
            return Err(Error::refused(entry.path, "a hard link to the root"));
        };
        let path = join(components, name);
        if target.join(&b'/') == path {
            return Ok(());
        }
        self.clear(components, name, entry)?;
        let fail = |e| io_error("link", &path, e);
        let source = self.folder(target_dir)?;
        let parent = self.walk(components)?;
        rustix::fs::linkat(&source, *target_name, parent, name, AtFlags::empty()).map_err(fail)
    }

    fn close(&self, file: &OpenFile) -> Result<()> {
        let fail = |e| io_error("set attributes of", &file.path, e);
        if file.end != file.size {
            // The file ends in a hole.
            rustix::fs::ftruncate(&file.fd, file.size).map_err(fail)?;
        }
        let a = &file.attributes;
        self.own(file.fd.as_fd(), a.uid, a.gid, file.on_mapped).map_err(fail)?;
        // After the change of owner, which clears capabilities and set-id bits.
        set_xattrs(&file.fd, &file.xattrs, &file.path)?;
        rustix::fs::fchmod(&file.fd, Mode::from_raw_mode(a.mode)).map_err(fail)?;
        rustix::fs::futimens(&file.fd, &times(a.mtime)).map_err(fail)
    }
}

impl Sink for Unpacker<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        let rename = self.how.rename.clone();
        let components = renamed(rename.as_ref(), split(entry.path)?);
        let Some((&name, parents)) = components.split_last() else {
            // The folder itself keeps its attributes, as docker has it.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(Error::refused(entry.path, "the folder itself is not to be replaced")),
            };
        };
        match entry.kind {
            Kind::File => self.regular(parents, name, entry),
            Kind::Directory => self.directory(parents, name, entry),
            Kind::Symlink => self.symlink(parents, name, entry),
            Kind::HardLink => self.hard_link(parents, name, entry),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(parents, name, entry),
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.end = write_at(&file.fd, &file.path, offset, bytes)?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.file.take() {
            Some(file) => self.close(&file),
            None => Ok(()),
        }
    }
}

fn renamed<'p>(rename: Option<&'p Rename>, components: Vec<&'p [u8]>) -> Vec<&'p [u8]> {
    match rename {
        Some(rename) => rename.apply(components),
        None => components,
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// An archive may set no mark of overlayfs: it could make the layers below show elsewhere.
fn owned_xattrs(entry: &Entry<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ours = |name: &[u8]| name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.");
    entry.xattrs.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Header, Time, Writer};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("naru-unpack-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("root/in")).unwrap();
            Self(path)
        }

        fn unpack(&self, archive: Vec<u8>, keep_kind: bool) -> naru_base::Result<()> {
            let root = Root::open_host(self.0.join("root")).unwrap();
            let how = Unpack {
                root: &root,
                target: Path::new("/in"),
                keep_kind,
                owner: Owner::Caller,
                map: None,
                rename: None,
            };
            how.run(&archive[..])
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn link<'a>(kind: Kind, path: &'a [u8], target: &'a [u8]) -> Header<'a> {
        Header { kind, link: target, ..Header::file(path, 0) }
    }

    #[test]
    fn links_in_archive_and_tree_stay_inside() {
        let scratch = Scratch::new("links");
        std::fs::write(scratch.0.join("outside"), "kept").unwrap();
        std::fs::create_dir(scratch.0.join("root/real")).unwrap();
        std::os::unix::fs::symlink("/real", scratch.0.join("root/in/there")).unwrap();
        std::os::unix::fs::symlink("../../../../..", scratch.0.join("root/in/up")).unwrap();
        let mut archive = Writer::new(Vec::new());
        archive.file(&Header::file(b"there/file", 1), b"a").unwrap();
        archive.file(&Header::file(b"up/outside", 1), b"b").unwrap();
        archive.header(&link(Kind::Symlink, b"evil", b"/../../../outside")).unwrap();
        archive.file(&Header::file(b"evil", 1), b"c").unwrap();
        scratch.unpack(archive.finish().unwrap(), true).unwrap();
        assert_eq!(std::fs::read(scratch.0.join("outside")).unwrap(), b"kept");
        assert_eq!(std::fs::read(scratch.0.join("root/real/file")).unwrap(), b"a");
        assert_eq!(std::fs::read(scratch.0.join("root/outside")).unwrap(), b"b");
        assert_eq!(std::fs::read(scratch.0.join("root/in/evil")).unwrap(), b"c");
        for bad in [&b"../x"[..], b"a/../../x"] {
            let mut archive = Writer::new(Vec::new());
            archive.file(&Header::file(bad, 1), b"x").unwrap();
            assert!(scratch.unpack(archive.finish().unwrap(), false).is_err());
        }
        let mut archive = Writer::new(Vec::new());
        archive.header(&link(Kind::HardLink, b"h", b"../../outside")).unwrap();
        assert!(scratch.unpack(archive.finish().unwrap(), false).is_err());
    }

    #[test]
    fn kinds_are_kept_when_asked_for() {
        let scratch = Scratch::new("kinds");
        std::fs::create_dir_all(scratch.0.join("root/in/dir/sub")).unwrap();
        std::fs::write(scratch.0.join("root/in/file"), "old").unwrap();
        let archive = || {
            let mut archive = Writer::new(Vec::new());
            archive.header(&Header::directory(b".")).unwrap();
            archive.file(&Header::file(b"dir", 3), b"new").unwrap();
            archive.header(&Header::directory(b"file")).unwrap();
            archive.finish().unwrap()
        };
        let said = scratch.unpack(archive(), true).unwrap_err();
        assert!(said.message().starts_with("cannot overwrite directory"), "{said}");
        scratch.unpack(archive(), false).unwrap();
        assert!(scratch.0.join("root/in/dir").is_file() && scratch.0.join("root/in/file").is_dir());
    }

    #[test]
    fn modes_and_times_are_the_archives() {
        use std::os::unix::fs::MetadataExt as _;
        let scratch = Scratch::new("modes");
        let mut archive = Writer::new(Vec::new());
        let mtime = Time { seconds: 1_600_000_000, nanos: 0 };
        archive.header(&Header { mode: 0o1750, mtime, ..Header::directory(b"d") }).unwrap();
        archive.file(&Header { mode: 0o4711, mtime, ..Header::file(b"d/f", 1) }, b"x").unwrap();
        archive.header(&link(Kind::HardLink, b"g", b"d/f")).unwrap();
        scratch.unpack(archive.finish().unwrap(), true).unwrap();
        let folder = std::fs::metadata(scratch.0.join("root/in/d")).unwrap();
        let file = std::fs::metadata(scratch.0.join("root/in/g")).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o1750, 1_600_000_000));
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o4711, 1_600_000_000, 2));
    }
}
