//! Volumes of the `local` driver: a folder each, with a record beside it.
//!
//! `<data root>/volumes/<name>/` holds `volume.json` and `_data`. Which containers use a volume is the containers' knowledge; it comes in
//! from outside when a volume is to be removed.

use crate::clock;
use crate::types::VolumeView;
use naru_base::error::Context as _;
use naru_base::{Error, Id, Result, name};
use naru_fs::{Durability, Records, Root};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const RECORD_FILE: &str = "volume.json";
const RECORD_VERSION: u32 = 1;
/// Where a volume's files are, in its folder.
const DATA: &str = "_data";
/// docker marks a volume made without a name with this label.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// All volumes, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Volumes {
    folder: PathBuf,
    records: Records<VolumeView>,
    known: Mutex<BTreeMap<String, VolumeView>>,
}

impl Volumes {
    /// Reads what is in `folder`; a broken record is reported and left alone.
    ///
    /// # Errors
    /// When the folder can't be made or read.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let records = Records::open(&folder, RECORD_FILE, RECORD_VERSION).system("cannot open the volumes")?;
        let mut known = BTreeMap::new();
        for (name, record) in records.load_all().system("cannot list the volumes")? {
            match record {
                Ok(Some(volume)) => {
                    known.insert(name, volume);
                }
                Ok(None) => tracing::warn!(volume = name, "a volume's folder without a record is left alone"),
                Err(error) => tracing::warn!(volume = name, "its record can't be read: {error}"),
            }
        }
        Ok(Self { folder, records, known: Mutex::new(known) })
    }

    /// The volume of that name, made if it isn't there; a new one without a name for `None`.
    ///
    /// # Errors
    /// For a malformed name, another driver than `local`, or options that the driver doesn't have.
    pub(crate) fn ensure(
        &self,
        given: Option<&str>,
        labels: &BTreeMap<String, String>,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        if !matches!(driver, "" | "local") {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        if let Some(option) = options.keys().next() {
            return Err(Error::invalid(format!(
                "invalid option: {option:?}: the local driver of this engine takes no options yet"
            )));
        }
        let volume_name = match given {
            Some(text) if name::is_valid(text) => text.to_owned(),
            Some(text) => {
                return Err(Error::invalid(format!(
                    "create {text}: \"{text}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
                     are allowed. If you intended to pass a host directory, use absolute path"
                )));
            }
            None => Id::random()?.to_string(),
        };
        let mut known = crate::lock(&self.known);
        if let Some(volume) = known.get(&volume_name) {
            return Ok(volume.clone());
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
        let data =
            Root::from_fd(folder).create_dir_all(DATA, 0o755.into()).system("cannot make the volume's folder")?;
        rustix::fs::fchmod(&data, 0o755.into()).system("cannot make the volume's folder")?;
        self.records.save(&volume_name, &volume, Durability::Synced).system("cannot write the volume's record")?;
        known.insert(volume_name, volume.clone());
        Ok(volume)
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

    /// The path of a folder inside a volume. It must be there, inside, and no link may lead out of it.
    ///
    /// # Errors
    /// When it isn't.
    pub(crate) fn subpath(&self, volume: &VolumeView, subpath: &str) -> Result<PathBuf> {
        if subpath.is_empty() {
            return Ok(volume.mountpoint.clone());
        }
        let relative = Path::new(subpath);
        let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let there = plain && Root::open_host(&volume.mountpoint).and_then(|r| r.exists(relative)).unwrap_or(false);
        if there {
            Ok(volume.mountpoint.join(relative))
        } else {
            Err(Error::invalid(format!(
                "cannot access path {subpath:?} in volume {}: it must be a path that exists in it",
                volume.name
            )))
        }
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
        if !users.is_empty() {
            let ids: Vec<&str> = users.iter().map(Id::as_str).collect();
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", ids.join(", "))));
        }
        self.records.remove(name).system(format!("cannot remove volume {name}"))?;
        known.remove(name);
        Ok(())
    }
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
        let made = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        std::fs::write(made.mountpoint.join("file"), "x").unwrap();
        let anonymous = volumes.ensure(None, &none(), "local", &none()).unwrap();
        assert!(anonymous.anonymous && anonymous.labels.contains_key(ANONYMOUS_LABEL));
        let again = Volumes::open(&folder.0).unwrap();
        assert_eq!(again.list().len(), 2);
        let same = again.ensure(Some("data"), &none(), "", &none()).unwrap();
        assert_eq!(same.created, made.created);
        assert_eq!(std::fs::read_to_string(same.mountpoint.join("file")).unwrap(), "x");
    }

    #[test]
    fn removal_is_refused_while_in_use() {
        let folder = Folder::new("use");
        let volumes = Volumes::open(&folder.0).unwrap();
        let made = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
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
        let made = volumes.ensure(Some("data"), &none(), "", &none()).unwrap();
        std::fs::create_dir(made.mountpoint.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", made.mountpoint.join("out")).unwrap();
        assert!(volumes.subpath(&made, "in").is_ok());
        for bad in ["missing", "../data", "/in", "out/passwd"] {
            assert!(volumes.subpath(&made, bad).is_err(), "{bad}");
        }
    }
}
