//! mount_setattr(2).

use crate::call::check;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Result;
use std::ffi::CStr;

/// `MOUNT_ATTR_*` (linux/mount.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttr(u64);

impl MountAttr {
    /// Read-only.
    pub const RDONLY: Self = Self(0x1);
    /// No set-user-id.
    pub const NOSUID: Self = Self(0x2);
    /// No device nodes.
    pub const NODEV: Self = Self(0x4);
    /// No execution.
    pub const NOEXEC: Self = Self(0x8);
    /// The field of access time settings, to be cleared when one of them is set.
    pub const ATIME_FIELD: Self = Self(0x70);
    /// Always update access times.
    pub const STRICTATIME: Self = Self(0x20);
    /// Never update access times.
    pub const NOATIME: Self = Self(0x10);
    /// Never update access times of folders.
    pub const NODIRATIME: Self = Self(0x80);
    /// Follow no symlinks.
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);
    const IDMAP: u64 = 0x0010_0000;

    /// No attribute.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Whether none is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of `self` that aren't in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Attributes by their bits; one that stands for an id map is no attribute here and left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & !Self::IDMAP)
    }

    /// The bits, as fsmount(2) takes them.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl std::ops::BitOr for MountAttr {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for MountAttr {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Propagation types (`MS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPropagation {
    /// Neither sends nor receives.
    Private,
    /// Both.
    Shared,
    /// Receives.
    Slave,
    /// Private, and can't be bound elsewhere.
    Unbindable,
}

impl MountPropagation {
    const fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// What is to change on a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountChange<'a> {
    /// Attributes to set.
    pub set: MountAttr,
    /// Attributes to clear first.
    pub clear: MountAttr,
    /// The new propagation.
    pub propagation: Option<MountPropagation>,
    /// A user namespace whose id map the (detached) mount gets.
    pub id_map: Option<BorrowedFd<'a>>,
    /// The same for all mounts below.
    pub recursive: bool,
}

/// `struct mount_attr`, version 0.
#[repr(C)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `path`, relative to `dir`, stands for; an empty path means `dir` itself. After clone.
///
/// # Errors
/// As mount_setattr(2): `ENOSYS` before Linux 5.12, `EINVAL` for what isn't the root of a mount, `EPERM`.
pub fn mount_setattr(dir: BorrowedFd<'_>, path: &CStr, change: &MountChange<'_>) -> Result<()> {
    let id_map = if change.id_map.is_some() { MountAttr::IDMAP } else { 0 };
    let attr = RawMountAttr {
        attr_set: change.set.0 | id_map,
        attr_clr: change.clear.0,
        propagation: change.propagation.map_or(0, MountPropagation::bits),
        userns_fd: change.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let recursive = if change.recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | recursive;
    // SAFETY: rustix has no mount_setattr. `attr` is a valid `struct mount_attr` of the size that is passed, `path` is null-terminated,
    // and all of them outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<RawMountAttr>(),
        )
    })
    .map(drop)
}
