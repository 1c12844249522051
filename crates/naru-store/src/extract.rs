//! Unpacking: an archive's entries become files below one directory descriptor.
//!
//! No name in an archive is ever joined to a path as text. A parent folder is reached component by component from the
//! root's descriptor with `O_NOFOLLOW`, so that neither `..` nor a link in the archive (or one that a process swaps in)
//! leads outside; link targets are resolved the same way.

use crate::policy::{Choice, ImagePolicy};
use crate::tar::{Entry, Error, Kind, Result, Sink, Time};
use naru_fs::{Root, open_beneath, remove_tree, xattr};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Deepest folder: one descriptor is kept open for each level.
const DEPTH_LIMIT: usize = 256;
/// As many bytes of folder names are remembered for one layer.
const NAMES_LIMIT: usize = 256 << 20;
/// The longest value of an extended attribute (XATTR_SIZE_MAX).
const XATTR_LIMIT: usize = 64 << 10;
/// As many zeros in a row as are left out of a file.
const HOLE: usize = 64 << 10;
/// NAME_MAX.
const NAME_LIMIT: usize = 255;
/// What a name begins with that deletes another (image specification, layer.md "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// What aufs kept for itself.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// The name that hides all of a folder's lower entries.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// overlayfs's mark of an opaque folder, and its value (overlayfs.rst).
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;
/// Where a file's capabilities are (capabilities(7)).
const CAPABILITY_XATTR: &[u8] = b"security.capability";
const NEW_DIR: Mode = Mode::from_raw_mode(0o755);

/// Owner, permissions and time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
}

/// What is left to do when a layer's own entries are in place: what only its lower layers can answer.
#[derive(Debug, Default)]
pub(crate) struct Loose {
    /// Folders that the archive has entries in but no entry for, parents first.
    pub(crate) implicit: Vec<Vec<u8>>,
    /// Hard links whose target the archive does not have: name and target.
    pub(crate) links: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Unpacks one image layer into an empty folder.
pub(crate) struct Extractor {
    root: OwnedFd,
    /// The folder that was used last, level by level.
    stack: Vec<(Vec<u8>, OwnedFd)>,
    /// Every folder that was made; `None` for those that have no entry of their own.
    dirs: BTreeMap<Vec<u8>, Option<Attributes>>,
    loose_links: BTreeMap<Vec<u8>, Vec<u8>>,
    file: Option<OpenFile>,
    size: u64,
    /// Bytes of names in `dirs` and `loose_links`.
    names: usize,
    root_seen: Option<Attributes>,
    policy: ImagePolicy,
    /// Devices that the policy leaves out, and hard links to them.
    stripped: BTreeSet<Vec<u8>>,
}

/// The regular file that content is being written to.
struct OpenFile {
    fd: OwnedFd,
    path: Vec<u8>,
    attributes: Attributes,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    size: u64,
    end: u64,
}

impl Extractor {
    /// Unpacks into the empty folder `root`.
    pub(crate) fn new(root: OwnedFd, policy: ImagePolicy) -> Self {
        Self {
            root,
            stack: Vec::new(),
            dirs: BTreeMap::new(),
            loose_links: BTreeMap::new(),
            file: None,
            size: 0,
            names: 0,
            root_seen: None,
            policy,
            stripped: BTreeSet::new(),
        }
    }

    /// Gives folders their final attributes; the total size of the files and what is left to do.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn finish(mut self) -> Result<(u64, Loose)> {
        let dirs = std::mem::take(&mut self.dirs);
        let mut loose = Loose { links: std::mem::take(&mut self.loose_links), ..Loose::default() };
        for (path, attributes) in dirs {
            match attributes {
                None => loose.implicit.push(path),
                Some(attributes) => {
                    let components = split(&path)?;
                    let fd = self.walk(&components)?;
                    apply_to_dir(fd, &attributes).map_err(|e| io_error("set attributes of", &path, e))?;
                }
            }
        }
        if let Some(attributes) = self.root_seen {
            apply_to_dir(self.root.as_fd(), &attributes).map_err(|e| io_error("set attributes of", b"/", e))?;
        }
        Ok((self.size, loose))
    }

    /// The folder with these components, made where it is missing.
    fn walk(&mut self, components: &[&[u8]]) -> Result<BorrowedFd<'_>> {
        if components.len() > DEPTH_LIMIT {
            return Err(Error::Limit(format!("a folder is more than {DEPTH_LIMIT} levels deep")));
        }
        let same = self.stack.iter().zip(components).take_while(|((have, _), want)| have == *want).count();
        self.stack.truncate(same);
        for at in same..components.len() {
            let name = components[at];
            let above = self.stack.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fail = |e| io_error("open", &components[..=at].join(&b'/'), e);
            let fd = match rustix::fs::openat(above, name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(above, name, NEW_DIR).map_err(fail)?;
                    let fd = rustix::fs::openat(above, name, flags, Mode::empty()).map_err(fail)?;
                    self.names += components[..=at].iter().map(|c| c.len() + 1).sum::<usize>();
                    self.dirs.insert(components[..=at].join(&b'/'), None);
                    fd
                }
                // The deletion of a lower folder, then entries in a new one.
                Err(Errno::NOTDIR) if is_whiteout(above, name) => {
                    let fd = replace_whiteout_by_dir(above, name).map_err(fail)?;
                    self.dirs.insert(components[..=at].join(&b'/'), None);
                    fd
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::refused(
                        &components.join(&b'/'),
                        "a part of its path is not a directory (links are not followed)",
                    ));
                }
                Err(e) => return Err(fail(e)),
            };
            self.stack.push((name.to_vec(), fd));
        }
        Ok(self.stack.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Removes what an earlier entry left at `path`, so that this one can take its place.
    fn clear(&mut self, components: &[&[u8]], name: &[u8]) -> Result<()> {
        let path = join(components, name);
        self.loose_links.remove(&path);
        self.stripped.remove(&path);
        let parent = self.walk(components)?;
        remove_tree(parent, OsStr::from_bytes(name))?;
        if self.dirs.remove(&path).is_some() {
            let below: Vec<u8> = [&path[..], b"/"].concat();
            self.dirs.retain(|dir, _| !dir.starts_with(&below));
        }
        Ok(())
    }

    /// Runs `make`, which creates an entry; when there is one already, removes that first.
    fn create<T>(
        &mut self,
        components: &[&[u8]],
        name: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T> {
        if !self.loose_links.is_empty() {
            self.loose_links.remove(&join(components, name));
        }
        let parent = self.walk(components)?;
        naru_sys::fault::point();
        match make(parent) {
            Err(Errno::EXIST) => {
                self.clear(components, name)?;
                make(self.walk(components)?)
            }
            other => other,
        }
        .map_err(|e| io_error("create", &join(components, name), e))
    }

    fn directory(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let path = join(components, name);
        let parent = self.walk(components)?;
        match rustix::fs::mkdirat(parent, name, NEW_DIR) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_whiteout(parent, name) => {
                replace_whiteout_by_dir(parent, name).map_err(|e| io_error("create", &path, e))?;
            }
            Err(Errno::EXIST) if !self.dirs.contains_key(&path) => {
                self.clear(components, name)?;
                let parent = self.walk(components)?;
                rustix::fs::mkdirat(parent, name, NEW_DIR).map_err(|e| io_error("create", &path, e))?;
            }
            // A second entry for the same folder only changes its attributes.
            Err(Errno::EXIST) => {}
            Err(e) => return Err(io_error("create", &path, e)),
        }
        if !entry.xattrs.is_empty() {
            let parent = self.walk(components)?;
            let fd = open_beneath(parent, OsStr::from_bytes(name), OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|e| io_error("open", &path, e))?;
            set_xattrs(&fd, &owned_xattrs(entry), &path)?;
        }
        self.names += path.len();
        self.dirs.insert(path, Some(Attributes::of(entry)));
        Ok(())
    }

    fn regular(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            self.create(components, name, |parent| rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        self.file = Some(OpenFile {
            fd,
            path: join(components, name),
            attributes: Attributes::of(entry),
            xattrs: owned_xattrs(entry),
            size: entry.size,
            end: 0,
        });
        self.size += entry.size;
        Ok(())
    }

    fn symlink(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        if entry.link.is_empty() {
            return Err(Error::refused(entry.path, "a symbolic link without a target"));
        }
        self.create(components, name, |parent| rustix::fs::symlinkat(entry.link, parent, name))?;
        self.finish_special(components, name, entry)
    }

    fn node(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(entry.device.0, entry.device.1),
        };
        let mode = Mode::from_raw_mode(entry.mode);
        self.create(components, name, |parent| rustix::fs::mknodat(parent, name, kind, mode, device))?;
        self.finish_special(components, name, entry)
    }

    /// Leaves an entry out; what an earlier one of its name left goes.
    fn strip(&mut self, components: &[&[u8]], name: &[u8]) -> Result<()> {
        self.clear(components, name)?;
        let path = join(components, name);
        self.names += path.len();
        self.stripped.insert(path);
        Ok(())
    }

    /// The entry as the policy has it: `None` when it is left out.
    fn judge<'e>(&self, entry: &Entry<'e>) -> Result<Option<Entry<'e>>> {
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            return match self.policy.devices {
                Choice::Keep => Ok(Some(entry.clone())),
                Choice::Strip => Ok(None),
                Choice::Refuse => Err(Error::refused(entry.path, "this engine's image policy allows no device nodes")),
            };
        }
        let is_capability = |(name, _): &(&[u8], &[u8])| *name == CAPABILITY_XATTR;
        let has_ids = entry.kind == Kind::File && entry.mode & SET_IDS != 0;
        if !has_ids && !entry.xattrs.iter().any(is_capability) {
            return Ok(Some(entry.clone()));
        }
        match self.policy.setuid {
            Choice::Keep => Ok(Some(entry.clone())),
            Choice::Refuse => {
                Err(Error::refused(entry.path, "this engine's image policy allows no set-id bits or file capabilities"))
            }
            Choice::Strip => {
                let mut entry = entry.clone();
                entry.xattrs.retain(|attribute| !is_capability(attribute));
                if has_ids {
                    entry.mode &= !SET_IDS;
                }
                Ok(Some(entry))
            }
        }
    }

    /// Owner, attributes, mode and time of an entry that can't be opened.
    fn finish_special(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let parent = self.walk(components)?;
        apply_to_special(parent, name, entry).map_err(|e| io_error("set attributes of", &join(components, name), e))?;
        for (attribute, value) in owned_xattrs(entry) {
            tolerate(xattr::set_at(parent, OsStr::from_bytes(name), OsStr::from_bytes(&attribute), &value))
                .map_err(|e| io_error("set an extended attribute of", &join(components, name), e))?;
        }
        Ok(())
    }

    fn hard_link(&mut self, components: &[&[u8]], name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let target = split(entry.link)?;
        let Some((target_name, target_dir)) = target.split_last() else {
            return Err(Error::refused(entry.path, "a hard link to the root"));
        };
        if target.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(Error::refused(entry.path, "a hard link to a whiteout"));
        }
        let path = join(components, name);
        let target_path = target.join(&b'/');
        if target_path == path {
            return Ok(());
        }
        if self.stripped.contains(&target_path) {
            return self.strip(components, name);
        }
        let dir = target_dir.join(&b'/');
        let source = match open_beneath(self.root.as_fd(), OsStr::from_bytes(&dir), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(source) => source,
            Err(Errno::NOENT) => return self.later(components, name, &target),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::refused(entry.path, "a hard link's target leads through a link"));
            }
            Err(e) => return Err(io_error("open", &dir, e)),
        };
        match self.create(components, name, |parent| {
            rustix::fs::linkat(&source, *target_name, parent, name, AtFlags::empty())
        }) {
            Err(Error::Io(e)) if e.is(Errno::NOENT) => self.later(components, name, &target),
            Err(Error::Io(e)) if e.is(Errno::PERM) => Err(Error::refused(entry.path, "a hard link to a directory")),
            other => other,
        }
    }

    /// Notes a hard link whose target must be in a lower layer. Its folder is made now.
    fn later(&mut self, components: &[&[u8]], name: &[u8], target: &[&[u8]]) -> Result<()> {
        self.clear(components, name)?;
        let (name, target) = (join(components, name), target.join(&b'/'));
        self.names += name.len() + target.len();
        self.loose_links.insert(name, target);
        Ok(())
    }

    fn whiteout(&mut self, components: &[&[u8]], name: &[u8], path: &[u8]) -> Result<()> {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Error::refused(path, "a whiteout of no name"));
        }
        let parent = self.walk(components)?;
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // It hides what is below, never what this layer has itself; of a folder that is all lower entries.
            Err(Errno::EXIST) if self.dirs.contains_key(&join(components, name)) => {
                let mut whole = components.to_vec();
                whole.push(name);
                self.opaque(&whole)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(io_error("create the whiteout", &join(components, name), e)),
        }
    }

    fn opaque(&mut self, components: &[&[u8]]) -> Result<()> {
        let fd = self.walk(components)?;
        xattr::set(fd, OPAQUE_XATTR, b"y").map_err(|e| io_error("mark as opaque", &components.join(&b'/'), e))
    }
}

impl Sink for Extractor {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        if self.names > NAMES_LIMIT {
            return Err(Error::Limit(format!("its folders have names of more than {NAMES_LIMIT} bytes")));
        }
        if entry.xattrs.iter().any(|(name, value)| name.len() > NAME_LIMIT || value.len() > XATTR_LIMIT) {
            return Err(Error::refused(entry.path, "an extended attribute is larger than Linux allows"));
        }
        let components = split(entry.path)?;
        let Some((&name, components)) = components.split_last() else {
            // The root itself.
            return match entry.kind {
                Kind::Directory => {
                    set_xattrs(&self.root, &owned_xattrs(entry), b"/")?;
                    self.root_seen = Some(Attributes::of(entry));
                    Ok(())
                }
                _ => Err(Error::refused(entry.path, "the root is not a directory")),
            };
        };
        if components.iter().chain([&name]).any(|part| part.starts_with(WHITEOUT_META)) {
            return if name == OPAQUE && !components.iter().any(|part| part.starts_with(WHITEOUT)) {
                self.opaque(components)
            } else {
                // What aufs kept for itself.
                Ok(())
            };
        }
        if components.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(Error::refused(entry.path, "folder names that begin with .wh. are reserved"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(components, hidden, entry.path);
        }
        let Some(entry) = &self.judge(entry)? else { return self.strip(components, name) };
        match entry.kind {
            Kind::File => self.regular(components, name, entry),
            Kind::Directory => self.directory(components, name, entry),
            Kind::Symlink => self.symlink(components, name, entry),
            Kind::HardLink => self.hard_link(components, name, entry),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(components, name, entry),
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.write(offset, bytes),
            // The content of a whiteout or of an entry that is skipped.
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.file.take().map_or(Ok(()), OpenFile::close)
    }
}

impl OpenFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        // Zeros become holes, so that what compresses to nothing takes nothing.
        if bytes.len() >= HOLE && bytes.iter().all(|&b| b == 0) {
            return Ok(());
        }
        self.end = write_at(&self.fd, &self.path, offset, bytes)?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        let fail = |e| io_error("set attributes of", &self.path, e);
        if self.end != self.size {
            // The file ends in a hole.
            rustix::fs::ftruncate(&self.fd, self.size).map_err(fail)?;
        }
        let a = &self.attributes;
        if (a.uid, a.gid) != (0, 0) {
            rustix::fs::fchown(&self.fd, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid))).map_err(fail)?;
        }
        // After the change of owner, which clears capabilities and set-id bits.
        set_xattrs(&self.fd, &self.xattrs, &self.path)?;
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(a.mode)).map_err(fail)?;
        rustix::fs::futimens(&self.fd, &times(a.mtime)).map_err(fail)
    }
}

/// Writes all of `bytes` at `at` of the file that is `path` in the archive; gives where they end.
pub(crate) fn write_at(fd: &impl AsFd, path: &[u8], mut at: u64, mut bytes: &[u8]) -> Result<u64> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, at) {
            Ok(0) => return Err(io_error("write", path, Errno::IO)),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(io_error("write", path, e)),
        }
    }
    Ok(at)
}

impl Attributes {
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime }
    }
}

/// Both times: the same bytes on disk for the same archive.
pub(crate) fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(crate) fn apply_to_dir(fd: BorrowedFd<'_>, a: &Attributes) -> Result<(), Errno> {
    if (a.uid, a.gid) != (0, 0) {
        rustix::fs::fchown(fd, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)))?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(a.mode))?;
    rustix::fs::futimens(fd, &times(a.mtime))
}

fn apply_to_special(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry<'_>) -> Result<(), Errno> {
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    if (entry.uid, entry.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), no_follow)?;
    }
    if entry.kind != Kind::Symlink {
        // By a handle of the entry itself: chmod follows links.
        let handle = open_beneath(parent, OsStr::from_bytes(name), OFlags::PATH | OFlags::NOFOLLOW)?;
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rustix::fs::chmodat(rustix::fs::CWD, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), no_follow)
}

fn owned_xattrs(entry: &Entry<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    // overlayfs's own marks could point anywhere in the layers below, so no archive may set them.
    let ours = |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    entry.xattrs.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// What the file system doesn't know of them is left out.
pub(crate) fn set_xattrs(fd: &impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Result<()> {
    for (name, value) in xattrs {
        match tolerate(xattr::set(fd, OsStr::from_bytes(name), value)) {
            Ok(()) => {}
            // ext4 says so of what is larger than a block, too.
            Err(Errno::NOSPC) if has_room(fd) => {
                return Err(Error::refused(path, "an extended attribute is larger than this file system takes"));
            }
            Err(e) => return Err(io_error("set an extended attribute of", path, e)),
        }
    }
    Ok(())
}

/// Whether a small thing surely fits on the disk.
fn has_room(fd: &impl AsFd) -> bool {
    const SMALL: u64 = 1 << 20;
    rustix::fs::fstatvfs(fd).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) > SMALL && s.f_favail > 0)
}

/// Attributes that the file system or the kernel's configuration doesn't know are left out, as docker does.
pub(crate) fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}

/// Whether `name` is overlayfs's mark of a deleted entry: a character device 0:0.
pub(crate) fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| is_whiteout_stat(&s))
}

pub(crate) fn is_whiteout_stat(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The folder was deleted from below and made anew: nothing of the lower one shows.
fn replace_whiteout_by_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    rustix::fs::mkdirat(dir, name, NEW_DIR)?;
    let fd = open_beneath(dir, OsStr::from_bytes(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
    xattr::set(&fd, OPAQUE_XATTR, b"y")?;
    Ok(fd)
}

/// The components of an entry's path. A slash at the start is dropped, as docker does: the root is the layer's.
///
/// # Errors
/// For `..`, and a component that no file system can hold.
pub(crate) fn split(path: &[u8]) -> Result<Vec<&[u8]>> {
    let mut components = Vec::with_capacity(8);
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Error::refused(path, "its path contains ..")),
            part if part.len() > NAME_LIMIT => return Err(Error::refused(path, "a name is longer than 255 bytes")),
            part => components.push(part),
        }
    }
    Ok(components)
}

pub(crate) fn join(components: &[&[u8]], name: &[u8]) -> Vec<u8> {
    let mut path = components.join(&b'/');
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

pub(crate) fn io_error(operation: &'static str, path: &[u8], e: Errno) -> Error {
    Error::Io(naru_fs::Error::new(operation, OsStr::from_bytes(path), e))
}

/// Opens `path` as a root for the rest of this crate.
pub(crate) fn sub_root(root: &Root, path: &str) -> naru_fs::Result<Root> {
    root.create_dir_all(path, Mode::RWXU).map(Root::from_fd)
}
