//! Volumes, with what containers know of them; and filling a new one from its image.

use crate::container::{Container, ResolvedMount, label_fits, name_pattern};
use crate::steps::Steps;
use crate::types::{Filters, MountKind, ProgressSink, VolumeView};
use crate::{Engine, root_view};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::Root;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Keys that docker knows.
pub const VOLUME_FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];

impl Engine {
    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<VolumeView> {
        self.volumes.list()
    }

    /// Those that `filters` let through ([`VOLUME_FILTERS`]), by name.
    ///
    /// # Errors
    /// For values that mean nothing.
    pub fn list_volumes(&self, filters: &Filters) -> Result<Vec<VolumeView>> {
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let names = values("name").iter().map(|n| name_pattern(n)).collect::<Result<Vec<_>>>()?;
        let dangling = truth(filters, "dangling")?;
        let used = |volume: &VolumeView| !self.volume_users(&volume.name).is_empty();
        let mut found = self.volumes.list();
        found.retain(|volume| {
            (names.is_empty() || names.iter().any(|n| n.is_match(&volume.name)))
                && (values("driver").is_empty() || values("driver").iter().any(|d| d == "local"))
                && values("label").iter().all(|l| label_fits(&volume.labels, l))
                && dangling.is_none_or(|wanted| wanted != used(volume))
        });
        Ok(found)
    }

    /// One volume.
    ///
    /// # Errors
    /// When there is none of exactly that name.
    pub fn volume(&self, name: &str) -> Result<VolumeView> {
        self.volumes.get(name)
    }

    /// A volume, new or the one that is there.
    ///
    /// # Errors
    /// For a malformed name, another driver, or unknown options.
    pub async fn create_volume(
        &self,
        name: Option<String>,
        labels: BTreeMap<String, String>,
        driver: String,
        options: BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        let given = name.as_deref().filter(|n| !n.is_empty());
        let (volume, made) = self.volumes.ensure(given, &labels, &driver, &options)?;
        if made {
            self.volume_event("create", &volume.name);
        }
        Ok(volume)
    }

    /// Removes one that no container uses.
    ///
    /// # Errors
    /// docker's texts: none of that name (not with `force`), in use.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        match self.volumes.remove(name, &self.volume_users(name)) {
            Err(e) if force && e.class() == naru_base::Class::NotFound => Ok(()),
            Ok(()) => {
                self.volume_event("destroy", name);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Removes an anonymous one with its container.
    pub(crate) fn remove_unused_volume(&self, name: &str) -> Result<()> {
        if self.volume_users(name).is_empty() {
            self.volumes.remove(name, &[])?;
            self.volume_event("destroy", name);
        }
        Ok(())
    }

    /// Removes anonymous ones of a container that is none.
    pub(crate) fn remove_anonymous(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.remove_unused_volume(name) {
                tracing::warn!(volume = name, "{error}");
            }
        }
    }

    /// Removes those that no container uses: anonymous ones, or with `all=true` every one.
    ///
    /// # Errors
    /// For filters that docker doesn't know here.
    pub async fn prune_volumes(
        self: &Arc<Self>,
        filters: &Filters,
        progress: Option<ProgressSink>,
    ) -> Result<(Vec<String>, u64)> {
        let (engine, filters) = (Arc::clone(self), filters.clone());
        crate::image::blocking(move || engine.prune_volumes_now(&filters, progress)).await
    }

    fn prune_volumes_now(&self, filters: &Filters, progress: Option<ProgressSink>) -> Result<(Vec<String>, u64)> {
        let filter = crate::prune::Filter::parse_with(filters, &["all"])?;
        let all = truth(filters, "all")?.unwrap_or(false);
        let (mut removed, mut bytes) = (Vec::new(), 0);
        let listed = self.volumes.list();
        let mut steps = Steps::begin(progress, "volumes", listed.len());
        for volume in listed {
            steps.step();
            // One whose files lie elsewhere is left, as docker does.
            let wanted = (all || volume.anonymous)
                && volume.options.is_empty()
                && filter.accepts(volume.created, &volume.labels);
            if !wanted || !self.volume_users(&volume.name).is_empty() {
                continue;
            }
            let size = crate::disk::usage(&volume.mountpoint);
            if self.volumes.remove(&volume.name, &[]).is_ok() {
                self.volume_event("destroy", &volume.name);
                bytes += size;
                removed.push(volume.name);
            }
        }
        steps.end(removed.len(), bytes);
        self.prune_event("volume", bytes);
        Ok((removed, bytes))
    }

    /// A container that starts has its volumes.
    pub(crate) fn mount_events(&self, container: &Container) {
        for mount in container.read(|r| r.mounts.clone()).into_iter().filter(|m| m.view.kind == "volume") {
            let attributes = BTreeMap::from([
                ("container".to_owned(), container.id.to_string()),
                ("destination".to_owned(), mount.view.target),
                ("driver".to_owned(), mount.view.driver),
                ("propagation".to_owned(), mount.view.propagation),
                ("read/write".to_owned(), mount.view.writable.to_string()),
            ]);
            self.events.publish("volume", "mount", &mount.view.name, attributes);
        }
    }

    /// A container that has ended has them no more.
    pub(crate) fn unmount_events(&self, container: &Container) {
        for mount in container.read(|r| r.mounts.clone()).into_iter().filter(|m| m.view.kind == "volume") {
            let attributes = BTreeMap::from([
                ("container".to_owned(), container.id.to_string()),
                ("driver".to_owned(), mount.view.driver),
            ]);
            self.events.publish("volume", "unmount", &mount.view.name, attributes);
        }
    }

    /// What a prune freed.
    pub(crate) fn prune_event(&self, kind: &str, bytes: u64) {
        self.events.publish(kind, "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]));
    }

    pub(crate) fn volume_users(&self, name: &str) -> Vec<Id> {
        let uses = |c: &Container| c.read(|r| r.mounts.iter().any(|m| m.view.kind == "volume" && m.view.name == name));
        let mut users = self.volumes.reserved_by(name);
        let made = self.containers.all().into_iter().filter(|c| uses(c)).map(|c| c.id.clone());
        users.extend(made.filter(|id| !users.contains(id)).collect::<Vec<_>>());
        users
    }

    pub(crate) fn volume_event(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events.publish("volume", action, name, attributes);
    }

    /// Mounts those of a container's volumes whose files lie elsewhere, for as long as `user` needs them.
    ///
    /// # Errors
    /// When one can't be mounted; then none is.
    pub(crate) fn take_volumes(&self, mounts: &[ResolvedMount], user: &str) -> Result<()> {
        for mount in mounts.iter().filter(|m| m.view.kind == "volume") {
            if let Err(error) = self.volumes.take(&mount.view.name, user) {
                self.give_back_volumes(mounts, user);
                return Err(error.context(format!("error while mounting volume '{}'", mount.view.source)));
            }
        }
        Ok(())
    }

    /// `user` needs them no more.
    pub(crate) fn give_back_volumes(&self, mounts: &[ResolvedMount], user: &str) {
        for mount in mounts.iter().filter(|m| m.view.kind == "volume") {
            self.volumes.give_back(&mount.view.name, user);
        }
    }

    /// Whether files of one of the volumes lie elsewhere, or are limited.
    fn any_with_options(&self, mounts: &[ResolvedMount]) -> bool {
        let with_options = |m: &ResolvedMount| {
            m.view.kind == "volume" && self.volumes.get(&m.view.name).is_ok_and(|v| !v.options.is_empty())
        };
        mounts.iter().any(with_options)
    }

    /// As [`Engine::take_volumes`], for as long as `user` needs them, on a thread that may wait for a server.
    pub(crate) async fn take_mounted(self: &Arc<Self>, container: &Container, user: String) -> Result<()> {
        let mounts = container.read(|r| r.mounts.clone());
        if !self.any_with_options(&mounts) {
            return Ok(());
        }
        let engine = Arc::clone(self);
        crate::image::blocking(move || engine.take_volumes(&mounts, &user)).await
    }

    /// The end of [`Engine::take_mounted`].
    pub(crate) fn give_back_mounted(&self, container: &Container, user: &str) {
        let mounts = container.read(|r| r.mounts.clone());
        self.give_back_volumes(&mounts, user);
    }

    /// When an engine begins: containers that run have their volumes, and what nobody has is unmounted.
    pub(crate) fn reconcile_volumes(&self) {
        for container in self.containers.all() {
            if container.status().is_running() {
                let mounts = container.read(|r| r.mounts.clone());
                if let Err(error) = self.take_volumes(&mounts, container.id.as_str()) {
                    tracing::warn!(container = container.id.short(), "{error}");
                }
            }
        }
        self.volumes.tidy();
        let nobodys = self.volumes.nobodys(|id| self.containers.all().iter().any(|c| c.id.as_str() == id));
        self.remove_anonymous(&nobodys);
    }

    /// Copies what the image has at a volume's place into the volume, when that is empty.
    pub(crate) fn fill_volumes(&self, container: &Container) -> Result<()> {
        let record = container.read(Clone::clone);
        let wants = |m: &&ResolvedMount| {
            matches!(&m.kind, MountKind::Volume { no_copy: false, subpath, .. } if subpath.is_empty()) && !m.borrowed
        };
        let mounts: Vec<_> = record.mounts.iter().filter(wants).collect();
        if mounts.is_empty() {
            return Ok(());
        }
        let image = root_view::of_layers(&self.images.layers(&record.image)?)?;
        let user = format!("fill-{}", record.id);
        self.take_volumes(&record.mounts, &user)?;
        let filled = mounts.into_iter().try_for_each(|mount| self.fill_volume(&image, mount));
        self.give_back_volumes(&record.mounts, &user);
        filled
    }

    fn fill_volume(&self, image: &Root, mount: &ResolvedMount) -> Result<()> {
        let volume = self.volumes.get(&mount.view.name)?;
        let empty =
            Root::open_host(&volume.mountpoint).and_then(|root| root.list("/")).system("cannot list the volume")?;
        if !empty.is_empty() {
            return Ok(());
        }
        let Ok(stat) = image.stat(&mount.view.target) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::invalid(format!(
                "cannot mount volume over existing file, file exists {}",
                mount.view.target
            )));
        }
        let source = image.sub(&mount.view.target).system("cannot open the image's folder")?;
        self.volumes
            .fill(&volume, |root| copy_tree(&source, root))
            .map_err(|e| e.context(format!("cannot fill volume {}", mount.view.name)))
    }
}

/// A filter that is true or false; `None` where it isn't given.
fn truth(filters: &Filters, key: &str) -> Result<Option<bool>> {
    let Some(values) = filters.get(key) else { return Ok(None) };
    let says = |words: [&str; 2]| values.iter().any(|v| words.contains(&v.as_str()));
    match (says(["1", "true"]), says(["0", "false"])) {
        (yes, no) if yes != no => Ok(Some(yes)),
        _ => Err(Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))),
    }
}

/// All files with their owners, modes, times, links and attributes: as an archive through a pipe, the way that `cp` goes.
fn copy_tree(from: &Root, to: &Root) -> Result<()> {
    let (reader, writer) = std::io::pipe().system("cannot make a pipe")?;
    let source = from.try_clone().system("cannot open the image's folder")?;
    let how = naru_store::Unpack {
        root: to,
        target: Path::new("/"),
        keep_kind: false,
        owner: naru_store::Owner::Archive,
        map: None,
        rename: None,
    };
    std::thread::scope(|scope| {
        let packer = scope.spawn(move || naru_store::pack_path(source, ".".as_ref(), ".".as_ref(), writer));
        let unpacked = how.run(reader);
        let packed = packer.join().unwrap_or_else(|_| Err(Error::system("the copy ended in the middle")));
        unpacked.and(packed)
    })?;
    take_after(from, to)
}

/// The folder's own owner, mode and attributes.
fn take_after(from: &Root, to: &Root) -> Result<()> {
    let what = "cannot give the volume the folder's attributes";
    let stat = rustix::fs::fstat(from).system(what)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid)).system(what)?;
    for name in naru_fs::xattr::list(from).unwrap_or_default() {
        if name.as_encoded_bytes().starts_with(b"user.")
            && let Ok(Some(value)) = naru_fs::xattr::get(from, &name)
        {
            // A file system without such attributes has none.
            let _ = naru_fs::xattr::set(to, &name, &value);
        }
    }
    rustix::fs::fchmod(to, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777)).system(what)
}
