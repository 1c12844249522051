//! The host's ids that containers in user namespaces get: a range for each, while it runs.
//!
//! What one engine has given out no other may give: each leased range is an entry in a folder that all engines of this host share, a link
//! named after its first id that points to the data root of the engine that has it. A reboot removes them all. What an engine that was
//! killed has left it sweeps itself, once it knows which containers run.

use naru_base::{Error, Result};
use naru_net::NetnsSetup;
use naru_runtime::plan::{IdMap, IdRange};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// Ids of one container.
const COUNT: u32 = 65_536;
/// The range that systemd's "UIDs and GIDs" names as nobody's: above its own containers', below the half that older programs take for negative.
const DEFAULT_IDS: (u32, u32) = (1_879_048_192, 2_147_352_575);
/// The folder of all engines' entries.
const REGISTER: &str = "/run/naru-ids";

/// The map of a container whose root is the host's id `first`.
pub(crate) fn map_of(first: u32) -> IdMap {
    let ranges = vec![IdRange { inside: 0, outside: first, count: COUNT }];
    IdMap { uids: ranges.clone(), gids: ranges }
}

/// A range that is one running container's, or those containers' that share its namespaces. Free again when the last holder drops it.
#[derive(Debug)]
pub(crate) struct IdLease {
    /// The host's id of the container's root.
    pub first: u32,
    register: Option<Arc<Register>>,
}

impl IdLease {
    pub(crate) fn map(&self) -> IdMap {
        map_of(self.first)
    }

    /// The settings of a network namespace that belongs to these ids.
    pub(crate) fn network(&self) -> NetnsSetup {
        NetnsSetup { ping_groups: Some((self.first, self.first + (COUNT - 1))), ..NetnsSetup::container() }
    }

    /// Others may have the range; whoever holds this uses it no more.
    pub(crate) fn give_back(&self) {
        if let Some(register) = &self.register {
            register.remove(self.first);
        }
    }
}

impl Drop for IdLease {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The host's ids that containers may get.
#[derive(Debug)]
pub(crate) struct IdRanges {
    first: u32,
    slots: u32,
    /// First and last of what belongs to somebody else.
    reserved: Vec<(u64, u64)>,
    leased: Mutex<Leased>,
    register: Option<Arc<Register>>,
}

#[derive(Debug, Default)]
struct Leased {
    /// Where the next search begins: a range is used again as late as possible.
    next: u32,
    holders: BTreeMap<u32, Weak<IdLease>>,
}

impl IdRanges {
    /// Those of this host, without what its users have; `seed` is where the search begins.
    pub(crate) fn of_host(ids: Option<(u32, u32)>, data_root: &Path, seed: u32) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let reserved = ["/etc/subuid", "/etc/subgid"].iter().flat_map(|path| given_to_users(&read(path))).collect();
        let register = match Register::open(Path::new(REGISTER), data_root) {
            Ok(register) => Some(Arc::new(register)),
            Err(error) => {
                tracing::warn!(
                    "another engine on this host may give the same ids to its containers: {REGISTER} can't be used: {error}"
                );
                None
            }
        };
        Self { register, ..Self::new(ids.unwrap_or(DEFAULT_IDS), reserved, seed) }
    }

    fn new((first, last): (u32, u32), reserved: Vec<(u64, u64)>, seed: u32) -> Self {
        let slots = last.saturating_sub(first).saturating_add(1) / COUNT;
        let leased = Leased { next: seed % slots.max(1), ..Leased::default() };
        Self { first, slots, reserved, leased: Mutex::new(leased), register: None }
    }

    /// A range that nobody has.
    pub(crate) fn lease(&self) -> Result<Arc<IdLease>> {
        let mut leased = crate::lock(&self.leased);
        // From here to the entry of the new one no other engine looks.
        let holders = &leased.holders;
        let page = self.register.as_ref().and_then(|register| register.turn_to(|first| is_held(holders, first)).ok());
        let others = page.as_ref().map(|page| page.others.clone()).unwrap_or_default();
        for step in 0..self.slots {
            let slot = (leased.next + step) % self.slots;
            let first = self.first + slot * COUNT;
            let (begin, end) = (u64::from(first), u64::from(first) + u64::from(COUNT) - 1);
            let reserved = self.reserved.iter().any(|(from, to)| *from <= end && begin <= *to);
            let held = is_held(&leased.holders, first);
            let elsewhere = others.iter().any(|other| other.abs_diff(first) < COUNT);
            if !reserved && !held && !elsewhere {
                if let Some(page) = &page {
                    page.register.add(first);
                }
                let lease = Arc::new(IdLease { first, register: self.register.clone() });
                leased.holders.insert(first, Arc::downgrade(&lease));
                leased.next = (slot + 1) % self.slots;
                return Ok(lease);
            }
        }
        Err(Error::system(format!(
            "no range of ids is free for a user namespace: {} are in use; give the engine more by --userns-ids",
            leased.holders.len() + others.len()
        )))
    }

    /// The range of a container that runs already.
    pub(crate) fn hold(&self, first: u32) -> Arc<IdLease> {
        let mut leased = crate::lock(&self.leased);
        if let Some(held) = leased.holders.get(&first).and_then(Weak::upgrade) {
            return held;
        }
        if let Some(register) = &self.register
            && let Ok(_lock) = register.lock()
        {
            register.add(first);
        }
        let lease = Arc::new(IdLease { first, register: self.register.clone() });
        leased.holders.insert(first, Arc::downgrade(&lease));
        lease
    }

    /// Removes entries that this engine left when it was killed: all running containers' ranges are held by now.
    pub(crate) fn sweep(&self) {
        let leased = crate::lock(&self.leased);
        let Some(register) = &self.register else { return };
        let Ok(page) = register.turn_to(|first| is_held(&leased.holders, first)) else { return };
        page.left.iter().for_each(|first| register.remove(*first));
    }

    /// From now on entries stay: containers go on when the engine ends.
    pub(crate) fn keep_entries(&self) {
        if let Some(register) = &self.register {
            register.kept.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// The entries of all engines of this host.
#[derive(Debug)]
struct Register {
    folder: OwnedFd,
    /// What an entry of ours points to.
    owner: PathBuf,
    kept: std::sync::atomic::AtomicBool,
}

/// The register as it is, locked as long as this lives.
struct Page<'a> {
    register: &'a Register,
    /// First ids that other engines have given out.
    others: BTreeSet<u32>,
    /// Entries of this engine that nobody holds.
    left: BTreeSet<u32>,
    _lock: OwnedFd,
}

impl Register {
    fn open(folder: &Path, data_root: &Path) -> rustix::io::Result<Self> {
        match rustix::fs::mkdir(folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let owner = std::fs::canonicalize(data_root).unwrap_or_else(|_| data_root.to_owned());
        // Whether entries can be made at all is known here, once.
        let probe = format!("probe-{}", std::process::id());
        rustix::fs::symlinkat(&owner, &folder, &probe)?;
        rustix::fs::unlinkat(&folder, &probe, AtFlags::empty())?;
        Ok(Self { folder, owner, kept: std::sync::atomic::AtomicBool::new(false) })
    }

    /// Waits for other engines to be done; they wait as long as the answer lives.
    fn lock(&self) -> rustix::io::Result<OwnedFd> {
        // Locks belong to open files, so each has one of its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
        Ok(lock)
    }

    fn add(&self, first: u32) {
        // It is there already after a crash.
        naru_sys::fault::point();
        let _ = rustix::fs::symlinkat(&self.owner, &self.folder, first.to_string());
    }

    /// Waits for other engines to be done, and reads it. Entries of data roots that are gone are removed. Those that are `held` by this engine
    /// are not looked at: there may be thousands.
    fn turn_to(&self, held: impl Fn(u32) -> bool) -> rustix::io::Result<Page<'_>> {
        let lock = self.lock()?;
        let mut page = Page { register: self, others: BTreeSet::new(), left: BTreeSet::new(), _lock: lock };
        for entry in rustix::fs::Dir::read_from(&self.folder)? {
            let entry = entry?;
            let Some(first) = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if held(first) {
                continue;
            }
            let Ok(owner) = rustix::fs::readlinkat(&self.folder, entry.file_name(), Vec::new()) else { continue };
            let owner = Path::new(std::ffi::OsStr::from_bytes(owner.as_bytes()));
            if owner == self.owner {
                page.left.insert(first);
            } else if matches!(rustix::fs::stat(owner), Err(Errno::NOENT)) {
                self.unlink(first);
            } else {
                page.others.insert(first);
            }
        }
        Ok(page)
    }

    fn remove(&self, first: u32) {
        if !self.kept.load(std::sync::atomic::Ordering::Relaxed) {
            self.unlink(first);
        }
    }

    fn unlink(&self, first: u32) {
        // An entry that stays keeps a range from being used, and no more.
        naru_sys::fault::point();
        let _ = rustix::fs::unlinkat(self.folder.as_fd(), first.to_string(), AtFlags::empty());
    }
}

/// Whether somebody has that range.
fn is_held(holders: &BTreeMap<u32, Weak<IdLease>>, first: u32) -> bool {
    holders.get(&first).is_some_and(|holder| holder.strong_count() > 0)
}

/// What /etc/subuid and its kin give to users (subuid(5)): first and last of each line.
fn given_to_users(text: &str) -> Vec<(u64, u64)> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':').skip(1).map(|n| n.parse::<u64>().ok());
        let (first, count) = (fields.next()??, fields.next()??);
        (count > 0).then(|| (first, first.saturating_add(count - 1)))
    };
    text.lines().filter_map(line).collect()
}

/// `FIRST-LAST`, with room for one container at least.
///
/// # Errors
/// For anything else, and for ids of the host's own users.
pub fn parse_ids(text: &str) -> Result<(u32, u32)> {
    let bad = || {
        Error::invalid(format!(
            "invalid range of ids \"{text}\": FIRST-LAST, from 65536 to 4294967294, {COUNT} for each container"
        ))
    };
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let (first, last): (u32, u32) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    let fits = first >= COUNT && last < u32::MAX && last.saturating_sub(first) >= COUNT - 1;
    if fits { Ok((first, last)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_leased_and_free_again() {
        let ranges = IdRanges::new((100_000, 100_000 + 3 * COUNT - 1), vec![(165_536, 165_536)], 0);
        let first = ranges.lease().unwrap();
        let second = ranges.lease().unwrap();
        assert_eq!((first.first, second.first), (100_000, 100_000 + 2 * COUNT));
        let error = ranges.lease().unwrap_err();
        assert!(error.message().contains("--userns-ids"), "{error}");
        let held = ranges.hold(first.first);
        drop(first);
        assert!(ranges.lease().is_err());
        drop(held);
        assert_eq!(ranges.lease().unwrap().first, 100_000);
    }

    #[test]
    fn engines_keep_out_of_each_others_ranges() {
        let folder = std::env::temp_dir().join(format!("naru-ids-{}", std::process::id()));
        let roots = ["one", "two"].map(|name| folder.join(name));
        roots.iter().for_each(|root| std::fs::create_dir_all(root).unwrap());
        let register = folder.join("register");
        let engine = |root: &Path, first: u32| IdRanges {
            register: Some(Arc::new(Register::open(&register, root).unwrap())),
            ..IdRanges::new((first, first + 2 * COUNT - 1), Vec::new(), 0)
        };
        let entries = || std::fs::read_dir(&register).unwrap().count();
        let (one, two) = (engine(&roots[0], 100_000), engine(&roots[1], 100_000));
        let kept = one.lease().unwrap();
        let other = two.lease().unwrap();
        assert_eq!((kept.first, other.first, entries()), (100_000, 165_536, 2));
        assert!(one.lease().is_err() && two.lease().is_err());
        // Not even in a part of one.
        assert!(engine(&roots[1], 70_000).lease().is_err());
        drop(other);
        assert_eq!(one.lease().unwrap().first, 165_536);
        assert_eq!(entries(), 1);
        // The first engine ends, and its container goes on.
        one.keep_entries();
        drop(kept);
        assert_eq!((entries(), two.lease().unwrap().first), (1, 165_536));
        // The next one takes it up; what it left otherwise is free.
        let next = engine(&roots[0], 100_000);
        let held = next.hold(100_000);
        std::os::unix::fs::symlink(std::fs::canonicalize(&roots[0]).unwrap(), register.join("165536")).unwrap();
        next.sweep();
        assert_eq!(entries(), 1);
        drop(held);
        assert_eq!(entries(), 0);
        // A data root that is gone has no containers.
        std::os::unix::fs::symlink(folder.join("gone"), register.join("100000")).unwrap();
        assert_eq!(two.lease().unwrap().first, 100_000);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_users_have_is_theirs() {
        let text = "a:100000:65536\n# x\nb:200000:0\nbad\nc:1:x\n d:5:2 \n";
        assert_eq!(given_to_users(text), [(100_000, 165_535), (5, 6)]);
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(parse_ids("100000-165535").unwrap(), (100_000, 165_535));
        for bad in ["", "1", "0-65535", "100000-165534", "65536-4294967295", "a-b", "200000-100000"] {
            assert!(parse_ids(bad).is_err(), "{bad}");
        }
    }
}
