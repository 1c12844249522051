//! Project quotas: how much all files of one project may take on their file system (quotactl_fd(2), ext4(5), xfs_quota(8)).
//!
//! A project is a number that an inode has; a folder can hand its own on to what is made in it. The kernel counts by project, and refuses what
//! is beyond the limit with `EDQUOT`.

use crate::call::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Result;

/// `PRJQUOTA` (linux/quota.h).
const OF_PROJECTS: u32 = 2;
/// `Q_GETQUOTA` and `Q_SETQUOTA` (linux/quota.h), `Q_XGETQSTAT` (linux/dqblk_xfs.h).
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const GET_STATE: u32 = ((b'X' as u32) << 8) + 5;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects hold.
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// `QIF_BLIMITS`: the limits of space are to be set.
const SPACE_LIMITS: u32 = 1;
/// The unit of such limits, in bytes (`QIF_DQBLKSIZE`).
const UNIT: u64 = 1024;
/// `FS_XFLAG_PROJINHERIT`: what is made in a folder has the folder's project.
const INHERIT: u32 = 0x200;

/// `struct if_dqblk` (linux/quota.h).
#[repr(C)]
#[derive(Default)]
struct Block {
    space_hard: u64,
    space_soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    space_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// `struct fs_quota_stat` (linux/dqblk_xfs.h): of it only the flags are read.
#[repr(C, align(8))]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    rest: [u64; 12],
}

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// A folder's project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Project {
    /// Its number; 0 is that of whatever has none.
    pub id: u32,
    /// Whether what is made in the folder has it, too.
    pub inherited: bool,
}

/// The project of an open folder (ioctl_fs(2), `FS_IOC_FSGETXATTR`).
///
/// # Errors
/// As the ioctl: `ENOTTY` or `EOPNOTSUPP` where the file system has none.
pub fn project(folder: impl AsFd) -> Result<Project> {
    let attributes = attributes(&folder)?;
    Ok(Project { id: attributes.project, inherited: attributes.flags & INHERIT != 0 })
}

/// Gives an open folder a project; its other attributes stay.
///
/// # Errors
/// As `FS_IOC_FSSETXATTR`.
pub fn set_project(folder: impl AsFd, project: Project) -> Result<()> {
    let mut attributes = attributes(&folder)?;
    attributes.project = project.id;
    attributes.flags = if project.inherited { attributes.flags | INHERIT } else { attributes.flags & !INHERIT };
    // SAFETY: a valid descriptor and a whole `struct fsxattr`, which the kernel only reads.
    let done = unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    check(libc::c_long::from(done)).map(drop)
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const GET_ATTRIBUTES: libc::Ioctl = ioctl(2, 31);
const SET_ATTRIBUTES: libc::Ioctl = ioctl(1, 32);

const fn ioctl(direction: u32, number: u32) -> libc::Ioctl {
    ((direction << 30) | ((size_of::<Attributes>() as u32) << 16) | ((b'X' as u32) << 8) | number) as libc::Ioctl
}

fn attributes(folder: &impl AsFd) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: a valid descriptor and a whole `struct fsxattr` to write to.
    let done = unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    check(libc::c_long::from(done))?;
    Ok(attributes)
}

/// Whether the file system of `file` refuses what is beyond a project's limit.
pub fn enforces_projects(file: impl AsFd) -> bool {
    let mut state = State::default();
    // SAFETY: `state` is larger than `struct fs_quota_stat`, which the kernel writes.
    unsafe { control(&file, GET_STATE, 0, (&raw mut state).cast()) }.is_ok() && state.flags & PROJECTS_ENFORCED != 0
}

/// Whether nobody has the project: no file, no limit.
///
/// # Errors
/// As quotactl(2).
pub fn is_free(file: impl AsFd, id: u32) -> Result<bool> {
    let mut block = Block::default();
    // SAFETY: a whole `struct if_dqblk` to write to.
    match unsafe { control(&file, GET, id, (&raw mut block).cast()) } {
        Ok(()) => Ok(block.space == 0
            && block.inodes == 0
            && [block.space_hard, block.space_soft, block.inodes_hard, block.inodes_soft] == [0; 4]),
        // So XFS says it.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Sets how many bytes files of a project may take; 0 lifts the limit.
///
/// # Errors
/// As quotactl(2).
pub fn set_limit(file: impl AsFd, id: u32, bytes: u64) -> Result<()> {
    let units = bytes.div_ceil(UNIT);
    let mut block = Block { space_hard: units, space_soft: units, valid: SPACE_LIMITS, ..Block::default() };
    // SAFETY: a whole `struct if_dqblk`, which the kernel reads.
    unsafe { control(&file, SET, id, (&raw mut block).cast()) }
}

/// quotactl_fd(2).
///
/// # Safety
/// `argument` must be what `command` reads or writes.
unsafe fn control(file: &impl AsFd, command: u32, id: u32, argument: *mut libc::c_void) -> Result<()> {
    let command = (command << 8) | OF_PROJECTS;
    // SAFETY: a valid descriptor; the caller answers for `argument`.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), command, id, argument) };
    check(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Block>(), 72);
        assert_eq!(GET_ATTRIBUTES, 0x801c_581f);
        assert_eq!(SET_ATTRIBUTES, 0x401c_5820);
        // fs_quota_stat is 80 bytes long.
        assert!(size_of::<State>() >= 80);
    }

    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!enforces_projects(&proc));
        assert!(project(&proc).is_err() && is_free(&proc, 7).is_err() && set_limit(&proc, 7, 1).is_err());
    }
}
