//! A disk that remembers in which order it was written: a server of the network block device protocol (NetworkBlockDevice's doc/proto.md) for
//! one machine.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What one piece of a write is: a drive writes that much or nothing of it.
const PIECE: usize = 4096;
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Flags of the handshake: the newer style, without zeroes after it.
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 0b11;
/// Flags of the disk: it has a cache, knows flush and "force unit access".
const DISK_FLAGS: u16 = 0b1101;
/// No request has more data.
const REQUEST_LIMIT: u32 = 64 << 20;

/// What happened to the disk.
enum Event {
    Write {
        at: u64,
        data: Vec<u8>,
        /// On the disk by itself, whatever becomes of those before it.
        forced: bool,
    },
    Flush,
}

/// Everything that happened to the disk, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Event>>>);

impl Journal {
    fn push(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// How much has happened until now.
    pub fn position(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What a power cut at `position` leaves: on `disk`, which is as it was in the beginning, come all writes before the last flush, and of
    /// those after it the pieces that `keep` chooses. How many pieces were lost.
    ///
    /// # Errors
    /// When `disk` can't be written.
    pub fn replay(&self, disk: &File, position: usize, mut keep: impl FnMut() -> bool) -> Result<usize> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let events = events.get(..position).unwrap_or(&events);
        let flushed = events.iter().rposition(|e| matches!(e, Event::Flush)).unwrap_or(0);
        let mut lost = 0;
        for (index, event) in events.iter().enumerate() {
            let Event::Write { at, data, forced } = event else { continue };
            let mut at = *at;
            for piece in data.chunks(PIECE) {
                if index < flushed || *forced || keep() {
                    disk.write_all_at(piece, at).context("write a disk")?;
                } else {
                    lost += 1;
                }
                at += piece.len() as u64;
            }
        }
        Ok(lost)
    }
}

/// Serves the file `disk` to one client, until it leaves.
///
/// # Errors
/// When the client speaks something else, or the file can't be read or written.
pub fn serve(mut client: UnixStream, disk: &Path, journal: &Journal) -> Result<()> {
    let disk = File::options().read(true).write(true).open(disk).context("open the disk")?;
    let size = disk.metadata().context("stat the disk")?.len();
    if !shake_hands(&mut client, size)? {
        return Ok(());
    }
    loop {
        let mut head = [0; 28];
        if client.read_exact(&mut head).is_err() {
            // The machine was switched off.
            return Ok(());
        }
        let request = Request::parse(&head)?;
        let mut answer = Vec::from(REPLY_MAGIC.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(request.handle);
        match request.kind {
            0 => {
                let mut data = vec![0; request.length as usize];
                disk.read_exact_at(&mut data, request.at).context("read the disk")?;
                answer.extend(data);
            }
            1 => {
                let mut data = vec![0; request.length as usize];
                client.read_exact(&mut data).context("read the data of a write")?;
                disk.write_all_at(&data, request.at).context("write the disk")?;
                journal.push(Event::Write { at: request.at, data, forced: request.flags & 1 != 0 });
            }
            2 => return Ok(()),
            3 => journal.push(Event::Flush),
            kind => bail!("a request of kind {kind}, which was not offered"),
        }
        if client.write_all(&answer).is_err() {
            return Ok(());
        }
    }
}

struct Request {
    flags: u16,
    kind: u16,
    handle: [u8; 8],
    at: u64,
    length: u32,
}

impl Request {
    fn parse(head: &[u8; 28]) -> Result<Self> {
        let mut rest = &head[..];
        if u32::from_be_bytes(take(&mut rest)?) != REQUEST_MAGIC {
            bail!("no request");
        }
        let request = Self {
            flags: u16::from_be_bytes(take(&mut rest)?),
            kind: u16::from_be_bytes(take(&mut rest)?),
            handle: take(&mut rest)?,
            at: u64::from_be_bytes(take(&mut rest)?),
            length: u32::from_be_bytes(take(&mut rest)?),
        };
        if request.length > REQUEST_LIMIT {
            bail!("a request of {} bytes", request.length);
        }
        Ok(request)
    }
}

fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).context("read from the machine")?;
    Ok(bytes)
}

/// Answers options until the client goes on to its requests; false when it leaves.
fn shake_hands(client: &mut UnixStream, size: u64) -> Result<bool> {
    let mut hello = Vec::from(*b"NBDMAGICIHAVEOPT");
    hello.extend(FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes());
    client.write_all(&hello).context("greet the machine")?;
    let _flags: [u8; 4] = take(client)?;
    loop {
        if u64::from_be_bytes(take(client)?) != OPTION_MAGIC {
            bail!("no option");
        }
        let option = u32::from_be_bytes(take(client)?);
        let length = u32::from_be_bytes(take(client)?);
        std::io::copy(&mut Read::by_ref(client).take(length.into()), &mut std::io::sink()).context("read an option")?;
        let mut reply = |kind: u32, data: &[u8]| -> Result<()> {
            let mut answer = Vec::from(OPTION_REPLY_MAGIC.to_be_bytes());
            answer.extend(option.to_be_bytes());
            answer.extend(kind.to_be_bytes());
            answer.extend(u32::try_from(data.len())?.to_be_bytes());
            answer.extend(data);
            client.write_all(&answer).context("answer an option")
        };
        let mut export = Vec::from(size.to_be_bytes());
        export.extend(DISK_FLAGS.to_be_bytes());
        match option {
            // By name, the oldest way: no header before the answer.
            1 => {
                client.write_all(&export).context("answer an option")?;
                return Ok(true);
            }
            2 => return reply(1, &[]).map(|()| false),
            // Ask, and go.
            6 | 7 => {
                export.splice(0..0, [0, 0]);
                reply(3, &export)?;
                reply(1, &[])?;
                if option == 7 {
                    return Ok(true);
                }
            }
            _ => reply(0x8000_0001, &[])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_what_was_flushed() {
        let journal = Journal::default();
        let write = |at: u64, byte: u8, forced| Event::Write { at, data: vec![byte; 2 * PIECE], forced };
        for event in [write(0, 1, false), Event::Flush, write(0, 2, false), write(16384, 3, true)] {
            journal.push(event);
        }
        let path = std::env::temp_dir().join(format!("naru-xtask-disk-{}", std::process::id()));
        let disk = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        disk.set_len(32768).unwrap();
        let byte = |at| {
            let mut byte = [0];
            disk.read_exact_at(&mut byte, at).unwrap();
            byte[0]
        };
        assert_eq!(journal.replay(&disk, 3, || false).unwrap(), 2);
        assert_eq!([byte(0), byte(4096), byte(16384)], [1, 1, 0]);
        let mut first = true;
        assert_eq!(journal.replay(&disk, 4, || std::mem::take(&mut first)).unwrap(), 1);
        assert_eq!([byte(0), byte(4096), byte(16384)], [2, 1, 3]);
    }
}
