//! What every driver passes.

use crate::driver::{DRIVERS, Driver, Step};
use crate::entry::{Entry, Partial, Stream};
use crate::lines::LINE_LIMIT;
use crate::options::LogConfig;
use crate::reader::Reader;
use crate::writer::Log;
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A log in a folder of the test's own.
struct Place {
    folder: PathBuf,
    driver: &'static dyn Driver,
}

impl Place {
    fn new(driver: &'static dyn Driver) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("naru-log-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self { folder, driver }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn config(&self) -> LogConfig {
        LogConfig { driver: self.driver.name().into(), path: Some(self.path()), max_files: 1, ..LogConfig::default() }
    }

    fn open(&self, config: &LogConfig) -> Log {
        Log::open(config).unwrap().unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::new(self.driver, self.path()).unwrap()
    }

    fn entries(&self) -> Vec<Entry<'static>> {
        drain(&mut self.reader())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn drain(reader: &mut Reader) -> Vec<Entry<'static>> {
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

fn texts(entries: &[Entry<'_>]) -> Vec<String> {
    entries.iter().map(|e| String::from_utf8_lossy(&e.text).into_owned()).collect()
}

/// Each driver that keeps something.
fn keeping() -> impl Iterator<Item = Place> {
    DRIVERS.iter().filter(|d| d.file("x").is_some()).map(|d| Place::new(*d))
}

#[test]
fn names_differ_and_are_found() {
    for driver in DRIVERS {
        assert_eq!(crate::find(driver.name()).unwrap().name(), driver.name());
    }
    assert_eq!(crate::names().collect::<Vec<_>>(), ["json-file", "local", "none"]);
}

#[test]
fn lines_come_together_from_pieces_of_both_streams() {
    for place in keeping() {
        let mut log = place.open(&place.config());
        for (stream, piece) in [(0, "one"), (1, "err\n\n"), (0, " two\nthree"), (0, "!")] {
            log.write(stream, piece.as_bytes());
        }
        log.end(0);
        log.end(1);
        let entries = place.entries();
        assert_eq!(texts(&entries), ["err\n", "\n", "one two\n", "three!"], "{:?}", place.driver);
        assert_eq!(entries[0].stream, Stream::Stderr);
        assert_eq!(entries[2].stream, Stream::Stdout);
        assert!(entries.windows(2).all(|w| w[0].time <= w[1].time));
    }
}

#[test]
fn long_lines_are_cut_and_share_a_time() {
    for place in keeping() {
        let mut log = place.open(&place.config());
        log.write(0, "x".repeat(2 * LINE_LIMIT + 5).as_bytes());
        log.write(0, b"\nnext\n");
        let entries = place.entries();
        let lengths: Vec<_> = entries.iter().map(|e| e.text.len()).collect();
        assert_eq!(lengths, [LINE_LIMIT, LINE_LIMIT, 6, 5]);
        let times: Vec<_> = entries.iter().map(|e| e.time).collect();
        assert!(times[0] == times[1] && times[1] == times[2] && times[2] != times[3], "{times:?}");
        let pieces: Vec<_> = entries.iter().filter_map(|e| e.partial.as_ref()).map(|p| (p.ordinal, p.last)).collect();
        assert!(pieces.is_empty() || pieces == [(1, false), (2, false), (3, true)], "{pieces:?}");
    }
}

#[test]
fn rotation_keeps_so_many_files_and_goes_on_after_a_restart() {
    for place in keeping() {
        for compress in [false, true] {
            let config = LogConfig { max_size: 200, max_files: 3, compress, ..place.config() };
            let mut log = place.open(&config);
            for n in 0..40 {
                log.write(0, format!("line {n}\n").as_bytes());
                // What is compressed beside is done at once here.
                log.finish();
            }
            let kept = texts(&place.entries());
            let expected: Vec<_> = (40 - kept.len()..40).map(|n| format!("line {n}\n")).collect();
            assert_eq!(kept, expected, "{:?} {compress}", place.driver);
            assert!(kept.len() > 4 && kept.len() < 20, "{kept:?}");
            assert_eq!(place.folder.join("log.2.gz").exists(), compress);
            assert!(!place.folder.join("log.3").exists() && !place.folder.join("log.3.gz").exists());
            drop(log);
            place.open(&LogConfig { max_size: 0, ..config }).write(0, b"again\n");
            assert_eq!(texts(&place.entries()).last().unwrap(), "again\n");
            for entry in std::fs::read_dir(&place.folder).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    }
}

#[test]
fn one_file_is_emptied() {
    for place in keeping() {
        let mut log = place.open(&LogConfig { max_size: 100, ..place.config() });
        let mut reader = place.reader();
        let mut followed = Vec::new();
        for n in 0..10 {
            log.write(0, format!("line {n}\n").as_bytes());
            followed.extend(drain(&mut reader));
        }
        assert_eq!(texts(&place.entries()).last().unwrap(), "line 9\n");
        assert!(place.entries().len() < 4);
        assert_eq!(texts(&followed).last().unwrap(), "line 9\n");
    }
}

#[test]
fn a_follower_misses_nothing_over_several_rotations_between_two_reads() {
    for place in keeping() {
        for (compress, together) in [(false, 1), (false, 25), (true, 1), (true, 25)] {
            let config = LogConfig { max_size: 300, max_files: 50, compress, ..place.config() };
            let mut log = place.open(&config);
            let mut reader = place.reader();
            let mut followed = Vec::new();
            for n in 0..200 {
                // The same bytes again and again: a place is not found by what is written there.
                log.write(0, format!("line {}\n", n % 2).as_bytes());
                if n % together == 0 {
                    log.finish();
                    followed.extend(texts(&drain(&mut reader)));
                }
            }
            log.finish();
            followed.extend(texts(&drain(&mut reader)));
            let expected: Vec<_> = (0..200).map(|n| format!("line {}\n", n % 2)).collect();
            assert_eq!(followed, expected, "{:?} {compress} {together}", place.driver);
            assert_eq!(texts(&place.entries()), expected);
            for entry in std::fs::read_dir(&place.folder).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    }
}

#[test]
fn a_later_reader_goes_on_where_another_stopped() {
    for place in keeping() {
        for compress in [false, true] {
            let config = LogConfig { max_size: 300, max_files: 50, compress, ..place.config() };
            let mut log = place.open(&config);
            let mut position = None;
            let mut read = Vec::new();
            for n in 0..120 {
                log.write(0, format!("a {}\nb {}\n", n % 3, n % 2).as_bytes());
                if n % 7 == 0 {
                    log.finish();
                    // Each time another reader, which hands on all but the newest record.
                    let mut reader = match position {
                        Some(position) => Reader::after(place.driver, place.path(), position).unwrap(),
                        None => place.reader(),
                    };
                    let mut entries = Vec::new();
                    while let Some(entry) = reader.next_entry().unwrap() {
                        entries.push((reader.position(), entry));
                    }
                    entries.pop();
                    position = entries.last().map(|(position, _)| *position).or(position);
                    let text = position.unwrap().to_string();
                    assert_eq!(text.parse().ok(), position);
                    read.extend(entries.into_iter().map(|(_, entry)| entry));
                }
            }
            let all = place.entries();
            assert_eq!(texts(&read), texts(&all[..read.len()]), "{:?} {compress}", place.driver);
            assert!(read.len() > 200);
            // A place that isn't there any more is the beginning.
            let gone = "1-2-3".parse().unwrap();
            let reread = drain(&mut Reader::after(place.driver, place.path(), gone).unwrap());
            assert_eq!(texts(&reread), texts(&all));
            for entry in std::fs::read_dir(&place.folder).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    }
    assert!("1-x-3".parse::<crate::Position>().is_err() && "".parse::<crate::Position>().is_err());
    assert_eq!("1-2--3".parse::<crate::Position>().unwrap().to_string(), "1-2--3");
}

#[test]
fn a_follower_whose_file_is_gone_goes_on_with_the_oldest() {
    for place in keeping() {
        let mut log = place.open(&LogConfig { max_size: 100, max_files: 2, ..place.config() });
        log.write(0, b"first\n");
        let mut reader = place.reader();
        assert_eq!(texts(&drain(&mut reader)), ["first\n"]);
        for n in 0..50 {
            log.write(0, format!("line {n}\n").as_bytes());
        }
        let followed = texts(&drain(&mut reader));
        assert_eq!(followed.last().unwrap(), "line 49\n");
        let there = texts(&place.entries());
        assert!(followed.ends_with(&there), "{followed:?} {there:?}");
    }
}

#[test]
fn without_room_on_the_disk_records_are_lost_and_counted() {
    for place in keeping() {
        let mut log = place.open(&LogConfig { path: Some("/dev/full".into()), ..place.config() });
        log.write(0, b"one\ntwo\n");
        let lost = log.lost();
        assert_eq!(lost.records, 2);
        assert!(lost.at > 0 && lost.reason.contains("cannot write /dev/full"), "{lost:?}");
    }
}

#[test]
fn without_blocking_all_is_written_that_finds_room() {
    for place in keeping() {
        let mut log = place.open(&LogConfig { buffer: Some(1 << 20), max_size: 300, max_files: 99, ..place.config() });
        for n in 0..100 {
            log.write(0, format!("line {n}\n").as_bytes());
        }
        log.finish();
        assert_eq!(place.entries().len(), 100);
        assert_eq!(log.lost().records, 0);
    }
}

#[test]
fn without_blocking_what_finds_no_room_is_dropped_and_counted() {
    for place in keeping() {
        let fifo = place.path();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Nobody reads it: a write stands still when the pipe is full.
        let held = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        rustix::pipe::fcntl_setpipe_size(&held, 4096).unwrap();
        let mut log = place.open(&LogConfig { buffer: Some(8 << 10), ..place.config() });
        for n in 0..2000 {
            log.write(0, format!("line {n}\n").as_bytes());
        }
        let lost = log.lost();
        assert!(lost.records > 1000 && lost.records < 2000, "{lost:?}");
        assert!(lost.reason.contains("max-buffer-size"), "{lost:?}");
        // Now it can be written, and the end need not wait.
        let mut rest = Vec::new();
        rustix::io::ioctl_fionbio(&held, true).unwrap();
        let reading = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while !rest.ends_with(b"end") {
                match rustix::io::read(&held, &mut chunk) {
                    Ok(count) => rest.extend_from_slice(&chunk[..count]),
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
                }
            }
        });
        log.finish();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&fifo)
            .map(|mut f| std::io::Write::write_all(&mut f, b"end"))
            .unwrap()
            .unwrap();
        reading.join().unwrap();
    }
}

#[test]
fn a_cut_record_is_waited_for_and_skipped_in_an_older_file() {
    for place in keeping() {
        let mut whole = Vec::new();
        let entry = |text: &'static str| Entry { text: text.as_bytes().into(), time: 5, ..Entry::default() };
        place.driver.encode(&entry("whole\n"), b"", &mut whole);
        std::fs::write(place.path(), &whole[..whole.len() - 3]).unwrap();
        let mut reader = place.reader();
        assert!(reader.next_entry().unwrap().is_none());
        std::fs::write(place.path(), &whole).unwrap();
        assert_eq!(texts(&drain(&mut reader)), ["whole\n"]);
        std::fs::rename(place.path(), place.folder.join("log.1")).unwrap();
        std::fs::write(place.folder.join("log.1"), [&whole[..], &whole[..9]].concat()).unwrap();
        std::fs::write(place.path(), &whole).unwrap();
        assert_eq!(texts(&drain(&mut reader)), ["whole\n"]);
        assert_eq!(texts(&place.entries()), ["whole\n", "whole\n"]);
    }
}

#[test]
fn what_is_damaged_is_skipped() {
    for place in keeping() {
        let mut bytes = b"\0\0\n\n{\"log\":\"cut\n\xff\xff\xff\xff\n".to_vec();
        for text in ["a\n", "b\n"] {
            place.driver.encode(&Entry { text: text.as_bytes().into(), time: 5, ..Entry::default() }, b"", &mut bytes);
        }
        std::fs::write(place.path(), &bytes).unwrap();
        assert_eq!(texts(&place.entries()), ["a\n", "b\n"], "{:?}", place.driver);
        // A compressed file that was cut off has what comes before the cut.
        std::fs::write(place.folder.join("log.1.gz"), b"\x1f\x8b\x08\0nothing").unwrap();
        assert_eq!(texts(&place.entries()), ["a\n", "b\n"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_is_lost(pieces in proptest::collection::vec((0usize..2, proptest::collection::vec(prop_oneof![Just(b'\n'), 0x20u8..0x7f, Just(0u8)], 0..60)), 0..30)) {
        for place in keeping() {
            let mut log = place.open(&LogConfig { max_size: 500, max_files: 1000, ..place.config() });
            pieces.iter().for_each(|(stream, bytes)| log.write(*stream, bytes));
            log.end(0);
            log.end(1);
            let entries = place.entries();
            for (stream, name) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
                let read: Vec<u8> = entries.iter().filter(|e| e.stream == name).flat_map(|e| e.text.to_vec()).collect();
                let written: Vec<u8> = pieces.iter().filter(|p| p.0 == stream).flat_map(|p| p.1.clone()).collect();
                prop_assert_eq!(read, written);
            }
        }
    }

    #[test]
    fn records_are_read_back(text in proptest::collection::vec(any::<u8>(), 0..200), time in any::<i64>(), ordinal in 1i32.., last: bool, cut: bool) {
        // What docker's format can say at all.
        let time = time.rem_euclid(i64::MAX / 2);
        let text: Vec<u8> = String::from_utf8_lossy(&text).replace('\n', "").into_bytes();
        for place in keeping() {
            let partial = cut.then(|| Partial { id: "id".into(), ordinal, last });
            let ends = !cut || last;
            let text = if ends { [&text[..], b"\n"].concat() } else { text.clone() };
            let entry = Entry { stream: Stream::Stderr, time, text: text.into(), partial, ..Entry::default() };
            let mut bytes = Vec::new();
            place.driver.encode(&entry, b"", &mut bytes);
            let size = bytes.len();
            prop_assert_eq!(place.driver.decode(&bytes[..size - 1]), Step::More);
            bytes.extend_from_slice(b"more");
            let Step::Entry(read, taken) = place.driver.decode(&bytes) else { panic!("no record") };
            prop_assert_eq!(taken, size);
            prop_assert_eq!((read.stream, read.time, read.text), (entry.stream, entry.time, entry.text));
            prop_assert!(read.partial.is_none() || read.partial == entry.partial);
        }
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for driver in DRIVERS {
            let mut rest = bytes.as_slice();
            while let Step::Entry(_, taken) | Step::Skip(taken) = driver.decode(rest) {
                prop_assert!(taken > 0 && taken <= rest.len());
                rest = &rest[taken..];
            }
        }
    }
}
