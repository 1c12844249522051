//! User namespaces of containers: who gets one, and which ids of the host are its.
//!
//! A container's ids exist on the host only while it runs: on disk, files belong to whom they belong inside (`naru_runtime`, `idmap`). So a
//! range is leased for a run, and the leases of running containers are in their records.

use crate::apparmor::AppArmor;
use crate::container::{Container, Record, ResolvedMount};
use crate::types::{HostSettings, MountKind, NamespaceMode, NetworkMode, UserMode};
use crate::{Engine, EngineConfig};
use naru_base::{Digest, Error, Result};
use naru_net::{Netns, NetnsSetup};
use naru_runtime::plan::{IdMap, IdRange};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Ids of one container.
const COUNT: u32 = 65_536;
/// The range that systemd's "UIDs and GIDs" names as nobody's: above its own containers', below the half that older programs take for negative.
const DEFAULT_IDS: (u32, u32) = (1_879_048_192, 2_147_352_575);

/// A range that is one running container's, or those containers' that share its namespaces. Free again when the last holder drops it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IdLease {
    /// The host's id of the container's root.
    pub first: u32,
}

impl IdLease {
    pub(crate) fn map(&self) -> IdMap {
        let ranges = vec![IdRange { inside: 0, outside: self.first, count: COUNT }];
        IdMap { uids: ranges.clone(), gids: ranges }
    }
}

impl IdLease {
    /// The settings of a network namespace that belongs to these ids.
    fn network(&self) -> NetnsSetup {
        NetnsSetup { ping_groups: Some((self.first, self.first + (COUNT - 1))), ..NetnsSetup::container() }
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
}

#[derive(Debug, Default)]
struct Leased {
    /// Where the next search begins: a range is used again as late as possible.
    next: u32,
    holders: BTreeMap<u32, Weak<IdLease>>,
}

impl IdRanges {
    fn new((first, last): (u32, u32), reserved: Vec<(u64, u64)>, seed: u32) -> Self {
        let slots = last.saturating_sub(first).saturating_add(1) / COUNT;
        let leased = Leased { next: seed % slots.max(1), ..Leased::default() };
        Self { first, slots, reserved, leased: Mutex::new(leased) }
    }

    /// A range that nobody has.
    pub(crate) fn lease(&self) -> Result<Arc<IdLease>> {
        let mut leased = crate::lock(&self.leased);
        for step in 0..self.slots {
            let slot = (leased.next + step) % self.slots;
            let first = self.first + slot * COUNT;
            let (begin, end) = (u64::from(first), u64::from(first) + u64::from(COUNT) - 1);
            let others = self.reserved.iter().any(|(from, to)| *from <= end && begin <= *to);
            let held = leased.holders.get(&first).is_some_and(|holder| holder.strong_count() > 0);
            if !others && !held {
                let lease = Arc::new(IdLease { first });
                leased.holders.insert(first, Arc::downgrade(&lease));
                leased.next = (slot + 1) % self.slots;
                return Ok(lease);
            }
        }
        Err(Error::system(format!(
            "no range of ids is free for a user namespace: {} are in use; give the engine more by --userns-ids",
            leased.holders.len()
        )))
    }

    /// The range of a container that runs already.
    pub(crate) fn hold(&self, first: u32) -> Arc<IdLease> {
        let mut leased = crate::lock(&self.leased);
        if let Some(held) = leased.holders.get(&first).and_then(Weak::upgrade) {
            return held;
        }
        let lease = Arc::new(IdLease { first });
        leased.holders.insert(first, Arc::downgrade(&lease));
        lease
    }
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

/// A user namespace, and the ids that are its.
#[derive(Debug)]
pub(crate) struct UserSpace {
    pub lease: Arc<IdLease>,
    pub namespace: OwnedFd,
}

/// Whose user namespace a container is in.
#[derive(Debug, Clone)]
pub(crate) enum Space {
    /// The host's.
    Host,
    /// One of its own.
    Own,
    /// That of a container whose network, PID or IPC namespace it joins.
    Of(Arc<Container>),
}

/// What the engine knows of user namespaces.
#[derive(Debug)]
pub(crate) struct UserSpaces {
    ranges: IdRanges,
    /// One to try file systems with, or why there is none.
    probe: OnceLock<std::result::Result<UserSpace, String>>,
}

impl UserSpaces {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let reserved = ["/etc/subuid", "/etc/subgid"].iter().flat_map(|path| given_to_users(&read(path))).collect();
        // Another engine on this host begins elsewhere.
        let seed = config.instance().name().bytes().fold(5381_u32, |hash, b| hash.wrapping_mul(33) ^ u32::from(b));
        Self { ranges: IdRanges::new(config.userns_ids.unwrap_or(DEFAULT_IDS), reserved, seed), probe: OnceLock::new() }
    }

    pub(crate) fn ranges(&self) -> &IdRanges {
        &self.ranges
    }
}

/// Capabilities that mean something only in the host's user namespace, or mean much less in another.
const HOST_CAPABILITIES: [&str; 22] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What goes with no user namespace, in docker's words.
fn conflict(host: &HostSettings) -> Option<&'static str> {
    if host.privileged {
        return Some(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if host.network == NetworkMode::Host {
        return Some("cannot share the host's network namespace when user namespaces are enabled");
    }
    if host.pid == NamespaceMode::Host {
        return Some("cannot share the host PID namespace when user namespaces are enabled");
    }
    None
}

/// Whoever asks for a part of the host by name gets it: the default doesn't take it back.
fn asks_for_the_host(host: &HostSettings) -> bool {
    let bare = |name: &String| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    // A rule beside those of the nodes that are given is for one that the container is to make.
    host.ipc == NamespaceMode::Host
        || host.device_rules.len() > host.devices.len()
        // Hooks of device specifications are made for a root that is the host's.
        || !host.device_requests.is_empty()
        || host.cap_add.iter().map(bare).any(|name| HOST_CAPABILITIES.contains(&name.as_str()))
}

/// File systems without files of users: that theirs are nobody's in a container matters to no one (statfs(2)).
fn is_pseudo(path: &Path) -> bool {
    const MAGIC: [i64; 9] =
        [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11, 0x6165_676c];
    rustix::fs::statfs(path).is_ok_and(|s| MAGIC.contains(&s.f_type))
}

impl Engine {
    /// A new user namespace with ids of its own, and a network namespace that belongs to it. Waits for the spawner.
    fn new_user_space(&self) -> Result<(UserSpace, OwnedFd)> {
        let lease = self.user_spaces.ranges.lease()?;
        let made = self.spawner.user_space(&lease.map(), None)?;
        Ok((UserSpace { lease, namespace: made.user }, made.net))
    }

    /// One to try things with.
    ///
    /// # Errors
    /// Why this host can't have any: the data root's file system has no id maps, or this is a container whose ids don't suffice.
    fn user_namespaces(&self) -> std::result::Result<&UserSpace, &str> {
        let probe = || {
            let (space, _) = self.new_user_space().map_err(|e| e.to_string())?;
            let folder = self.config.trash_dir().join("userns-probe");
            let tried = naru_runtime::try_mapped_root(&folder, &space.lease.map(), space.namespace.as_fd());
            // Whatever of it is left is swept with the trash.
            let _ = std::fs::remove_dir_all(&folder);
            tried
                .map_err(|e| format!("layers with mapped ids are refused below {}: {}", folder.display(), e.message))?;
            Ok(space)
        };
        self.user_spaces.probe.get_or_init(probe).as_ref().map_err(String::as_str)
    }

    /// Whether containers get user namespaces of their own unless told otherwise.
    pub(crate) fn isolates_users(&self) -> bool {
        self.config.default_userns == UserMode::Auto && self.user_namespaces().is_ok()
    }

    /// Tells once which of the defaults can't be had, and why.
    pub(crate) fn check_isolation(&self) {
        if let AppArmor::WithoutDefault(why) = &self.apparmor {
            tracing::warn!("containers are not confined by AppArmor unless they name a profile: {why}");
        }
        if self.config.default_userns == UserMode::Auto
            && let Err(why) = self.user_namespaces()
        {
            tracing::warn!("containers run in the host's user namespace: {why}");
        }
    }

    /// Decides for a new container; and a sentence for its user where a file system decided otherwise.
    ///
    /// # Errors
    /// `--userns=auto` that can't be had, in docker's words where docker has some.
    pub(crate) fn decide_user(
        &self,
        host: &HostSettings,
        mounts: &[ResolvedMount],
        image: &Digest,
    ) -> Result<(bool, Option<String>)> {
        let asked = host.userns == UserMode::Auto;
        let wanted = asked || (host.userns == UserMode::Default && self.config.default_userns == UserMode::Auto);
        if !wanted || (!asked && asks_for_the_host(host)) {
            return Ok((false, None));
        }
        match conflict(host) {
            Some(text) if asked => return Err(Error::invalid(text)),
            Some(_) => return Ok((false, None)),
            None => {}
        }
        let probe = match self.user_namespaces() {
            Ok(probe) => probe,
            Err(why) if asked => return Err(Error::system(format!("a user namespace can't be had: {why}"))),
            Err(_) => return Ok((false, None)),
        };
        let Some(path) = self.without_id_maps(mounts, image, probe)? else { return Ok((true, None)) };
        let path = path.display();
        if asked {
            return Err(Error::invalid(format!(
                "the file system of {path} can't map ids for a user namespace: use --userns=host"
            )));
        }
        let warning = format!(
            "The file system of {path} can't map ids: this container runs in the host's user namespace, as with --userns=host"
        );
        Ok((false, Some(warning)))
    }

    /// The first source whose file system can't map ids.
    fn without_id_maps(&self, mounts: &[ResolvedMount], image: &Digest, probe: &UserSpace) -> Result<Option<PathBuf>> {
        let mut sources = Vec::new();
        if self.images.is_host(image) {
            sources.extend(self.images.lower_dirs(image)?);
        }
        let bound = |m: &&ResolvedMount| matches!(m.kind, MountKind::Bind { .. } | MountKind::Volume { .. });
        sources.extend(mounts.iter().filter(bound).map(|m| m.source.clone()));
        let cannot = |path: &PathBuf| !naru_runtime::can_map_ids(path, probe.namespace.as_fd()) && !is_pseudo(path);
        Ok(sources.into_iter().find(cannot))
    }

    /// Whose user namespace this start is in.
    ///
    /// # Errors
    /// It joins namespaces of containers in different ones.
    pub(crate) fn space_of(&self, record: &Record) -> Result<Space> {
        if !record.user_namespace {
            return Ok(Space::Host);
        }
        let network = match &record.host.network {
            NetworkMode::Container(other) => Some(other),
            _ => None,
        };
        let joined = [&record.host.ipc, &record.host.pid].into_iter().filter_map(|mode| match mode {
            NamespaceMode::Container(other) => Some(other),
            _ => None,
        });
        let mut found: Option<(Option<u32>, Arc<Container>)> = None;
        for name in network.into_iter().chain(joined) {
            let other = self.containers.find(name)?;
            let first = other.read(|r| r.state.first_id);
            if found.as_ref().is_some_and(|(known, _)| *known != first) {
                return Err(Error::conflict(
                    "cannot join namespaces of containers that are in different user namespaces: run them with --userns=host",
                ));
            }
            found = Some((first, other));
        }
        match found {
            None => Ok(Space::Own),
            Some((Some(_), other)) => Ok(Space::Of(other)),
            Some((None, _)) if record.host.userns == UserMode::Auto => Err(Error::conflict(
                "cannot join the namespaces of a container in the host's user namespace when user namespaces are enabled",
            )),
            Some((None, _)) => Ok(Space::Host),
        }
    }

    /// Whether a namespace out of the pool will do for a container in `space`.
    pub(crate) fn pool_fits(&self, space: &Space) -> bool {
        match space {
            Space::Host => !self.isolates_users(),
            Space::Own => self.isolates_users(),
            Space::Of(_) => false,
        }
    }

    /// A network namespace for a container in `space`, with the user namespace that it belongs to if it was made for it. Waits.
    pub(crate) fn make_netns(&self, space: &Space) -> Result<(Netns, Option<UserSpace>)> {
        match space {
            Space::Host => Ok((Netns::create(&NetnsSetup::container())?, None)),
            Space::Own => {
                let (user, net) = self.new_user_space()?;
                Ok((Netns::set_up(net, &user.lease.network())?, Some(user)))
            }
            Space::Of(other) => {
                let user = self.user_space_of(other)?;
                let made = self.spawner.user_space(&user.lease.map(), Some(user.namespace.as_fd()))?;
                Ok((Netns::set_up(made.net, &user.lease.network())?, None))
            }
        }
    }

    /// The user namespace of a running container.
    pub(crate) fn user_space_of(&self, container: &Container) -> Result<UserSpace> {
        let first = container.read(|r| r.state.first_id);
        let first = first.ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
        let lease = self.user_spaces.ranges.hold(first);
        Ok(UserSpace { lease, namespace: self.namespace_of(container.id.as_str(), "user")? })
    }
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

    #[test]
    fn who_asks_for_the_host_has_it() {
        let host = |change: fn(&mut HostSettings)| {
            let mut host = HostSettings::default();
            change(&mut host);
            host
        };
        assert!(!asks_for_the_host(&host(|h| h.cap_add = vec!["NET_ADMIN".into()])));
        assert!(asks_for_the_host(&host(|h| h.cap_add = vec!["cap_sys_time".into()])));
        assert!(asks_for_the_host(&host(|h| h.ipc = NamespaceMode::Host)));
        assert!(conflict(&host(|_| {})).is_none());
        assert!(conflict(&host(|h| h.network = NetworkMode::Host)).is_some_and(|t| t.contains("network namespace")));
    }
}
