//! unshare(2), for the kinds that leave the descriptor table alone.

use rustix::io::Result;
use rustix::thread::UnshareFlags;

/// A namespace that the calling thread can leave for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewNamespace {
    /// cgroup view, rooted where the thread is now.
    Cgroup,
    /// Mounts.
    Mount,
    /// Network.
    Net,
    /// Host name.
    Uts,
    /// IPC.
    Ipc,
    /// Clocks, from the next execve on.
    Time,
    /// None: the root, the working folder and the umask, which threads share.
    Folders,
}

/// Moves the calling thread into a new namespace. After clone.
///
/// # Errors
/// As unshare(2): `EPERM`, `ENOSPC`.
pub fn unshare(namespace: NewNamespace) -> Result<()> {
    let flags = match namespace {
        NewNamespace::Cgroup => UnshareFlags::NEWCGROUP,
        NewNamespace::Mount => UnshareFlags::NEWNS,
        NewNamespace::Net => UnshareFlags::NEWNET,
        NewNamespace::Uts => UnshareFlags::NEWUTS,
        NewNamespace::Ipc => UnshareFlags::NEWIPC,
        NewNamespace::Time => UnshareFlags::NEWTIME,
        NewNamespace::Folders => UnshareFlags::FS,
    };
    // SAFETY: the call is unsafe for CLONE_FILES alone, after which threads disagree about descriptors; it can't be asked for here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
