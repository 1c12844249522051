//! Between threads that block and tasks that don't: bytes through channels.

use bytes::Bytes;
use naru_base::Result;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Pieces on their way.
pub(crate) const BACKLOG: usize = 16;
/// Bytes gathered before a piece goes.
const PIECE: usize = 64 << 10;

/// Writes into a channel; a receiver that is gone is a broken pipe.
pub(crate) struct ChannelWriter {
    pieces: mpsc::Sender<Result<Bytes>>,
    gathered: Vec<u8>,
}

impl ChannelWriter {
    pub(crate) fn new(pieces: mpsc::Sender<Result<Bytes>>) -> Self {
        Self { pieces, gathered: Vec::new() }
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.gathered));
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Runs `work` on a thread that blocks, with a writer whose pieces come out of the channel; its error comes last.
pub(crate) fn produce(
    work: impl FnOnce(&mut ChannelWriter) -> Result<()> + Send + 'static,
) -> mpsc::Receiver<Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::task::spawn_blocking(move || {
        let mut writer = ChannelWriter::new(sender.clone());
        let done = work(&mut writer).and_then(|()| writer.flush().map_err(|e| naru_base::Error::system(e.to_string())));
        if let Err(error) = done {
            // A receiver that is gone needs no error.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// Reads out of a channel.
pub(crate) struct ChannelReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl ChannelReader {
    pub(crate) fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
