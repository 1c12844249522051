//! Records: one JSON file per object, in a folder of the object's own, with the version of its format.

use crate::{Durability, Error, Result, Root, durable, remove_tree};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use std::marker::PhantomData;
use std::path::Path;

/// What a record looks like on disk.
#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope<T> {
    version: u32,
    record: T,
}

/// Reads only the version, so that a newer record is told from a broken one.
#[derive(serde::Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Fewer records than this are not worth another thread.
const WORTH_A_THREAD: usize = 32;

/// The records in one folder: `<folder>/<id>/<file>`.
///
/// What is written so that it survives the death of the process alone ([`Durability::Volatile`]) may be empty
/// after a power cut, since no file system but ext4 brings a file to the disk because it is renamed. So the last record that was synced is kept
/// beside it (`<file>.synced`), and an empty one is none.
///
/// A reader refuses a record of a newer version and leaves it alone. One broken file is one lost object: [`Records::load_all`] reports
/// it and goes on.
#[derive(Debug)]
pub struct Records<T> {
    root: Root,
    file: &'static str,
    version: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T: serde::Serialize + serde::de::DeserializeOwned> Records<T> {
    /// The records in `folder` (made if missing, mode 0700), each in a file called `file`, of format `version`.
    ///
    /// # Errors
    /// When the folder can't be made or opened.
    pub fn open(folder: impl AsRef<Path>, file: &'static str, version: u32) -> Result<Self> {
        let host = Root::open_host("/")?;
        let root = Root::from_fd(host.create_dir_all(folder, Mode::RWXU)?);
        Ok(Self { root, file, version, kind: PhantomData })
    }

    /// The folder of `id`, made if missing (mode 0700).
    ///
    /// # Errors
    /// When `id` is not one plain name, or mkdirat(2)'s.
    pub fn folder(&self, id: &str) -> Result<OwnedFd> {
        check_id(id)?;
        self.root.create_dir_all(id, Mode::RWXU)
    }

    /// Writes the record of `id`.
    ///
    /// # Errors
    /// As [`Records::folder`] and [`durable::write`].
    pub fn save(&self, id: &str, record: &T, durability: Durability) -> Result<()> {
        let folder = self.folder(id)?;
        let kept = self.kept();
        if durability == Durability::Volatile {
            durable::keep(&folder, self.file, &kept)?;
        }
        durable::write_json(&folder, self.file, &Envelope { version: self.version, record }, durability)?;
        if durability == Durability::Synced {
            durable::sync_dir(&self.root)?;
            durable::remove(&folder, &kept, Durability::Volatile)?;
        }
        Ok(())
    }

    fn kept(&self) -> String {
        format!("{}.synced", self.file)
    }

    /// The record of `id`, or `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read, is no such record, or is of a newer version.
    pub fn load(&self, id: &str) -> Result<Option<T>> {
        check_id(id)?;
        let folder = match self.root.open_dir(id) {
            Ok(folder) => folder,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        self.read(id, &folder)
    }

    fn read(&self, id: &str, folder: &OwnedFd) -> Result<Option<T>> {
        let Some(bytes) = self.newest(folder)? else { return Ok(None) };
        let fail = |why: String| Error::text("decode", Path::new(id).join(self.file), why);
        let read = serde_json::from_slice::<Envelope<T>>(&bytes);
        // What can't be read may be of a newer version.
        let version = match &read {
            Ok(envelope) => Ok(envelope.version),
            Err(_) => serde_json::from_slice(&bytes).map(|VersionOnly { version }| version),
        };
        let version = version.map_err(|e| fail(e.to_string()))?;
        if version > self.version {
            return Err(fail(format!(
                "version {version} is newer than {}, the newest that this program reads",
                self.version
            )));
        }
        read.map(|envelope| Some(envelope.record)).map_err(|e| fail(e.to_string()))
    }

    /// The bytes of the record, or of the last one that was synced.
    fn newest(&self, folder: &OwnedFd) -> Result<Option<Vec<u8>>> {
        let has_content = |bytes: &Vec<u8>| bytes.iter().any(|byte| *byte != 0);
        match durable::read(folder, self.file)?.filter(has_content) {
            Some(bytes) => Ok(Some(bytes)),
            None => Ok(durable::read(folder, &self.kept())?.filter(has_content)),
        }
    }

    /// Whether `id` has a record, be it one that can't be read.
    pub fn has(&self, id: &str) -> bool {
        !matches!(self.load(id), Ok(None))
    }

    /// For the start, before anyone writes. Every folder's name with its record; folders without one (left by an interrupted creation) come as `Ok(None)`.
    ///
    /// # Errors
    /// When the folder can't be listed; a single record's failure stands in its item.
    pub fn load_all(&self) -> Result<Vec<(String, Result<Option<T>>)>>
    where
        T: Send,
    {
        let names: Vec<String> = self.root.list("/")?.into_iter().filter_map(|n| n.into_string().ok()).collect();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = names.len().div_ceil(threads).max(WORTH_A_THREAD);
        let load = |some: &[String]| some.iter().map(|id| (id.clone(), self.load_first(id))).collect::<Vec<_>>();
        if names.len() <= share {
            return Ok(load(&names));
        }
        // What they give back is in the order of the names.
        Ok(std::thread::scope(|scope| {
            let shares: Vec<_> = names.chunks(share).map(|some| scope.spawn(move || load(some))).collect();
            let joined = shares.into_iter().map(|share| share.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            joined.flatten().collect()
        }))
    }

    /// Removes first what writes that were cut off have left. What can't be removed is in nobody's way.
    fn load_first(&self, id: &str) -> Result<Option<T>> {
        match self.root.open_dir(id) {
            Ok(folder) => {
                let _ = durable::sweep(&folder);
                self.read(id, &folder)
            }
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes durable which objects there are: after one has been moved away.
    ///
    /// # Errors
    /// As [`durable::sync_dir`].
    pub fn sync(&self) -> Result<()> {
        durable::sync_dir(&self.root)
    }

    /// Removes the folder of `id` and all in it, for good.
    ///
    /// # Errors
    /// As [`remove_tree`] and [`durable::sync_dir`].
    pub fn remove(&self, id: &str) -> Result<()> {
        check_id(id)?;
        remove_tree(&self.root, id)?;
        durable::sync_dir(&self.root)
    }
}

fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id == "." || id == ".." || id.contains(['/', '\0']) {
        return Err(Error::text("resolve", id, "not a plain name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn newer_and_broken_records_are_told_apart() {
        let scratch = Scratch::new("records");
        let folder = scratch.path().join("containers");
        let old: Records<u32> = Records::open(&folder, "config.json", 1).unwrap();
        old.save("a", &7, Durability::Synced).unwrap();
        old.save("b", &8, Durability::Volatile).unwrap();
        old.folder("empty").unwrap();
        let new: Records<u32> = Records::open(&folder, "config.json", 2).unwrap();
        assert_eq!(new.load("a").unwrap(), Some(7));
        new.save("b", &9, Durability::Volatile).unwrap();
        assert!(old.load("b").unwrap_err().to_string().contains("newer"));
        std::fs::write(folder.join("a/config.json"), "{\"version\":1,\"rec").unwrap();
        let all = old.load_all().unwrap();
        assert_eq!(
            all.iter().map(|(id, r)| (id.as_str(), r.is_ok())).collect::<Vec<_>>(),
            [("a", false), ("b", false), ("empty", true)]
        );
        old.remove("a").unwrap();
        assert_eq!(old.load("a").unwrap(), None);
        for bad in ["", "..", "a/b"] {
            assert!(old.load(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_power_cut_has_emptied_is_none() {
        let scratch = Scratch::new("emptied");
        let folder = scratch.path().join("containers");
        let records: Records<u32> = Records::open(&folder, "config.json", 1).unwrap();
        records.save("synced", &1, Durability::Synced).unwrap();
        for value in [2, 3] {
            records.save("synced", &value, Durability::Volatile).unwrap();
            assert_eq!(records.load("synced").unwrap(), Some(value));
        }
        records.save("never", &1, Durability::Volatile).unwrap();
        for id in ["synced", "never"] {
            for left in ["", "\0\0\0"] {
                std::fs::write(folder.join(id).join("config.json"), left).unwrap();
                assert_eq!(records.load(id).unwrap(), (id == "synced").then_some(1));
                assert_eq!(records.has(id), id == "synced");
            }
        }
        records.save("synced", &4, Durability::Synced).unwrap();
        assert_eq!(std::fs::read_dir(folder.join("synced")).unwrap().count(), 1);
        assert!(!records.has("missing"));
    }
}
