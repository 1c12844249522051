//! Unpacked layers: one folder per chain id, shared by all images that have it.

use crate::extract::{Attributes, Loose, apply_to_dir, io_error, split, times};
use crate::hash::chain_id;
use crate::ingest::UnpackedLayer;
use crate::lower::{Found, Lower};
use crate::spec::Descriptor;
use crate::tar::Time;
use crate::trash::Trash;
use naru_base::error::Context;
use naru_base::{Digest, Error, Result};
use naru_fs::{Durability, Root, durable, open_beneath, xattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

/// The version of `layer.json`.
const VERSION: u32 = 1;
const RECORD: &str = "layer.json";
/// The folder with the files.
pub(crate) const DIFF: &str = "diff";

/// A layer on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its chain id.
    pub chain_id: Digest,
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// The chain id of the layer below.
    pub parent: Option<Digest>,
    /// Bytes of its files.
    pub size: u64,
    /// The blob that it was unpacked from.
    pub blob: Descriptor,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    layer: Layer,
}

/// `layers/`, with what is in it in memory.
#[derive(Debug)]
pub(crate) struct Layers {
    root: Root,
    path: PathBuf,
    known: RwLock<HashMap<Digest, Arc<Layer>>>,
}

impl Layers {
    /// Reads all records; folders without a good one are reported by name.
    pub(crate) fn open(root: Root, path: PathBuf) -> Result<(Self, Vec<OsString>)> {
        let (mut known, mut bad) = (HashMap::new(), Vec::new());
        for name in root.list("/")? {
            match read_record(&root, &name) {
                Some(layer) if name == layer.chain_id.hex() => {
                    known.insert(layer.chain_id.clone(), Arc::new(layer));
                }
                _ => bad.push(name),
            }
        }
        Ok((Self { root, path, known: RwLock::new(known) }, bad))
    }

    pub(crate) fn get(&self, chain: &Digest) -> Option<Arc<Layer>> {
        crate::store::read(&self.known).get(chain).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Digest> {
        crate::store::read(&self.known).keys().cloned().collect()
    }

    /// Where the layer's files are.
    pub(crate) fn diff_path(&self, chain: &Digest) -> PathBuf {
        self.path.join(chain.hex()).join(DIFF)
    }

    /// The folders of the chain that ends in `chain`, topmost first.
    pub(crate) fn chain(&self, chain: Option<&Digest>) -> Result<Vec<Arc<Layer>>> {
        let mut layers = Vec::new();
        let mut next = chain.cloned();
        while let Some(id) = next {
            let layer = self.get(&id).ok_or_else(|| Error::not_found(format!("layer {id} is not in the store")))?;
            next = layer.parent.clone();
            layers.push(layer);
        }
        Ok(layers)
    }

    pub(crate) fn paths(&self, chain: Option<&Digest>) -> Result<Vec<PathBuf>> {
        Ok(self.chain(chain)?.iter().map(|layer| self.diff_path(&layer.chain_id)).collect())
    }

    /// Puts an unpacked layer on top of `parent`: answers what only the lower layers know, and publishes it.
    pub(crate) fn commit(&self, unpacked: &UnpackedLayer, parent: Option<&Digest>) -> Result<Arc<Layer>> {
        let id = chain_id(parent, unpacked.diff_id());
        if let Some(known) = self.get(&id) {
            return Ok(known);
        }
        let work = unpacked.layer_dir()?;
        let diff =
            open_beneath(work.as_fd(), DIFF, OFlags::RDONLY | OFlags::DIRECTORY).system("open the layer's folder")?;
        let loose = unpacked.loose();
        if !loose.implicit.is_empty() || !loose.links.is_empty() {
            let lower = Lower::open(&self.paths(parent)?)?;
            settle(&diff, loose, &lower)?;
        }
        let layer = Layer {
            chain_id: id.clone(),
            diff_id: unpacked.diff_id().clone(),
            parent: parent.cloned(),
            size: unpacked.size(),
            blob: unpacked.blob().clone(),
        };
        let record = Record { version: VERSION, layer: layer.clone() };
        durable::write_json(&work, RECORD, &record, Durability::Volatile)?;
        if !unpacked.publish_layer(self.root.as_fd(), id.hex())? {
            // Another ingest of the same content was first.
            return self.get(&id).ok_or_else(|| Error::system(format!("layer {id} is there but not known")));
        }
        let layer = Arc::new(layer);
        crate::store::write(&self.known).insert(id, Arc::clone(&layer));
        Ok(layer)
    }

    /// Moves a layer out of sight, to be removed later.
    pub(crate) fn discard(&self, name: &OsStr, trash: &Trash) -> Result<()> {
        let chain = name.to_str().map(|name| Digest::parse(&format!("{}{name}", Digest::PREFIX)));
        if let Some(Ok(chain)) = &chain {
            crate::store::write(&self.known).remove(chain);
        }
        trash.take(self.root.as_fd(), name)
    }
}

/// Bytes of the files of the layer in the folder `name`; 0 for what is none.
pub(crate) fn record_size(root: &Root, name: &OsStr) -> u64 {
    read_record(root, name).map_or(0, |layer| layer.size)
}

fn read_record(root: &Root, name: &OsStr) -> Option<Layer> {
    let folder = root.open_dir(name).ok()?;
    let record: Record = durable::read_json(&folder, RECORD).ok()??;
    (record.version == VERSION).then_some(record.layer)
}

/// Gives folders that the archive had no entry for the attributes of the lower ones that they cover, and makes copies of
/// lower files for hard links to them.
fn settle(diff: &OwnedFd, loose: &Loose, lower: &Lower) -> Result<()> {
    for path in &loose.implicit {
        let components = split(path)?;
        let Some(found) = lower.find(&components)? else { continue };
        if FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory
            && let Some(name) = components.last()
        {
            let dir = open_beneath(diff.as_fd(), OsStr::from_bytes(path), OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|e| io_error("open", path, e))?;
            copy_attributes(&found, name, &dir).map_err(|e| io_error("set attributes of", path, e))?;
        }
    }
    let mut copies: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (path, target) in &loose.links {
        let (dir, name) = parent_of(diff.as_fd(), path)?;
        let before = rustix::fs::fstat(&dir).system("stat a layer's folder")?;
        let first = copies.get(target.as_slice()).copied().unwrap_or(target);
        let (source_dir, source_name) = match parent_of(diff.as_fd(), first) {
            Ok((dir, name)) => (Some(dir), name),
            Err(_) => (None, first),
        };
        let linked = source_dir
            .is_some_and(|source| rustix::fs::linkat(&source, source_name, &dir, name, AtFlags::empty()).is_ok());
        if !linked {
            let missing = || {
                Error::invalid(format!(
                    "archive entry {:?} is a hard link to {:?}, which does not exist",
                    String::from_utf8_lossy(path),
                    String::from_utf8_lossy(target)
                ))
            };
            let components = split(target)?;
            let found = lower.find(&components)?.ok_or_else(missing)?;
            let source = components.last().ok_or_else(missing)?;
            copy_file(&found, source, &dir, name)?;
            copies.insert(target, path);
        }
        let time = Time { seconds: before.st_mtime, nanos: u32::try_from(before.st_mtime_nsec).unwrap_or(0) };
        rustix::fs::futimens(&dir, &times(time)).map_err(|e| io_error("set attributes of", path, e))?;
    }
    Ok(())
}

fn parent_of<'a>(root: BorrowedFd<'_>, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8])> {
    let (dir, name) = match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let fd = open_beneath(root, OsStr::from_bytes(dir), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|e| io_error("open", dir, e))?;
    Ok((fd, name))
}

pub(crate) fn attributes_of(stat: &Stat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
    }
}

fn copy_attributes(found: &Found, name: &[u8], to: &OwnedFd) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name);
    for attribute in xattr::list_at(&found.parent, name)? {
        if !attribute.as_bytes().starts_with(b"trusted.overlay.")
            && let Some(value) = xattr::get_at(&found.parent, name, &attribute)?
        {
            xattr::set(to, &attribute, &value)?;
        }
    }
    apply_to_dir(to.as_fd(), &attributes_of(&found.stat))
}

/// Copies a lower regular file or link, with its attributes.
fn copy_file(found: &Found, name: &[u8], to_dir: &OwnedFd, to_name: &[u8]) -> Result<()> {
    let fail = |e| io_error("copy", to_name, e);
    match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::RegularFile => {
            let from = open_beneath(found.parent.as_fd(), OsStr::from_bytes(name), OFlags::RDONLY).map_err(fail)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(to_dir, to_name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
            naru_fs::copy::file(&from, &to)?;
            rustix::fs::fchown(&to, Some(Uid::from_raw(found.stat.st_uid)), Some(Gid::from_raw(found.stat.st_gid)))
                .map_err(fail)?;
            copy_attributes(found, name, &to).map_err(fail)?;
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found.parent, name, Vec::new()).map_err(fail)?;
            rustix::fs::symlinkat(&target, to_dir, to_name).map_err(fail)?;
            let (uid, gid) = (Uid::from_raw(found.stat.st_uid), Gid::from_raw(found.stat.st_gid));
            rustix::fs::chownat(to_dir, to_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        _ => return Err(Error::invalid("a hard link to what is neither a file nor a link in a lower layer")),
    }
    Ok(())
}
