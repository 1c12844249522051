//! The mounts of a container: as many as can be are made detached by the parent, the others (those that show the child's own
//! namespaces) by the child; each is put in its place by descriptor.

use crate::StartError;
use crate::cgroup_view::CgroupView;
use crate::child::{SYSTEM_MOUNTS, State};
use crate::idmap::{self, Mapping, Outside};
use crate::inside::{self, Kind};
use crate::lent;
use crate::overlay;
use crate::plan::{IdMap, Mount, MountFlags, MountSource, Propagation};
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::mount_attr::{MountAttr, MountChange, MountPropagation, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

/// One mount, ready for the child.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    target: CString,
    kind: Kind,
    source: Source,
    /// A memory file system whose root has no mode of its own: it takes after the folder that it covers, as with runc.
    takes_mode: bool,
}

#[derive(Debug)]
enum Source {
    /// A detached mount.
    Detached(OwnedFd),
    /// To be made by the child, whose namespaces it shows.
    New(NewFilesystem),
    /// The cgroup trees.
    Cgroup(CgroupView),
}

/// A file system instance to be made.
#[derive(Debug)]
pub(crate) struct NewFilesystem {
    kind: CString,
    name: CString,
    options: Vec<(CString, Option<CString>)>,
    attributes: MountAttr,
    propagation: Option<MountPropagation>,
    /// SELinux label of its root, where the file system takes none for all that is in it.
    root_label: Option<CString>,
    /// procfs and sysfs go on ordinary folders only: through a link they would land where masks don't reach.
    ordinary: bool,
}

/// Makes what can be made of `mounts`. The cgroup view is made by `cgroup`, on request.
/// What is made has the SELinux label `label`.
pub(crate) fn prepare(
    mounts: &[Mount],
    (mapping, label): (Option<&Mapping<'_>>, Option<&str>),
    cgroup: impl Fn(MountAttr) -> Result<CgroupView, StartError>,
    warnings: &mut Vec<String>,
) -> Result<Vec<PreparedMount>, StartError> {
    mounts.iter().map(|mount| prepare_one(mount, (mapping, label), &cgroup, warnings)).collect()
}

fn prepare_one(
    mount: &Mount,
    (mapping, label): (Option<&Mapping<'_>>, Option<&str>),
    cgroup: &impl Fn(MountAttr) -> Result<CgroupView, StartError>,
    warnings: &mut Vec<String>,
) -> Result<PreparedMount, StartError> {
    let map = mapping.map(|mapping| mapping.map);
    let target = c_path(mount.target.as_os_str().as_bytes())?;
    let attributes = attributes(mount.flags);
    let takes_mode = match &mount.source {
        MountSource::Filesystem { kind, data, .. } => {
            kind == "tmpfs" && !data.iter().flat_map(|option| option.split(',')).any(|o| o.starts_with("mode="))
        }
        _ => false,
    };
    let (source, kind) = match &mount.source {
        MountSource::Bind { path, subpath, recursive, propagation } => {
            let source = Origin { path, subpath };
            let tree = bind(source, *recursive, *propagation, mount.flags).map_err(|e| mount_error(mount, e))?;
            let kind = kind_of(tree.as_fd()).map_err(|e| mount_error(mount, e))?;
            if let Some(mapping) = mapping.filter(|_| !mount.flags.unmapped)
                && !idmap::map_tree(tree.as_fd(), path, *recursive, mapping)
            {
                warnings.push(format!(
                    "{}: its file system has no id maps, so its files are nobody's in the container's user namespace",
                    path.display()
                ));
            }
            (Source::Detached(tree), kind)
        }
        MountSource::Filesystem { kind, name, data } => {
            let mut fs = NewFilesystem::new(kind, name, data, attributes)?;
            fs.propagation = mount.flags.propagation.map(kernel_propagation);
            fs.own_by_root_of(map);
            fs.set_label(label)?;
            (fs.make_if_independent().map_err(|f| mount_error(mount, f.errno))?, Kind::Directory)
        }
        MountSource::Image { lower } => {
            let tree = match mapping {
                Some(mapping) => overlay::mount_mapped_image(lower, mapping)?,
                None => overlay::mount_image(lower)?,
            };
            let change = MountChange { set: attributes | MountAttr::RDONLY, ..MountChange::default() };
            mount_setattr(tree.as_fd(), c"", &change).map_err(|e| mount_error(mount, e))?;
            (Source::Detached(tree), Kind::Directory)
        }
        MountSource::Cgroup => (Source::Cgroup(cgroup(attributes)?), Kind::Directory),
    };
    Ok(PreparedMount { target, kind, source, takes_mode })
}

/// A bind as a detached tree: cloned, cut off from the host's propagation, attributes set; it appears nowhere meanwhile.
fn bind(
    source: Origin<'_>,
    recursive: bool,
    propagation: Propagation,
    flags: MountFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        how |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = source.open(how)?;
    // A clone is a peer of its original. Only what was asked to be shared may stay one.
    let kind = kernel_propagation(propagation);
    let attributes = attributes(flags);
    let atime = if flags.strictatime { MountAttr::ATIME_FIELD } else { MountAttr::empty() };
    let clear = atime | MountAttr::from_bits(flags.clear);
    let one_call = flags.recursive_readonly || (attributes.is_empty() && clear.is_empty()) || !recursive;
    let first = MountChange { propagation: Some(kind), recursive, ..MountChange::default() };
    if one_call {
        mount_setattr(tree.as_fd(), c"", &MountChange { set: attributes, clear, ..first })?;
    } else {
        mount_setattr(tree.as_fd(), c"", &first)?;
        mount_setattr(tree.as_fd(), c"", &MountChange { set: attributes, clear, ..MountChange::default() })?;
    }
    if flags.set_recursive | flags.clear_recursive != 0 {
        let (set, clear) = (MountAttr::from_bits(flags.set_recursive), MountAttr::from_bits(flags.clear_recursive));
        mount_setattr(tree.as_fd(), c"", &MountChange { set, clear, recursive: true, ..MountChange::default() })?;
    }
    Ok(tree)
}

fn kernel_propagation(propagation: Propagation) -> MountPropagation {
    match propagation {
        Propagation::Private | Propagation::Rprivate => MountPropagation::Private,
        Propagation::Slave | Propagation::Rslave => MountPropagation::Slave,
        Propagation::Shared | Propagation::Rshared => MountPropagation::Shared,
        Propagation::Unbindable | Propagation::Runbindable => MountPropagation::Unbindable,
    }
}

/// What a bind shows.
#[derive(Clone, Copy)]
struct Origin<'p> {
    path: &'p std::path::Path,
    subpath: &'p std::path::Path,
}

impl Origin<'_> {
    /// A detached clone. The subpath is resolved by the kernel below the path: a link in it that another container has put there leads
    /// nowhere else.
    fn open(self, how: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
        if let Some((pid, below)) = lent::of_process(self.path) {
            return lent::clone(pid, &below, how);
        }
        if self.subpath.as_os_str().is_empty() {
            return open_tree(CWD, self.path, how);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(self.path, flags, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let place = rustix::fs::openat2(&top, self.subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        open_tree(&place, c"", how | OpenTreeFlags::AT_EMPTY_PATH)
    }
}

/// Takes a detached tree out of all propagation.
pub(crate) fn make_private(tree: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let change =
        MountChange { propagation: Some(MountPropagation::Private), recursive: true, ..MountChange::default() };
    mount_setattr(tree, c"", &change)
}

fn kind_of(tree: BorrowedFd<'_>) -> rustix::io::Result<Kind> {
    let mode = rustix::fs::fstat(tree)?.st_mode;
    Ok(if FileType::from_raw_mode(mode) == FileType::Directory { Kind::Directory } else { Kind::File })
}

fn attributes(flags: MountFlags) -> MountAttr {
    let mut set = MountAttr::from_bits(flags.set);
    for (wanted, attribute) in [
        (flags.readonly || flags.recursive_readonly, MountAttr::RDONLY),
        (flags.nosuid, MountAttr::NOSUID),
        (flags.nodev, MountAttr::NODEV),
        (flags.noexec, MountAttr::NOEXEC),
        (flags.strictatime, MountAttr::STRICTATIME),
    ] {
        if wanted {
            set |= attribute;
        }
    }
    set
}

impl NewFilesystem {
    pub(crate) fn new(kind: &str, name: &str, data: &[String], attributes: MountAttr) -> Result<Self, StartError> {
        let options = data
            .iter()
            .flat_map(|option| option.split(','))
            .filter(|option| !option.is_empty())
            .map(|option| match option.split_once('=') {
                Some((key, value)) => Ok((c_path(key.as_bytes())?, Some(c_path(value.as_bytes())?))),
                None => Ok((c_path(option.as_bytes())?, None)),
            })
            .collect::<Result<_, StartError>>()?;
        Ok(Self {
            kind: c_path(kind.as_bytes())?,
            name: c_path(name.as_bytes())?,
            options,
            attributes,
            propagation: None,
            root_label: None,
            ordinary: matches!(kind, "proc" | "sysfs"),
        })
    }

    /// What the parent makes belongs to the container's root, also where that is another user of the host.
    pub(crate) fn own_by_root_of(&mut self, map: Option<&IdMap>) {
        if map.is_none() || !matches!(self.kind.to_bytes(), b"tmpfs" | b"devpts") {
            return;
        }
        for (key, own) in [(c"uid", map.user(0)), (c"gid", map.group(0))] {
            let given = self.options.iter_mut().find(|(name, _)| name.as_c_str() == key);
            match given {
                Some((_, Some(value))) => {
                    let inside = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
                    let mapped = inside.map(|id| if key == c"uid" { map.user(id) } else { map.group(id) });
                    if let Some(mapped) = mapped.and_then(|id| CString::new(id.to_string()).ok()) {
                        *value = mapped;
                    }
                }
                _ => self.options.extend(CString::new(own.to_string()).ok().map(|own| (key.into(), Some(own)))),
            }
        }
    }

    /// Labels what will be in it (SELinux), as runc does: not what shows the kernel's own, and of mqueue, whose instance is older than its
    /// mount, only the root.
    pub(crate) fn set_label(&mut self, label: Option<&str>) -> Result<(), StartError> {
        let Some(label) = label else { return Ok(()) };
        let value = c_path(label.as_bytes())?;
        match self.kind.to_bytes() {
            b"proc" | b"sysfs" | b"cgroup" | b"cgroup2" => {}
            b"mqueue" => self.root_label = Some(value),
            _ => self.options.push((c"context".into(), Some(value))),
        }
        Ok(())
    }

    /// Makes it at once if it has nothing to do with the namespaces of who makes it.
    fn make_if_independent(self) -> Result<Source, Failure> {
        match self.kind.to_bytes() {
            b"tmpfs" | b"devpts" | b"ramfs" => Ok(Source::Detached(self.make(0)?)),
            _ => Ok(Source::New(self)),
        }
    }

    /// The instance as a detached mount. After clone.
    pub(crate) fn make(&self, index: usize) -> Result<OwnedFd, Failure> {
        let fs = fsopen(self.kind.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC).at(Op::Open, index)?;
        if !self.name.is_empty() {
            fsconfig_set_string(fs.as_fd(), c"source", self.name.as_c_str()).at(Op::Configure, index)?;
        }
        for (key, value) in &self.options {
            match value {
                Some(value) => fsconfig_set_string(fs.as_fd(), key.as_c_str(), value.as_c_str()),
                None => fsconfig_set_flag(fs.as_fd(), key.as_c_str()),
            }
            .at(Op::Configure, index)?;
        }
        fsconfig_create(fs.as_fd()).at(Op::Create, index)?;
        let attributes = MountAttrFlags::from_bits_retain(self.attributes.bits() as u32);
        let tree = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(Op::Create, index)?;
        if let Some(label) = &self.root_label {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(&tree, c".", flags, Mode::empty()).at(Op::Attributes, index)?;
            match rustix::fs::fsetxattr(&root, c"security.selinux", label.to_bytes(), XattrFlags::empty()) {
                // In a user namespace it belongs to nobody.
                Ok(()) | Err(Errno::PERM) => {}
                Err(errno) => return Err(Failure::new(Op::Attributes, index, errno)),
            }
        }
        if self.propagation.is_some() {
            let change = MountChange { propagation: self.propagation, ..MountChange::default() };
            mount_setattr(tree.as_fd(), c"", &change).at(Op::Attributes, index)?;
        }
        Ok(tree)
    }
}

/// Whether so many of procfs and sysfs can be made by [`make_system`].
pub(crate) fn few_system(mounts: &[PreparedMount]) -> bool {
    mounts.iter().filter(|m| matches!(&m.source, Source::New(fs) if fs.ordinary)).count() <= SYSTEM_MOUNTS
}

/// Makes procfs and sysfs, for [`attach_all`]. After clone.
pub(crate) fn make_system(
    mounts: &[PreparedMount],
    made: &mut [Option<(usize, OwnedFd)>; SYSTEM_MOUNTS],
) -> Result<(), Failure> {
    let mut places = made.iter_mut();
    for (index, mount) in mounts.iter().enumerate() {
        if let Source::New(fs) = &mount.source
            && fs.ordinary
            && let Some(place) = places.next()
        {
            *place = Some((index, fs.make(index)?));
        }
    }
    Ok(())
}

/// Puts every mount in its place. After clone.
pub(crate) fn attach_all(root: BorrowedFd<'_>, mounts: &[PreparedMount], state: &mut State<'_>) -> Result<(), Failure> {
    for (index, mount) in mounts.iter().enumerate() {
        match &mount.source {
            Source::Detached(tree) => {
                let covered = if mount.takes_mode { folder_mode(root, &mount.target) } else { None };
                let place = inside::ensure(root, &mount.target, mount.kind).at(Op::Target, index)?;
                if let Some(mode) = covered {
                    set_mode(tree.as_fd(), mode).at(Op::Attributes, index)?;
                }
                attach(tree.as_fd(), place.as_fd())
                    .map_err(|errno| mismatch(errno, place.as_fd(), mount.kind))
                    .at(Op::Attach, index)?;
            }
            Source::New(fs) => {
                let place = place_of(root, mount, fs).map_err(|(op, errno)| Failure::new(op, index, errno))?;
                let made = state.made.iter_mut().find(|made| made.as_ref().is_some_and(|(at, _)| *at == index));
                let tree = match made.and_then(Option::take) {
                    Some((_, tree)) => tree,
                    None => fs.make(index)?,
                };
                attach(tree.as_fd(), place.as_fd()).at(Op::Attach, index)?;
                if fs.kind.as_c_str() == c"proc" {
                    state.proc = Some(tree);
                }
            }
            Source::Cgroup(view) => {
                let place = inside::ensure(root, &mount.target, mount.kind).at(Op::Target, index)?;
                view.attach(place.as_fd(), index)?;
            }
        }
    }
    Ok(())
}

/// The mode of the folder that is at `target`, if there is one. After clone.
fn folder_mode(root: BorrowedFd<'_>, target: &CStr) -> Option<Mode> {
    let found = inside::open(root, target, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    Some(Mode::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode & 0o7777))
}

/// Gives the root of a detached tree a mode; one that is read-only keeps its own. After clone.
fn set_mode(tree: BorrowedFd<'_>, mode: Mode) -> rustix::io::Result<()> {
    let top = rustix::fs::openat(tree, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::fchmod(&top, mode) {
        Err(Errno::ROFS) => Ok(()),
        other => other,
    }
}

/// The kernel calls a folder on a file, or the other way around, just invalid.
fn mismatch(errno: Errno, place: BorrowedFd<'_>, kind: Kind) -> Errno {
    match kind_of(place) {
        Ok(there) if errno == Errno::INVAL && there != kind => Errno::NOTDIR,
        _ => errno,
    }
}

fn place_of(root: BorrowedFd<'_>, mount: &PreparedMount, fs: &NewFilesystem) -> Result<OwnedFd, (Op, Errno)> {
    if !fs.ordinary {
        return inside::ensure(root, &mount.target, mount.kind).map_err(|e| (Op::Target, e));
    }
    match inside::open_ordinary(root, &mount.target, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::LOOP) => Err((Op::Ordinary, Errno::LOOP)),
        Err(Errno::NOENT) => inside::ensure(root, &mount.target, mount.kind).map_err(|e| (Op::Target, e)),
        other => other.map_err(|e| (Op::Target, e)),
    }
}

/// A procfs of the caller's PID namespace that is attached nowhere. After clone.
pub(crate) fn private_proc() -> Result<OwnedFd, Failure> {
    let fs = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC).at(Op::Open, 0)?;
    fsconfig_create(fs.as_fd()).at(Op::Create, 0)?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).at(Op::Create, 0)
}

/// Moves the detached `tree` onto `place`, both by descriptor. After clone.
pub(crate) fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// A detached copy of the mount or subtree at `place`. After clone.
pub(crate) fn clone_tree(place: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(place, c"", flags)
}

impl PreparedMount {
    /// It, if the parent has made it.
    pub(crate) fn detached(&self) -> Option<&OwnedFd> {
        match &self.source {
            Source::Detached(tree) => Some(tree),
            _ => None,
        }
    }

    /// The detached devpts among `mounts`, where a terminal can be had.
    pub(crate) fn devpts(mounts: &[Mount], prepared: &[Self]) -> Option<OwnedFd> {
        let index = mounts
            .iter()
            .position(|m| matches!(&m.source, MountSource::Filesystem { kind, .. } if kind == "devpts"))?;
        match &prepared.get(index)?.source {
            Source::Detached(tree) => rustix::io::fcntl_dupfd_cloexec(tree, 3).ok(),
            _ => None,
        }
    }

    /// The container's own, detached `/dev` among `mounts`.
    pub(crate) fn dev<'a>(mounts: &[Mount], prepared: &'a [Self]) -> Option<BorrowedFd<'a>> {
        let index = mounts.iter().position(|m| {
            m.target == std::path::Path::new("/dev")
                && matches!(&m.source, MountSource::Filesystem { kind, .. } if kind == "tmpfs")
        })?;
        match &prepared.get(index)?.source {
            Source::Detached(tree) => Some(tree.as_fd()),
            _ => None,
        }
    }
}

/// What failed, in the words that runc uses.
pub(crate) fn describe(mount: &Mount, failure: Failure) -> StartError {
    let target = mount.target.display();
    if failure.op == Op::Ordinary {
        return StartError::invalid(format!("filesystem at \"{target}\" must be mounted on an ordinary directory"));
    }
    mount_error(mount, failure.errno)
}

fn mount_error(mount: &Mount, errno: Errno) -> StartError {
    let source = match &mount.source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Filesystem { kind, .. } => kind.clone(),
        MountSource::Cgroup => "cgroup".to_owned(),
        MountSource::Image { .. } => "image".to_owned(),
    };
    let target = mount.target.display();
    let hint = match errno {
        Errno::NOTDIR => {
            ": are you trying to mount a directory onto a file (or vice-versa)? check if the specified host path exists and is the expected type"
        }
        _ => "",
    };
    StartError::system(format!("error mounting \"{source}\" to rootfs at \"{target}\": {}{hint}", errno_text(errno)))
}

/// Bytes as a C string; a null byte in them is the caller's error.
pub(crate) fn c_path(bytes: &[u8]) -> Result<CString, StartError> {
    CString::new(bytes).map_err(|_| StartError::invalid(format!("{}: null byte", String::from_utf8_lossy(bytes))))
}
