//! Archives of trees: an overlay's upper folder as a layer, a whole tree as it is.

use crate::extract::{OPAQUE, WHITEOUT, is_whiteout_stat};
use crate::layer::attributes_of;
use crate::lower::is_opaque;
use crate::tar::{Error, Header, Kind, Writer};
use crate::tree::{self, Node};
use crate::unpack::IdsOn;
use naru_base::Result;
use naru_fs::{open_beneath, xattr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

const BUFFER: usize = 256 << 10;
/// No file is larger: a sparse one of exabytes would never end.
const FILE_LIMIT: u64 = 1 << 40;
/// File capabilities (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

/// What the tree is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An overlay's upper folder: its marks become whiteouts.
    Layer,
    /// Files as they are.
    Tree,
}

/// Writes what `upper`, an overlay's upper folder, changes, as an image layer. The same tree gives the same bytes.
///
/// `upper` may be in use: what vanishes meanwhile is left out; a file that shrinks is filled up with zeros. Sockets, and
/// names that can't be told from whiteouts, have no form in a layer and are left out.
///
/// # Errors
/// When a file can't be read, or `out` fails; and for a folder that the overlay renamed without copying (the mount option
/// redirect_dir), whose content is not in `upper`.
pub fn pack_layer(upper: impl AsFd, out: impl Write) -> Result<()> {
    pack(upper, b"", Form::Layer, out)
}

/// Writes all that is below the directory `root`, with ids translated from the file systems' to the archive's.
///
/// # Errors
/// When a file can't be read, or `out` fails.
pub fn pack_tree(root: impl AsFd, ids: Option<IdsOn>, out: impl Write) -> Result<()> {
    let mut packer = Packer::new(b"", Form::Tree, out);
    packer.ids = ids;
    tree::walk(root.as_fd(), |node| packer.entry(node))?;
    packer.finish()
}

/// Writes the entry `name` of the folder `parent`, and all below it, under the name `alias`. Under the alias `/` all names begin with a
/// slash, as docker's do for a container's root.
///
/// # Errors
/// When there is no such entry, a file can't be read, or `out` fails.
pub fn pack_path(parent: impl AsFd, name: &OsStr, alias: &OsStr, out: impl Write) -> Result<()> {
    pack_path_with(parent, name, alias, None, out)
}

/// As [`pack_path`], with ids translated from the file systems' to the archive's.
///
/// # Errors
/// As [`pack_path`].
pub fn pack_path_with(
    parent: impl AsFd,
    name: &OsStr,
    alias: &OsStr,
    ids: Option<IdsOn>,
    out: impl Write,
) -> Result<()> {
    let parent = parent.as_fd();
    let fail = |e: Errno| naru_base::Error::from(naru_fs::Error::new("read", name, e));
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let dir = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            Some(open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(fail)?)
        }
        _ => None,
    };
    let mut packer = Packer::new(alias.as_bytes(), Form::Tree, out);
    packer.ids = ids;
    if alias == "/" {
        packer.prefix.clear();
        packer.rooted = true;
    }
    let node = Node { path: b"", parent, name: name.as_bytes(), stat, dir: dir.as_ref() };
    packer.entry(&node)?;
    if let Some(dir) = &dir {
        tree::walk(dir.as_fd(), |node| packer.entry(node))?;
    }
    packer.finish()
}

fn pack(root: impl AsFd, prefix: &[u8], form: Form, out: impl Write) -> Result<()> {
    let mut packer = Packer::new(prefix, form, out);
    tree::walk(root.as_fd(), |node| packer.entry(node))?;
    packer.finish()
}

struct Packer<W: Write> {
    out: Writer<BufWriter<W>>,
    prefix: Vec<u8>,
    /// Names begin with a slash.
    rooted: bool,
    ids: Option<IdsOn>,
    form: Form,
    /// The first name of each file that has several, by device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn new(prefix: &[u8], form: Form, out: W) -> Self {
        let out = Writer::new(BufWriter::with_capacity(BUFFER, out));
        Self {
            out,
            prefix: prefix.to_vec(),
            rooted: false,
            ids: None,
            form,
            names: HashMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    fn finish(self) -> Result<()> {
        let mut out = self.out.finish().map_err(|e| write_error(&e))?;
        out.flush().map_err(|e| write_error(&e))?;
        Ok(())
    }

    fn translated(&self, mut stat: Stat) -> Stat {
        if let Some(ids) = self.ids.as_ref().filter(|ids| ids.devices.contains(&stat.st_dev)) {
            (stat.st_uid, stat.st_gid) = (ids.map)(stat.st_uid, stat.st_gid);
        }
        stat
    }

    fn entry(&mut self, node: &Node<'_>) -> crate::tar::Result<()> {
        let node = &Node { stat: self.translated(node.stat), ..*node };
        let path = match (self.prefix.is_empty(), node.path.is_empty()) {
            (true, false) if self.rooted => [b"/", node.path].concat(),
            (true, _) => node.path.to_vec(),
            (false, true) => self.prefix.clone(),
            (false, false) => [&self.prefix[..], b"/", node.path].concat(),
        };
        if self.form == Form::Layer {
            if node.name.starts_with(WHITEOUT) {
                return Ok(());
            }
            if is_whiteout_stat(&node.stat) {
                return self.mark(&path, node, &[WHITEOUT, node.name].concat());
            }
        }
        match node.kind() {
            FileType::Directory => self.directory(&path, node),
            FileType::RegularFile => self.regular(&path, node),
            FileType::Symlink => self.symlink(&path, node),
            FileType::CharacterDevice => self.special(&path, node, Kind::CharDevice),
            FileType::BlockDevice => self.special(&path, node, Kind::BlockDevice),
            FileType::Fifo => self.special(&path, node, Kind::Fifo),
            _ => Ok(()),
        }
    }

    fn directory(&mut self, path: &[u8], node: &Node<'_>) -> crate::tar::Result<()> {
        let Some(dir) = node.dir else { return Ok(()) };
        if self.form == Form::Layer && xattr::get(dir, "trusted.overlay.redirect").is_ok_and(|value| value.is_some()) {
            return Err(Error::Unsupported(format!(
                "folder {:?} was renamed by an overlay with redirect_dir: its content is elsewhere",
                String::from_utf8_lossy(path)
            )));
        }
        let xattrs = xattrs_of(dir);
        self.write(&Header { xattrs: &xattrs, ..header(Kind::Directory, path, &node.stat) })?;
        if self.form == Form::Layer && is_opaque(dir) {
            let name = [path, b"/", OPAQUE].concat();
            return self.write(&Header { mode: 0o600, ..header(Kind::File, &name, &node.stat) });
        }
        Ok(())
    }

    /// A whiteout in the folder of `node`.
    fn mark(&mut self, path: &[u8], node: &Node<'_>, name: &[u8]) -> crate::tar::Result<()> {
        let dir = &path[..path.len() - node.name.len()];
        let path = [dir, name].concat();
        self.write(&Header { mode: 0o600, ..header(Kind::File, &path, &node.stat) })
    }

    fn regular(&mut self, path: &[u8], node: &Node<'_>) -> crate::tar::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fail = |e| Error::Io(naru_fs::Error::new("read", OsStr::from_bytes(path), e));
        let fd = match open_beneath(node.parent, OsStr::from_bytes(node.name), flags) {
            Ok(fd) => fd,
            // It vanished, or became something else, after it was listed.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let stat = self.translated(stat);
        if self.link_to_first(path, &stat)? {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > FILE_LIMIT {
            return Err(Error::Limit(format!("file {:?} has {size} bytes", String::from_utf8_lossy(path))));
        }
        let xattrs = xattrs_of(&fd);
        self.write(&Header { size, xattrs: &xattrs, ..header(Kind::File, path, &stat) })?;
        self.content(&fd, size).map_err(|e| match e {
            ContentError::Read(e) => fail(e),
            ContentError::Write(e) => write_error(&e),
        })
    }

    fn content(&mut self, fd: &OwnedFd, size: u64) -> Result<(), ContentError> {
        let mut at = 0;
        while at < size {
            let want = usize::try_from(size - at).unwrap_or(BUFFER).min(BUFFER);
            let buffer = &mut self.buffer[..want];
            let got =
                rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *buffer, at)).map_err(ContentError::Read)?;
            if got == 0 {
                return self.out.fill().map_err(ContentError::Write);
            }
            self.out.data(&buffer[..got]).map_err(ContentError::Write)?;
            at += got as u64;
        }
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], node: &Node<'_>) -> crate::tar::Result<()> {
        if self.link_to_first(path, &node.stat)? {
            return Ok(());
        }
        let target = match rustix::fs::readlinkat(node.parent, node.name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
            Err(e) => return Err(Error::Io(naru_fs::Error::new("readlink", OsStr::from_bytes(path), e))),
        };
        self.write(&Header { link: &target, ..header(Kind::Symlink, path, &node.stat) })
    }

    fn special(&mut self, path: &[u8], node: &Node<'_>, kind: Kind) -> crate::tar::Result<()> {
        if self.link_to_first(path, &node.stat)? {
            return Ok(());
        }
        let device = match kind {
            Kind::Fifo => (0, 0),
            _ => (rustix::fs::major(node.stat.st_rdev), rustix::fs::minor(node.stat.st_rdev)),
        };
        self.write(&Header { device, ..header(kind, path, &node.stat) })
    }

    /// Writes a hard link when the file was written under another name before.
    fn link_to_first(&mut self, path: &[u8], stat: &Stat) -> crate::tar::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        match self.names.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(path.to_vec());
                Ok(false)
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let first = first.get().clone();
                self.write(&Header { link: &first, ..header(Kind::HardLink, path, stat) })?;
                Ok(true)
            }
        }
    }

    fn write(&mut self, header: &Header<'_>) -> crate::tar::Result<()> {
        self.out.header(header).map_err(|e| write_error(&e))
    }
}

enum ContentError {
    Read(Errno),
    Write(io::Error),
}

fn header<'a>(kind: Kind, path: &'a [u8], stat: &Stat) -> Header<'a> {
    let attributes = attributes_of(stat);
    Header {
        kind,
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime,
        ..Header::file(path, 0)
    }
}

/// The attributes that go into an archive: file capabilities and users' own. An attribute that vanishes is left out.
fn xattrs_of(fd: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let wanted =
        |name: &[u8]| name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
    let names = xattr::list(fd).unwrap_or_default();
    let read = |name: std::ffi::OsString| {
        let value = xattr::get(fd, &name).ok()??;
        let name = name.as_bytes().to_vec();
        let value = if name == CAPABILITY { capability_without_namespace(value) } else { value };
        Some((name, value))
    };
    names.into_iter().filter(|name| wanted(name.as_bytes())).filter_map(read).collect()
}

/// Capabilities of revision 3 name a user namespace's root, which means nothing elsewhere: revision 2 says the rest
/// (linux/capability.h, `vfs_ns_cap_data`).
fn capability_without_namespace(mut value: Vec<u8>) -> Vec<u8> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    const LENGTH_2: usize = 20;
    if value.len() > LENGTH_2 && value[3] == REVISION_3 {
        value[3] = REVISION_2;
        value.truncate(LENGTH_2);
    }
    value
}

pub(crate) fn write_error(e: &io::Error) -> Error {
    // An error of ours that went through `io::Write` comes back as it was.
    match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => Error::Receiver(naru_base::error::failed("write an archive", e)),
    }
}
