//! A container's file tree, looked at and changed from outside.
//!
//! A [`View`] is a mount namespace of one thread's own: the container's root, with its volumes and binds in their places, and nothing of
//! the host's beside it. Neither `/proc`, `/sys` nor what the container has mounted itself is in it. It ends with the thread. The
//! container's processes may change the tree meanwhile: whoever works in a view resolves paths by its [`Root`] alone.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::Root;
use naru_runtime::plan::{IdMap, IdRange, Rootfs};
use naru_sys::mount_attr::{MountAttr, MountChange, MountPropagation, mount_setattr};
use naru_sys::namespace::{NewNamespace, unshare};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::thread::{
    CapabilitiesSecureBits, LinkNameSpaceType, capabilities_secure_bits, move_into_link_name_space,
    set_capabilities_secure_bits,
};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// overlayfs's and tmpfs's numbers (linux/magic.h).
const OVERLAY: i64 = 0x794c_7630;
const TMPFS: i64 = 0x0102_1994;

/// Where the root comes from.
#[derive(Debug, Clone)]
pub(crate) enum Base {
    /// Layers, top first, read-only; a container's writable layer may be the first.
    Layers(Vec<PathBuf>),
    /// The mount that a running container has, by its first process. When that has gone elsewhere, these layers, if there are any.
    Running(i32, Vec<PathBuf>),
    /// A mount of our own: nothing else may have one of the same folders meanwhile.
    Stopped(Rootfs),
}

/// What is shown at a place in the view.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Absolute, inside.
    pub target: PathBuf,
    /// A path of the host; `None` for the memory file system that a running container has there.
    pub source: Option<PathBuf>,
    /// A path below that, which no link leads out of; empty for all of it.
    pub subpath: PathBuf,
    /// With what is mounted below.
    pub recursive: bool,
    /// Can't be written.
    pub readonly: bool,
}

/// What a view is made of.
#[derive(Debug, Clone)]
pub(crate) struct ViewPlan {
    /// Its root.
    pub base: Base,
    /// The root can't be written.
    pub readonly: bool,
    /// Parents first.
    pub places: Vec<Place>,
    /// The ids of a running container in a user namespace.
    pub ids: Option<IdMap>,
    /// A folder of the engine's that the root is put on, in the view's own namespace.
    pub at: PathBuf,
}

/// A view, on the thread that has it.
#[derive(Debug)]
pub(crate) struct View {
    /// The tree.
    pub root: Root,
    /// The ids of a running container in a user namespace, as they are shown here, with the device numbers of the file systems that show
    /// them so: its root's, if that is its own mount, and those of its memory.
    ids: Option<(Vec<u64>, IdMap)>,
}

impl ViewPlan {
    /// Runs `work` in the view, on a thread of its own.
    ///
    /// # Errors
    /// When the view can't be made; and `work`'s.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let body = move || {
            let done = View::make(&self).and_then(|view| work(&view));
            // Nobody waits any more when the request was given up.
            let _ = sender.send(done);
        };
        std::thread::Builder::new().name("view".into()).spawn(body).system("cannot start a thread")?;
        receiver.await.unwrap_or_else(|_| Err(Error::system("the container's files could not be looked at")))
    }
}

impl View {
    fn make(plan: &ViewPlan) -> Result<Self> {
        let what = "cannot make a view of the container's files";
        unshare(NewNamespace::Mount).system(what)?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).system(what)?;
        let memory: Vec<&Path> =
            plan.places.iter().filter(|p| p.source.is_none()).map(|p| p.target.as_path()).collect();
        let (base, memory) = match &plan.base {
            Base::Running(pid, layers) => match taken_from(*pid, &memory) {
                Err(_) if !layers.is_empty() => (naru_runtime::mount_image(layers)?, Vec::new()),
                taken => taken?,
            },
            Base::Layers(layers) => (naru_runtime::mount_image(layers)?, Vec::new()),
            Base::Stopped(rootfs) => (naru_runtime::mount_root(rootfs)?, Vec::new()),
        };
        let change = MountChange { propagation: Some(MountPropagation::Private), ..MountChange::default() };
        let readonly = if plan.readonly { MountAttr::RDONLY } else { MountAttr::empty() };
        mount_setattr(base.as_fd(), c"", &MountChange { set: readonly, ..change }).system(what)?;
        let mut memory = memory.into_iter();
        let opened = plan.places.iter().filter_map(|place| {
            let tree = match &place.source {
                Some(source) => open_source(source, place),
                None => memory.next().flatten(),
            };
            Some((place, restrict(place, tree?)?))
        });
        // Before the root covers its own writable layer.
        let opened: Vec<(&Place, OwnedFd)> = opened.collect();
        let mut devices = Vec::new();
        let mut note = |tree: &OwnedFd| devices.extend(rustix::fs::fstat(tree).ok().map(|stat| stat.st_dev));
        opened.iter().filter(|(place, _)| place.source.is_none()).for_each(|(_, tree)| note(tree));
        if matches!(plan.base, Base::Running(..)) {
            note(&base);
        }
        let at = rustix::fs::open(&plan.at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        attach(&base, &at.system(what)?).system(what)?;
        let root = Root::from_fd(base);
        for (place, tree) in opened {
            if let Err(error) = show(&root, place, &tree) {
                tracing::debug!("{} is not shown: {error}", place.target.display());
            }
        }
        Ok(Self { root, ids: plan.ids.clone().map(|map| (devices, map)) })
    }

    /// From now on this thread makes files as the container's root: a file system with translated ids has no others.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn act_as_root(&self) -> Result<()> {
        let Some((_, map)) = &self.ids else { return Ok(()) };
        let what = "cannot act as the container's root";
        let bits = capabilities_secure_bits().system(what)?;
        set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP).system(what)?;
        let (uid, gid) = (outside(&map.uids, 0), outside(&map.gids, 0));
        naru_sys::credentials::set_filesystem_ids(uid, gid).system(what)?;
        Ok(())
    }

    /// From the container's ids to those that its file systems show here.
    pub(crate) fn to_shown(&self) -> Option<naru_store::IdsOn> {
        let (devices, map) = self.ids.clone()?;
        let map = Box::new(move |uid, gid| (outside(&map.uids, uid), outside(&map.gids, gid)));
        Some(naru_store::IdsOn { devices, map })
    }

    /// And back.
    pub(crate) fn to_own(&self) -> Option<naru_store::IdsOn> {
        let (devices, map) = self.ids.clone()?;
        let map = Box::new(move |uid, gid| (inside(&map.uids, uid), inside(&map.gids, gid)));
        Some(naru_store::IdsOn { devices, map })
    }
}

/// What the container of process `pid` has mounted itself: its root, and the memory file systems at `targets`. The calling thread enters
/// its mount namespace for that, and comes back.
fn taken_from(pid: i32, targets: &[&Path]) -> Result<(OwnedFd, Vec<Option<OwnedFd>>)> {
    let what = "cannot open the container's root";
    let open = |path: String| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = open("/proc/thread-self/ns/mnt".into()).system(what)?;
    let theirs = open(format!("/proc/{pid}/ns/mnt")).map_err(|e| match e {
        rustix::io::Errno::NOENT => Error::conflict("the container has just ended: try again"),
        e => Error::system(format!("{what}: {e}")),
    })?;
    let enter = |namespace: &OwnedFd| move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount));
    enter(&theirs).system(what)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let taken = open_tree(CWD, "/", flags).map(|root| {
        let inside = Root::open_host("/");
        let memory = |target: &&Path| memory(inside.as_ref().ok()?, target);
        (root, targets.iter().map(memory).collect::<Vec<_>>())
    });
    enter(&own).system(what)?;
    let (root, memory) = taken.system(what)?;
    // Its first process may have made another namespace with another root: /proc, for instance.
    match rustix::fs::fstatfs(&root).system(what)?.f_type {
        OVERLAY => Ok((root, memory)),
        _ => Err(Error::conflict("the container's first process has left the container's root")),
    }
}

/// The layers, top first, as one tree; nothing in it can be changed.
///
/// # Errors
/// When the kernel refuses the overlay.
pub(crate) fn of_layers(layers: &[PathBuf]) -> Result<Root> {
    Ok(Root::from_fd(naru_runtime::mount_image(layers)?))
}

/// A path of the host as a detached tree; `None` when it isn't there (any more).
fn open_source(source: &Path, place: &Place) -> Option<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if place.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if place.subpath.as_os_str().is_empty() {
        return open_tree(CWD, source, flags).ok();
    }
    let inside = Root::open_host(source).ok()?.open_beneath(&place.subpath).ok()?;
    open_tree(&inside, c"", flags | OpenTreeFlags::AT_EMPTY_PATH).ok()
}

/// The tree, out of all propagation, and read-only where the container has it so.
fn restrict(place: &Place, tree: OwnedFd) -> Option<OwnedFd> {
    let set = if place.readonly { MountAttr::RDONLY } else { MountAttr::empty() };
    let propagation = Some(MountPropagation::Private);
    let change = MountChange { propagation, set, recursive: place.recursive, ..MountChange::default() };
    mount_setattr(tree.as_fd(), c"", &change).ok()?;
    Some(tree)
}

/// Puts a tree in its place, which is made where it is missing and can be made. In read-only layers it can't: then it isn't shown.
fn show(root: &Root, place: &Place, tree: &OwnedFd) -> naru_fs::Result<()> {
    let fail = |e| naru_fs::Error::new("mount", &place.target, e);
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree).map_err(fail)?.st_mode);
    let target = match root.open_path(&place.target) {
        Err(e) if e.is_not_found() && kind == FileType::Directory => {
            root.create_dir_all(&place.target, 0o755.into())?
        }
        Err(e) if e.is_not_found() => root.ensure_file(&place.target, 0o644.into())?,
        other => other?,
    };
    attach(tree, &target).map_err(fail)
}

/// The memory file system at `target` in the namespace that the thread is in.
fn memory(inside: &Root, target: &Path) -> Option<OwnedFd> {
    let place = inside.open_path(target).ok()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&place, c"", flags).ok()?;
    (rustix::fs::fstatfs(&tree).ok()?.f_type == TMPFS).then_some(tree)
}

fn attach(tree: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// nobody (the kernel's overflow id), for what has no id in the container.
const OVERFLOW: u32 = 65_534;

fn outside(ranges: &[IdRange], inside: u32) -> u32 {
    let found = |id: u32| {
        ranges.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
            range.outside.checked_add(offset)
        })
    };
    found(inside).or_else(|| found(OVERFLOW)).unwrap_or(OVERFLOW)
}

fn inside(ranges: &[IdRange], outside: u32) -> u32 {
    let found = ranges.iter().find_map(|range| {
        let offset = outside.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
        range.inside.checked_add(offset)
    });
    found.unwrap_or(OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_by_range() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let ranges = [range(0, 100_000, 1000), range(1000, 5, 1), range(65_534, 70_000, 1)];
        assert_eq!([0, 999, 1000, 65_534, 2000].map(|id| outside(&ranges, id)), [100_000, 100_999, 5, 70_000, 70_000]);
        assert_eq!([100_000, 100_999, 5, 7].map(|id| inside(&ranges, id)), [0, 999, 1000, OVERFLOW]);
    }
}
