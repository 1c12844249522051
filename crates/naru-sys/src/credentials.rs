//! Ids and capability sets of the calling thread, without libc's broadcast to all threads.

use crate::call::check;
use rustix::io::Result;

/// The three sets of capset(2), a bit per capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The calling thread's sets.
///
/// # Errors
/// None that is known.
pub fn capget() -> Result<CapabilitySets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the structures are those of capget(2), version 3, which writes two elements.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets the calling thread's sets; bits that rustix has no name for are kept. After clone.
///
/// # Errors
/// `EPERM` for what isn't permitted.
pub fn capset(sets: CapabilitySets) -> Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let part = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [part(0), part(32)];
    // SAFETY: the structures are those of capset(2), version 3, which reads two elements.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Sets the ids that the calling thread makes files with, and tells the former ones (setfsuid(2), setfsgid(2)). Capabilities stay only
/// with SECBIT_NO_SETUID_FIXUP.
///
/// # Errors
/// `EPERM` if they did not become what was asked for; the calls themselves never tell.
pub fn set_filesystem_ids(uid: u32, gid: u32) -> Result<(u32, u32)> {
    // SAFETY: no argument is a pointer; libc's functions change the calling thread alone.
    let former = unsafe { (libc::setfsuid(uid), libc::setfsgid(gid)) };
    // SAFETY: as above; an impossible id changes nothing and tells the present one.
    let present = unsafe { (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX)) };
    if (present.0 as u32, present.1 as u32) == (uid, gid) {
        Ok((former.0 as u32, former.1 as u32))
    } else {
        Err(rustix::io::Errno::PERM)
    }
}

/// Whether the kernel knows `capability`, and if so whether it is in the bounding set.
///
/// # Errors
/// `EINVAL` for an unknown one.
pub fn bounding_contains(capability: u32) -> Result<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(capability)).map(|value| value == 1)
}

/// Removes `capability` from the bounding set for good. After clone.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP, `EINVAL` for one that the kernel doesn't know.
pub fn bounding_drop(capability: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability)).map(drop)
}

/// Empties the ambient set. After clone.
///
/// # Errors
/// `EINVAL` before Linux 4.3.
pub fn ambient_clear() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64).map(drop)
}

/// Adds `capability`, which is permitted and inheritable, to the ambient set. After clone.
///
/// # Errors
/// `EPERM` if it isn't.
pub fn ambient_raise(capability: u32) -> Result<()> {
    // SAFETY: no argument of this prctl is a pointer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(capability), 0, 0)
    }))
    .map(drop)
}

fn prctl(option: libc::c_int, value: u64) -> Result<libc::c_long> {
    // SAFETY: only called with options whose arguments aren't pointers.
    check(libc::c_long::from(unsafe { libc::prctl(option, value as libc::c_ulong, 0, 0, 0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_sets_can_be_set_again() {
        let own = capget().unwrap();
        assert_eq!(capset(own), Ok(()));
        assert_eq!(own.effective & !own.permitted, 0);
        assert!(bounding_contains(200).is_err());
    }
}
