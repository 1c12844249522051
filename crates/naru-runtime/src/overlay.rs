//! The root file system as a detached overlay mount (Documentation/filesystems/overlayfs.rst, fsopen(2)).
//!
//! The mount is a descriptor and nothing else: no table shows it until the child attaches it in its own namespace.

use crate::StartError;
use crate::idmap::{self, AsContainerRoot, Mapping};
use crate::plan::{IdMap, Rootfs};
use crate::private_table;
use crate::report::errno_text;
use naru_sys::mount_attr::{MountChange, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// fsconfig(2) takes strings of up to 256 bytes with their end; longer ones go through `/proc/self/fd`.
const STRING_LIMIT: usize = 255;

/// The root of a container as a detached mount.
///
/// # Errors
/// A layer or folder isn't there, or overlay refuses them.
pub fn mount_root(rootfs: &Rootfs) -> Result<OwnedFd, StartError> {
    mount_labelled_root(rootfs, None)
}

/// The same with an SELinux label for everything in it; a folder keeps those that it has.
pub(crate) fn mount_labelled_root(rootfs: &Rootfs, label: Option<&str>) -> Result<OwnedFd, StartError> {
    match rootfs {
        Rootfs::Overlay { lower, upper, work, volatile } => {
            overlay(lower, Some(Writable { upper, work, volatile: *volatile, label }))
        }
        Rootfs::Directory { path } => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(CWD, path, flags)
                .map_err(|e| StartError::system(format!("open root {}: {}", path.display(), errno_text(e))))?;
            crate::mounts::make_private(tree.as_fd())
                .map_err(|e| StartError::system(format!("make root {} private: {}", path.display(), errno_text(e))))?;
            Ok(tree)
        }
    }
}

/// The same with ids mapped for a container in a user namespace, and the clones that it was made of ([`crate::Started::spent`]). Upper and work
/// lie in one folder.
pub(crate) fn mount_mapped_root(
    rootfs: &Rootfs,
    mapping: &Mapping<'_>,
    label: Option<&str>,
) -> Result<(OwnedFd, Vec<OwnedFd>), StartError> {
    let namespace = &mapping.namespace;
    let Rootfs::Overlay { lower, upper, work, volatile } = rootfs else {
        let tree = mount_root(rootfs)?;
        let change = MountChange { id_map: Some(namespace.as_fd()), recursive: true, ..MountChange::default() };
        mount_setattr(tree.as_fd(), c"", &change)
            .map_err(|e| StartError::system(format!("map ids of the root: {}", errno_text(e))))?;
        return Ok((tree, Vec::new()));
    };
    let (Some(folder), Some(upper), Some(work)) =
        (upper.parent().filter(|folder| Some(*folder) == work.parent()), upper.file_name(), work.file_name())
    else {
        return Err(StartError::invalid("upper and work must lie in one folder for a user namespace"));
    };
    // Clones are good for one attempt (`private_table`).
    let attempt = || {
        let layers = Layers::mapped(lower, namespace.as_fd())?;
        let holder = idmap::mapped_clone(folder, namespace.as_fd())?;
        let (upper, work) = (path_of(&holder).join(upper), path_of(&holder).join(work));
        let _root = AsContainerRoot::become_it(mapping.map)?;
        let writable = Writable { upper: &upper, work: &work, volatile: *volatile, label };
        let root = try_overlay(&layers.paths, Some(&writable), &layers.detached(Some(&holder)))?;
        let mut spent = layers.trees;
        spent.push(holder);
        Ok((root, spent))
    };
    again_without_mark(attempt, volatile.then_some(folder.join(work).as_path()))
}

/// Layers with mapped ids: clones that are attached nowhere, and how to name them.
struct Layers {
    trees: Vec<OwnedFd>,
    paths: Vec<PathBuf>,
}

impl Layers {
    fn mapped(lower: &[PathBuf], namespace: BorrowedFd<'_>) -> Result<Self, StartError> {
        let trees: Vec<OwnedFd> =
            lower.iter().map(|layer| idmap::mapped_clone(layer, namespace)).collect::<Result<_, _>>()?;
        let paths = trees.iter().map(path_of).collect();
        Ok(Self { trees, paths })
    }

    /// What this kernel wants attached somewhere for an overlay of these and `more`.
    fn detached<'a>(&'a self, more: Option<&'a OwnedFd>) -> Vec<BorrowedFd<'a>> {
        if !private_table::is_needed() {
            return Vec::new();
        }
        self.trees.iter().chain(more).map(AsFd::as_fd).collect()
    }
}

/// Tries an overlay of mapped layers in `folder`, which is made, on this kernel and file system; it stays for the caller to remove.
///
/// # Errors
/// Where it can't be had.
pub fn try_mapped_root(folder: &Path, map: &IdMap, namespace: BorrowedFd<'_>) -> Result<(), StartError> {
    let fail = |e: std::io::Error| StartError::system(format!("make {}: {e}", folder.display()));
    let [lower, upper, work] = ["lower", "fs/upper", "fs/work"].map(|name| folder.join(name));
    for path in [&lower, &upper, &work] {
        std::fs::create_dir_all(path).map_err(fail)?;
    }
    let namespace = rustix::io::fcntl_dupfd_cloexec(namespace, 3)
        .map_err(|e| StartError::system(format!("duplicate the user namespace: {}", errno_text(e))))?;
    let rootfs = Rootfs::Overlay { lower: vec![lower], upper, work, volatile: true };
    mount_mapped_root(&rootfs, &Mapping { map, namespace }, None).map(drop)
}

fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Image layers, top first, as a detached read-only mount.
///
/// # Errors
/// A layer isn't there, or overlay refuses it.
pub fn mount_image(lower: &[PathBuf]) -> Result<OwnedFd, StartError> {
    // Overlay wants two layers at least when nothing is writable.
    if let [only] = lower {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, only, flags)
            .map_err(|e| StartError::system(format!("open layer {}: {}", only.display(), errno_text(e))))?;
        crate::mounts::make_private(tree.as_fd())
            .map_err(|e| StartError::system(format!("make layer {} private: {}", only.display(), errno_text(e))))?;
        return Ok(tree);
    }
    overlay(lower, None)
}

/// The same with ids mapped for a container in a user namespace.
pub(crate) fn mount_mapped_image(lower: &[PathBuf], mapping: &Mapping<'_>) -> Result<OwnedFd, StartError> {
    let mut layers = Layers::mapped(lower, mapping.namespace.as_fd())?;
    match layers.trees.pop() {
        Some(only) if layers.trees.is_empty() => Ok(only),
        last => {
            layers.trees.extend(last);
            try_overlay(&layers.paths, None, &layers.detached(None))
        }
    }
}

struct Writable<'a> {
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
    /// SELinux's, for all that is in it.
    label: Option<&'a str>,
}

fn overlay(lower: &[PathBuf], writable: Option<Writable<'_>>) -> Result<OwnedFd, StartError> {
    let volatile = writable.as_ref().filter(|w| w.volatile).map(|w| w.work);
    again_without_mark(|| try_overlay(lower, writable.as_ref(), &[]), volatile)
}

/// A volatile overlay leaves a mark that forbids to use its work folder again: meant for what a power cut may have damaged, but left by
/// every use. Whoever asks for a volatile one says that contents don't outlive the host's run anyway.
fn again_without_mark<T>(attempt: impl Fn() -> Result<T, StartError>, work: Option<&Path>) -> Result<T, StartError> {
    match attempt() {
        Err(_) if work.is_some_and(remove_mark) => attempt(),
        done => done,
    }
}

/// Removes the mark of a volatile overlay; tells whether there was one.
fn remove_mark(work: &Path) -> bool {
    let mark = work.join("work/incompat/volatile");
    let dirty = rustix::fs::unlinkat(CWD, mark.join("dirty"), AtFlags::empty());
    dirty.is_ok() && rustix::fs::unlinkat(CWD, mark, AtFlags::REMOVEDIR).is_ok()
}

/// `detached` are those clones among the layers that must be attached somewhere first.
fn try_overlay(
    lower: &[PathBuf],
    writable: Option<&Writable<'_>>,
    detached: &[BorrowedFd<'_>],
) -> Result<OwnedFd, StartError> {
    let fail = |what: &str, e: Errno| StartError::system(format!("overlay: {what}: {}", errno_text(e)));
    let fs = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| fail("open", e))?;
    let set = |key: &str, value: &Path| set_path(fs.as_fd(), key, value);
    fsconfig_set_string(fs.as_fd(), c"source", c"overlay").map_err(|e| fail("source", e))?;
    if !set_layers_one_by_one(fs.as_fd(), lower)? {
        let joined = join_layers(lower);
        fsconfig_set_string(fs.as_fd(), c"lowerdir", joined.as_path()).map_err(|e| fail("lowerdir", e))?;
    }
    if let Some(Writable { upper, work, volatile, label }) = writable {
        if let Some(label) = label {
            fsconfig_set_string(fs.as_fd(), c"context", *label).map_err(|e| fail("SELinux label", e))?;
        }
        set("upperdir", upper)?;
        set("workdir", work)?;
        if *volatile {
            fsconfig_set_flag(fs.as_fd(), c"volatile").map_err(|e| fail("volatile", e))?;
        }
    }
    // Without these the upper folder may hold attributes that commit and diff can't follow. A kernel built without one has it off.
    for (key, value) in [(c"redirect_dir", c"off"), (c"metacopy", c"off"), (c"index", c"off")] {
        match fsconfig_set_string(fs.as_fd(), key, value) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(fail("option", e)),
        }
    }
    let created =
        if detached.is_empty() { fsconfig_create(fs.as_fd()) } else { private_table::create(fs.as_fd(), detached) };
    created.map_err(|e| explain(fs.as_fd(), "create", e))?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(|e| fail("mount", e))
}

/// Appends each layer by `lowerdir+` (Linux 6.5); tells whether the kernel has it.
fn set_layers_one_by_one(fs: BorrowedFd<'_>, lower: &[PathBuf]) -> Result<bool, StartError> {
    for (index, layer) in lower.iter().enumerate() {
        match with_short_path(layer, |path| fsconfig_set_string(fs, c"lowerdir+", path)) {
            Ok(()) => {}
            Err(Errno::INVAL) if index == 0 => return Ok(false),
            Err(e) => return Err(explain(fs, &format!("layer {}", layer.display()), e)),
        }
    }
    Ok(true)
}

/// What older kernels take: paths joined by `:`, with `:` and `\` escaped.
fn join_layers(lower: &[PathBuf]) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut joined = Vec::new();
    for layer in lower {
        if !joined.is_empty() {
            joined.push(b':');
        }
        for byte in layer.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                joined.push(b'\\');
            }
            joined.push(*byte);
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(joined))
}

fn set_path(fs: BorrowedFd<'_>, key: &str, path: &Path) -> Result<(), StartError> {
    with_short_path(path, |short| fsconfig_set_string(fs, key, short))
        .map_err(|e| explain(fs, &format!("{key} {}", path.display()), e))
}

/// Calls `then` with `path`, or with a short name of the same folder if the path is longer than fsconfig(2) takes.
fn with_short_path(path: &Path, then: impl FnOnce(&Path) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    if path.as_os_str().len() <= STRING_LIMIT {
        return then(path);
    }
    let folder = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    then(&path_of(&folder))
}

/// The kernel's own words about a failed configuration, when it has any (`e overlay: …` in the descriptor's log).
fn explain(fs: BorrowedFd<'_>, what: &str, errno: Errno) -> StartError {
    let mut log = [0_u8; 512];
    let text = rustix::io::read(fs, &mut log).ok().and_then(|n| log.get(..n)).map(String::from_utf8_lossy);
    let detail = text.as_deref().map(|t| format!(" ({})", t.trim_end().trim_start_matches("e "))).unwrap_or_default();
    StartError::system(format!("overlay: {what}: {}{detail}", errno_text(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kernels before 6.15 need goes on newer ones, too.
    #[test]
    fn detached_layers_in_a_table_of_their_own() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = std::env::temp_dir().join(format!("naru-overlay-{}", std::process::id()));
        let [one, two] = ["one", "two"].map(|name| folder.join(name));
        for layer in [&one, &two] {
            std::fs::create_dir_all(layer).unwrap();
            std::fs::write(layer.join(layer.file_name().unwrap()), "x").unwrap();
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let trees = [&one, &two].map(|layer| open_tree(CWD, layer, flags).unwrap());
        let paths = trees.each_ref().map(path_of);
        let root = try_overlay(&paths, None, &trees.each_ref().map(AsFd::as_fd)).unwrap();
        for name in ["one", "two"] {
            assert!(rustix::fs::statat(&root, name, AtFlags::empty()).is_ok(), "{name}");
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(folder.to_str().unwrap()), "{table}");
        let error = try_overlay(&paths, None, &trees.each_ref().map(AsFd::as_fd)).unwrap_err();
        assert!(error.message.contains("create: invalid argument"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn joined_layers_are_escaped() {
        assert_eq!(join_layers(&["/a:b".into(), "/c\\d".into()]), Path::new("/a\\:b:/c\\\\d"));
    }
}
