//! The writer: POSIX (PAX) archives with the same bytes for the same tree.

use super::{Kind, Time};
use std::io::{self, Write};

const BLOCK: usize = 512;
/// The longest value that an octal field of 8 bytes holds (with its NUL).
const OCTAL_8: u64 = 0o7_777_777;
/// The same for a field of 12 bytes.
const OCTAL_12: u64 = 0o77_777_777_777;

/// What is written about an entry.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its name, without a slash at the start or the end.
    pub path: &'a [u8],
    /// The target of a link.
    pub link: &'a [u8],
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content; only whole seconds are written.
    pub mtime: Time,
    /// Length of a file.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, name and value.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Header<'a> {
    /// A regular file of root's with mode 0644 and the time 0.
    pub fn file(path: &'a [u8], size: u64) -> Self {
        Self {
            kind: Kind::File,
            path,
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size,
            device: (0, 0),
            xattrs: &[],
        }
    }

    /// A directory of root's with mode 0755 and the time 0.
    pub fn directory(path: &'a [u8]) -> Self {
        Self { kind: Kind::Directory, mode: 0o755, ..Self::file(path, 0) }
    }
}

/// Writes an archive. After each file's header exactly as many bytes as it announced must be written with
/// [`Writer::data`].
pub struct Writer<W> {
    inner: W,
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// A writer at the start of an archive.
    pub fn new(inner: W) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// Begins an entry.
    ///
    /// # Errors
    /// When the entry before has less content than announced, and `inner`'s.
    pub fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.close_entry()?;
        let mut path = header.path.to_vec();
        if header.kind == Kind::Directory {
            path.push(b'/');
        }
        let records = pax_records(header, &path);
        if !records.is_empty() {
            let mut block = Block::new(b'x');
            block.text(0, 100, b"PaxHeaders.0/entry");
            block.number(100, 8, 0o644);
            block.number(124, 12, records.len() as u64);
            self.inner.write_all(&block.finish())?;
            self.inner.write_all(&records)?;
            self.inner.write_all(&[0; BLOCK][..pad(records.len() as u64)])?;
        }
        self.inner.write_all(&main_block(header, &path))?;
        self.left = if header.kind == Kind::File { header.size } else { 0 };
        self.padding = pad(self.left);
        if self.left == 0 {
            self.close_entry()?;
        }
        Ok(())
    }

    /// Writes content of the current file.
    ///
    /// # Errors
    /// When it is more than announced, and `inner`'s.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if length > self.left {
            return Err(io::Error::other("archive entry has more content than announced"));
        }
        self.inner.write_all(bytes)?;
        self.left -= length;
        Ok(())
    }

    /// Fills what is missing of the current file's content with zeros.
    ///
    /// # Errors
    /// `inner`'s.
    pub fn fill(&mut self) -> io::Result<()> {
        const ZEROS: [u8; 8192] = [0; 8192];
        while self.left > 0 {
            let now = usize::try_from(self.left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.data(&ZEROS[..now])?;
        }
        Ok(())
    }

    /// A whole small file.
    ///
    /// # Errors
    /// `inner`'s.
    pub fn file(&mut self, header: &Header<'_>, bytes: &[u8]) -> io::Result<()> {
        self.header(&Header { size: bytes.len() as u64, ..header.clone() })?;
        self.data(bytes)
    }

    /// Writes the end mark and returns what was written to.
    ///
    /// # Errors
    /// As [`Writer::header`].
    pub fn finish(mut self) -> io::Result<W> {
        self.close_entry()?;
        self.inner.write_all(&[0; 2 * BLOCK])?;
        Ok(self.inner)
    }

    fn close_entry(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("archive entry has less content than announced"));
        }
        self.inner.write_all(&[0; BLOCK][..self.padding])?;
        self.padding = 0;
        Ok(())
    }
}

fn pad(length: u64) -> usize {
    ((BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64) as usize
}

fn main_block(header: &Header<'_>, path: &[u8]) -> [u8; BLOCK] {
    let mut block = Block::new(match header.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    });
    match split_ustar(path) {
        Some((prefix, name)) => {
            block.text(0, 100, name);
            block.text(345, 155, prefix);
        }
        None => block.text(0, 100, path),
    }
    block.number(100, 8, u64::from(header.mode));
    block.number(108, 8, u64::from(header.uid).min(OCTAL_8));
    block.number(116, 8, u64::from(header.gid).min(OCTAL_8));
    let size = if header.kind == Kind::File { header.size } else { 0 };
    block.number(124, 12, size.min(OCTAL_12));
    block.number(136, 12, u64::try_from(header.mtime.seconds).unwrap_or(0).min(OCTAL_12));
    block.text(157, 100, header.link);
    if matches!(header.kind, Kind::CharDevice | Kind::BlockDevice) {
        block.number(329, 8, u64::from(header.device.0).min(OCTAL_8));
        block.number(337, 8, u64::from(header.device.1).min(OCTAL_8));
    }
    block.finish()
}

/// The records for what a plain header can't hold, in a fixed order.
fn pax_records(header: &Header<'_>, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !path.is_ascii() || (path.len() > 100 && split_ustar(path).is_none()) {
        record(&mut out, b"path", path);
    }
    if !header.link.is_ascii() || header.link.len() > 100 {
        record(&mut out, b"linkpath", header.link);
    }
    if header.kind == Kind::File && header.size > OCTAL_12 {
        record(&mut out, b"size", header.size.to_string().as_bytes());
    }
    if u64::from(header.uid) > OCTAL_8 {
        record(&mut out, b"uid", header.uid.to_string().as_bytes());
    }
    if u64::from(header.gid) > OCTAL_8 {
        record(&mut out, b"gid", header.gid.to_string().as_bytes());
    }
    if !(0..=OCTAL_12.cast_signed()).contains(&header.mtime.seconds) {
        record(&mut out, b"mtime", header.mtime.seconds.to_string().as_bytes());
    }
    for (name, value) in header.xattrs {
        record(&mut out, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    out
}

/// `length key=value\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A path of more than 100 bytes as ustar's prefix and name, if there is a slash at the right place.
fn split_ustar(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return None;
    }
    let earliest = path.len().checked_sub(101)?;
    let slash = (earliest..path.len().saturating_sub(1).min(156)).find(|&at| path[at] == b'/' && at > 0)?;
    Some((&path[..slash], &path[slash + 1..]))
}

struct Block([u8; BLOCK]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.0[156] = kind;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        for at in [108, 116] {
            block.number(at, 8, 0);
        }
        block.number(136, 12, 0);
        block
    }

    fn text(&mut self, at: usize, width: usize, text: &[u8]) {
        let length = text.len().min(width);
        self.0[at..at + length].copy_from_slice(&text[..length]);
    }

    /// Octal digits, then a NUL.
    fn number(&mut self, at: usize, width: usize, value: u64) {
        let text = format!("{value:0digits$o}", digits = width - 1);
        self.text(at, width - 1, text.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|&b| u64::from(b)).sum();
        let text = format!("{sum:06o}\0");
        self.0[148..155].copy_from_slice(text.as_bytes());
        self.0
    }
}
