//! The tar reader under random input: it never panics, and the size of the pieces it is fed changes nothing.

use naru_store::tar::{Entry, Header, Kind, Limits, Reader, Result, Sink, Time, Writer};
use proptest::prelude::*;

/// Writes down all that a reader says.
#[derive(Default, PartialEq, Debug)]
struct Log {
    lines: Vec<String>,
    content: Vec<u8>,
    open: bool,
}

impl Sink for Log {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        assert!(!self.open, "an entry begins before the last one ended");
        self.open = true;
        self.lines.push(format!("{entry:?}"));
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert!(self.open && !bytes.is_empty());
        self.content.extend_from_slice(bytes);
        let _ = offset;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        assert!(self.open, "an end without a beginning");
        self.open = false;
        Ok(())
    }
}

fn read(bytes: &[u8], step: usize) -> (Log, Option<String>) {
    let mut log = Log::default();
    let mut reader = Reader::new(Limits::default());
    for piece in bytes.chunks(step.max(1)) {
        if let Err(e) = reader.push(piece, &mut log) {
            return (log, Some(e.to_string()));
        }
    }
    let end = reader.finish().err().map(|e| e.to_string());
    (log, end)
}

#[derive(Debug, Clone)]
struct Sample {
    path: String,
    link: String,
    content: Vec<u8>,
    kind: Kind,
    mode: u32,
    uid: u32,
    seconds: i64,
    xattr: Option<(String, Vec<u8>)>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let kind = prop_oneof![Just(Kind::File), Just(Kind::Symlink), Just(Kind::Directory), Just(Kind::Fifo)];
    let path = "[a-zé]{1,60}(/[a-z ]{1,80}){0,4}";
    let xattr = proptest::option::of(("user\\.[a-z]{1,20}", proptest::collection::vec(any::<u8>(), 0..200)));
    let content = proptest::collection::vec(any::<u8>(), 0..3000);
    (path, "[a-zü/]{1,200}", content, kind, 0u32..0o10000, any::<u32>(), -9_000_000_000i64..99_000_000_000, xattr)
        .prop_map(|(path, link, content, kind, mode, uid, seconds, xattr)| Sample {
            path,
            link,
            content,
            kind,
            mode,
            uid: uid.min(u32::MAX - 1),
            seconds,
            xattr,
        })
}

fn write(samples: &[Sample]) -> Vec<u8> {
    let mut out = Writer::new(Vec::new());
    for s in samples {
        let xattrs: Vec<_> = s.xattr.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone())).collect();
        let content: &[u8] = if s.kind == Kind::File { &s.content } else { b"" };
        let header = Header {
            kind: s.kind,
            link: if s.kind == Kind::Symlink { s.link.as_bytes() } else { b"" },
            mode: s.mode,
            uid: s.uid,
            gid: s.uid / 2,
            mtime: Time { seconds: s.seconds, nanos: 0 },
            xattrs: &xattrs,
            ..Header::file(s.path.as_bytes(), content.len() as u64)
        };
        out.header(&header).unwrap();
        out.data(content).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn entries_and_bytes_are_counted() {
    let all = |count: usize, size: usize| -> Vec<u8> {
        let mut out = Writer::new(Vec::new());
        for n in 0..count {
            out.header(&Header::file(format!("f{n}").as_bytes(), size as u64)).unwrap();
            out.data(&vec![b'x'; size]).unwrap();
        }
        out.finish().unwrap()
    };
    let end = |bytes: &[u8]| {
        let mut reader = Reader::new(Limits { entries: 3, bytes: 1000, ..Limits::default() });
        let (pushed, read) = (reader.push(bytes, &mut Log::default()), reader.entries());
        (pushed.err().map(|e| e.to_string()), read)
    };
    assert_eq!(end(&all(3, 300)), (None, 3));
    let (error, read) = end(&all(4, 1));
    assert!(error.is_some_and(|e| e.contains("entries")) && read <= 4);
    let (error, _) = end(&all(2, 600));
    assert!(error.is_some_and(|e| e.contains("bytes")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(samples in proptest::collection::vec(sample(), 0..6), step in 1usize..2000) {
        let bytes = write(&samples);
        let (log, error) = read(&bytes, step);
        prop_assert_eq!(error, None);
        prop_assert_eq!(log.lines.len(), samples.len());
        for (line, s) in log.lines.iter().zip(&samples) {
            let path = if s.kind == Kind::Directory { format!("{}/", s.path) } else { s.path.clone() };
            let wants = [
                format!("kind: {:?}, path: {:?}", s.kind, path.as_bytes()),
                format!("mode: {}, uid: {}, gid: {}, mtime: Time {{ seconds: {}", s.mode, s.uid, s.uid / 2, s.seconds),
            ];
            for want in wants {
                prop_assert!(line.contains(&want), "{} in {}", want, line);
            }
        }
        let content: Vec<u8> =
            samples.iter().filter(|s| s.kind == Kind::File).flat_map(|s| s.content.clone()).collect();
        prop_assert_eq!(log.content, content);
    }

    #[test]
    fn damage_is_an_error_or_another_archive(
        samples in proptest::collection::vec(sample(), 1..4),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&samples);
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let whole = read(&bytes, bytes.len());
        for step in [1, 511, 512, 513] {
            prop_assert_eq!(&read(&bytes, step), &whole);
        }
    }

    #[test]
    fn noise_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read(&bytes, 700);
    }
}
