//! Single paths of a container as archives, out of it and into it (`cp`).

use super::{Container, Record};
use crate::Engine;
use crate::channel_io::{BACKLOG, ChannelReader, ChannelWriter};
use crate::id_ranges::map_of;
use crate::root_view::{Base, Place, View, ViewPlan};
use crate::types::{MountKind, NetworkMode, UnixNanos};
use bytes::Bytes;
use naru_base::error::Context as _;
use naru_base::{Class, Error, Result};
use naru_fs::Root;
use naru_runtime::plan::Rootfs;
use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The most that is read of a container's passwd and group files.
const DATABASE_LIMIT: usize = 1 << 20;

/// What a path in a container is.
#[derive(Debug, Clone, Default)]
pub struct ArchiveStat {
    /// Its last part.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Mode in Go's bits (`fs.FileMode`).
    pub mode_go: u32,
    /// Last change.
    pub mtime: UnixNanos,
    /// Where a link leads in the end, from the container's root.
    pub link_target: String,
}

/// How an archive is to be unpacked in a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Refuses to put a folder in a file's place, or the other way around.
    pub keep_kind: bool,
    /// The files become those of the container's own user, if it has one.
    pub as_container_user: bool,
}

impl Engine {
    /// What the path is.
    ///
    /// # Errors
    /// When there is no such container or path.
    pub async fn archive_stat(self: &Arc<Self>, name: &str, path: &str) -> Result<ArchiveStat> {
        let container = self.containers.find(name)?;
        let asked = Asked::new(name, path);
        let engine = Arc::clone(self);
        let looked =
            tokio::spawn(async move { engine.in_view(&container, false, move |view| asked.stat(&view.root)).await });
        looked.await.system("the container's files could not be looked at")?
    }

    /// The path as an archive.
    ///
    /// # Errors
    /// When there is no such container or path; a failure later comes out of the channel.
    pub async fn archive_get(
        self: &Arc<Self>,
        name: &str,
        path: &str,
    ) -> Result<(ArchiveStat, mpsc::Receiver<Result<Bytes>>)> {
        let container = self.containers.find(name)?;
        let asked = Asked::new(name, path);
        let (told, head) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let work = move |view: &View| {
            let stat = asked.stat(&view.root);
            let found = stat.is_ok();
            if told.send(stat).is_err() || !found {
                return Ok(());
            }
            let mut writer = ChannelWriter::new(sender.clone());
            let packed = asked.pack(view, &mut writer);
            if let Err(error) = packed.and_then(|()| writer.flush().map_err(|e| Error::system(e.to_string()))) {
                // A receiver that is gone needs no error.
                let _ = sender.blocking_send(Err(error));
            }
            Ok(())
        };
        let engine = Arc::clone(self);
        let source = Arc::clone(&container);
        // On its own: what keeps the container as it is must stay until the thread has ended, also when the client goes away.
        let running = tokio::spawn(async move { engine.in_view(&source, false, work).await });
        let stat = match head.await {
            Ok(stat) => stat?,
            Err(_) => {
                running.await.system("the container's files could not be looked at")??;
                return Err(Error::system("the container's files could not be looked at"));
            }
        };
        self.container_event(&container, "archive-path", &[]);
        Ok((stat, receiver))
    }

    /// All files of a container as an archive: its own, without volumes, as docker has it.
    ///
    /// # Errors
    /// When there is no such container; a failure later comes out of the channel.
    pub async fn export(self: &Arc<Self>, name: &str) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let container = self.containers.find(name)?;
        let image = container.read(|r| r.image.clone());
        if self.images.is_host(&image) {
            return Err(Error::invalid(
                "the files of a container of the image \"host\" are this machine's: they can't be exported",
            ));
        }
        let layers: Vec<_> =
            std::iter::once(self.files(&container.id, 0).upper).chain(self.images.lower_dirs(&image)?).collect();
        let (pid, first_id) = container.read(|r| (r.state.pid, r.state.first_id));
        let base =
            if container.status().is_running() && pid > 0 { Base::Running(pid, layers) } else { Base::Layers(layers) };
        let ids = first_id.map(map_of);
        let at = self.config.container_dir(&container.id).join("fs");
        let plan = ViewPlan { base, readonly: true, places: Vec::new(), ids, at };
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(plan.run(move |view| {
            let mut writer = ChannelWriter::new(sender.clone());
            let root = view.root.try_clone()?;
            let packed = naru_store::pack_tree(root, view.to_own(), &mut writer);
            if let Err(error) = packed.and_then(|()| writer.flush().map_err(|e| Error::system(e.to_string()))) {
                // A receiver that is gone needs no error.
                let _ = sender.blocking_send(Err(error));
            }
            Ok(())
        }));
        self.container_event(&container, "export", &[]);
        Ok(receiver)
    }

    /// Unpacks an archive in a folder of a container.
    ///
    /// # Errors
    /// When there is no such container or folder, it can't be written, or the archive can't be unpacked; what was unpacked before stays.
    pub async fn archive_put(
        self: &Arc<Self>,
        name: &str,
        path: &str,
        body: mpsc::Receiver<std::io::Result<Bytes>>,
        options: UnpackOptions,
    ) -> Result<()> {
        let container = self.containers.find(name)?;
        let asked = Asked::new(name, path);
        let user = container.read(|r| r.config.user.clone());
        let readonly_root = container.read(|r| r.host.readonly_rootfs);
        let work = move |view: &View| asked.unpack(view, body, options, &user, readonly_root);
        let (engine, target) = (Arc::clone(self), Arc::clone(&container));
        let running = tokio::spawn(async move { engine.in_view(&target, true, work).await });
        running.await.system("the container's files could not be written")??;
        self.container_event(&container, "extract-to-dir", &[]);
        Ok(())
    }

    /// Runs `work` in a view of the container's files, on a task of its own: it must not be given up before it has ended. One that isn't
    /// running can't be started meanwhile, where the view needs that.
    async fn in_view<T: Send + 'static>(
        self: &Arc<Self>,
        container: &Arc<Container>,
        write: bool,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let user = format!("view-{}", naru_base::Id::random()?);
        self.take_mounted(container, user.clone()).await?;
        let done = self.in_view_of_mounted(container, write, work).await;
        self.give_back_mounted(container, &user);
        done
    }

    async fn in_view_of_mounted<T: Send + 'static>(
        &self,
        container: &Arc<Container>,
        write: bool,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(plan) = self.view_plan(container, write, false)? {
            return plan.run(work).await;
        }
        let _operation = container.operation.lock().await;
        match self.view_plan(container, write, true)? {
            Some(plan) => plan.run(work).await,
            None => Err(Error::system("the container's files could not be looked at")),
        }
    }

    /// What the view is made of; `None` when that needs the container's operation lock, which isn't `locked`.
    fn view_plan(&self, container: &Container, write: bool, locked: bool) -> Result<Option<ViewPlan>> {
        let record = container.read(Clone::clone);
        let running = record.state.status.is_running() && record.state.pid > 0;
        let files = self.files(&record.id, 0);
        let lower = self.images.lower_dirs(&record.image)?;
        let host = self.images.is_host(&record.image);
        let all = || std::iter::once(files.upper.clone()).chain(lower.iter().cloned()).collect();
        let base = if running {
            let layers = if write || host { Vec::new() } else { all() };
            Base::Running(record.state.pid, layers)
        } else if !write && !host && record.state.started_at > 0 {
            Base::Layers(all())
        } else if locked {
            let volatile = record.host.auto_remove;
            Base::Stopped(Rootfs::Overlay { lower, upper: files.upper, work: files.work, volatile })
        } else {
            return Ok(None);
        };
        let mut places: Vec<Place> = record.mounts.iter().filter_map(place).collect();
        if running {
            places.extend(self.engine_files(&record)?);
        }
        let readonly = write && record.host.readonly_rootfs;
        let ids = record.state.first_id.filter(|_| running).map(map_of);
        Ok(Some(ViewPlan { base, readonly, places, ids, at: self.config.container_dir(&record.id).join("fs") }))
    }

    /// The files that the engine writes for a container.
    fn engine_files(&self, record: &Record) -> Result<Vec<Place>> {
        let owner = match &record.host.network {
            NetworkMode::Container(other) => self.containers.find(other)?.id.clone(),
            _ => record.id.clone(),
        };
        let files = self.files(&owner, 0);
        let own =
            [(files.resolv_conf, "/etc/resolv.conf"), (files.hostname, "/etc/hostname"), (files.hosts, "/etc/hosts")];
        let free = |target: &str| !record.mounts.iter().any(|m| m.view.target == target);
        let place = |(source, target): (PathBuf, &str)| Place {
            target: target.into(),
            source: Some(source),
            subpath: PathBuf::new(),
            recursive: false,
            readonly: record.host.readonly_rootfs,
        };
        Ok(own.into_iter().filter(|(_, target)| free(target)).map(place).collect())
    }
}

pub(super) fn place(mount: &super::ResolvedMount) -> Option<Place> {
    let mut subpath = PathBuf::new();
    let (source, recursive) = match &mount.kind {
        MountKind::Bind { recursive, .. } => (Some(mount.source.clone()), *recursive),
        MountKind::Volume { subpath: inside, .. } => {
            subpath = PathBuf::from(inside);
            (Some(mount.source.clone()), true)
        }
        MountKind::Tmpfs { .. } => (None, false),
        MountKind::Image { .. } => return None,
    };
    let target = PathBuf::from(&mount.view.target);
    Some(Place { target, source, subpath, recursive, readonly: !mount.view.writable })
}

/// A path in a container, as a client wrote it.
struct Asked {
    container: String,
    path: String,
}

impl Asked {
    fn new(container: &str, path: &str) -> Self {
        Self { container: container.to_owned(), path: path.to_owned() }
    }

    /// Whether the path says that it is a folder: then a link at its end is followed.
    fn says_folder(&self) -> bool {
        self.path.ends_with('/') || self.says_contents()
    }

    /// Whether the path means what is in a folder, not the folder.
    fn says_contents(&self) -> bool {
        self.path == "." || self.path.ends_with("/.")
    }

    fn missing(&self, error: &naru_fs::Error) -> Error {
        if error.is_not_found() {
            Error::not_found(format!("Could not find the file {} in container {}", self.path, self.container))
        } else {
            Error::system(format!("cannot look at {} in container {}: {error}", self.path, self.container))
        }
    }

    fn stat(&self, root: &Root) -> Result<ArchiveStat> {
        let clean = clean(&self.path);
        let flags = if self.says_folder() { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::PATH | OFlags::NOFOLLOW };
        let opened = root.open(&clean, flags, Mode::empty()).map_err(|e| self.missing(&e))?;
        let found = rustix::fs::fstat(&opened).system("cannot look at a container's file")?;
        let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
        let target = if is_link { root.canonical(&clean).map_err(|e| self.missing(&e))? } else { PathBuf::new() };
        let name = if self.says_contents() { OsString::from(".") } else { last(&clean) };
        Ok(ArchiveStat {
            name: name.to_string_lossy().into_owned(),
            size: found.st_size,
            mode_go: go_mode(found.st_mode),
            mtime: found
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
            link_target: target.to_string_lossy().into_owned(),
        })
    }

    fn pack(&self, view: &View, out: &mut ChannelWriter) -> Result<()> {
        let (root, ids) = (&view.root, view.to_own());
        let clean = clean(&self.path);
        let alias = if self.says_contents() { OsString::from(".") } else { last(&clean) };
        if self.says_folder() || clean == Path::new("/") {
            let folder = root.open_dir(&clean).map_err(|e| self.missing(&e))?;
            return naru_store::pack_path_with(folder, ".".as_ref(), &alias, ids, out);
        }
        let (parent, name) = root.parent(&clean).map_err(|e| self.missing(&e))?;
        naru_store::pack_path_with(parent, &name, &alias, ids, out)
    }

    fn unpack(
        &self,
        view: &View,
        body: mpsc::Receiver<std::io::Result<Bytes>>,
        options: UnpackOptions,
        user: &str,
        readonly_root: bool,
    ) -> Result<()> {
        let target = view.root.canonical(clean(&self.path)).map_err(|e| self.missing(&e))?;
        let opened = view.root.open_path(&target).map_err(|e| self.missing(&e))?;
        let stat = rustix::fs::fstat(&opened).system("cannot look at a container's folder")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        let folder = view.root.open_dir(&target).map_err(|e| self.missing(&e))?;
        let flags = rustix::fs::fstatvfs(&folder).system("cannot look at a container's folder")?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            let root = rustix::fs::fstat(&view.root).is_ok_and(|root| root.st_dev == stat.st_dev);
            return Err(Error::new(
                Class::Forbidden,
                if root && readonly_root {
                    "container rootfs is marked read-only"
                } else {
                    "mounted volume is marked read-only"
                },
            ));
        }
        let owner = if options.as_container_user && !user.is_empty() {
            let (uid, gid) = ids_of(&view.root, user)?;
            naru_store::Owner::Fixed(uid, gid)
        } else {
            naru_store::Owner::Archive
        };
        view.act_as_root()?;
        let map = view.to_shown();
        let how = naru_store::Unpack {
            root: &view.root,
            target: &target,
            keep_kind: options.keep_kind,
            owner,
            map,
            rename: None,
        };
        how.run(ChannelReader::new(body))
    }
}

/// The ids of `user[:group]`, names looked up in the container's own files.
fn ids_of(root: &Root, user: &str) -> Result<(u32, u32)> {
    let (user, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let lines = |file: &str| root.read_to_string(file, DATABASE_LIMIT).unwrap_or_default();
    let passwd = lines("/etc/passwd");
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|f| f.len() > 3);
    let found = users.find(|f| f[0] == user || f[2] == user);
    let uid = match (&found, user.parse::<u32>()) {
        (Some(fields), _) => fields[2].parse::<u32>().ok(),
        (None, number) => number.ok(),
    };
    let uid =
        uid.ok_or_else(|| Error::invalid(format!("unable to find user {user}: no matching entries in passwd file")))?;
    let own_group = found.as_ref().and_then(|fields| fields[3].parse::<u32>().ok()).unwrap_or(0);
    let Some(group) = group else { return Ok((uid, own_group)) };
    let text = lines("/etc/group");
    let mut groups = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|f| f.len() > 2);
    let gid = groups.find(|f| f[0] == group).and_then(|f| f[2].parse::<u32>().ok()).or_else(|| group.parse().ok());
    let gid =
        gid.ok_or_else(|| Error::invalid(format!("unable to find group {group}: no matching entries in group file")))?;
    Ok((uid, gid))
}

/// Absolute, without `.` and `..`, as text: what docker does before it looks.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(p) => out.push(p),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn last(path: &Path) -> OsString {
    path.file_name().map_or_else(|| OsString::from("/"), ToOwned::to_owned)
}

/// Unix mode bits in Go's order (`io/fs`).
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => (1 << 26) | (1 << 21),
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    special.iter().filter(|(bit, _)| mode & bit != 0).fold(kind | (mode & 0o777), |m, (_, go)| m | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), (1 << 31) | 0o755);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
        assert_eq!(go_mode(0o041_777), (1 << 31) | (1 << 20) | 0o777);
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(clean("/a/../../b/./c/"), Path::new("/b/c"));
        assert_eq!(clean("/."), Path::new("/"));
        let says = |path: &str| (Asked::new("c", path).says_folder(), Asked::new("c", path).says_contents());
        assert_eq!(
            [says("/a"), says("/a/"), says("/a/."), says(".")],
            [(false, false), (true, false), (true, true), (true, true)]
        );
    }
}
