//! Device nodes of a container and the links in its `/dev`.

use crate::StartError;
use crate::idmap;
use crate::inside::{self, Kind};
use crate::mounts::{NewFilesystem, attach, c_path};
use crate::plan::{Device, IdMap, Mount, MountSource};
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::mount_attr::MountAttr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Links that programs expect (runc, `setupDevSymlinks`).
const LINKS: [(&CStr, &CStr); 6] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"core", c"/proc/kcore"),
    (c"ptmx", c"pts/ptmx"),
];

/// The nodes, grouped by folder.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    folders: Vec<Folder>,
    /// Whether `/dev` is the container's own, so that links are made in it.
    own_dev: bool,
}

#[derive(Debug)]
struct Folder {
    path: CString,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// Place in the plan, for messages.
    index: usize,
    name: CString,
    /// Whole path, for messages.
    path: CString,
    kind: FileType,
    number: Dev,
    mode: Mode,
    owner: Option<(Uid, Gid)>,
    /// A detached bind of a node made by the parent, for a user namespace, in which none can be made.
    made: Option<OwnedFd>,
}

/// Checks and groups `devices`. With a bind of a folder as `/dev` nothing is made in it: it is the host's.
pub(crate) fn prepare(devices: &[Device], mounts: &[Mount]) -> Result<Devices, StartError> {
    let bound = |m: &Mount| m.target == Path::new("/dev") && matches!(m.source, MountSource::Bind { .. });
    if mounts.iter().any(bound) {
        return Ok(Devices::default());
    }
    let mut folders: Vec<Folder> = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let invalid = || StartError::invalid(format!("invalid device {}", device.path.display()));
        let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else { return Err(invalid()) };
        let kind = match device.kind {
            'c' | 'u' => FileType::CharacterDevice,
            'b' => FileType::BlockDevice,
            'p' => FileType::Fifo,
            _ => return Err(invalid()),
        };
        let node = Node {
            index,
            name: c_path(name.as_bytes())?,
            path: c_path(device.path.as_os_str().as_bytes())?,
            kind,
            number: if device.kind == 'p' { 0 } else { makedev(device.major, device.minor) },
            mode: Mode::from_raw_mode(device.mode & 0o7777),
            owner: (device.uid != 0 || device.gid != 0).then(|| (Uid::from_raw(device.uid), Gid::from_raw(device.gid))),
            made: None,
        };
        let path = c_path(parent.as_os_str().as_bytes())?;
        match folders.iter_mut().find(|folder| folder.path == path) {
            Some(folder) => folder.nodes.push(node),
            None => folders.push(Folder { path, nodes: vec![node] }),
        }
    }
    let own_dev = mounts.iter().any(|m| m.target == Path::new("/dev"));
    Ok(Devices { folders, own_dev })
}

impl Devices {
    /// Whether `/dev` is the container's own.
    pub(crate) fn own_dev(&self) -> bool {
        self.own_dev
    }

    /// Makes the nodes of a container in a user namespace from outside: those of its own, still detached `/dev` in their places, the others
    /// in a file system that nobody sees, to be bound.
    pub(crate) fn make_outside(&mut self, dev: Option<BorrowedFd<'_>>, map: &IdMap) -> Result<(), StartError> {
        let map = Some(map);
        let mut hidden: Option<OwnedFd> = None;
        for folder in &mut self.folders {
            let below =
                folder.path.to_bytes().strip_prefix(b"/dev").filter(|rest| matches!(rest.first(), None | Some(b'/')));
            if let Some((dev, below)) = dev.zip(below) {
                let parent = folders_below(dev, below, map).map_err(|e| folder.error(e))?;
                for node in folder.nodes.drain(..) {
                    node.make_for(parent.as_fd(), &node.name, map).map_err(|e| node.error(e))?;
                }
                continue;
            }
            for node in &mut folder.nodes {
                let place = match &hidden {
                    Some(place) => place,
                    None => {
                        let made =
                            NewFilesystem::new("tmpfs", "devices", &["mode=700".to_owned()], MountAttr::empty())?
                                .make(0)
                                .map_err(|f| StartError::system(format!("devices: tmpfs: {}", errno_text(f.errno))))?;
                        hidden.insert(made)
                    }
                };
                let name = c_path(node.index.to_string().as_bytes())?;
                node.make_for(place.as_fd(), &name, map).map_err(|e| node.error(e))?;
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                node.made = Some(open_tree(place, &name, flags).map_err(|e| node.error(e))?);
            }
        }
        self.folders.retain(|folder| !folder.nodes.is_empty());
        Ok(())
    }
}

/// The folder `path` below `dev`, made with what is above it.
fn folders_below(dev: BorrowedFd<'_>, path: &[u8], map: Option<&IdMap>) -> rustix::io::Result<OwnedFd> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(dev, 3)?;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(Errno::INVAL);
        }
        match rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                rustix::fs::chmodat(&here, part, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                let (uid, gid) = idmap::owner(map, Uid::ROOT, Gid::ROOT);
                rustix::fs::chownat(&here, part, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = rustix::fs::openat(&here, part, flags, Mode::empty())?;
    }
    Ok(here)
}

impl Folder {
    fn error(&self, errno: Errno) -> StartError {
        StartError::system(format!("creating devices in {}: {}", self.path.to_string_lossy(), errno_text(errno)))
    }
}

/// Makes the nodes; the umask is 0. After clone.
pub(crate) fn make_nodes(root: BorrowedFd<'_>, devices: &Devices) -> Result<(), Failure> {
    for folder in &devices.folders {
        let first = folder.nodes.first().map_or(0, |node| node.index);
        let parent = inside::ensure(root, &folder.path, Kind::Directory).at(Op::Target, first)?;
        for node in &folder.nodes {
            node.make(parent.as_fd()).at(Op::Create, node.index)?;
        }
    }
    Ok(())
}

impl Node {
    fn error(&self, errno: Errno) -> StartError {
        StartError::system(format!("creating device {}: {}", self.path.to_string_lossy(), errno_text(errno)))
    }

    /// Made by the parent, whose umask is its own.
    fn make_for(&self, parent: BorrowedFd<'_>, name: &CStr, map: Option<&IdMap>) -> rustix::io::Result<()> {
        rustix::fs::mknodat(parent, name, self.kind, self.mode, self.number)?;
        let (uid, gid) = self.owner.unwrap_or((Uid::ROOT, Gid::ROOT));
        let (uid, gid) = idmap::owner(map, uid, gid);
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())
    }

    fn make(&self, parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if let Some(made) = &self.made {
            let place = inside::ensure(parent, &self.name, Kind::File)?;
            return attach(made.as_fd(), place.as_fd());
        }
        match rustix::fs::mknodat(parent, &self.name, self.kind, self.mode, self.number) {
            Ok(()) => match self.owner {
                Some((uid, gid)) => {
                    rustix::fs::chownat(parent, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                }
                None => Ok(()),
            },
            Err(Errno::EXIST) => self.accept_existing(parent),
            Err(errno) => Err(errno),
        }
    }

    /// An image may have the same node already; another one in its place is an error.
    fn accept_existing(&self, parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let same = FileType::from_raw_mode(stat.st_mode) == self.kind && stat.st_rdev == self.number;
        if same { Ok(()) } else { Err(Errno::EXIST) }
    }
}

/// Makes the links in a `/dev` of the container's own; what is there already stays. After clone.
pub(crate) fn make_links(root: BorrowedFd<'_>, devices: &Devices) -> Result<(), Failure> {
    if !devices.own_dev {
        return Ok(());
    }
    let dev = inside::open(root, c"dev", OFlags::PATH | OFlags::DIRECTORY)?;
    for (index, (name, target)) in LINKS.iter().enumerate() {
        match rustix::fs::symlinkat(*target, &dev, *name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure::new(Op::Create, index, errno)),
        }
    }
    Ok(())
}

/// What failed.
pub(crate) fn describe(device: &Device, failure: Failure) -> StartError {
    StartError::system(format!("creating device {}: {}", device.path.display(), errno_text(failure.errno)))
}
