//! The end of a log, without reading the rest of it.

use crate::{Driver, Entry, Step};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// As much of the current file is looked at, in bytes.
const LOOKED_AT: u64 = 64 << 10;

/// The newest record of the log's current file; `None` when there is none in its last 64 KiB.
///
/// # Errors
/// When the file can't be read.
pub fn last_entry(driver: &dyn Driver, path: &Path) -> std::io::Result<Option<Entry<'static>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LOOKED_AT);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
    // The file may become shorter meanwhile.
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    let (mut rest, mut last) = (&bytes[..filled], None);
    loop {
        match driver.decode(rest) {
            Step::Entry(entry, taken) => {
                last = Some(entry.into_owned());
                rest = &rest[taken..];
            }
            Step::Skip(count) => rest = &rest[count.max(1).min(rest.len())..],
            Step::More => return Ok(last),
        }
        if rest.is_empty() {
            return Ok(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn the_last_of_many_and_none_of_nothing() {
        let folder = std::env::temp_dir().join(format!("naru-last-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["json-file", "local"] {
            let (driver, path) = (find(name).unwrap(), folder.join(name));
            assert_eq!(last_entry(driver, &path).unwrap(), None);
            let mut bytes = Vec::new();
            for number in 0..5000 {
                let text = format!("line {number}\n").into_bytes();
                driver.encode(&Entry { time: number, text: text.into(), ..Entry::default() }, b"", &mut bytes);
            }
            std::fs::write(&path, &bytes).unwrap();
            let last = last_entry(driver, &path).unwrap().unwrap_or_default();
            assert_eq!((last.time, last.text.as_ref()), (4999, &b"line 4999\n"[..]), "{name}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
