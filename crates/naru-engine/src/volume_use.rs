//! Volumes, with what containers know of them; and filling a new one from its image.

use crate::container::{Container, ResolvedMount};
use crate::types::{Filters, MountKind, VolumeView};
use crate::{Engine, root_view};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result};
use naru_fs::Root;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::path::Path;

impl Engine {
    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<VolumeView> {
        self.volumes.list()
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
        let volume = self.volumes.ensure(name.as_deref().filter(|n| !n.is_empty()), &labels, &driver, &options)?;
        self.volume_event("create", &volume.name);
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

    /// Removes those that no container uses: anonymous ones, or with `all=true` every one.
    ///
    /// # Errors
    /// For filters that docker doesn't know here.
    pub async fn prune_volumes(&self, filters: &Filters) -> Result<(Vec<String>, u64)> {
        let filter = crate::prune::Filter::parse_with(filters, &["all"])?;
        let all = filters.get("all").is_some_and(|v| v.iter().any(|v| v == "true" || v == "1"));
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for volume in self.volumes.list() {
            let wanted = (all || volume.anonymous) && filter.accepts(volume.created, &volume.labels);
            if !wanted || !self.volume_users(&volume.name).is_empty() {
                continue;
            }
            let size = crate::disk::usage(&volume.mountpoint);
            if self.volumes.remove(&volume.name, &[]).is_ok() {
                bytes += size;
                removed.push(volume.name);
            }
        }
        Ok((removed, bytes))
    }

    fn volume_users(&self, name: &str) -> Vec<Id> {
        let uses = |c: &Container| c.read(|r| r.mounts.iter().any(|m| m.view.kind == "volume" && m.view.name == name));
        self.containers.all().into_iter().filter(|c| uses(c)).map(|c| c.id.clone()).collect()
    }

    fn volume_event(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events.publish("volume", action, name, attributes);
    }

    /// Copies what the image has at a volume's place into the volume, when that is empty.
    pub(crate) fn fill_volumes(&self, container: &Container) -> Result<()> {
        let record = container.read(Clone::clone);
        let wants = |m: &&ResolvedMount| matches!(m.kind, MountKind::Volume { no_copy: false, .. });
        let mounts: Vec<_> = record.mounts.iter().filter(wants).collect();
        if mounts.is_empty() {
            return Ok(());
        }
        let image = root_view::of_layers(&self.images.layers(&record.image)?)?;
        for mount in mounts {
            let volume = Root::open_host(&mount.source).system("cannot open the volume")?;
            if !volume.list("/").system("cannot list the volume")?.is_empty() {
                continue;
            }
            let Ok(stat) = image.stat(&mount.view.target) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::invalid(format!(
                    "cannot mount volume over existing file, file exists {}",
                    mount.view.target
                )));
            }
            let source = image.sub(&mount.view.target).system("cannot open the image's folder")?;
            copy_tree(&source, &volume, Path::new("/"))
                .map_err(|e| e.context(format!("cannot fill volume {}", mount.view.name)))?;
        }
        Ok(())
    }
}

/// Folders, files and links with their owners and modes. What else there is (devices, sockets) is not for a volume.
fn copy_tree(from: &Root, to: &Root, path: &Path) -> Result<()> {
    take_after(from, to, path)?;
    for name in from.list(path).system("cannot list a folder")? {
        let path = path.join(name);
        let stat = from.lstat(&path).system("cannot look at a file")?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                to.create_dir_all(&path, 0o700.into()).system("cannot make a folder")?;
                copy_tree(from, to, &path)?;
            }
            FileType::RegularFile => {
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW;
                let source = from.open(&path, flags, rustix::fs::Mode::empty()).system("cannot open a file")?;
                let target = to.create_file(&path, 0o600.into()).system("cannot make a file")?;
                naru_fs::copy::file(&source, &target).system("cannot copy a file")?;
                take_after(from, to, &path)?;
            }
            FileType::Symlink => {
                let target = from.read_link(&path).system("cannot read a link")?;
                to.symlink(target, &path).system("cannot make a link")?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn take_after(from: &Root, to: &Root, path: &Path) -> Result<()> {
    let stat = from.lstat(path).system("cannot look at a file")?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW;
    let target = to.open(path, flags, rustix::fs::Mode::empty()).system("cannot open a copy")?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&target, Some(uid), Some(gid)).system("cannot give a copy its owner")?;
    rustix::fs::fchmod(&target, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777))
        .system("cannot give a copy its mode")
}
