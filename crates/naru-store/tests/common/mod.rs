//! What the store's tests share: a scratch folder, archives made by hand, trees made to text.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use naru_base::{Digest, Result};
use naru_store::spec::{Descriptor, media_type};
use naru_store::tar::{Header, Kind, Time, Writer};
use naru_store::{Store, UnpackedLayer, digest_of};
use std::fmt::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when it goes out of scope.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    /// In memory where that keeps extended attributes: for thousands of small trees.
    pub fn in_memory(name: &str) -> Self {
        if Path::new("/dev/shm").is_dir() {
            let scratch = Self::below(Path::new("/dev/shm"), name);
            let folder = std::fs::File::open(scratch.path()).unwrap();
            if naru_fs::xattr::set(&folder, "user.note", b"x").is_ok() {
                return scratch;
            }
        }
        Self::new(name)
    }

    fn below(folder: &Path, name: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("naru-store-{name}-{}-{serial}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn store(&self) -> Store {
        // Another test's child has a copy of the lock's descriptor between fork and exec.
        for _ in 0..500 {
            match Store::open(self.join("store")) {
                Err(e) if e.class() == naru_base::Class::Conflict => {}
                opened => return opened.unwrap(),
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Store::open(self.join("store")).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = naru_fs::Root::open_host(self.0.parent().unwrap()).unwrap();
        naru_fs::remove_tree(&parent, self.0.file_name().unwrap()).unwrap();
    }
}

/// An archive made entry by entry.
pub struct Archive(Writer<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub fn with(mut self, header: &Header<'_>, content: &[u8]) -> Self {
        self.0.header(header).unwrap();
        self.0.data(content).unwrap();
        self
    }

    pub fn file(self, path: &str, content: &str) -> Self {
        let header = Header::file(path.as_bytes(), content.len() as u64);
        self.with(&header, content.as_bytes())
    }

    pub fn dir(self, path: &str) -> Self {
        self.with(&Header::directory(path.as_bytes()), b"")
    }

    pub fn dir_with(self, path: &str, mode: u32, uid: u32, seconds: i64) -> Self {
        let mtime = Time { seconds, nanos: 0 };
        self.with(&Header { mode, uid, gid: uid, mtime, ..Header::directory(path.as_bytes()) }, b"")
    }

    pub fn link(self, kind: Kind, path: &str, target: &str) -> Self {
        self.with(&Header { kind, link: target.as_bytes(), ..Header::file(path.as_bytes(), 0) }, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(Kind::Symlink, path, target)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(Kind::HardLink, path, target)
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn descriptor(blob: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, digest_of(blob), blob.len() as u64)
}

/// Takes in a whole blob.
pub fn unpack(store: &Store, blob: &[u8]) -> Result<UnpackedLayer> {
    let mut ingest = store.ingest(descriptor(blob))?;
    let from = usize::try_from(ingest.resume_offset()).unwrap();
    for piece in blob[from..].chunks(10_000) {
        ingest.write(piece)?;
    }
    ingest.finish(None)
}

/// Takes in a blob on top of `parent`; the chain id.
pub fn layer(store: &Store, blob: &[u8], parent: Option<&Digest>) -> Digest {
    let unpacked = unpack(store, blob).unwrap();
    store.commit_layer(unpacked, parent).unwrap().chain_id.clone()
}

pub fn diff_dir(scratch: &Scratch, chain: &Digest) -> PathBuf {
    scratch.join("store").join("layers").join(chain.hex()).join("diff")
}

/// A configuration with these layers.
pub fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let ids: Vec<String> = diff_ids.iter().map(|d| format!("{:?}", d.as_str())).collect();
    let ids = ids.join(",");
    format!(
        r#"{{"architecture":"amd64","config":{{"Cmd":["sh"]}},"os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}},"x-extra":1}}"#
    )
    .into_bytes()
}

pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All that is in a tree, one line for each entry: type, mode, owner, time, links, content.
pub fn describe(root: &Path) -> String {
    let mut out = String::new();
    let mut inodes: Vec<(u64, PathBuf)> = Vec::new();
    visit(root, root, &mut inodes, &mut out);
    out
}

fn visit(root: &Path, dir: &Path, inodes: &mut Vec<(u64, PathBuf)>, out: &mut String) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        write!(out, "{:?} {:o} {}:{} {} ", name, meta.mode(), meta.uid(), meta.gid(), meta.mtime()).unwrap();
        let kind = meta.file_type();
        if kind.is_symlink() {
            writeln!(out, "-> {:?}", std::fs::read_link(&path).unwrap()).unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            writeln!(out, "device {:x}", meta.rdev()).unwrap();
        } else if kind.is_file() {
            let first = inodes.iter().find(|(inode, _)| *inode == meta.ino()).map(|(_, first)| first.clone());
            match first {
                Some(first) => writeln!(out, "= {first:?}").unwrap(),
                None => {
                    inodes.push((meta.ino(), name));
                    writeln!(out, "{}", digest_of(&std::fs::read(&path).unwrap())).unwrap();
                }
            }
        } else {
            out.push('\n');
            if kind.is_dir() {
                visit(root, &path, inodes, out);
            }
        }
    }
}
