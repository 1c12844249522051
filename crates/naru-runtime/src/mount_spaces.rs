//! Mount namespaces made ahead, so that a start doesn't wait for the kernel to take the host's tree out of the container's.
//!
//! A new mount namespace is a copy of its maker's. With the host's tree in it, a container's first process has to detach that tree before
//! its program runs, and umount2(2) waits for an RCU grace period then: a tenth of a millisecond on an idle host, ten and more on a busy
//! one. So a container's namespace is made ahead, as a copy of one in which there is nothing but an empty, read-only folder: its
//! root goes on top of that, and nothing has to be detached. What is below the root is as unreachable as the kernel's first
//! file system is below every host's root, and there is nothing in it.
//!
//! In a user namespace procfs and sysfs can be mounted only where the whole of them is seen already (the kernel's `mount_too_revealing`).
//! So the first process begins in a copy of another namespace, which has both: it makes its own there, and takes them along as descriptors
//! into the one that was made ahead. Nobody else is ever in that copy.

use crate::StartError;
use crate::mounts::{NewFilesystem, attach};
use crate::report::errno_text;
use naru_sys::clone::{Child, CloneFlags, clone3};
use naru_sys::mount_attr::{MountAttr, MountChange, mount_setattr};
use naru_sys::process::exit_now;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What was made ahead for one container.
#[derive(Debug)]
pub enum MountSpaces {
    /// For one in a user namespace of its own.
    Own {
        /// The mount namespace that becomes the container's, and belongs to its user namespace: an empty, read-only folder.
        own: OwnedFd,
        /// One of the host's with the whole of procfs and sysfs, a copy of which the first process makes its own in.
        system: OwnedFd,
    },
    /// For one in the host's user namespace, where anybody may mount anything: a namespace with nothing but an empty, read-only folder, a copy
    /// of which becomes the container's ([`MountTemplates::empty`]).
    Template(OwnedFd),
}

impl MountSpaces {
    /// The descriptors, in the order that [`MountSpaces::from_descriptors`] takes them in.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        match self {
            Self::Own { own, system } => vec![own, system],
            Self::Template(empty) => vec![empty],
        }
    }

    /// What so many descriptors stand for; `None` for none, and for more than there are kinds.
    pub fn from_descriptors(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        match (descriptors.next(), descriptors.next(), descriptors.next()) {
            (Some(own), Some(system), None) => Some(Self::Own { own, system }),
            (Some(empty), None, None) => Some(Self::Template(empty)),
            _ => None,
        }
    }
}

/// What mount namespaces are made from: one of each kind, which belongs to the host.
#[derive(Debug)]
pub struct MountTemplates {
    /// The caller's own namespace, and its root.
    home: (OwnedFd, OwnedFd),
    empty: OwnedFd,
    system: OwnedFd,
}

impl MountTemplates {
    /// Makes them; they last as long as this does. The caller is single-threaded.
    ///
    /// # Errors
    /// As clone3(2), fsopen(2) and pivot_root(2).
    pub fn make() -> Result<Self, StartError> {
        let fail = |e: Errno| StartError::system(format!("make mount namespaces: {}", errno_text(e)));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, Mode::empty()).map_err(fail)?;
        let home = rustix::fs::open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let system = [file_system("proc")?, file_system("sysfs")?];
        Ok(Self {
            home: (home.map_err(fail)?, root),
            empty: template(&folder(&[])?, &[])?,
            system: template(&folder(&["proc", "sys"])?, &system)?,
        })
    }

    /// Calls `make` in the empty one; what it clones with a new mount namespace has an empty one of its own.
    ///
    /// # Errors
    /// As setns(2); nothing has been made then.
    pub(crate) fn in_empty<T>(&self, make: impl FnOnce() -> T) -> Result<T, StartError> {
        let fail = |e: Errno| StartError::system(format!("enter a mount namespace: {}", errno_text(e)));
        move_into_link_name_space(self.empty.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(fail)?;
        let made = make();
        // Who can't come back must not do anything else: files are looked up in the wrong place.
        if self.come_home().is_err() {
            exit_now(1);
        }
        Ok(made)
    }

    /// The one with procfs and sysfs.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(crate) fn system(&self) -> Result<OwnedFd, StartError> {
        duplicate(&self.system)
    }

    /// The empty one.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn empty(&self) -> Result<OwnedFd, StartError> {
        duplicate(&self.empty)
    }

    /// setns(2) also leads to the namespace's root, which need not be this process's.
    fn come_home(&self) -> rustix::io::Result<()> {
        let (namespace, root) = &self.home;
        while let Err(errno) = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)) {
            // Memory may be short for a moment.
            if errno != Errno::NOMEM {
                return Err(errno);
            }
            rustix::thread::sched_yield();
        }
        rustix::process::fchdir(root)?;
        rustix::process::chroot(c".")
    }
}

fn duplicate(namespace: &OwnedFd) -> Result<OwnedFd, StartError> {
    rustix::io::fcntl_dupfd_cloexec(namespace, 3)
        .map_err(|e| StartError::system(format!("duplicate a mount namespace: {}", errno_text(e))))
}

/// Tells how `entered` went, and stays until it is killed. After clone.
pub(crate) fn hold(entered: rustix::io::Result<()>, tell: BorrowedFd<'_>) -> std::convert::Infallible {
    if entered.is_err() {
        exit_now(1);
    }
    // Its reader is there, or nobody is.
    let _ = rustix::io::write(tell, b"1");
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// The mount namespace of `holder`, which is ended, once it has told that it is there.
fn namespace_of(holder: &Child, told: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let opened = match rustix::io::retry_on_intr(|| rustix::io::read(told, &mut [0; 1])) {
        Ok(1) => {
            let path = format!("/proc/{}/ns/mnt", holder.pid.as_raw_nonzero());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        }
        Ok(_) => Err(Errno::PERM),
        Err(errno) => Err(errno),
    };
    // It can only be gone already.
    let _ = pidfd_send_signal(&holder.pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED));
    opened
}

/// A detached, read-only folder with nothing in it but these folders.
fn folder(folders: &[&str]) -> Result<OwnedFd, StartError> {
    let fail = |e: Errno| StartError::system(format!("make an empty folder: {}", errno_text(e)));
    let set = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    let options = [format!("nr_inodes={}", 1 + folders.len()), "mode=555".to_owned()];
    let tree = NewFilesystem::new("tmpfs", "empty", &options, set)?.make(0).map_err(|f| fail(f.errno))?;
    for name in folders {
        rustix::fs::mkdirat(&tree, *name, Mode::from_raw_mode(0o555)).map_err(fail)?;
    }
    let change = MountChange { set: MountAttr::RDONLY, ..MountChange::default() };
    mount_setattr(tree.as_fd(), c"", &change).map_err(fail)?;
    Ok(tree)
}

/// The whole of one of the kernel's file systems, detached, with the folder that it belongs in.
fn file_system(kind: &str) -> Result<(OwnedFd, &'static str), StartError> {
    let attributes = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    let tree = NewFilesystem::new(kind, kind, &[], attributes)?
        .make(0)
        .map_err(|f| StartError::system(format!("mount {kind}: {}", errno_text(f.errno))))?;
    Ok((tree, if kind == "proc" { "proc" } else { "sys" }))
}

/// A namespace in which there is `root`, and `below` in its places.
fn template(root: &OwnedFd, below: &[(OwnedFd, &str)]) -> Result<OwnedFd, StartError> {
    let fail = |e: Errno| StartError::system(format!("make a mount namespace: {}", errno_text(e)));
    let places = below.iter().map(|(tree, name)| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((tree, rustix::fs::openat(root, *name, flags, Mode::empty())?))
    });
    let places: Vec<(&OwnedFd, OwnedFd)> = places.collect::<rustix::io::Result<_>>().map_err(fail)?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    let holder =
        clone3(CloneFlags::CLEAR_SIGHAND | CloneFlags::NEWNS, None, || hold(leave_for(root, &places), tell.as_fd()))
            .map_err(fail)?;
    drop(tell);
    namespace_of(&holder, &told).map_err(fail)
}

/// Leaves the host's tree for `root`. After clone.
fn leave_for(root: &OwnedFd, places: &[(&OwnedFd, OwnedFd)]) -> rustix::io::Result<()> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for (tree, place) in places {
        attach(tree.as_fd(), place.as_fd())?;
    }
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)
}
