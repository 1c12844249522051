//! Archives that want out, want too much, or mean two things.

mod common;

use common::{Archive, Scratch, diff_dir, layer, unpack};
use naru_base::Class;
use naru_store::tar::{Header, Kind};
use std::path::Path;

/// The refusal of an archive; nothing of it may be left, inside or outside.
fn refused(archive: Vec<u8>) -> String {
    let scratch = Scratch::new("hostile");
    std::fs::write(scratch.join("victim"), "untouched").unwrap();
    let store = scratch.store();
    let error = unpack(&store, &archive).err().expect("the archive must be refused");
    assert_eq!(error.class(), Class::InvalidParameter, "{error}");
    assert_eq!(std::fs::read_to_string(scratch.join("victim")).unwrap(), "untouched");
    for folder in ["ingest", "layers", "blobs/sha256"] {
        let left: Vec<_> = std::fs::read_dir(scratch.join("store").join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    error.message().to_owned()
}

/// The folder of an archive that is taken.
fn taken(archive: &[u8], check: impl FnOnce(&Path)) {
    let scratch = Scratch::new("taken");
    let store = scratch.store();
    let chain = layer(&store, archive, None);
    check(&diff_dir(&scratch, &chain));
}

#[test]
fn dot_dot_is_refused() {
    for path in ["../victim", "a/../../victim", "a/..", ".."] {
        assert!(refused(Archive::new().file(path, "x").bytes()).contains(".."), "{path}");
    }
}

#[test]
fn an_absolute_path_stays_inside() {
    taken(&Archive::new().file("/etc/passwd", "inside").hard_link("/x", "/etc/passwd").bytes(), |root| {
        assert_eq!(std::fs::read_to_string(root.join("etc/passwd")).unwrap(), "inside");
        assert_eq!(std::fs::read_to_string(root.join("x")).unwrap(), "inside");
    });
}

#[test]
fn nothing_is_written_through_a_link() {
    for target in ["..", "/", "../..", "dir"] {
        let archive = Archive::new().dir("dir").symlink("link", target).file("link/victim", "x").bytes();
        assert!(refused(archive).contains("links are not followed"), "{target}");
    }
    let dir_in_link = Archive::new().symlink("link", "/tmp").dir("link/sub").bytes();
    assert!(refused(dir_in_link).contains("links are not followed"));
    let whiteout_in_link = Archive::new().symlink("link", "..").file("link/.wh.victim", "").bytes();
    assert!(refused(whiteout_in_link).contains("links are not followed"));
}

#[test]
fn a_file_replaces_a_link_instead_of_following_it() {
    taken(&Archive::new().file("real", "old").symlink("a", "real").file("a", "new").bytes(), |root| {
        assert_eq!(std::fs::read_to_string(root.join("real")).unwrap(), "old");
        assert!(root.join("a").symlink_metadata().unwrap().is_file());
    });
}

#[test]
fn a_hard_link_does_not_lead_out() {
    assert!(refused(Archive::new().hard_link("a", "../victim").bytes()).contains(".."));
    assert!(refused(Archive::new().symlink("up", "..").hard_link("a", "up/victim").bytes()).contains("through a link"));
    assert!(refused(Archive::new().dir("d").hard_link("a", "d").bytes()).contains("directory"));
    assert!(refused(Archive::new().hard_link("a", "/").bytes()).contains("root"));
}

#[test]
fn a_hard_link_to_nothing_is_refused_when_it_is_placed() {
    let scratch = Scratch::new("nowhere");
    let store = scratch.store();
    for archive in [Archive::new().hard_link("a", "nowhere"), Archive::new().hard_link("a", "b").hard_link("b", "a")] {
        let unpacked = unpack(&store, &archive.bytes()).unwrap();
        let error = store.commit_layer(unpacked, None).unwrap_err();
        assert!(error.message().contains("does not exist"), "{error}");
    }
    assert_eq!(std::fs::read_dir(scratch.join("store/layers")).unwrap().count(), 0);
}

#[test]
fn a_hard_link_to_a_link_is_a_second_link() {
    taken(&Archive::new().symlink("a", "/etc/shadow").hard_link("b", "a").bytes(), |root| {
        assert_eq!(std::fs::read_link(root.join("b")).unwrap(), Path::new("/etc/shadow"));
    });
}

#[test]
fn odd_whiteouts() {
    assert!(refused(Archive::new().file(".wh.", "").bytes()).contains("no name"));
    assert!(refused(Archive::new().file("a/.wh...", "").bytes()).contains("no name"));
    assert!(refused(Archive::new().file(".wh.dir/file", "").bytes()).contains("reserved"));
    assert!(refused(Archive::new().file("a", "").hard_link("b", ".wh.a").bytes()).contains("whiteout"));
    let aufs = Archive::new().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "").file("a", "x");
    taken(&aufs.bytes(), |root| assert_eq!(std::fs::read_dir(root).unwrap().count(), 1));
}

#[test]
fn a_later_entry_wins() {
    let archive = Archive::new()
        .file("a", "1")
        .file("a", "2")
        .dir("d")
        .file("d/x", "1")
        .file("d", "file now")
        .file("e", "1")
        .dir("e")
        .file("e/y", "1")
        .dir_with("e", 0o700, 7, 9)
        .bytes();
    taken(&archive, |root| {
        assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "2");
        assert_eq!(std::fs::read_to_string(root.join("d")).unwrap(), "file now");
        assert_eq!(std::fs::read_to_string(root.join("e/y")).unwrap(), "1");
        use std::os::unix::fs::MetadataExt;
        let meta = root.join("e").metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o700, 7, 9));
    });
}

#[test]
fn overlay_marks_are_not_taken_from_an_archive() {
    let xattrs = [
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.metacopy".to_vec(), Vec::new()),
    ];
    let header = Header { xattrs: &xattrs, ..Header::directory(b"d") };
    taken(&Archive::new().with(&header, b"").bytes(), |root| {
        let dir = std::fs::File::open(root.join("d")).unwrap();
        assert!(naru_fs::xattr::list(&dir).unwrap().is_empty());
    });
}

/// An archive with one PAX record before a file's header.
fn with_pax(record: &str, header: &Header<'_>, content: &[u8]) -> Vec<u8> {
    let length = (1..).map(|n: usize| n + record.len() + 2).find(|n| n.to_string().len() + record.len() + 2 == *n);
    let text = format!("{} {record}\n", length.unwrap());
    let mut bytes = Archive::new().file("PaxHeaders/x", &text).bytes();
    bytes.truncate(1024);
    bytes[156] = b'x';
    checksum(&mut bytes[..512]);
    bytes.extend(Archive::new().with(header, content).bytes());
    bytes
}

fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[test]
fn sizes_that_readers_could_understand_differently() {
    let file = Header::file(b"a", 3);
    for record in
        ["size=", "size=-1", "size=+3", "size=3x", "size=99999999999999999999", "uid=x", "mtime=x", "gid=4294967295"]
    {
        refused(with_pax(record, &file, b"abc"));
    }
    taken(&with_pax("mtime=-1.25", &file, b"abc"), |root| {
        use std::os::unix::fs::MetadataExt;
        let meta = root.join("a").metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 750_000_000));
    });
    // A binary size with bits above 64.
    let mut bytes = Archive::new().file("a", "abc").bytes();
    bytes[124..136].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
    checksum(&mut bytes[..512]);
    assert!(refused(bytes).contains("out of range"));
}

#[test]
fn a_size_beyond_the_archive_is_an_end_too_early() {
    assert!(refused(with_pax("size=4096", &Header::file(b"a", 3), b"abc")).contains("unexpected end"));
    let mut cut = Archive::new().file("a", &"x".repeat(5000)).bytes();
    cut.truncate(3000);
    assert!(refused(cut).contains("unexpected end"));
}

#[test]
fn budgets() {
    refused(with_pax("size=2000000000000", &Header::file(b"a", 3), b"abc"));
    let deep = "d/".repeat(300) + "f";
    assert!(refused(Archive::new().file(&deep, "").bytes()).contains("levels deep"));
    let long = "n".repeat(256);
    assert!(refused(Archive::new().file(&long, "").bytes()).contains("255 bytes"));
    refused(Archive::new().file(&"p/".repeat(2500), "").bytes());
    refused(with_pax(&format!("comment={}", "c".repeat(400)), &Header::file(b"\0", 0), b""));
}

#[test]
fn a_nul_in_a_name_is_refused() {
    assert!(refused(with_pax("path=a\0b", &Header::file(b"a", 0), b"")).contains("NUL"));
}

#[test]
fn unknown_types_are_refused() {
    let mut bytes = Archive::new().file("a", "").bytes();
    bytes[156] = b'M';
    checksum(&mut bytes[..512]);
    assert!(refused(bytes).contains("unknown type"));
}

#[test]
fn special_files_keep_what_they_are() {
    let device = Header { kind: Kind::CharDevice, device: (1, 3), mode: 0o620, ..Header::file(b"null", 0) };
    let fifo = Header { kind: Kind::Fifo, mode: 0o604, ..Header::file(b"fifo", 0) };
    let setuid = Header { mode: 0o4755, uid: 12, gid: 34, ..Header::file(b"su", 0) };
    taken(&Archive::new().with(&device, b"").with(&fifo, b"").with(&setuid, b"").bytes(), |root| {
        use std::os::unix::fs::MetadataExt;
        let meta = |name: &str| root.join(name).symlink_metadata().unwrap();
        assert_eq!((meta("null").mode(), meta("null").rdev()), (0o020_620, 0x103));
        assert_eq!(meta("fifo").mode(), 0o010_604);
        assert_eq!((meta("su").mode(), meta("su").uid(), meta("su").gid()), (0o104_755, 12, 34));
    });
}
