//! Ids, capability sets, no_new_privs and the seccomp filter of a process, and the order in which they are given up.

use crate::StartError;
use crate::capabilities;
use crate::identity::Identity;
use crate::plan::{Capabilities, SeccompProgram};
use crate::report::{At, Failure, Op};
use naru_sys::credentials::{self, CapabilitySets};
use naru_sys::seccomp::Instruction;
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

const CAP_SETPCAP: u32 = 8;
const CAP_SYS_ADMIN: u32 = 21;

/// Everything about credentials, computed beforehand.
#[derive(Debug)]
pub(crate) struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// Capabilities that leave the bounding set.
    dropped: Vec<u32>,
    ambient: Vec<u32>,
    /// What is permitted to us: needed again between a change of user and the filter.
    own: u64,
    sets: CapabilitySets,
    no_new_privileges: bool,
    filter: Option<(Vec<Instruction>, u32)>,
}

/// Intersects what is asked for with what we have ourselves; what can't be given is a warning.
pub(crate) fn prepare(
    identity: &Identity,
    wanted: Capabilities,
    no_new_privileges: bool,
    seccomp: Option<&SeccompProgram>,
    new_user_namespace: bool,
    warnings: &mut Vec<String>,
) -> Result<Credentials, StartError> {
    let held = Held::read(new_user_namespace)?;
    let available = held.permitted & held.bounding;
    let missing = wanted.permitted & capabilities::ALL & !available;
    if missing != 0 {
        let names = capabilities::names(missing).join(", ");
        warnings.push(format!("capabilities that this host does not have were not given: {names}"));
    }
    let keep = wanted.bounding & available;
    let permitted = wanted.permitted & available;
    let ambient = wanted.ambient & permitted;
    Ok(Credentials {
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.clone(),
        dropped: bits(held.bounding & !keep),
        ambient: bits(ambient),
        own: held.permitted,
        sets: CapabilitySets {
            effective: wanted.effective & permitted,
            permitted,
            inheritable: ambient | wanted.inheritable & keep,
        },
        no_new_privileges,
        filter: seccomp.map(|program| Ok::<_, StartError>((decode(&program.hex)?, program.flags))).transpose()?,
    })
}

/// What the child will hold when it comes to give it up.
struct Held {
    permitted: u64,
    bounding: u64,
}

impl Held {
    /// Our own sets; or all that the kernel knows, which is what whoever enters another user namespace has there, in the bounding set too.
    fn read(new_user_namespace: bool) -> Result<Self, StartError> {
        let known = (0..64).map_while(|cap| credentials::bounding_contains(cap).ok().map(|held| (cap, held)));
        let (mut all, mut bounding) = (0_u64, 0_u64);
        for (cap, held) in known {
            all |= 1 << cap;
            bounding |= u64::from(held) << cap;
        }
        if new_user_namespace {
            return Ok(Self { permitted: all, bounding: all });
        }
        let own = credentials::capget().map_err(|e| StartError::system(format!("capabilities: {e}")))?;
        Ok(Self { permitted: own.permitted, bounding })
    }
}

fn bits(set: u64) -> Vec<u32> {
    (0..64).filter(|bit| set >> bit & 1 == 1).collect()
}

/// Eight bytes per instruction, in hexadecimal digits.
fn decode(hex: &str) -> Result<Vec<Instruction>, StartError> {
    let invalid = || StartError::invalid("seccomp filter: not a whole number of instructions in hexadecimal digits");
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8).ok_or_else(invalid);
    let (chunks, rest) = hex.as_bytes().as_chunks::<16>();
    if !rest.is_empty() || chunks.is_empty() {
        return Err(invalid());
    }
    let instruction = |digits: &[u8; 16]| {
        let mut bytes = [0_u8; 8];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Ok(Instruction { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) })
    };
    chunks.iter().map(instruction).collect()
}

/// Shrinks the bounding set. Needs CAP_SETPCAP, so it precedes the change of user. After clone.
pub(crate) fn drop_bounding(credentials: &Credentials) -> Result<(), Failure> {
    for (index, capability) in credentials.dropped.iter().enumerate() {
        credentials::bounding_drop(*capability).at(Op::Call, index)?;
    }
    Ok(())
}

/// Becomes the user; capabilities stay permitted, and effective again, for the steps that follow. After clone.
pub(crate) fn change_ids(credentials: &Credentials) -> Result<(), Failure> {
    let (uid, gid) = (credentials.uid, credentials.gid);
    if !uid.is_root() {
        rustix::thread::set_keep_capabilities(true).at(Op::Call, 0)?;
    }
    rustix::thread::set_thread_groups(&credentials.groups).at(Op::Group, 1)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Op::Group, 0)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Op::User, 0)?;
    if !uid.is_root() {
        let own = CapabilitySets { effective: credentials.own, permitted: credentials.own, inheritable: 0 };
        naru_sys::credentials::capset(own).at(Op::Call, 1)?;
    }
    // A change of user puts what fs.suid_dumpable says in its place (proc_sys_fs(5)).
    crate::process::hide()
}

/// From here on execve gives no privileges. Precedes the filter. After clone.
pub(crate) fn set_no_new_privileges(credentials: &Credentials) -> Result<(), Failure> {
    if credentials.no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(())
}

/// Installs the filter: after everything that it may forbid, but before CAP_SYS_ADMIN is given up. What follows is capset, prctl and
/// execve alone. Gives the filter's listener, if it has one. After clone.
pub(crate) fn set_filter(credentials: &Credentials) -> Result<Option<OwnedFd>, Failure> {
    match &credentials.filter {
        Some((program, flags)) => naru_sys::seccomp::set_filter(program, *flags).at(Op::Call, 0),
        None => Ok(None),
    }
}

/// Gives up every capability that the process isn't to have. After clone.
pub(crate) fn set_capabilities(credentials: &Credentials) -> Result<(), Failure> {
    naru_sys::credentials::capset(credentials.sets).at(Op::Call, 0)?;
    for (index, capability) in credentials.ambient.iter().enumerate() {
        naru_sys::credentials::ambient_raise(*capability).at(Op::Call, index + 1)?;
    }
    Ok(())
}

impl Credentials {
    /// The filter can't be had: it needs no_new_privs or CAP_SYS_ADMIN, which the caller lacks.
    pub(crate) fn filter_is_possible(&self) -> Result<(), Errno> {
        let admin = self.own >> CAP_SYS_ADMIN & 1 == 1 && self.own >> CAP_SETPCAP & 1 == 1;
        if self.filter.is_none() || self.no_new_privileges || admin { Ok(()) } else { Err(Errno::PERM) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_decoded() {
        let bytes: Vec<u8> = [0x20_u16.to_ne_bytes().as_slice(), &[1, 2], &0x0403_0201_u32.to_ne_bytes()].concat();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(decode(&hex).unwrap(), [Instruction { code: 0x20, jt: 1, jf: 2, k: 0x0403_0201 }]);
        for bad in ["", "00", "zz00000000000000", "000000000000000000"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
