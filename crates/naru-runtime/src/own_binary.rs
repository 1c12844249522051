//! This program's file, in a form that nothing in a container can write.
//!
//! A process that enters a container can be looked at from there, and `/proc/PID/exe` leads to the file that it runs from: opened for
//! writing at the right moment, it is a way out to the host (CVE-2019-5736). So whatever enters containers runs from a read-only mount
//! that is attached nowhere, or else from a sealed copy in memory.

use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_sys::mount_attr::{MountAttr, MountChange, mount_setattr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::fs::File;

/// A descriptor for execveat(2).
///
/// # Errors
/// Neither a mount nor a copy can be made.
pub fn open() -> Result<OwnedFd> {
    let own = rustix::fs::open(c"/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .system("open /proc/self/exe")?;
    // Without the right to mount, or for a file in no mount of this namespace, there is the copy.
    read_only_mount(&own).or_else(|_| sealed_copy(own))
}

fn read_only_mount(own: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(own, c"", flags)?;
    mount_setattr(tree.as_fd(), c"", &MountChange { set: MountAttr::RDONLY, ..MountChange::default() })?;
    Ok(tree)
}

fn sealed_copy(own: OwnedFd) -> Result<OwnedFd> {
    let memory = memfd_create(c"naru", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC)
        // Before Linux 6.3 there is no EXEC, and every such file can be executed.
        .or_else(|_| memfd_create(c"naru", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING))
        .system("make a file in memory")?;
    let mut memory = File::from(memory);
    std::io::copy(&mut File::from(own), &mut memory).system("copy the program into memory")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals).system("seal the program in memory")?;
    // A descriptor that is open for writing would forbid execution; the seals forbid writing.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::system(format!("open the program in memory: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::os::fd::AsRawFd;

    fn writable(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    fn own() -> OwnedFd {
        File::open("/proc/self/exe").unwrap().into()
    }

    #[test]
    fn the_mount_is_read_only() {
        // Not the running program: that one is busy as long as it runs, whatever the mount.
        let path = std::env::temp_dir().join(format!("naru-own-{}", std::process::id()));
        let file = File::create(&path).unwrap().into();
        let mount = read_only_mount(&file);
        let (through_mount, directly) = (writable(&mount.unwrap()), writable(&file));
        std::fs::remove_file(path).unwrap();
        assert_eq!(through_mount.unwrap_err(), Errno::ROFS);
        directly.unwrap();
    }

    #[test]
    fn the_copy_is_whole_and_sealed() {
        let copy = sealed_copy(own()).unwrap();
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_size, rustix::fs::fstat(own()).unwrap().st_size);
        if let Ok(writable) = writable(&copy) {
            assert_eq!(rustix::io::write(writable, b"x").unwrap_err(), Errno::PERM);
        }
    }
}
