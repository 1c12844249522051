//! The fuzz targets in a plain test: every file of the corpus, then mutations of them for some seconds, from a seed that a failure tells.
//! `NARU_FUZZ_SECONDS` is the time for each target, `NARU_FUZZ_SEED` another seed than 1, `tools/fuzz` the real fuzzer.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of each target, in seconds.
const SECONDS: u64 = 2;
/// No mutation is longer.
const LONGEST: usize = 64 << 10;

struct Random(u64);

impl Random {
    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`; 0 for 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn corpus(name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| Ok((path.clone(), std::fs::read(path)?))).collect()
}

/// Some changes to `bytes`, perhaps with a part of `other`.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const NUMBERS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'/'];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let longest = if random.below(4) == 0 { 700 } else { 9 };
        let length = random.below(longest);
        let end = (at + length).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = NUMBERS[random.below(NUMBERS.len())],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => {
                let from = random.below(other.len() + 1);
                let part = other[from..(from + length).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            5 => bytes.truncate(at.max(1)),
            _ => {
                let value = NUMBERS[random.below(NUMBERS.len())];
                bytes[at..end].fill(value);
            }
        }
    }
    bytes.truncate(LONGEST);
}

/// Runs one input; when that panics, it is kept and named.
fn run(name: &str, target: fn(&[u8]), bytes: &[u8], what: &str) -> Result<()> {
    if std::panic::catch_unwind(|| target(bytes)).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{name}"));
        std::fs::write(&kept, bytes)?;
        anyhow::bail!("{name}: {what}; the input is in {}", kept.display());
    }
    Ok(())
}

fn fuzz(name: &str) -> Result<()> {
    let (_, target) = *naru_fuzz::TARGETS.iter().find(|(of, _)| *of == name).context("no such target")?;
    let files = corpus(name)?;
    for (path, bytes) in &files {
        run(name, target, bytes, &path.display().to_string())?;
    }
    let seed = number("NARU_FUZZ_SEED", 1).max(1);
    let (begin, time) = (Instant::now(), Duration::from_secs(number("NARU_FUZZ_SECONDS", SECONDS)));
    let mut random = Random(seed);
    let mut serial: u64 = 0;
    while begin.elapsed() < time {
        let mut bytes = files[random.below(files.len())].1.clone();
        mutate(&mut bytes, &files[random.below(files.len())].1, &mut random);
        run(name, target, &bytes, &format!("NARU_FUZZ_SEED={seed}, input {serial}"))?;
        serial += 1;
    }
    Ok(())
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            let done = fuzz(stringify!($name));
            if stringify!($name) == "extract" {
                naru_fuzz::forget_scratch();
            }
            done
        })*

        #[test]
        fn no_target_is_forgotten() {
            let here = [$(stringify!($name)),*];
            assert_eq!(naru_fuzz::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), here);
        }
    };
}

targets! { challenge config dbus_message dns_query extract layer_stream log_records manifest reference seccomp tar_reader words }
