//! Where ext4 puts what is made in a folder.

use rustix::fd::AsFd;
use rustix::fs::IFlags;

/// Has ext4 spread the folders in this one over the disk (FS_TOPDIR_FL, ioctl_iflags(2)), each with inodes near it that nothing has used lately:
/// beside what was just removed it looks at one free inode after the other where it has no journal. Other file systems have no such flag,
/// and no such need.
pub fn spread_folders(folder: impl AsFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(&folder) {
        let _ = rustix::fs::ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
}
