//! Device nodes of a container and the links in its `/dev`.

use crate::StartError;
use crate::inside::{self, Kind};
use crate::mounts::{attach, c_path};
use crate::plan::{Device, Mount, MountSource};
use crate::report::{At, Failure, Op, errno_text};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Gid, Mode, Uid, makedev};
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
    /// Whole path, which is also where the host has the same device if it has it.
    path: CString,
    kind: FileType,
    number: Dev,
    mode: Mode,
    owner: Option<(Uid, Gid)>,
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
    fn make(&self, parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        match rustix::fs::mknodat(parent, &self.name, self.kind, self.mode, self.number) {
            Ok(()) => match self.owner {
                Some((uid, gid)) => {
                    rustix::fs::chownat(parent, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                }
                None => Ok(()),
            },
            Err(Errno::EXIST) => self.accept_existing(parent),
            Err(Errno::PERM) => self.bind_from_host(parent),
            Err(errno) => Err(errno),
        }
    }

    /// An image may have the same node already; another one in its place is an error.
    fn accept_existing(&self, parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let same = FileType::from_raw_mode(stat.st_mode) == self.kind && stat.st_rdev == self.number;
        if same { Ok(()) } else { Err(Errno::EXIST) }
    }

    /// In a user namespace nodes can't be made: the host's own is bound, if it is the same device.
    fn bind_from_host(&self, parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let tree: OwnedFd =
            open_tree(CWD, &self.path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let stat = rustix::fs::fstat(&tree)?;
        if FileType::from_raw_mode(stat.st_mode) != self.kind || stat.st_rdev != self.number {
            return Err(Errno::PERM);
        }
        let place = inside::ensure(parent, &self.name, Kind::File)?;
        attach(tree.as_fd(), place.as_fd())
    }
}

/// Makes the links in a `/dev` of the container's own; what is there already stays. After clone.
pub(crate) fn make_links(root: BorrowedFd<'_>, devices: &Devices) -> Result<(), Failure> {
    if !devices.own_dev {
        return Ok(());
    }
    let dev = inside::open(root, c"dev", rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY)?;
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
