//! Frames on a unix stream socket: a header, JSON, and descriptors beside them (SCM_RIGHTS, unix(7)).
//!
//! A header is two little-endian `u32`s: the length of the JSON and the number of descriptors. The count is needed because the kernel may
//! hand over the end of one frame and the beginning of the next, with its descriptors, in one go. All calls work on blocking and on
//! non-blocking sockets; on the latter they give `EAGAIN`.

use crate::protocol::FRAME_LIMIT;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors that one frame carries: five namespaces and the clients attached before a start.
pub const DESCRIPTOR_LIMIT: usize = 64;
const HEADER: usize = 8;
/// Read at once; on the stack.
const CHUNK: usize = 8 << 10;

/// What can be wrong on the wire.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side has closed.
    #[error("the connection has been closed")]
    Closed,
    /// A system call failed.
    #[error("{call}: {errno}")]
    System {
        /// Which.
        call: &'static str,
        /// How.
        errno: Errno,
    },
    /// A frame is larger than [`FRAME_LIMIT`], or has more descriptors than [`DESCRIPTOR_LIMIT`].
    #[error("a frame of {bytes} bytes with {descriptors} descriptors is over the limit")]
    TooLarge {
        /// Bytes of JSON.
        bytes: usize,
        /// Descriptors.
        descriptors: usize,
    },
    /// Descriptors were lost on the way, or there were other ones than announced.
    #[error("the descriptors of a frame were lost")]
    LostDescriptors,
    /// Not the JSON of such a message.
    #[error("malformed message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The bytes of a frame with this message and so many descriptors.
///
/// # Errors
/// When it is over a limit, or has no JSON form.
pub fn encode<T: Serialize>(message: &T, descriptors: usize) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let bytes = frame.len() - HEADER;
    match (u32::try_from(bytes), u32::try_from(descriptors)) {
        (Ok(length), Ok(count)) if bytes <= FRAME_LIMIT && descriptors <= DESCRIPTOR_LIMIT => {
            frame[..4].copy_from_slice(&length.to_le_bytes());
            frame[4..HEADER].copy_from_slice(&count.to_le_bytes());
            Ok(frame)
        }
        _ => Err(WireError::TooLarge { bytes, descriptors }),
    }
}

/// One sendmsg(2): returns how many bytes went. `descriptors` go with the first of them, so the rest of a frame is sent without.
///
/// # Errors
/// sendmsg(2)'s, `EAGAIN` on a full non-blocking socket among them. A closed peer is `EPIPE`, never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Sends a whole message, waiting for room where the socket is full.
///
/// # Errors
/// As [`encode`] and [`send`].
pub fn send_all<T: Serialize>(socket: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError> {
    let frame = encode(message, descriptors.len())?;
    let mut rest = frame.as_slice();
    let mut pending = descriptors;
    while !rest.is_empty() {
        match send(&socket, rest, pending) {
            Ok(sent) => {
                rest = &rest[sent..];
                pending = &[];
            }
            Err(Errno::AGAIN) => wait_for_room(socket.as_fd())?,
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
            Err(errno) => return Err(WireError::System { call: "sendmsg", errno }),
        }
    }
    Ok(())
}

fn wait_for_room(socket: BorrowedFd<'_>) -> Result<(), WireError> {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(socket, rustix::event::PollFlags::OUT)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(WireError::System { call: "poll", errno }),
    }
}

/// Puts frames together from what arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Decoder {
    /// One recvmsg(2) into the decoder; returns how many bytes came.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end; `EAGAIN` as [`WireError::System`] when nothing is there on a non-blocking socket.
    pub fn fill(&mut self, socket: impl AsFd) -> Result<usize, WireError> {
        let mut chunk = [0u8; CHUNK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let buffers = &mut [IoSliceMut::new(&mut chunk)];
            match rustix::net::recvmsg(&socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(WireError::System { call: "recvmsg", errno }),
                Ok(message) => break message,
            }
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.descriptors.extend(fds);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > 4 * DESCRIPTOR_LIMIT {
            return Err(WireError::LostDescriptors);
        }
        if message.bytes == 0 {
            return Err(WireError::Closed);
        }
        self.bytes.extend_from_slice(&chunk[..message.bytes]);
        Ok(message.bytes)
    }

    /// The next whole message with its descriptors, or `None` when more has to arrive first.
    ///
    /// # Errors
    /// When what arrived is no such message; the connection is then of no more use.
    #[expect(clippy::should_implement_trait, reason = "the type of a message is the caller's choice at each call")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [l0, l1, l2, l3, d0, d1, d2, d3] = *header;
        let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let count = u32::from_le_bytes([d0, d1, d2, d3]) as usize;
        if bytes > FRAME_LIMIT || count > DESCRIPTOR_LIMIT {
            return Err(WireError::TooLarge { bytes, descriptors: count });
        }
        let Some(json) = rest.get(..bytes) else { return Ok(None) };
        // They travel with the first byte: when the last one is here, they are.
        if self.descriptors.len() < count {
            return Err(WireError::LostDescriptors);
        }
        let message = serde_json::from_slice(json)?;
        let descriptors = self.descriptors.drain(..count).collect();
        self.bytes.drain(..HEADER + bytes);
        if self.bytes.is_empty() {
            // A large plan must not stay in a monitor's memory.
            self.bytes.shrink_to(CHUNK);
        }
        Ok(Some((message, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Numbered, Request};
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).unwrap()
    }

    fn signal(seq: u64) -> Numbered<Request> {
        Numbered { seq, body: Request::Signal { exec: None, signal: 15 } }
    }

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn frames_keep_their_own_descriptors() {
        let (here, there) = pair();
        let (r1, w1) = rustix::pipe::pipe().unwrap();
        let (r2, w2) = rustix::pipe::pipe().unwrap();
        send_all(&here, &signal(1), &[]).unwrap();
        send_all(&here, &signal(2), &[r1.as_fd(), r2.as_fd()]).unwrap();
        send_all(&here, &signal(3), &[]).unwrap();
        send_all(&here, &signal(4), &[w1.as_fd()]).unwrap();
        drop(here);
        let mut decoder = Decoder::default();
        while decoder.fill(&there).is_ok() {}
        let mut next = || decoder.next::<Numbered<Request>>().unwrap().unwrap();
        let expected = [vec![], vec![inode(&r1), inode(&r2)], vec![], vec![inode(&w1)]];
        for (seq, inodes) in (1..).zip(expected) {
            let (message, fds) = next();
            assert_eq!(message.seq, seq);
            assert_eq!(fds.iter().map(inode).collect::<Vec<_>>(), inodes);
        }
        drop(w2);
        assert!(decoder.next::<Numbered<Request>>().unwrap().is_none());
    }

    #[test]
    fn an_empty_socket_says_so_and_a_closed_one_too() {
        let (here, there) = pair();
        let mut decoder = Decoder::default();
        assert!(matches!(decoder.fill(&there), Err(WireError::System { errno: Errno::AGAIN, .. })));
        drop(here);
        assert!(matches!(decoder.fill(&there), Err(WireError::Closed)));
        assert!(matches!(send_all(&there, &signal(1), &[]), Err(WireError::Closed)));
    }

    #[test]
    fn announced_descriptors_must_come() {
        let (here, there) = pair();
        let mut frame = encode(&signal(1), 0).unwrap();
        frame[4] = 1;
        assert_eq!(send(&here, &frame, &[]).unwrap(), frame.len());
        let mut decoder = Decoder::default();
        decoder.fill(&there).unwrap();
        assert!(matches!(decoder.next::<Numbered<Request>>(), Err(WireError::LostDescriptors)));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut decoder = Decoder { bytes: vec![0xff; HEADER], ..Decoder::default() };
        assert!(matches!(decoder.next::<Numbered<Request>>(), Err(WireError::TooLarge { .. })));
        let long = "x".repeat(FRAME_LIMIT + 1);
        assert!(matches!(encode(&long, 0), Err(WireError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(count in 1u64..20, sizes in proptest::collection::vec(1usize..40, 1..40)) {
            let stream: Vec<u8> = (0..count).flat_map(|n| encode(&signal(n), 0).unwrap()).collect();
            let mut decoder = Decoder::default();
            let (mut at, mut seen) = (0, Vec::new());
            for size in sizes.iter().cycle() {
                let end = (at + size).min(stream.len());
                decoder.bytes.extend_from_slice(&stream[at..end]);
                at = end;
                while let Some((message, _)) = decoder.next::<Numbered<Request>>().unwrap() {
                    seen.push(message.seq);
                }
                if at == stream.len() {
                    break;
                }
            }
            prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut decoder = Decoder { bytes, ..Decoder::default() };
            let _ = decoder.next::<Numbered<Request>>();
        }
    }
}
