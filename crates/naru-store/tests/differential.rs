//! Our unpacking beside GNU tar's, on archives made at random: every header format, names of any bytes, sizes in the header and beside it,
//! sparse files, the same name several times. Where both take an archive, the same files come out; where only one does, it is for a reason that
//! is listed here. `NARU_TAR_SECONDS` is how long it goes on, `NARU_TAR_SEED` the first archive's number (1).

mod common;

use common::{Scratch, diff_dir, unpack};
use naru_base::Error;
use naru_store::{Store, digest_of};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SECONDS: u64 = 15;
/// Without being told how long: always the same archives.
const MOST: u64 = 4000;
const BLOCK: usize = 512;
/// Times in archives are before this one; what is later was made just now.
const PAST: u32 = 1_700_000_000;

/// What we refuse and GNU tar does not, or not always: it follows links that an archive has made, and takes away `..` with a warning.
const STRICTER: &[&str] = &[
    "contains ..",
    "links are not followed",
    "leads through a link",
    "hard link to the root",
    "hard link to a directory",
    "which does not exist",
    "the root is not a directory",
];

struct Random(u64);

impl Random {
    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u32) -> u32 {
        ((self.next() >> 32) % u64::from(end)) as u32
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len() as u32) as usize]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| (self.next() >> 40) as u8).take(length).collect()
    }
}

/// One entry before it has a form.
struct Entry {
    path: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u32,
    device: (u32, u32),
    content: Vec<u8>,
    /// Data at these places in a file of this size.
    sparse: Option<(Vec<(u64, Vec<u8>)>, u64)>,
    xattr: Option<Vec<u8>>,
}

fn path(random: &mut Random, utf8: bool) -> Vec<u8> {
    let long = "l".repeat(120);
    let short: [&[u8]; 12] =
        [b"a", b"b", b"c", b"d", b"-n", b"x y", "ü".as_bytes(), b".h", b"..a", b"...", long.as_bytes(), b"a\nb"];
    let mut parts: Vec<&[u8]> = (0..=random.below(4)).map(|_| random.pick(&short)).collect();
    if !utf8 && random.one_in(6) {
        parts.push(b"\xff\xfe");
    }
    if random.one_in(60) {
        parts.insert(0, b"..");
    }
    let mut path = parts.join(random.pick(&[&b"/"[..], b"/", b"/", b"//"]));
    if random.one_in(8) {
        path = [random.pick(&[&b"./"[..], b"/"]), &path].concat();
    }
    path
}

fn entry(random: &mut Random, known: &[Vec<u8>], utf8: bool) -> Entry {
    let again = !known.is_empty() && random.one_in(8);
    let mut path = if again { known[random.below(known.len() as u32) as usize].clone() } else { path(random, utf8) };
    let mut kind = random.pick(&[b"0", b"0", b"0", b"5", b"5", b"2", b"1", b"6", b"3", b"4", b"7", b"\0", b"S"])[0];
    if kind == b'1' && (again || known.is_empty()) {
        kind = b'0';
    }
    // To GNU tar anything whose name ends in a slash is a folder, and to Go only what has no type.
    path.truncate(path.len() - path.iter().rev().take_while(|&&b| b == b'/').count());
    let target = |random: &mut Random| match known.len() {
        0 => b"a".to_vec(),
        n => known[random.below(n as u32) as usize].clone(),
    };
    let link = match kind {
        b'1' => target(random),
        b'2' if random.one_in(2) => target(random),
        b'2' => random.pick(&[&b"../x"[..], b"/etc/passwd", b"a", b"\xc3\xbc", b"nowhere/at/all"]).to_vec(),
        _ => Vec::new(),
    };
    if kind == b'5' && random.one_in(2) {
        path.push(b'/');
    }
    let mut made = Entry {
        path,
        kind,
        link,
        mode: random.below(0o10000) | 0o400,
        uid: if random.one_in(4) { random.below(3_000_000) } else { random.below(3) },
        gid: random.below(70_000),
        mtime: random.below(PAST),
        device: (1 + random.below(200), random.below(200)),
        content: Vec::new(),
        sparse: None,
        xattr: None,
    };
    let length = [0, 1, 511, 512, 513, 3000, 70_000][random.below(7) as usize];
    match kind {
        b'0' | b'7' | 0 => {
            made.content = if random.one_in(5) { vec![0; length] } else { random.bytes(length) };
            made.xattr = (utf8 && random.one_in(4)).then(|| random.bytes(20));
        }
        b'S' => {
            let (mut at, mut parts) = (0, Vec::new());
            for _ in 0..random.below(9) {
                at += u64::from(random.below(40)) * BLOCK as u64;
                let piece = BLOCK * (1 + random.below(3) as usize);
                parts.push((at, random.bytes(piece)));
                at += piece as u64;
            }
            made.sparse = Some((parts, at + u64::from(random.below(9000))));
        }
        _ => {}
    }
    made
}

/// Octal when it fits, else GNU's base 256.
fn number(field: &mut [u8], value: u64, random: &mut Random) {
    let digits = field.len() - 1;
    let text = format!("{value:o}");
    if text.len() <= digits && !random.one_in(12) {
        field[..digits].copy_from_slice(format!("{value:0>digits$o}").as_bytes());
    } else {
        let bytes = value.to_be_bytes();
        let from = field.len().saturating_sub(8);
        let take = field.len().min(8);
        field[from..].copy_from_slice(&bytes[8 - take..]);
        field[0] |= 0x80;
    }
}

fn header(e: &Entry, name: &[u8], link: &[u8], kind: u8, size: u64, gnu: bool, random: &mut Random) -> Vec<u8> {
    let mut block = vec![0_u8; BLOCK];
    let put = |block: &mut Vec<u8>, at: usize, limit: usize, bytes: &[u8]| {
        let length = bytes.len().min(limit);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(&mut block, 0, 100, name);
    number(&mut block[100..108], e.mode.into(), random);
    number(&mut block[108..116], e.uid.into(), random);
    number(&mut block[116..124], e.gid.into(), random);
    number(&mut block[124..136], size, random);
    number(&mut block[136..148], e.mtime.into(), random);
    block[156] = kind;
    put(&mut block, 157, 100, link);
    block[257..265].copy_from_slice(if gnu { b"ustar  \0" } else { b"ustar\x0000" });
    // No device number of Linux needs base 256, and tar-core doesn't read it there.
    put(&mut block, 329, 8, format!("{:07o}", e.device.0).as_bytes());
    put(&mut block, 337, 8, format!("{:07o}", e.device.1).as_bytes());
    block
}

/// Writes the checksum in, and the block out.
fn seal(out: &mut Vec<u8>, mut block: Vec<u8>) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(block);
}

fn padded(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// GNU's form: long names in entries before.
fn write_gnu(out: &mut Vec<u8>, e: &Entry, random: &mut Random) {
    for (kind, text) in [(b'L', &e.path), (b'K', &e.link)] {
        if text.len() >= 100 {
            let long = [text, &b"\0"[..]].concat();
            let block = header(e, b"././@LongLink", b"", kind, long.len() as u64, true, random);
            seal(out, block);
            padded(out, &long);
        }
    }
    let Some((parts, real)) = &e.sparse else {
        let block = header(e, &e.path, &e.link, e.kind, e.content.len() as u64, true, random);
        seal(out, block);
        return padded(out, &e.content);
    };
    let stored: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut block = header(e, &e.path, b"", b'S', stored as u64, true, random);
    block[345..].fill(0);
    let octal = |at: u64| format!("{at:011o}\0").into_bytes();
    let mut places: Vec<(u64, u64)> = parts.iter().map(|(at, bytes)| (*at, bytes.len() as u64)).collect();
    places.push((*real, 0));
    let put = |block: &mut [u8], places: &[(u64, u64)]| {
        for (slot, (at, length)) in block.chunks_mut(24).zip(places) {
            slot[..12].copy_from_slice(&octal(*at));
            slot[12..24].copy_from_slice(&octal(*length));
        }
    };
    let (first, rest) = places.split_at(places.len().min(4));
    put(&mut block[386..386 + 96], first);
    block[482] = u8::from(!rest.is_empty());
    block[483..495].copy_from_slice(&octal(*real));
    seal(out, block);
    let more: Vec<_> = rest.chunks(21).collect();
    for (at, places) in more.iter().enumerate() {
        let mut block = vec![0; BLOCK];
        put(&mut block[..504], places);
        block[504] = u8::from(at + 1 < more.len());
        out.extend(block);
    }
    padded(out, &parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>());
}

/// A record of an extended header: its own length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..6).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all).unwrap_or(rest);
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// POSIX's form: what a header can't say, and some of what it could, in an entry before.
fn write_pax(out: &mut Vec<u8>, e: &Entry, random: &mut Random) {
    let mut records = Vec::new();
    let mut content = e.content.clone();
    let mut name = e.path.clone();
    if let Some((parts, real)) = &e.sparse {
        let places: Vec<(u64, u64)> =
            parts.iter().map(|(at, bytes)| (*at, bytes.len() as u64)).chain([(*real, 0)]).collect();
        content = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        name = b"GNUSparseFile.0/x".to_vec();
        match random.below(3) {
            0 => {
                records.push(record("GNU.sparse.size", real.to_string().as_bytes()));
                records.push(record("GNU.sparse.numblocks", places.len().to_string().as_bytes()));
                for (at, length) in &places {
                    records.push(record("GNU.sparse.offset", at.to_string().as_bytes()));
                    records.push(record("GNU.sparse.numbytes", length.to_string().as_bytes()));
                }
                name.clone_from(&e.path);
                if name.len() >= 100 {
                    records.push(record("path", &e.path));
                }
            }
            1 => {
                let map: Vec<String> = places.iter().map(|(at, length)| format!("{at},{length}")).collect();
                records.push(record("GNU.sparse.name", &e.path));
                records.push(record("GNU.sparse.size", real.to_string().as_bytes()));
                records.push(record("GNU.sparse.numblocks", places.len().to_string().as_bytes()));
                records.push(record("GNU.sparse.map", map.join(",").as_bytes()));
            }
            _ => {
                records.push(record("GNU.sparse.major", b"1"));
                records.push(record("GNU.sparse.minor", b"0"));
                records.push(record("GNU.sparse.name", &e.path));
                records.push(record("GNU.sparse.realsize", real.to_string().as_bytes()));
                let mut map = format!("{}\n", places.len());
                for (at, length) in &places {
                    let _ = write!(map, "{at}\n{length}\n");
                }
                let mut all = Vec::new();
                padded(&mut all, map.as_bytes());
                all.extend(content);
                content = all;
            }
        }
    } else if name.len() >= 100 || random.one_in(3) {
        records.push(record("path", &e.path));
        if random.one_in(2) {
            name = b"PaxHeaders/other".to_vec();
        }
    }
    if e.link.len() >= 100 || (!e.link.is_empty() && random.one_in(3)) {
        records.push(record("linkpath", &e.link));
    }
    let mut size = content.len() as u64;
    if random.one_in(3) && e.sparse.is_none() && !content.is_empty() {
        // The header may lie then.
        records.push(record("size", size.to_string().as_bytes()));
        size = if random.one_in(2) { 0 } else { size };
    }
    if random.one_in(4) {
        records.push(record("mtime", format!("{}.25", e.mtime).as_bytes()));
        records.push(record("uid", e.uid.to_string().as_bytes()));
        records.push(record("gid", e.gid.to_string().as_bytes()));
    }
    if let Some(value) = &e.xattr {
        records.push(record("SCHILY.xattr.user.note", value));
    }
    if random.one_in(10) {
        records.push(record("comment", "anything ü".as_bytes()));
    }
    if !records.is_empty() {
        let all = records.concat();
        let block = header(e, b"PaxHeaders/x", b"", b'x', all.len() as u64, false, random);
        seal(out, block);
        padded(out, &all);
    }
    let kind = if e.sparse.is_some() { b'0' } else { e.kind };
    let block = header(e, &name, &e.link, kind, size, false, random);
    seal(out, block);
    padded(out, &content);
}

/// The archive of this number, and whether in it a folder or a symbolic link has a second entry: GNU tar then gives that
/// the folder's attributes, or makes the link again at the end.
fn archive(seed: u64) -> (Vec<u8>, bool) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.next();
    let pax = random.one_in(2);
    let mut out = Vec::new();
    if pax && random.one_in(8) {
        let all = record("comment", b"of all");
        let of_all = Entry { path: Vec::new(), ..entry(&mut random, &[], true) };
        let block = header(&of_all, b"g", b"", b'g', all.len() as u64, false, &mut random);
        seal(&mut out, block);
        padded(&mut out, &all);
    }
    let (mut known, mut seen, mut replaced) = (Vec::new(), Vec::new(), false);
    for _ in 0..=random.below(9) {
        let made = entry(&mut random, &known, pax);
        let parts = made.path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let plain: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
        // Its work on folders and links is put off to the end; what comes over it then is its own affair.
        let late = |kind: u8| matches!(kind, b'5' | b'2');
        let over = |(path, kind): &(Vec<Vec<u8>>, u8)| *path == plain && (late(*kind) || late(made.kind));
        replaced |= seen.iter().any(over);
        // A folder that it has made for an entry below, under another spelling of its name, keeps the mode of that.
        let below = |(path, _): &(Vec<Vec<u8>>, u8)| path.len() > plain.len() && path.starts_with(&plain);
        replaced |= made.kind == b'5' && seen.iter().any(below);
        seen.push((plain, made.kind));
        if pax {
            write_pax(&mut out, &made, &mut random)
        } else {
            write_gnu(&mut out, &made, &mut random)
        }
        known.push(made.path);
    }
    out.resize(out.len() + [0, 1, 2, 2, 2, 20][random.below(6) as usize] * BLOCK, 0);
    (out, replaced)
}

/// A time that is in no archive.
const NOW: &str = " now";

/// All that is in a tree: names, and a line for each.
type Tree = BTreeMap<PathBuf, String>;

fn describe(root: &Path) -> Tree {
    let (mut out, mut inodes) = (Tree::new(), Vec::new());
    visit(root, root, &mut inodes, &mut out);
    out
}

fn visit(root: &Path, dir: &Path, inodes: &mut Vec<(u64, PathBuf)>, out: &mut Tree) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = meta.file_type();
        let mode = if kind.is_symlink() { 0 } else { meta.mode() };
        let mut line = format!("{mode:o} {}:{}", meta.uid(), meta.gid());
        if kind.is_symlink() {
            write!(line, " -> {:?}", std::fs::read_link(&path).unwrap()).unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(line, " device {:x}", meta.rdev()).unwrap();
        } else if kind.is_file() {
            let file = std::fs::File::open(&path).unwrap();
            let note = naru_fs::xattr::get(&file, "user.note").unwrap_or_default();
            write!(line, " {} {} {note:?}", meta.len(), digest_of(&std::fs::read(&path).unwrap())).unwrap();
        }
        if let Some((_, first)) = inodes.iter().find(|(inode, _)| *inode == meta.ino()) {
            write!(line, " = {first:?}").unwrap();
        }
        if meta.mtime() > PAST.into() {
            line.push_str(NOW);
        } else {
            write!(line, " {}.{}", meta.mtime(), meta.mtime_nsec()).unwrap();
        }
        out.insert(name.clone(), line);
        inodes.push((meta.ino(), name));
        if kind.is_dir() {
            visit(root, &path, inodes, out);
        }
    }
}

/// Unpacks with ours; the folder.
fn ours(scratch: &Scratch, store: &Store, archive: &[u8]) -> Result<PathBuf, Error> {
    let layer = unpack(store, archive)?;
    let chain = store.commit_layer(layer, None)?.chain_id.clone();
    Ok(diff_dir(scratch, &chain))
}

/// Unpacks with GNU tar; what it says against it.
fn gnu(folder: &Path, archive: &Path) -> Result<(), String> {
    std::fs::create_dir(folder).unwrap();
    let done = Command::new("tar")
        .args(["--extract", "--same-owner", "--same-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"])
        // Without, a folder whose entries are not together has the time of the last one.
        .args(["--delay-directory-restore", "--directory"])
        .arg(folder)
        .arg("--file")
        .arg(archive)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[derive(Debug, Default)]
struct Counts {
    same: u64,
    both_refuse: u64,
    only_gnu: u64,
    /// Something is replaced, or a file is where a folder is to be.
    only_ours: u64,
}

#[test]
fn as_gnu_tar_does() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(from_env("NARU_TAR_SECONDS").unwrap_or(SECONDS));
    let first = from_env("NARU_TAR_SEED").unwrap_or(1);
    let scratch = Scratch::in_memory("differential");
    let store = scratch.store();
    let (file, out) = (scratch.join("archive.tar"), scratch.join("gnu"));
    let top = naru_fs::Root::open_host(scratch.path()).unwrap();
    let begin = Instant::now();
    let mut counts = Counts::default();
    for seed in first.. {
        let (bytes, replaced) = archive(seed);
        // Where the last one is to be seen after a failure.
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("differential.tar"), &bytes).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let (own, other) = (ours(&scratch, &store, &bytes), gnu(&out, &file));
        match (own, other) {
            (Ok(_), _) if replaced => counts.only_ours += 1,
            (Ok(own), Ok(())) => {
                let (mut own, other) = (describe(&own), describe(&out));
                // GNU tar makes absolute links last, and leaves their folders with that time.
                for (name, other) in &other {
                    if let (Some(line), true) = (own.get_mut(name), other.starts_with("4") && other.ends_with(NOW)) {
                        let end = line.rfind(' ').unwrap_or(line.len());
                        line.replace_range(end.., NOW);
                    }
                }
                assert_eq!(own, other, "NARU_TAR_SEED={seed}");
                counts.same += 1;
            }
            (Err(error), Ok(())) => {
                let known = STRICTER.iter().any(|reason| error.message().contains(reason));
                assert!(known, "NARU_TAR_SEED={seed}: GNU tar takes it: {error}");
                counts.only_gnu += 1;
            }
            (Ok(_), Err(_)) => counts.only_ours += 1,
            (Err(_), Err(_)) => counts.both_refuse += 1,
        }
        store.collect().unwrap();
        top.remove_all("gnu").unwrap();
        if begin.elapsed() > time || (seed - first == MOST && from_env("NARU_TAR_SECONDS").is_none()) {
            break;
        }
    }
    let all = counts.same + counts.both_refuse + counts.only_gnu + counts.only_ours;
    // Nothing to do when the test's standard error is closed.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{all} archives from {first}: {counts:?}\n").as_bytes(),
    );
    assert!(counts.same * 3 > all, "hardly anything was compared: {counts:?}");
}
