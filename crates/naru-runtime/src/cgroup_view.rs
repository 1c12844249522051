//! What a container sees at `/sys/fs/cgroup`: its own groups.
//!
//! On v1 a small tmpfs with one folder per tree, each a bind of the container's own group; on v2 an instance of cgroup2, which shows
//! what the container's cgroup namespace lets it.

use crate::StartError;
use crate::cgroup::Cgroup;
use crate::mounts::{NewFilesystem, attach, c_path};
use crate::plan::IdMap;
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::mount_attr::{MountAttr, MountChange, MountPropagation, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The view, ready to be attached.
#[derive(Debug)]
pub(crate) enum CgroupView {
    V1 {
        tmpfs: OwnedFd,
        trees: Vec<(CString, OwnedFd)>,
        /// Name and target: `cpu` to `cpu,cpuacct`.
        links: Vec<(CString, CString)>,
        readonly: bool,
    },
    V2(NewFilesystem),
    /// All groups of the host. Only who owns the host's cgroup namespace may have a new instance of that.
    Host(OwnedFd),
}

/// The view of `cgroup`; `of_host` if the container is in the host's cgroup namespace.
pub(crate) fn prepare(
    cgroup: &Cgroup,
    (map, label): (Option<&IdMap>, Option<&str>),
    of_host: bool,
    attributes: MountAttr,
) -> Result<CgroupView, StartError> {
    if cgroup.dirs().all(|(hierarchy, _)| hierarchy.unified) {
        return match cgroup.dirs().next() {
            Some((hierarchy, _)) if of_host && map.is_some() => {
                Ok(CgroupView::Host(bound(&hierarchy.mount, attributes)?))
            }
            _ => Ok(CgroupView::V2(NewFilesystem::new("cgroup2", "cgroup", &[], attributes)?)),
        };
    }
    let options = ["mode=755".to_owned()];
    let plain = attributes.without(MountAttr::RDONLY);
    let mut tmpfs = NewFilesystem::new("tmpfs", "tmpfs", &options, plain)?;
    tmpfs.own_by_root_of(map);
    tmpfs.set_label(label)?;
    let tmpfs = tmpfs.make(0).map_err(|f| StartError::system(format!("cgroup view: {}", errno_text(f.errno))))?;
    let mut trees = Vec::new();
    let mut links = Vec::new();
    for (hierarchy, own) in cgroup.dirs().filter(|(hierarchy, _)| !hierarchy.unified) {
        let Some(name) = hierarchy.mount.file_name() else { continue };
        let tree = bound(own, attributes)?;
        let name = c_path(name.as_bytes())?;
        for part in name.to_bytes().split(|b| *b == b',').filter(|part| *part != name.to_bytes()) {
            links.push((c_path(part)?, name.clone()));
        }
        trees.push((name, tree));
    }
    Ok(CgroupView::V1 { tmpfs, trees, links, readonly: plain != attributes })
}

/// The folder of groups at `path` as a detached mount.
fn bound(path: &Path, attributes: MountAttr) -> Result<OwnedFd, StartError> {
    let fail = |e: Errno| StartError::system(format!("cgroup view: {}: {}", path.display(), errno_text(e)));
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags).map_err(fail)?;
    let propagation = Some(MountPropagation::Private);
    let change = MountChange { set: attributes, propagation, ..MountChange::default() };
    mount_setattr(tree.as_fd(), c"", &change).map_err(fail)?;
    Ok(tree)
}

impl CgroupView {
    /// Puts it on `place`. After clone.
    pub(crate) fn attach(&self, place: BorrowedFd<'_>, index: usize) -> Result<(), Failure> {
        match self {
            Self::Host(tree) => attach(tree.as_fd(), place).at(Op::Attach, index),
            Self::V2(fs) => attach(fs.make(index)?.as_fd(), place).at(Op::Attach, index),
            Self::V1 { tmpfs, trees, links, readonly } => {
                attach(tmpfs.as_fd(), place).at(Op::Attach, index)?;
                for (name, tree) in trees {
                    rustix::fs::mkdirat(tmpfs, name, Mode::from_raw_mode(0o755)).at(Op::Target, index)?;
                    move_mount(tree, c"", tmpfs, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                        .at(Op::Attach, index)?;
                }
                for (name, target) in links {
                    rustix::fs::symlinkat(target, tmpfs, name).at(Op::Target, index)?;
                }
                if *readonly {
                    let change = MountChange { set: MountAttr::RDONLY, ..MountChange::default() };
                    mount_setattr(tmpfs.as_fd(), c"", &change).at(Op::Attributes, index)?;
                }
                Ok(())
            }
        }
    }
}
