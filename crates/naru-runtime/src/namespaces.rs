//! Which namespaces are new, which are joined, and how.

use crate::StartError;
use crate::idmap;
use crate::mount_spaces::MountSpaces;
use crate::plan::{Descriptors, Namespace, Namespaces};
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::clone::CloneFlags;
use naru_sys::namespace::{NewNamespace, unshare};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CStr;

/// What clone3 makes and what the child joins.
#[derive(Debug)]
pub(crate) struct Spaces {
    pub flags: CloneFlags,
    /// Joined by the child, in this order.
    joins: Vec<(OwnedFd, LinkNameSpaceType)>,
    /// Joined by the parent for its next child.
    pub pid: Option<OwnedFd>,
    /// The user namespace that everything new belongs to. It is entered by a process between, whose sibling the container's first is.
    pub user: Option<OwnedFd>,
    /// Whether the child leaves for a cgroup namespace rooted at its own groups.
    pub cgroup: bool,
    /// A new network namespace has nothing but a loopback interface that is down.
    pub loopback: bool,
    pub mount: MountSpace,
}

/// Where a container's mount namespace comes from.
#[derive(Debug)]
pub(crate) enum MountSpace {
    /// clone3 makes it, as a copy of the caller's.
    New,
    /// The child joins it, and puts the root onto the place.
    Joined { namespace: OwnedFd, place: OwnedFd },
    /// It was made ahead, and there is nothing in it.
    Ahead(MountSpaces),
}

impl Spaces {
    /// Has the child join further namespaces: of cgroups, of time.
    pub(crate) fn join_also(&mut self, cgroup: Option<OwnedFd>, time: Option<OwnedFd>) {
        if let Some(fd) = cgroup {
            self.cgroup = false;
            self.joins.push((fd, LinkNameSpaceType::ControlGroup));
        }
        self.joins.extend(time.map(|fd| (fd, LinkNameSpaceType::Time)));
    }

    /// Has the child join a mount namespace, in which the root is put onto `place`.
    pub(crate) fn join_mounts(&mut self, namespace: OwnedFd, place: &CStr) -> Result<(), StartError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(place, flags, Mode::empty());
        let place = in_mounts(Some(&namespace), open)?.map_err(|e| {
            StartError::system(format!("open {} in the mount namespace: {}", place.to_string_lossy(), errno_text(e)))
        })?;
        self.flags = self.flags.without(CloneFlags::NEWNS);
        self.mount = MountSpace::Joined { namespace, place };
        Ok(())
    }

    /// Has the child use what was made ahead.
    pub(crate) fn use_mounts(&mut self, spaces: MountSpaces) {
        self.flags = self.flags.without(CloneFlags::NEWNS);
        self.mount = MountSpace::Ahead(spaces);
    }

    /// Whether the container's mount namespace was made ahead.
    pub(crate) fn has_mounts(&self) -> bool {
        matches!(self.mount, MountSpace::Ahead(_))
    }
}

/// Sorts `namespaces` and checks that what is to be joined is there.
pub(crate) fn prepare(namespaces: &Namespaces, fds: Descriptors) -> Result<Spaces, StartError> {
    let mut flags = CloneFlags::NEWNS | CloneFlags::CLEAR_SIGHAND;
    let mut joins = Vec::new();
    let missing = |name: &str| StartError::invalid(format!("no descriptor for the {name} namespace"));
    let kinds = [
        (namespaces.net, fds.net, CloneFlags::NEWNET, LinkNameSpaceType::Network, "net"),
        (namespaces.ipc, fds.ipc, CloneFlags::NEWIPC, LinkNameSpaceType::InterProcessCommunication, "ipc"),
        (namespaces.uts, fds.uts, CloneFlags::NEWUTS, LinkNameSpaceType::HostNameAndNISDomainName, "uts"),
    ];
    for (kind, fd, flag, link, name) in kinds {
        match kind {
            Namespace::New => flags |= flag,
            Namespace::Host => {}
            Namespace::Join => joins.push((fd.ok_or_else(|| missing(name))?, link)),
        }
    }
    let pid = match namespaces.pid {
        Namespace::New => {
            flags |= CloneFlags::NEWPID;
            None
        }
        Namespace::Host => None,
        Namespace::Join => Some(fds.pid.ok_or_else(|| missing("pid"))?),
    };
    let user = match (&namespaces.user, fds.user) {
        (Some(_), Some(made)) => Some(made),
        (Some(map), None) => Some(idmap::user_namespace(map)?),
        (None, _) => None,
    };
    Ok(Spaces {
        flags,
        joins,
        pid,
        user,
        cgroup: namespaces.cgroup == Namespace::New,
        loopback: namespaces.net == Namespace::New,
        mount: MountSpace::New,
    })
}

/// What `make` makes in the mount `namespace`, if one is given: by a thread of its own, since a namespace has another root and another
/// working folder.
pub(crate) fn in_mounts<T: Send>(
    namespace: Option<&OwnedFd>,
    make: impl FnOnce() -> T + Send,
) -> Result<T, StartError> {
    let Some(namespace) = namespace else { return Ok(make()) };
    let made = std::thread::scope(|scope| {
        let enter = || {
            unshare(NewNamespace::Folders)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || enter().map(|()| make()));
        thread.map(|thread| thread.join())
    });
    match made {
        Ok(Ok(made)) => made.map_err(|e| StartError::system(format!("join the mount namespace: {}", errno_text(e)))),
        Ok(Err(_)) => Err(StartError::system("join the mount namespace: its thread ended early")),
        Err(e) => Err(StartError::system(format!("join the mount namespace: {e}"))),
    }
}

/// Joins a mount namespace. After clone.
pub(crate) fn join_mounts(namespace: &OwnedFd) -> Result<(), Failure> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).at(Op::Open, 0)
}

/// Joins what is to be joined. After clone.
pub(crate) fn join(spaces: &Spaces) -> Result<(), Failure> {
    for (index, (fd, kind)) in spaces.joins.iter().enumerate() {
        move_into_link_name_space(fd.as_fd(), Some(*kind)).at(Op::Call, index)?;
    }
    Ok(())
}

/// Enters the user namespace, and the PID namespace for the next child. After clone.
pub(crate) fn enter_user(spaces: &Spaces) -> Result<(), Failure> {
    if let Some(user) = &spaces.user {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User)).at(Op::Call, 0)?;
    }
    if let Some(pid) = &spaces.pid {
        move_into_link_name_space(pid.as_fd(), Some(LinkNameSpaceType::ProcessID)).at(Op::Call, 1)?;
    }
    Ok(())
}

/// While it lives, children of this (single-threaded) process are born in another PID namespace.
#[derive(Debug)]
pub(crate) struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    /// Children are born in the namespace behind `fd` from now on.
    pub(crate) fn enter(fd: &OwnedFd) -> Result<Self, StartError> {
        let fail = |e: Errno| StartError::system(format!("join the pid namespace: {}", errno_text(e)));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let own = rustix::fs::open(c"/proc/self/ns/pid", flags, Mode::empty()).map_err(fail)?;
        move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::ProcessID)).map_err(fail)?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // setns(2): one's own namespace can always be re-entered.
        let _ = move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::ProcessID));
    }
}
