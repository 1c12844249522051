//! Blobs: files named by the digest of their content.

use crate::hash::digest_of;
use crate::trash::Trash;
use naru_base::error::Context;
use naru_base::{Digest, Error, Result};
use naru_fs::{Durability, Root, durable};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;

/// `blobs/sha256`.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: Root,
}

impl Blobs {
    pub(crate) fn new(root: Root) -> Self {
        Self { root }
    }

    /// Stores `bytes` (not yet durably: the index is written after a syncfs).
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = digest_of(bytes);
        if !self.has(&digest) {
            durable::write(&self.root, digest.hex(), bytes, Durability::Volatile)?;
        }
        Ok(digest)
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        let stat = rustix::fs::statat(&self.root, digest.hex(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<File> {
        match self.root.open(digest.hex(), OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(File::from(fd)),
            Err(e) if e.is_not_found() => Err(Error::not_found(format!("blob {digest} is not in the store"))),
            Err(e) => Err(e.into()),
        }
    }

    /// The whole of a small blob, checked against its digest.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?.take(limit + 1).read_to_end(&mut bytes).system(format!("read blob {digest}"))?;
        if bytes.len() as u64 > limit {
            return Err(Error::system(format!("blob {digest} has more than {limit} bytes")));
        }
        if digest_of(&bytes) != *digest {
            return Err(Error::system(format!("blob {digest} is damaged: its content has another digest")));
        }
        Ok(bytes)
    }

    /// Gives the file `name` in the folder `dir` its place among the blobs.
    pub(crate) fn adopt(&self, dir: &OwnedFd, name: &str, digest: &Digest) -> Result<()> {
        naru_sys::fault::point();
        rustix::fs::renameat(dir, name, &self.root, digest.hex()).system(format!("publish blob {digest}"))
    }

    /// A second name of the blob in the folder `dir`; whether there is such a blob.
    pub(crate) fn lend(&self, digest: &Digest, dir: &OwnedFd, name: &str) -> Result<bool> {
        naru_sys::fault::point();
        match rustix::fs::linkat(&self.root, digest.hex(), dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e).system(format!("lend blob {digest}")),
        }
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<()> {
        Ok(durable::remove(&self.root, digest.hex(), Durability::Volatile)?)
    }

    /// Moves a blob out of sight, to be removed later.
    pub(crate) fn discard(&self, digest: &Digest, trash: &Trash) -> Result<()> {
        trash.take(self.root.as_fd(), digest.hex().as_ref())
    }

    /// The digests of all blobs.
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        let names = self.root.list("/")?;
        let digest = |name: std::ffi::OsString| Digest::parse(&format!("{}{}", Digest::PREFIX, name.to_str()?)).ok();
        Ok(names.into_iter().filter_map(digest).collect())
    }

    /// Removes what writes that were cut short left.
    pub(crate) fn sweep(&self) -> Result<()> {
        Ok(durable::sweep(self.root.as_fd())?)
    }
}
