//! Decompression of a pushed stream, by its first bytes.

use crate::tar::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};
use liblzma::stream::{Action, CONCATENATED, Status as XzStatus, Stream as Xz};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// The size of the buffer that decompressed bytes are handed on in.
pub const BUFFER: usize = 256 << 10;
/// As many bytes as tell all known compressions apart (xz has the longest magic).
const MAGIC: usize = 6;
/// The window bits of a gzip stream (RFC 1952 allows only deflate with 32 KiB).
const GZIP_WINDOW: u8 = 15;

/// What an xz stream may ask for, in bytes: twice what `xz -9` needs.
const XZ_MEMORY: u64 = 128 << 20;
/// What a compressed stream may make, in bytes, however little it came from.
const RATIO_FREE: u64 = 4 << 30;
/// And beyond that, for each compressed byte: real files of zeros pass, a bomb (bzip2 makes 10 MB of 50 bytes) does not fill the disk.
const RATIO_LIMIT: u64 = 200;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
    /// xz, of one or more streams, with padding.
    Xz,
    /// bzip2, of one or more streams.
    Bzip2,
}

impl Compression {
    /// What `head`, the first bytes of a stream, says.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// Takes compressed bytes in pieces of any size and hands on what they decompress to, within measure.
pub struct Decompressor {
    state: State,
    out: Vec<u8>,
    ratio: Ratio,
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
    Xz(Xz),
    Bzip2(Bzip2),
}

struct Bzip2 {
    decoder: bzip2::Decompress,
    in_stream: bool,
}

/// What came and what was made of it, in bytes.
struct Ratio {
    taken: u64,
    made: u64,
    free: u64,
}

/// An output that takes no more than the ratio allows.
struct Bounded<'a, O> {
    ratio: &'a mut Ratio,
    output: &'a mut O,
}

impl<O: Output> Output for Bounded<'_, O> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let ratio = &mut *self.ratio;
        ratio.made += bytes.len() as u64;
        if ratio.made > ratio.free.max(ratio.taken.saturating_mul(RATIO_LIMIT)) {
            return Err(Error::Limit(format!("more than {RATIO_LIMIT} times the size of its compressed form")));
        }
        if bytes.is_empty() { Ok(()) } else { self.output.take(bytes) }
    }
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
        let ratio = Ratio { taken: 0, made: 0, free: RATIO_FREE };
        Self { state: State::Head(Vec::with_capacity(MAGIC)), out: Vec::new(), ratio }
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
            State::Xz(mut xz) => finish_xz(&mut xz, &mut self.out, &mut Bounded { ratio: &mut self.ratio, output }),
            State::Bzip2(Bzip2 { in_stream: true, .. }) => Err(Error::Malformed("bzip2 stream is cut short".into())),
            State::Gzip(Gzip { between: Between::Inside, .. }) => {
                Err(Error::Malformed("gzip stream is cut short".into()))
            }
            State::Zstd { in_frame: true, .. } => Err(Error::Malformed("zstd stream is cut short".into())),
            _ => Ok(()),
        }
    }

    fn start(&mut self, output: &mut impl Output) -> Result<()> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Plain) else { return Ok(()) };
        match Compression::detect(&head) {
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
            Compression::Xz => {
                self.out = vec![0; BUFFER];
                let xz = Xz::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(|e| xz_error(&e))?;
                self.state = State::Xz(xz);
            }
            Compression::Bzip2 => {
                self.out = vec![0; BUFFER];
                let bzip2 = Bzip2 { decoder: bzip2::Decompress::new(false), in_stream: false };
                self.state = State::Bzip2(bzip2);
            }
        }
        self.run(&head, output)
    }

    fn run(&mut self, input: &[u8], output: &mut impl Output) -> Result<()> {
        let Self { state, out, ratio } = self;
        ratio.taken += input.len() as u64;
        let mut bounded = Bounded { ratio, output };
        match state {
            State::Head(_) => Ok(()),
            State::Plain if input.is_empty() => Ok(()),
            State::Plain => output.take(input),
            State::Gzip(gzip) => gzip.run(input, out, &mut bounded),
            State::Zstd { decoder, in_frame } => run_zstd(decoder, in_frame, input, out, &mut bounded),
            State::Xz(xz) => run_xz(xz, input, out, &mut bounded),
            State::Bzip2(bzip2) => bzip2.run(input, out, &mut bounded),
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

/// How far a step of a decoder came: what it took in, what it made.
fn progress(before: (u64, u64), after: (u64, u64)) -> (usize, usize) {
    let step = |a: u64, b: u64| usize::try_from(b.saturating_sub(a)).unwrap_or(0);
    (step(before.0, after.0), step(before.1, after.1))
}

fn xz_error(e: &liblzma::stream::Error) -> Error {
    match e {
        liblzma::stream::Error::MemLimit => {
            Error::Limit(format!("its xz stream needs more than {} MiB of memory to be read", XZ_MEMORY >> 20))
        }
        e => Error::Malformed(format!("xz: {e}")),
    }
}

fn run_xz(xz: &mut Xz, mut input: &[u8], out: &mut [u8], output: &mut impl Output) -> Result<()> {
    while !input.is_empty() {
        // What fills the buffer may have more behind it, which the next step or the end asks for.
        let before = (xz.total_in(), xz.total_out());
        xz.process(input, out, Action::Run).map_err(|e| xz_error(&e))?;
        let (consumed, produced) = progress(before, (xz.total_in(), xz.total_out()));
        if consumed == 0 && produced == 0 {
            return Err(Error::Malformed("xz: no progress".into()));
        }
        input = &input[consumed..];
        output.take(&out[..produced])?;
    }
    Ok(())
}

fn finish_xz(xz: &mut Xz, out: &mut [u8], output: &mut impl Output) -> Result<()> {
    loop {
        let before = (xz.total_in(), xz.total_out());
        let cut = || Error::Malformed("xz stream is cut short".into());
        let status = xz.process(&[], out, Action::Finish).map_err(|_| cut())?;
        let (_, produced) = progress(before, (xz.total_in(), xz.total_out()));
        output.take(&out[..produced])?;
        match status {
            XzStatus::StreamEnd => return Ok(()),
            _ if produced == 0 => return Err(cut()),
            _ => {}
        }
    }
}

impl Bzip2 {
    fn run(&mut self, mut input: &[u8], out: &mut [u8], output: &mut impl Output) -> Result<()> {
        loop {
            if !self.in_stream {
                if input.is_empty() {
                    return Ok(());
                }
                self.decoder = bzip2::Decompress::new(false);
                self.in_stream = true;
            }
            let before = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(input, out).map_err(|e| Error::Malformed(format!("bzip2: {e}")))?;
            let (consumed, produced) = progress(before, (self.decoder.total_in(), self.decoder.total_out()));
            input = &input[consumed..];
            output.take(&out[..produced])?;
            match status {
                bzip2::Status::StreamEnd => self.in_stream = false,
                bzip2::Status::MemNeeded => return Err(Error::Malformed("bzip2: out of memory".into())),
                _ if input.is_empty() && produced < out.len() => return Ok(()),
                _ if consumed == 0 && produced == 0 => return Err(Error::Malformed("bzip2: no progress".into())),
                _ => {}
            }
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

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
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
        let two_xz = [xz(a), vec![0; 8], xz(b), xz(b"")].concat();
        let two_bz = [bz(a), bz(b), bz(b"")].concat();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zst].concat();
        for step in [1 << 20, 70_000, 777] {
            assert!(unpack(&gz, step).unwrap() == sample, "gzip {step}");
            assert!(unpack(&zst, step).unwrap() == sample, "zstd {step}");
            assert!(unpack(&two_xz, step).unwrap() == sample, "xz {step}");
            assert!(unpack(&two_bz, step).unwrap() == sample, "bzip2 {step}");
            assert!(unpack(&skippable, step).unwrap() == sample, "skippable {step}");
            assert!(unpack(&sample, step).unwrap() == sample, "plain {step}");
        }
        let small = gzip(b"hello");
        assert_eq!(unpack(&small, 1).unwrap(), b"hello");
        assert_eq!(unpack(&[&small[..], &[0; 700]].concat(), 50).unwrap(), b"hello");
        for one in [xz(b"hello"), bz(b"hello")] {
            assert_eq!(unpack(&one, 1).unwrap(), b"hello");
        }
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
        for (name, good) in [("xz", xz(&sample)), ("bzip2", bz(&sample))] {
            for cut in [good.len() - 1, good.len() / 2, 7] {
                assert!(unpack(&good[..cut], 4096).unwrap_err().to_string().contains(name), "{name} cut at {cut}");
            }
            let mut wrong = good.clone();
            wrong[good.len() / 2] ^= 1;
            assert!(unpack(&wrong, 4096).unwrap_err().to_string().contains(name), "{name} damaged");
            assert!(unpack(&[&good[..], b"garbage"].concat(), 4096).is_err(), "{name} trailer");
        }
    }

    #[test]
    fn what_grows_beyond_measure_is_refused() {
        let zeros = vec![0; 8 << 20];
        let mut best = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        best.write_all(&zeros).unwrap();
        let all = [best.finish().unwrap(), zstd::encode_all(&zeros[..], 1).unwrap(), xz(&zeros), bz(&zeros)];
        for (bomb, twice) in all.iter().map(|bomb| (bomb, [&bomb[..], bomb].concat())) {
            assert!(bomb.len() * 200 < zeros.len(), "{}", bomb.len());
            let unpack = |bytes: &[u8], free: u64| -> Result<u64> {
                let mut made = 0;
                let mut output = |b: &[u8]| -> Result<()> {
                    made += b.len() as u64;
                    Ok(())
                };
                let mut decompressor = Decompressor::default();
                decompressor.ratio.free = free;
                bytes.chunks(1000).try_for_each(|piece| decompressor.push(piece, &mut output))?;
                decompressor.finish(&mut output)?;
                Ok(made)
            };
            assert!(matches!(unpack(bomb, 1 << 20), Err(Error::Limit(_))));
            // Small enough, however well it is compressed.
            assert_eq!(unpack(bomb, 8 << 20).unwrap(), 8 << 20);
            // All of a stream counts: two bombs are one.
            assert!(matches!(unpack(&twice, 8 << 20), Err(Error::Limit(_))));
        }
        let mut noise = sample();
        noise.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= (at * at >> 7) as u8);
        let mut decompressor = Decompressor::default();
        decompressor.ratio.free = 0;
        decompressor.push(&gzip(&noise), &mut |_: &[u8]| Ok(())).unwrap();
        decompressor.finish(&mut |_: &[u8]| Ok(())).unwrap();
    }

    #[test]
    fn xz_has_a_budget_of_memory() {
        // A dictionary of 1 GiB, announced by a stream of some bytes.
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = Xz::new_stream_encoder(&filters, liblzma::stream::Check::None).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"hello").unwrap();
        let mut bytes = encoder.finish().unwrap();
        // The block's header: size, flags, LZMA2's id, length of its properties, the dictionary's size, padding, CRC32.
        assert_eq!(bytes[12..16], [2, 0, 0x21, 1]);
        bytes[16] = 36;
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..20]);
        bytes[20..24].copy_from_slice(&crc.sum().to_le_bytes());
        assert!(unpack(&bytes, 10).unwrap_err().to_string().contains("memory"), "a large dictionary");
    }
}
