//! Volumes of the `local` driver: a folder each, with a record beside it.
//!
//! `<data root>/volumes/<name>/` holds `volume.json` and `_data`, and `_fill` while that is being filled. What is removed is first renamed to
//! `.trash-<name>`, which is no volume's name. Which containers use a volume is the containers' knowledge; it comes in from outside when a
//! volume is to be removed.

use crate::clock;
use crate::quota;
use crate::types::VolumeView;
use crate::volume_mount::{self, Mounts};
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result, name};
use naru_fs::{Durability, Records, Root, durable};
use naru_store::Problem;
use naru_sys::fault;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;

const RECORD_FILE: &str = "volume.json";
const RECORD_VERSION: u32 = 1;
/// Where a volume's files are, in its folder.
const DATA: &str = "_data";
/// Its files while they are copied from an image.
const FILL: &str = "_fill";
/// How an empty file in a volume's folder begins that names the container for which it is made without a name. Gone once that container has
/// a record; one that a creation cut short has left tells that the volume is nobody's.
const MADE_FOR: &str = ".for-";
/// How the folders of removed volumes begin.
const TRASH: &str = ".trash-";
/// docker marks a volume made without a name with this label.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// All volumes, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Volumes {
    folder: PathBuf,
    records: Records<VolumeView>,
    known: Mutex<BTreeMap<String, VolumeView>>,
    mounts: Mounts,
    /// What containers have that are being made, and in no table yet. Locked after `known`, where both are.
    reserved: Mutex<BTreeMap<Id, Reservation>>,
}

/// The volumes of a container that is being made.
#[derive(Debug, Default)]
struct Reservation {
    names: Vec<String>,
    /// Those of them that were made for it alone.
    anonymous: Vec<String>,
}

impl Volumes {
    /// Reads what is in `folder`; a broken record is reported and left alone.
    ///
    /// # Errors
    /// When the folder can't be made or read.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let records = Records::open(&folder, RECORD_FILE, RECORD_VERSION).system("cannot open the volumes")?;
        let root = Root::open_host(&folder).system("cannot open the volumes")?;
        let mut known = BTreeMap::new();
        for (name, record) in records.load_all().system("cannot list the volumes")? {
            match record {
                _ if name.starts_with(TRASH) => discard(&root, &name),
                Ok(Some(volume)) => {
                    discard(&root, &format!("{name}/{FILL}"));
                    known.insert(name, volume);
                }
                // A creation that was cut short; with files in it, it is somebody's.
                Ok(None) if is_bare(&root, &name) => discard(&root, &name),
                Ok(None) => tracing::warn!(volume = name, "a volume's folder without a record is left alone"),
                Err(error) => tracing::warn!(volume = name, "its record can't be read: {error}"),
            }
        }
        Ok(Self { folder, records, known: Mutex::new(known), mounts: Mounts::default(), reserved: Mutex::default() })
    }

    /// The volume of that name, made if it isn't there (and whether it was made); a new one without a name for `None`.
    ///
    /// # Errors
    /// For a malformed name, another driver than `local`, or options that the driver doesn't have.
    pub(crate) fn ensure(
        &self,
        given: Option<&str>,
        labels: &BTreeMap<String, String>,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(VolumeView, bool)> {
        self.ensure_for(None, given, labels, driver, options)
    }

    /// As [`Volumes::ensure`], for a container that is being made: nobody removes it until [`Volumes::keep`] or [`Volumes::give_up`].
    ///
    /// # Errors
    /// Those of [`Volumes::ensure`].
    pub(crate) fn ensure_for(
        &self,
        container: Option<&Id>,
        given: Option<&str>,
        labels: &BTreeMap<String, String>,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(VolumeView, bool)> {
        let volume_name = match given {
            Some(text) => text.to_owned(),
            None => Id::random()?.to_string(),
        };
        self.check_new(&volume_name, driver, options).map_err(|e| e.context(format!("create {volume_name}")))?;
        let mut known = crate::lock(&self.known);
        if let Some(id) = container {
            let mut reserved = crate::lock(&self.reserved);
            let of_container = reserved.entry(id.clone()).or_default();
            of_container.names.push(volume_name.clone());
            if given.is_none() {
                of_container.anonymous.push(volume_name.clone());
            }
        }
        if let Some(volume) = known.get(&volume_name) {
            return Ok((volume.clone(), false));
        }
        let mut labels = labels.clone();
        if given.is_none() {
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        let volume = VolumeView {
            mountpoint: self.folder.join(&volume_name).join(DATA),
            name: volume_name.clone(),
            created: clock::now(),
            labels,
            options: options.clone(),
            anonymous: given.is_none(),
        };
        let folder = self.records.folder(&volume_name).system("cannot make the volume's folder")?;
        let folder = Root::from_fd(folder);
        let data = folder.create_dir_all(DATA, 0o755.into()).system("cannot make the volume's folder")?;
        if let (Some(id), None) = (container, given) {
            // Before the record: whoever finds that finds this.
            durable::write(&folder, &made_for(id), b"", Durability::Volatile)
                .system("cannot write whose volume it is")?;
        }
        if let Some(bytes) = volume.limit()
            && let Err(error) = quota::limit(&folder, DATA, bytes)
        {
            if let Ok(root) = Root::open_host(&self.folder) {
                discard(&root, &volume_name);
            }
            return Err(error.context(format!("create {volume_name}")));
        }
        fault::point();
        rustix::fs::fchmod(&data, 0o755.into()).system("cannot make the volume's folder")?;
        self.records.save(&volume_name, &volume, Durability::Synced).system("cannot write the volume's record")?;
        known.insert(volume_name, volume.clone());
        Ok((volume, true))
    }

    fn check_new(&self, volume: &str, driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
        check(volume, driver)?;
        if volume_mount::check(options)? > 0 && !quota::is_supported(&self.folder) {
            return Err(Error::invalid(format!(
                "quota size requested but no quota support: the file system of {} is not mounted with project quotas (prjquota)",
                self.folder.display()
            )));
        }
        Ok(())
    }

    /// The volume of exactly that name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn get(&self, name: &str) -> Result<VolumeView> {
        crate::lock(&self.known)
            .get(name)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<VolumeView> {
        crate::lock(&self.known).values().cloned().collect()
    }

    /// That a folder inside a volume is there, and no link leads out of it.
    ///
    /// # Errors
    /// When it isn't.
    pub(crate) fn check_subpath(&self, volume: &VolumeView, subpath: &str) -> Result<()> {
        let missing = |why: String| {
            Error::invalid(format!("cannot access path {}/{subpath}: {why}", volume.mountpoint.display()))
        };
        let root = Root::open_host(&volume.mountpoint).map_err(|e| missing(e.to_string()))?;
        root.open_beneath(subpath).map(drop).map_err(|e| missing(e.to_string()))
    }

    /// `user` needs its files from now on.
    ///
    /// # Errors
    /// When it is no more, or can't be mounted.
    pub(crate) fn take(&self, name: &str, user: &str) -> Result<()> {
        let volume = self.get(name)?;
        if let Some(bytes) = volume.limit() {
            // Again, for a folder that has come back out of a backup, and a file system that has lost its limits.
            let folder = self.records.folder(name).system("cannot open the volume's folder")?;
            quota::limit(&Root::from_fd(folder), DATA, bytes)?;
        }
        if !volume.is_elsewhere() {
            return Ok(());
        }
        self.mounts.take(name, user, &volume.options, &volume.mountpoint)
    }

    /// `user` needs them no more.
    pub(crate) fn give_back(&self, name: &str, user: &str) {
        if let Ok(volume) = self.get(name) {
            self.mounts.give_back(name, user, &volume.mountpoint);
        }
    }

    /// Unmounts what nobody has taken.
    pub(crate) fn tidy(&self) {
        for volume in self.list().into_iter().filter(VolumeView::is_elsewhere) {
            self.mounts.tidy(&volume.name, &volume.mountpoint);
        }
    }

    /// A container that is being made has these, too.
    pub(crate) fn reserve(&self, id: &Id, names: Vec<String>) {
        crate::lock(&self.reserved).entry(id.clone()).or_default().names.extend(names);
    }

    /// The container is in the table, and its record on the disk.
    pub(crate) fn keep(&self, id: &Id) {
        let kept = crate::lock(&self.reserved).remove(id).unwrap_or_default();
        for name in kept.anonymous {
            self.forget_maker(&name, &made_for(id));
        }
    }

    /// There will be no such container: the volumes that were made for it alone.
    pub(crate) fn give_up(&self, id: &Id) -> Vec<String> {
        crate::lock(&self.reserved).remove(id).unwrap_or_default().anonymous
    }

    /// When an engine begins: the volumes that were made for a container which came to nothing. `exists` tells of an id whether there is one.
    pub(crate) fn nobodys(&self, exists: impl Fn(&str) -> bool) -> Vec<String> {
        let Ok(root) = Root::open_host(&self.folder) else { return Vec::new() };
        let mut found = Vec::new();
        for volume in self.list().into_iter().filter(|v| v.anonymous) {
            for file in root.list(&volume.name).unwrap_or_default() {
                let file = file.to_string_lossy().into_owned();
                match file.strip_prefix(MADE_FOR) {
                    Some(id) if exists(id) => self.forget_maker(&volume.name, &file),
                    Some(_) => found.push(volume.name.clone()),
                    None => {}
                }
            }
        }
        found
    }

    fn forget_maker(&self, volume: &str, file: &str) {
        let removed =
            self.records.folder(volume).and_then(|folder| durable::remove(&folder, file, Durability::Volatile));
        if let Err(error) = removed {
            tracing::warn!(volume, "cannot remove {file}: {error}");
        }
    }

    /// The containers that are being made and have the volume.
    pub(crate) fn reserved_by(&self, name: &str) -> Vec<Id> {
        let reserved = crate::lock(&self.reserved);
        reserved.iter().filter(|(_, of)| of.names.iter().any(|n| n == name)).map(|(id, _)| id.clone()).collect()
    }

    /// What in the volumes' folder is no whole volume; with `repair` it is put right, where no data is lost by that.
    pub(crate) fn check(&self, repair: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut note = |subject: &str, problem: &str, repaired: Option<&str>| {
            let repaired = repaired.filter(|_| repair).map(ToOwned::to_owned);
            problems.push(Problem {
                kind: "volume",
                subject: subject.to_owned(),
                problem: problem.to_owned(),
                repaired,
            });
        };
        // Nothing is made or removed meanwhile.
        let known = crate::lock(&self.known);
        let Ok(root) = Root::open_host(&self.folder) else { return problems };
        for name in root.list("/").unwrap_or_default() {
            let name = name.to_string_lossy().into_owned();
            let at = self.folder.join(&name).join(DATA);
            if let Some(volume) = known.get(&name) {
                if !volume_mount::is_mounted(&at) && root.open_dir(format!("{name}/{DATA}")).is_err() {
                    if repair {
                        drop(root.create_dir_all(format!("{name}/{DATA}"), 0o755.into()));
                    }
                    note(&name, "its folder for data is missing", Some("made anew, empty"));
                }
                if volume.is_elsewhere() && self.mounts.is_left(&name, &at) {
                    if repair {
                        self.mounts.tidy(&name, &at);
                    }
                    note(&name, "it is mounted, and nobody uses it", Some("unmounted"));
                }
            } else if name.starts_with(TRASH) || is_bare(&root, &name) {
                if !crate::disk::is_stale(&root, &name) {
                    continue;
                }
                if repair {
                    discard(&root, &name);
                }
                note(&name, "what a removal or creation that was cut short left", Some("removed"));
            } else {
                note(&name, "a folder with files and without a record: look at it, and remove it by hand", None);
            }
        }
        for name in known.keys().filter(|name| !self.folder.join(name).is_dir()) {
            note(name, "its folder is missing: remove it", None);
        }
        problems
    }

    /// Gives an empty volume the files that `fill` puts in the folder that it is handed: all of them, or none.
    ///
    /// # Errors
    /// `fill`'s, and when the disk refuses.
    pub(crate) fn fill(&self, volume: &VolumeView, fill: impl FnOnce(&Root) -> Result<()>) -> Result<()> {
        let what = || format!("cannot fill volume {}", volume.name);
        if volume.is_elsewhere() {
            // Its folder is a mount: what comes is written in place.
            return fill(&Root::open_host(&volume.mountpoint).system(what())?);
        }
        let folder = Root::from_fd(self.records.folder(&volume.name).system(what())?);
        let made = folder.create_dir_all(FILL, 0o755.into()).system(what())?;
        let made = Root::from_fd(made);
        if volume.limit().is_some() {
            quota::share(&folder, DATA, FILL)?;
        }
        let filled = fill(&made).and_then(|()| {
            if made.list("/").is_ok_and(|names| !names.is_empty()) {
                // Files first, then their place: a volume that isn't empty is never filled again.
                rustix::fs::syncfs(&made).system(what())?;
            }
            // Onto the empty one, in one step; one that is no longer empty stays (rename(2)).
            naru_sys::fault::point();
            rustix::fs::renameat(&folder, FILL, &folder, DATA)
                .or_else(|e| match e {
                    rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST => Ok(()),
                    e => Err(e),
                })
                .system(what())?;
            durable::sync_dir(&folder).system(what())
        });
        discard(&folder, FILL);
        filled
    }

    /// Removes it, when `users` (ids of containers) is empty.
    ///
    /// # Errors
    /// docker's texts: none of that name, in use.
    pub(crate) fn remove(&self, name: &str, users: &[Id]) -> Result<()> {
        let mut known = crate::lock(&self.known);
        if !known.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        // Asked again, now that nobody takes it any more.
        let making = self.reserved_by(name);
        if !users.is_empty() || !making.is_empty() {
            let ids: BTreeSet<&str> = users.iter().chain(&making).map(Id::as_str).collect();
            let ids: Vec<&str> = ids.into_iter().collect();
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", ids.join(", "))));
        }
        if known.get(name).is_some_and(|v| volume_mount::is_mounted(&v.mountpoint)) {
            return Err(Error::conflict(format!("remove {name}: volume is mounted")));
        }
        let trash = format!("{TRASH}{name}");
        let root = Root::open_host(&self.folder).system("cannot open the volumes")?;
        discard(&root, &trash);
        // In one step: a volume is there or not, whenever the machine stops.
        naru_sys::fault::point();
        rustix::fs::renameat(&root, name, &root, &trash).system(format!("cannot remove volume {name}"))?;
        self.records.sync().system(format!("cannot remove volume {name} for good"))?;
        let limited = known.remove(name).is_some_and(|volume| volume.limit().is_some());
        drop(known);
        if limited && let Ok(folder) = root.sub(&trash) {
            quota::lift(&folder, DATA);
        }
        discard(&root, &trash);
        Ok(())
    }
}

/// Whether there can be such a volume.
fn check(volume: &str, driver: &str) -> Result<()> {
    if !matches!(driver, "" | "local") {
        return Err(Error::not_found(format!(
            "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    if volume.len() == 1 {
        return Err(Error::invalid("volume name is too short, names should be at least two alphanumeric characters"));
    }
    if !name::is_valid(volume) {
        return Err(Error::invalid(format!(
            "\"{volume}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you \
             intended to pass a host directory, use absolute path"
        )));
    }
    Ok(())
}

/// Removes what nobody needs; what can't be removed now goes when an engine begins.
fn discard(root: &Root, path: &str) {
    if let Err(error) = root.remove_all(path)
        && !error.is_not_found()
    {
        tracing::warn!("cannot remove {path} of the volumes: {error}");
    }
}

fn made_for(id: &Id) -> String {
    format!("{MADE_FOR}{id}")
}

/// Whether a volume's folder has no files.
fn is_bare(root: &Root, name: &str) -> bool {
    let is_ours = |n: &OsString| {
        n == DATA || n == FILL || durable::is_temporary(n) || n.as_encoded_bytes().starts_with(MADE_FOR.as_bytes())
    };
    let only_data = root.list(name).is_ok_and(|names| names.iter().all(is_ours));
    only_data && root.list(format!("{name}/{DATA}")).map_or_else(|e| e.is_not_found(), |names| names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_base::Class;

    /// A folder of the test's own, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("naru-volumes-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn volumes_outlive_the_engine() {
        let folder = Folder::new("outlive");
        let volumes = Volumes::open(&folder.0).unwrap();
        let (made, _) = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        std::fs::write(made.mountpoint.join("file"), "x").unwrap();
        let (anonymous, _) = volumes.ensure(None, &none(), "local", &none()).unwrap();
        assert!(anonymous.anonymous && anonymous.labels.contains_key(ANONYMOUS_LABEL));
        let again = Volumes::open(&folder.0).unwrap();
        assert_eq!(again.list().len(), 2);
        let (same, made_again) = again.ensure(Some("data"), &none(), "", &none()).unwrap();
        assert!(!made_again);
        assert_eq!(same.created, made.created);
        assert_eq!(std::fs::read_to_string(same.mountpoint.join("file")).unwrap(), "x");
    }

    #[test]
    fn volumes_of_a_creation_that_was_cut_short_are_nobodys() {
        let folder = Folder::new("nobodys");
        let volumes = Volumes::open(&folder.0).unwrap();
        let [made, lost, given_up] = [(); 3].map(|()| Id::random().unwrap());
        let ensure = |id: &Id, name: Option<&str>| volumes.ensure_for(Some(id), name, &none(), "", &none()).unwrap().0;
        let (of_made, of_lost, named) = (ensure(&made, None), ensure(&lost, None), ensure(&lost, Some("named")));
        let class = |r: Result<()>| r.map_err(|e| e.class());
        assert_eq!(class(volumes.remove(&of_made.name, &[])), Err(Class::Conflict));
        assert_eq!(class(volumes.remove(&named.name, &[])), Err(Class::Conflict));
        volumes.keep(&made);
        let of_given_up = ensure(&given_up, None);
        assert_eq!(volumes.give_up(&given_up), [of_given_up.name.clone()]);
        volumes.remove(&of_given_up.name, &[]).unwrap();
        // The engine ends here. The record of a third container came onto the disk, and nothing else.
        let written = Id::random().unwrap();
        let of_written = ensure(&written, None);
        let again = Volumes::open(&folder.0).unwrap();
        let exists = |id: &str| id == made.as_str() || id == written.as_str();
        assert_eq!(again.nobodys(exists), [of_lost.name.clone()]);
        again.remove(&of_lost.name, &[]).unwrap();
        assert_eq!(again.list().len(), 3, "{of_made:?} {named:?} {of_written:?}");
        // Whose they are has been settled: what becomes of the containers later is another matter.
        assert!(Volumes::open(&folder.0).unwrap().nobodys(|_| false).is_empty());
    }

    #[test]
    fn what_was_cut_short_is_tidied_and_files_are_kept() {
        let folder = Folder::new("tidy");
        let volumes = Volumes::open(&folder.0).unwrap();
        let (made, _) = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        let failed = volumes.fill(&made, |root| {
            drop(root.create_file("half", 0o600.into()));
            Err(Error::system("stopped"))
        });
        assert!(failed.is_err() && std::fs::read_dir(&made.mountpoint).unwrap().next().is_none());
        volumes.fill(&made, |root| root.create_file("whole", 0o600.into()).map(drop).system("x")).unwrap();
        assert!(made.mountpoint.join("whole").exists());
        for path in
            [".trash-old/_data", "bare/_data", "bare/.tmp-1-2-volume.json", "files/_data/kept", "data/_fill/half"]
        {
            std::fs::create_dir_all(folder.0.join(path)).unwrap();
        }
        assert_eq!(Volumes::open(&folder.0).unwrap().list().len(), 1);
        let left = |path: &str| folder.0.join(path).exists();
        assert_eq!(
            [left(".trash-old"), left("bare"), left("files/_data/kept"), left("data/_fill")],
            [false, false, true, false]
        );
    }

    #[test]
    fn removal_is_refused_while_in_use() {
        let folder = Folder::new("use");
        let volumes = Volumes::open(&folder.0).unwrap();
        let (made, _) = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        let user = Id::random().unwrap();
        let error = volumes.remove("data", std::slice::from_ref(&user)).unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
        assert!(error.message().contains(user.as_str()));
        volumes.remove("data", &[]).unwrap();
        assert!(!made.mountpoint.exists());
        assert_eq!(volumes.remove("data", &[]).unwrap_err().class(), Class::NotFound);
    }

    #[test]
    fn names_drivers_and_subpaths_are_checked() {
        let folder = Folder::new("checks");
        let volumes = Volumes::open(&folder.0).unwrap();
        for bad in ["a/b", "", "..", "-x", "é"] {
            assert!(volumes.ensure(Some(bad), &none(), "", &none()).is_err(), "{bad}");
        }
        assert_eq!(volumes.ensure(Some("ab"), &none(), "nfs", &none()).unwrap_err().class(), Class::NotFound);
        let (made, _) = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        std::fs::create_dir(made.mountpoint.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", made.mountpoint.join("out")).unwrap();
        assert!(volumes.check_subpath(&made, "in").is_ok());
        for bad in ["missing", "../data", "/in", "out/passwd"] {
            assert!(volumes.check_subpath(&made, bad).is_err(), "{bad}");
        }
    }
}
