//! User namespaces of containers: who gets one, and which ids of the host are its.
//!
//! A container's ids exist on the host only while it runs: on disk, files belong to whom they belong inside (`naru_runtime`, `idmap`). So a
//! range is leased for a run, and the leases of running containers are in their records.

use crate::apparmor::AppArmor;
use crate::container::{Container, Record, ResolvedMount};
use crate::id_ranges::{IdLease, IdRanges};
use crate::types::{HostSettings, MountKind, NamespaceMode, NetworkMode, UserMode, VolumeView};
use crate::{Engine, EngineConfig};
use naru_base::{Digest, Error, Result};
use naru_net::{Netns, NetnsSetup};
use naru_runtime::MountSpaces;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A user namespace, and the ids that are its.
#[derive(Debug)]
pub(crate) struct UserSpace {
    pub lease: Arc<IdLease>,
    pub namespace: OwnedFd,
    /// Made with it, for the first container in it.
    pub mounts: Option<MountSpaces>,
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
        // Another engine on this host begins elsewhere.
        let seed = config.instance().name().bytes().fold(5381_u32, |hash, b| hash.wrapping_mul(33) ^ u32::from(b));
        Self { ranges: IdRanges::of_host(config.userns_ids, &config.data_root, seed), probe: OnceLock::new() }
    }

    /// Lets go of what only the engine needs; ids of containers that go on stay theirs.
    pub(crate) fn close(&self) {
        if let Some(Ok(probe)) = self.probe.get() {
            probe.lease.give_back();
        }
        self.ranges.keep_entries();
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

/// File systems that can map ids on a mount of theirs (`FS_ALLOW_IDMAP` in Linux 6.8 to 6.18).
const MAPPED: [&str; 12] =
    ["tmpfs", "ramfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "erofs", "squashfs", "vfat", "ntfs3"];

/// What a volume made of a mount will be.
#[derive(Debug, PartialEq, Eq)]
enum Elsewhere {
    /// This folder.
    Folder(PathBuf),
    /// A file system that can map ids.
    Mapped,
    /// One that can't, as NFS.
    Unmapped,
}

fn lies_in(options: &BTreeMap<String, String>) -> Elsewhere {
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    if text("o").split(',').any(|o| matches!(o, "bind" | "rbind")) {
        return Elsewhere::Folder(text("device").into());
    }
    if MAPPED.contains(&text("type")) { Elsewhere::Mapped } else { Elsewhere::Unmapped }
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
        Ok((UserSpace { lease, namespace: made.user, mounts: made.mounts }, made.net))
    }

    /// One to try things with.
    ///
    /// # Errors
    /// Why this host can't have any: the data root's file system has no id maps, or this is a container whose ids don't suffice.
    fn user_namespaces(&self) -> std::result::Result<&UserSpace, &str> {
        let probe = || {
            let (mut space, _) = self.new_user_space().map_err(|e| e.to_string())?;
            space.mounts = None;
            let folder = self.config.trash_dir().join("userns-probe");
            let tried = naru_runtime::try_mapped_root(&folder, &space.lease.map(), space.namespace.as_fd());
            // Whatever of it is left is swept with the trash.
            let _ = std::fs::remove_dir_all(&folder);
            let root = self.config.data_root.display();
            tried.map_err(|e| {
                format!("images in the data root {root} can't be mounted with mapped ids: {}", e.message)
            })?;
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

    /// The first source whose file system can't map ids. Of a volume that isn't mounted yet, its options tell.
    fn without_id_maps(&self, mounts: &[ResolvedMount], image: &Digest, probe: &UserSpace) -> Result<Option<PathBuf>> {
        let mut sources = Vec::new();
        if self.images.is_host(image) {
            sources.extend(self.images.lower_dirs(image)?);
        }
        let bound = |m: &&ResolvedMount| matches!(m.kind, MountKind::Bind { .. } | MountKind::Volume { .. });
        for mount in mounts.iter().filter(bound) {
            let volume =
                Some(mount).filter(|m| m.view.kind == "volume").and_then(|m| self.volumes.get(&m.view.name).ok());
            match volume.filter(VolumeView::is_elsewhere).map(|v| lies_in(&v.options)) {
                Some(Elsewhere::Folder(path)) => sources.push(path),
                Some(Elsewhere::Unmapped) => return Ok(Some(mount.source.clone())),
                Some(Elsewhere::Mapped) => {}
                None => sources.push(mount.source.clone()),
            }
        }
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
        Ok(UserSpace { lease, namespace: self.namespace_of(container.id.as_str(), "user")?, mounts: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn volumes_made_of_mounts_tell_by_their_options() {
        let of =
            |pairs: &[(&str, &str)]| lies_in(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(of(&[("type", "none"), ("o", "ro,bind"), ("device", "/x")]), Elsewhere::Folder("/x".into()));
        assert_eq!(of(&[("type", "tmpfs"), ("device", "tmpfs")]), Elsewhere::Mapped);
        assert_eq!(of(&[("type", "nfs"), ("o", "addr=x"), ("device", ":/x")]), Elsewhere::Unmapped);
    }
}
