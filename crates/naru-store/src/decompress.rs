//! Decompression of a pushed stream, by its first bytes.

use crate::tar::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// The size of the buffer that decompressed bytes are handed on in.
pub const BUFFER: usize = 256 << 10;
/// As many bytes as tell all known compressions apart (xz has the longest magic).
const MAGIC: usize = 6;
/// The window bits of a gzip stream (RFC 1952 allows only deflate with 32 KiB).
const GZIP_WINDOW: u8 = 15;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

impl Compression {
    /// What `head`, the first bytes of a stream, says.
    ///
    /// # Errors
    /// For xz and bzip2, which are known but not supported.
    pub fn detect(head: &[u8]) -> Result<Self> {
        let unsupported =
            |name| Err(Error::Unsupported(format!("{name} compression is not supported (gzip, zstd and none are)")));
        match head {
            [0x1f, 0x8b, 0x08, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }
}

/// Takes compressed bytes in pieces of any size and hands on what they decompress to.
pub struct Decompressor {
    state: State,
    out: Vec<u8>,
}

enum State {
    /// The first bytes, too few to tell.
    Head(Vec<u8>),
    Plain,
    Gzip(Gzip),
    Zstd {
        decoder: Decoder<'static>,
        in_frame: bool,
    },
}

struct Gzip {
    inflate: Decompress,
    between: Between,
}

/// Where in a gzip stream we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// In a member.
    Inside,
    /// After a member: another may follow, or zero padding, or nothing.
    Members,
    /// In zero padding at the end.
    Padding,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { state: State::Head(Vec::with_capacity(MAGIC)), out: Vec::new() }
    }
}

/// What decompressed bytes are handed to.
pub trait Output {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The taker's; decompression ends with it.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

impl<F: FnMut(&[u8]) -> Result<()>> Output for F {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self(bytes)
    }
}

impl Decompressor {
    /// Decompresses the next `input`.
    ///
    /// # Errors
    /// When the stream is damaged or of an unsupported kind; and `output`'s.
    pub fn push(&mut self, input: &[u8], output: &mut impl Output) -> Result<()> {
        if let State::Head(head) = &mut self.state {
            head.extend_from_slice(input);
            if head.len() < MAGIC {
                return Ok(());
            }
            return self.start(output);
        }
        self.run(input, output)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When it is cut short; and `output`'s.
    pub fn finish(mut self, output: &mut impl Output) -> Result<()> {
        if matches!(self.state, State::Head(_)) {
            self.start(output)?;
        }
        match self.state {
            State::Gzip(Gzip { between: Between::Inside, .. }) => {
                Err(Error::Malformed("gzip stream is cut short".into()))
            }
            State::Zstd { in_frame: true, .. } => Err(Error::Malformed("zstd stream is cut short".into())),
            _ => Ok(()),
        }
    }

    fn start(&mut self, output: &mut impl Output) -> Result<()> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Plain) else { return Ok(()) };
        match Compression::detect(&head)? {
            Compression::None => {}
            Compression::Gzip => {
                self.out = vec![0; BUFFER];
                self.state = State::Gzip(Gzip { inflate: Decompress::new_gzip(GZIP_WINDOW), between: Between::Inside });
            }
            Compression::Zstd => {
                self.out = vec![0; BUFFER];
                let decoder = Decoder::new().map_err(|e| Error::Malformed(format!("zstd: {e}")))?;
                self.state = State::Zstd { decoder, in_frame: false };
            }
        }
        self.run(&head, output)
    }

    fn run(&mut self, input: &[u8], output: &mut impl Output) -> Result<()> {
        match &mut self.state {
            State::Head(_) => Ok(()),
            State::Plain if input.is_empty() => Ok(()),
            State::Plain => output.take(input),
            State::Gzip(gzip) => gzip.run(input, &mut self.out, output),
            State::Zstd { decoder, in_frame } => run_zstd(decoder, in_frame, input, &mut self.out, output),
        }
    }
}

impl Gzip {
    fn run(&mut self, mut input: &[u8], out: &mut [u8], output: &mut impl Output) -> Result<()> {
        let damaged = |e: &dyn std::fmt::Display| Error::Malformed(format!("gzip: {e}"));
        loop {
            match self.between {
                Between::Inside => {}
                Between::Members | Between::Padding => match input.first() {
                    None => return Ok(()),
                    Some(0) => {
                        self.between = Between::Padding;
                        input = &input[1..];
                        continue;
                    }
                    Some(_) if self.between == Between::Padding => {
                        return Err(damaged(&"data after the end of the stream"));
                    }
                    Some(_) => {
                        self.inflate = Decompress::new_gzip(GZIP_WINDOW);
                        self.between = Between::Inside;
                    }
                },
            }
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None).map_err(|e| damaged(&e))?;
            let consumed = usize::try_from(self.inflate.total_in() - before_in).unwrap_or(input.len());
            let produced = usize::try_from(self.inflate.total_out() - before_out).unwrap_or(out.len());
            input = &input[consumed..];
            if produced > 0 {
                output.take(&out[..produced])?;
            }
            match status {
                Status::StreamEnd => self.between = Between::Members,
                // Output that filled the buffer may have more behind it although all input is taken.
                _ if input.is_empty() && produced < out.len() => return Ok(()),
                _ if consumed == 0 && produced == 0 => return Err(damaged(&"no progress")),
                _ => {}
            }
        }
    }
}

fn run_zstd(
    decoder: &mut Decoder<'static>,
    in_frame: &mut bool,
    input: &[u8],
    out: &mut [u8],
    output: &mut impl Output,
) -> Result<()> {
    let mut source = InBuffer::around(input);
    loop {
        let mut target = OutBuffer::around(&mut *out);
        let before = source.pos();
        let hint = decoder.run(&mut source, &mut target).map_err(|e| Error::Malformed(format!("zstd: {e}")))?;
        let produced = target.pos();
        if produced > 0 || source.pos() > before {
            *in_frame = hint != 0;
        }
        if produced > 0 {
            output.take(&out[..produced])?;
        }
        if source.pos() == input.len() && produced < out.len() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn sample() -> Vec<u8> {
        (0..700_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect()
    }

    fn unpack(bytes: &[u8], step: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut output = |b: &[u8]| -> Result<()> {
            all.extend_from_slice(b);
            Ok(())
        };
        let mut decompressor = Decompressor::default();
        for piece in bytes.chunks(step) {
            decompressor.push(piece, &mut output)?;
        }
        decompressor.finish(&mut output)?;
        Ok(all)
    }

    #[test]
    fn several_members_and_frames() {
        let sample = sample();
        let (a, b) = sample.split_at(1_000_001);
        let gz = [gzip(a), gzip(b), gzip(b"")].concat();
        let zst = [zstd::encode_all(a, 1).unwrap(), zstd::encode_all(b, 3).unwrap()].concat();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zst].concat();
        for step in [1 << 20, 70_000, 777] {
            assert!(unpack(&gz, step).unwrap() == sample, "gzip {step}");
            assert!(unpack(&zst, step).unwrap() == sample, "zstd {step}");
            assert!(unpack(&skippable, step).unwrap() == sample, "skippable {step}");
            assert!(unpack(&sample, step).unwrap() == sample, "plain {step}");
        }
        let small = gzip(b"hello");
        assert_eq!(unpack(&small, 1).unwrap(), b"hello");
        assert_eq!(unpack(&[&small[..], &[0; 700]].concat(), 50).unwrap(), b"hello");
        assert_eq!(unpack(b"", 1).unwrap(), b"");
        assert_eq!(unpack(b"abc", 1).unwrap(), b"abc");
    }

    #[test]
    fn damage_is_seen() {
        let sample = sample();
        let gz = gzip(&sample);
        let zst = zstd::encode_all(&sample[..], 1).unwrap();
        assert!(unpack(&gz[..gz.len() - 1], 4096).is_err(), "gzip cut");
        assert!(unpack(&zst[..zst.len() - 1], 4096).is_err(), "zstd cut");
        let mut wrong = gz.clone();
        let crc = wrong.len() - 6;
        wrong[crc] ^= 1;
        assert!(unpack(&wrong, 4096).is_err(), "gzip checksum");
        assert!(unpack(&[&gz[..], b"garbage"].concat(), 4096).is_err(), "gzip trailer");
        assert!(unpack(b"\xfd7zXZ\0rest", 4096).unwrap_err().to_string().contains("xz"));
        assert!(unpack(b"BZh91AY", 4096).unwrap_err().to_string().contains("bzip2"));
    }
}
